//! Partitions that lose the connection, or whose place cannot be asked for, beside healthy ones.

use event_log_core::{Cursor, EventConsumer, EventLogExt as _, PartitionId};
use tokio::time::Instant;

use crate::reading_ahead::{MS, SECOND, Server, read};

/// c15, c16: of three partitions, `losing` lose the connection with each fetch, and one takes its time.
async fn starving(losing: usize, loses_after: [u64; 2], takes: u64) {
    let server = Server::new(losing + 1);
    for number in 1..=10 {
        for partition in 0..=losing {
            server.append(partition, 100 * partition as u64 + number);
        }
    }
    server.change(|state| {
        (state.join_takes, state.ask_takes) = (5 * MS, MS);
        for (part, after) in state.parts.iter_mut().zip(&loses_after[..losing]) {
            (part.loses_every, part.fetch_takes) = (1, MS * *after as u32);
        }
        state.parts[losing].fetch_takes = MS * takes as u32;
    });
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let start = Instant::now();
    let (mut got, mut errors, mut polls) = (0, 0, 0);
    while got < 10 && start.elapsed() < 600 * SECOND && polls < 20_000 {
        polls += 1;
        match consumer.poll(100, 10 * SECOND).await {
            Ok(batch) => got += batch.len(),
            Err(_) => errors += 1,
        }
    }
    let joins = server.change(|state| state.calls.get("join").copied());
    assert!(
        got == 10,
        "{got} records of the healthy partition in {:?}, {polls} polls, {errors} errors, {joins:?} joins",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn c15_one_partition_that_loses_the_connection_and_one_that_takes_1500_ms() {
    starving(1, [0, 0], 1_500).await;
}

#[tokio::test(start_paused = true)]
async fn c15_two_partitions_that_lose_the_connection_at_once_and_one_that_takes_5_ms() {
    starving(2, [0, 0], 5).await;
}

#[tokio::test(start_paused = true)]
async fn c15_one_partition_that_loses_the_connection_and_one_that_takes_600_ms() {
    starving(1, [0, 0], 600).await;
}

#[tokio::test(start_paused = true)]
async fn c15_two_partitions_that_lose_the_connection_and_one_that_takes_300_ms() {
    starving(2, [0, 0], 300).await;
}

#[tokio::test(start_paused = true)]
async fn c15_two_partitions_that_lose_the_connection_and_one_that_takes_50_ms() {
    starving(2, [5, 10], 50).await;
}

#[tokio::test(start_paused = true)]
async fn c15_two_partitions_that_lose_the_connection_one_after_the_other_and_one_that_takes_20_ms() {
    starving(2, [10, 15], 20).await;
}

/// c15: "a question that fails". The place of the group in a partition that comes cannot be asked for; the other partition, its
/// connection and its fetches are well.
#[tokio::test(start_paused = true)]
async fn c15_a_place_that_cannot_be_asked_for_hides_the_other_partition() {
    let mut failures = Vec::new();
    for (unavailable, takes) in [(false, 5), (true, 5), (true, 50)] {
        let server = Server::new(2);
        let log = server.open().await;
        let mut consumer = log.consumer("g").await.unwrap();
        let _ = consumer.poll(10, 100 * MS).await.unwrap();
        server.change(|state| {
            state.join_takes = 5 * MS;
            state.ask_takes = MS;
            state.parts.iter_mut().for_each(|part| part.fetch_takes = MS * takes);
            // Partition 1 goes and comes back.
            state.parts[1].last_instance = None;
            state.rebalance();
            if unavailable { state.places_unavailable = true } else { state.places_fail = true }
        });
        for number in 1..=10 {
            server.append(0, number);
        }
        let start = Instant::now();
        let (mut got, mut errors) = (0, 0);
        let mut cursor = Cursor::new();
        while got < 10 && start.elapsed() < 600 * SECOND {
            match consumer.poll(100, 10 * SECOND).await {
                Ok(batch) => {
                    got += batch.len();
                    cursor = batch.cursor().clone();
                }
                Err(_) => errors += 1,
            }
        }
        let committed = consumer.commit(&cursor).await;
        if got < 10 || committed.is_err() {
            failures.push(format!("unavailable {unavailable}, a fetch takes {takes} ms: {got} records of partition 0 in {:?}, {errors} errors, commit {committed:?}, {:?}", start.elapsed(), server.change(|state| state.calls.clone())));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// c15, as `c15_a_slow_question_for_one_place_does_not_delay_the_commit_of_another_partition`: the question fails.
#[tokio::test(start_paused = true)]
async fn c15_a_place_that_cannot_be_asked_for_fails_the_commit_of_the_other_partition() {
    let server = Server::new(2);
    for number in 1..=20 {
        server.append((number % 2) as usize, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut of_0 = read(&mut *consumer, 20).await;
    of_0.remove(PartitionId(1));
    server.change(|state| {
        state.join_takes = 5 * MS;
        state.parts[1].last_instance = None;
        state.rebalance();
        state.places_unavailable = true;
    });
    let (start, mut committed) = (Instant::now(), Ok(()));
    while start.elapsed() < 600 * SECOND {
        committed = consumer.commit(&of_0).await;
        if committed.is_ok() {
            break;
        }
        let _ = consumer.poll(1, SECOND).await;
    }
    assert!(committed.is_ok(), "for ten minutes: {committed:?}");
}
