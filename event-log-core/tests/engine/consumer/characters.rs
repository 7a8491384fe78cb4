//! Partitions with characters: each behaves in one way, again and again, where others give each request a fate of its own.

use std::sync::Arc;
use std::time::Duration;

use event_log_core::{EventConsumer, EventConsumerExt as _, EventLogExt as _, PartitionId, RawEvent};
use futures::StreamExt as _;
use tokio::time::{Instant, sleep, timeout};

use crate::reading_ahead::{MS, SECOND, Server, State};

/// What each question takes.
fn asks_take(state: &mut State, time: Duration) {
    (state.ask_takes, state.wait_takes, state.commit_takes) = (time, time, time);
}

async fn opened(partitions: usize) -> (Arc<Server>, Box<dyn EventConsumer<RawEvent>>) {
    let server = Server::new(partitions);
    server.change(|state| {
        state.join_takes = 5 * MS;
        asks_take(state, MS);
        state.parts.iter_mut().for_each(|part| part.fetch_takes = 5 * MS);
    });
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(100, SECOND).await.unwrap().is_empty());
    (server, consumer)
}

/// Appends to a partition, in the background, for as long as the test goes on.
fn appending(server: &Arc<Server>, partition: usize, every: Duration) {
    let server = Arc::clone(server);
    tokio::spawn(async move {
        for number in 1_000_000.. {
            server.append(partition, number);
            sleep(every).await;
        }
    });
}

/// Polls until the partition has delivered so many records; returns after how long.
async fn delivered(
    consumer: &mut Box<dyn EventConsumer<RawEvent>>,
    partition: u32,
    count: usize,
    timeout: Duration,
    most: Duration,
) -> Option<Duration> {
    let (start, mut got) = (Instant::now(), 0);
    while start.elapsed() < most {
        if let Ok(batch) = consumer.poll(100, timeout).await {
            got +=
                batch.records.iter().filter(|one| one.position.partition == PartitionId(partition)).count();
        }
        if got >= count {
            return Some(start.elapsed());
        }
    }
    None
}

/// c15: "a fault ... neither hides nor delays the others". The connection is lost with every second fetch of partition 0, to which
/// an event comes every 50 ms; a fetch of partition 1 takes 600 ms.
async fn loses_every(every: u64, takes: u64, appends: Duration) {
    let (server, mut consumer) = opened(2).await;
    server.change(|state| {
        state.parts[0].loses_every = every;
        state.parts[1].fetch_takes = MS * takes as u32;
    });
    appending(&server, 0, appends);
    server.append(1, 1);
    let took = delivered(&mut consumer, 1, 1, SECOND, 600 * SECOND).await;
    assert!(
        took.is_some_and(|took| took < 60 * SECOND),
        "{took:?}, {:?}",
        server.change(|s| s.calls.clone())
    );
}

#[tokio::test(start_paused = true)]
async fn c15_every_second_fetch_loses_the_connection_and_another_takes_600_ms() {
    loses_every(2, 600, 50 * MS).await;
}

#[tokio::test(start_paused = true)]
async fn c15_every_third_fetch_loses_the_connection_and_another_takes_1500_ms() {
    loses_every(3, 1_500, 300 * MS).await;
}

/// c16: "a question that takes longer than a poll's timeout goes on and is delivered by a later poll".
async fn slow_questions(asks: u64, wait: u64, timeout: Duration) {
    let (server, mut consumer) = opened(1).await;
    server.change(|state| {
        asks_take(state, MS * asks as u32);
        state.wait_takes += MS * wait as u32;
    });
    server.append(0, 1);
    let took = delivered(&mut consumer, 0, 1, timeout, 600 * SECOND).await;
    assert!(
        took.is_some_and(|took| took < 60 * SECOND),
        "{took:?}, {:?}",
        server.change(|s| s.calls.clone())
    );
}

#[tokio::test(start_paused = true)]
async fn c16_a_question_for_news_takes_1500_ms_and_polls_200_ms() {
    slow_questions(1, 1_500, 200 * MS).await;
}

#[tokio::test(start_paused = true)]
async fn c16_every_question_takes_700_ms_and_polls_200_ms() {
    slow_questions(700, 0, 200 * MS).await;
}

#[tokio::test(start_paused = true)]
async fn c16_every_question_takes_600_ms_and_polls_nothing() {
    slow_questions(600, 0, Duration::ZERO).await;
}

/// c16, c10: everything is answered, and catching up never ends.
#[tokio::test(start_paused = true)]
async fn c16_catching_up_ends_where_questions_take_1200_ms() {
    let (server, mut consumer) = opened(1).await;
    for number in 1..=10 {
        server.append(0, number);
    }
    server.change(|state| asks_take(state, 1_200 * MS));
    let (start, mut got, mut errors) = (Instant::now(), 0, 0);
    let mut stream = consumer.until_caught_up(100);
    while let Some(item) = stream.next().await {
        match item {
            Ok(batch) => got += batch.len(),
            Err(_) => errors += 1,
        }
        assert!(start.elapsed() < 600 * SECOND, "for ten minutes: {got} records, {errors} errors");
    }
    assert_eq!(got, 10);
}

/// c2, c15: partition 0 is always behind by twelve thousand records, and partition 1 has one that is older than they are.
async fn behind(timeout: Duration, work: Duration, commits: bool) {
    let (server, mut consumer) = opened(2).await;
    for number in 0..12_000 {
        server.append(0, number);
    }
    let (mut number, mut newer, mut late) = (12_000, 0, None);
    for round in 0..1_000 {
        for _ in 0..100 {
            server.append(0, number);
            number += 1;
        }
        if round == 20 {
            server.append(1, 1_000_000);
            late = server.change(|state| state.parts[1].records.back().map(|record| record.timestamp));
        }
        let batch = consumer.poll(100, timeout).await.unwrap();
        if batch.records.iter().any(|record| record.position.partition == PartitionId(1)) {
            return;
        }
        newer +=
            batch.records.iter().filter(|record| late.is_some_and(|late| record.timestamp > late)).count();
        if commits {
            consumer.commit(batch.cursor()).await.unwrap();
        }
        sleep(work).await;
    }
    panic!("{newer} newer records of partition 0, and none of partition 1");
}

#[tokio::test(start_paused = true)]
async fn c2_a_partition_that_is_always_behind_and_polls_shorter_than_the_work() {
    behind(100 * MS, 200 * MS, false).await;
}

#[tokio::test(start_paused = true)]
async fn c2_a_partition_that_is_always_behind_and_polls_of_no_time() {
    behind(Duration::ZERO, 20 * MS, false).await;
}

/// As most callers are: poll, work, commit.
#[tokio::test(start_paused = true)]
async fn c2_a_partition_that_is_always_behind_and_each_batch_is_committed() {
    behind(10 * SECOND, 20 * MS, true).await;
}

/// c15: the connection is lost by storing the place of partition 0, and a fetch of partition 1 takes 1.5 s.
#[tokio::test(start_paused = true)]
async fn c15_a_commit_that_loses_the_connection_starves_a_slow_partition() {
    let (server, mut consumer) = opened(2).await;
    server.change(|state| {
        state.parts[0].commit_loses = true;
        state.parts[1].fetch_takes = 1_500 * MS;
    });
    appending(&server, 0, 500 * MS);
    server.append(1, 1);
    let start = Instant::now();
    while start.elapsed() < 600 * SECOND {
        let Ok(batch) = consumer.poll(100, SECOND).await else { continue };
        if batch.records.iter().any(|record| record.position.partition == PartitionId(1)) {
            return;
        }
        if !batch.is_empty() {
            drop(consumer.commit(batch.cursor()).await);
        }
    }
    panic!("never delivered: {:?}", server.change(|state| state.calls.clone()));
}

/// c15: of several partitions, the last one loses the connection, and all fetches that are under way fail with it.
#[tokio::test(start_paused = true)]
async fn c15_who_lost_the_connection_is_not_who_comes_first() {
    let mut failures = Vec::new();
    for healthy in [1, 2, 4, 8] {
        for takes in [20, 300, 1_000] {
            let (server, mut consumer) = opened(healthy + 1).await;
            server.change(|state| {
                state.parts[..healthy].iter_mut().for_each(|part| part.fetch_takes = MS * takes);
                state.parts[healthy].loses_every = 1;
            });
            appending(&server, healthy, 100 * MS);
            let mut worst = Duration::ZERO;
            for nth in 0..healthy {
                appending(&server, nth, 200 * MS);
            }
            let (start, mut last) = (Instant::now(), vec![Instant::now(); healthy]);
            while start.elapsed() < 150 * SECOND {
                if let Ok(batch) = consumer.poll(100, SECOND).await {
                    for record in &batch.records {
                        let nth = record.position.partition.0 as usize;
                        if nth < healthy {
                            worst = worst.max(last[nth].elapsed());
                            last[nth] = Instant::now();
                        }
                    }
                }
            }
            worst = last.iter().map(Instant::elapsed).max().unwrap().max(worst);
            if worst > 10 * SECOND {
                failures.push(format!("{healthy} healthy, a fetch takes {takes} ms: {worst:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// How long it takes to read 64 partitions, each of which takes a second, after so many losses in a row.
async fn after_losses(losses: u32) -> Duration {
    let (server, mut consumer) = opened(64).await;
    server.change(|state| state.parts.iter_mut().for_each(|part| part.fetch_takes = SECOND));
    for nth in 0..64 {
        server.append(nth, nth as u64);
    }
    for _ in 0..losses {
        assert!(timeout(100 * MS, consumer.poll(100, SECOND)).await.is_err());
        server.evict_all();
    }
    let (start, mut got) = (Instant::now(), 0);
    while got < 64 {
        got += consumer.poll(100, SECOND).await.map_or(0, |batch| batch.len());
    }
    start.elapsed()
}

/// c15: most losses have nothing to do with a partition, and make none wait for another.
#[tokio::test(start_paused = true)]
async fn c15_after_one_loss_all_are_read_at_once() {
    let took = after_losses(1).await;
    assert!(took < 3 * SECOND, "{took:?}");
}

/// c15: after more, several at a time have a connection of their own, and each comes in its turn.
#[tokio::test(start_paused = true)]
async fn c15_after_many_losses_all_are_read_in_turn() {
    let took = after_losses(5).await;
    assert!(took < 12 * SECOND, "{took:?}");
}

/// c15, c16: partition 2 goes and comes every second; the place of partition 1 takes 3 s to ask for.
#[tokio::test(start_paused = true)]
async fn c16_a_partition_that_comes_and_goes_and_one_that_waits_to_be_placed() {
    let (server, mut consumer) = opened(3).await;
    server.append(1, 1);
    server.append(0, 2);
    server.change(|state| {
        state.places_take = 3_000 * MS;
        state.parts[1].epoch += 1;
        state.generation += 1;
    });
    let flapping = Arc::clone(&server);
    let mut owner = None;
    tokio::spawn(async move {
        loop {
            sleep(500 * MS).await;
            flapping.change(|state| {
                let part = &mut state.parts[2];
                (part.owner, owner) = (owner, part.owner);
                part.epoch += 1;
                state.generation += 1;
            });
        }
    });
    let took = delivered(&mut consumer, 1, 1, 5 * SECOND, 600 * SECOND).await;
    assert!(
        took.is_some_and(|took| took < 60 * SECOND),
        "{took:?}, {:?}",
        server.change(|s| s.calls.clone())
    );
}
