//! Each partition for itself, and in order across them: beside others that are slow, or lose the connection.

use crate::reading_ahead::{MS, SECOND, Server};
use event_log_core::{
    ConsumerOptions, EventConsumer as _, EventLog as _, EventLogExt as _, PartitionId, limits,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A record is there, and others come to other partitions every 80 ms, each of which takes 150 ms to fetch.
#[tokio::test(start_paused = true)]
async fn c15_a_record_waits_for_no_chain_of_slow_partitions() {
    let server = Server::new(40);
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(100, 100 * MS).await.unwrap().is_empty());
    server.change(|state| state.parts[1..].iter_mut().for_each(|part| part.fetch_takes = 150 * MS));
    server.append(1, 1);
    let appending = {
        let server = Arc::clone(&server);
        async move {
            for partition in 2..40 {
                sleep(80 * MS).await;
                if partition == 2 {
                    // Its fetch takes nothing.
                    server.append(0, 1_000);
                }
                server.append(partition, partition as u64);
            }
        }
    };
    let start = Instant::now();
    let polling = async {
        let batch = consumer.poll(100, 60 * SECOND).await.unwrap();
        (start.elapsed(), batch.len())
    };
    let ((took, count), ()) = tokio::join!(polling, appending);
    let bound = 80 * MS + limits::MERGE_PATIENCE + 20 * MS;
    assert!(
        took <= bound,
        "the record of partition 0 was there after 80 ms, and came after {took:?} ({count} records)"
    );
}

/// The same with partitions in which there is nothing: what `wait` says "may be too many".
#[tokio::test(start_paused = true)]
async fn c15_a_record_waits_for_no_rumours_of_others() {
    let server = Server::new(4);
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(100, 100 * MS).await.unwrap().is_empty());
    server.change(|state| state.parts[1..].iter_mut().for_each(|part| part.fetch_takes = 150 * MS));
    let rumours = {
        let server = Arc::clone(&server);
        async move {
            for nth in 0..2_000_u32 {
                server.change(|state| state.rumours.push(PartitionId(1 + nth % 3)));
                if nth == 1 {
                    server.append(0, 1);
                }
                sleep(80 * MS).await;
            }
        }
    };
    let start = Instant::now();
    let polling = async {
        let batch = consumer.poll(100, 60 * SECOND).await.unwrap();
        (start.elapsed(), batch.len())
    };
    let took = tokio::select! {
        polled = polling => polled,
        () = rumours => panic!("never"),
    };
    let bound = Duration::from_millis(80 + 100 + 20);
    assert!(took.0 <= bound, "the record of partition 0 was there after 80 ms, and came after {took:?}");
}

/// Reads a backlog that is there before the consumer is, and returns how many records came before an older one.
async fn inversions(takes: [u64; 3], max: usize, timeout: Duration, pause: Duration, burst: u64) -> usize {
    let server = Server::new(3);
    server.change(|state| {
        for (part, takes) in state.parts.iter_mut().zip(takes) {
            part.fetch_takes = MS * takes as u32;
        }
        (state.ask_takes, state.wait_takes) = (3 * MS, 3 * MS);
    });
    let mut random = 7_u64;
    let mut number = 0;
    while number < 6_000 {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let count = 1 + (random >> 20) % burst;
        for _ in 0..count {
            number += 1;
            server.append((random % 3) as usize, number);
        }
    }
    let log = server.open().await;
    let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
    let (mut seen, mut newest, mut inversions) = (0, 0, 0);
    while seen < number {
        let Ok(batch) = consumer.poll(max, timeout).await else { continue };
        for record in &batch.records {
            seen += 1;
            inversions += usize::from(record.timestamp.0 < newest);
            newest = record.timestamp.0.max(newest);
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }
    inversions
}

#[tokio::test(start_paused = true)]
async fn c2_a_backlog_is_merged_by_time_while_fetches_take_less_than_patience() {
    let mut failures = Vec::new();
    for takes in [[1, 1, 1], [7, 30, 60], [90, 5, 0], [40, 90, 90]] {
        // Few records at a time, or long bursts, meet another fault: see event-log-memory/tests/newattack_turns.rs.
        for max in [100, 1_000] {
            for pause in [0, 1, 50] {
                for burst in [3] {
                    let found = inversions(takes, max, 2 * SECOND, MS * pause, burst).await;
                    if found > 0 {
                        failures.push(format!(
                            "takes {takes:?}, max {max}, pause {pause}, burst {burst}: {found}"
                        ));
                    }
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

async fn check(loses: usize, loses_after: u64, takes: u64) {
    let server = Server::new(2);
    for number in 1..=10 {
        server.append(0, number);
        server.append(1, 100 + number);
    }
    server.change(|state| {
        (state.join_takes, state.ask_takes) = (5 * MS, MS);
        for (nth, part) in state.parts.iter_mut().enumerate() {
            part.loses_every = u64::from(nth == loses);
            part.fetch_takes = MS * if nth == loses { loses_after as u32 } else { takes as u32 };
        }
    });
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let start = Instant::now();
    let mut got = 0;
    let mut errors = 0;
    let mut polls = 0;
    while got < 10 && start.elapsed() < 120 * SECOND && polls < 20_000 {
        polls += 1;
        match consumer.poll(100, SECOND).await {
            Ok(batch) => {
                got += batch.len();
            }
            Err(_) => {
                errors += 1;
            }
        }
    }
    let joins = server.change(|state| state.calls.get("join").copied());
    assert!(
        got == 10,
        "{got} records of the healthy partition in two minutes, {polls} polls, {errors} errors, {joins:?} joins, {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn c15_the_first_partition_loses_the_connection_at_once() {
    check(0, 0, 5).await;
}

#[tokio::test(start_paused = true)]
async fn c15_the_second_partition_loses_the_connection_at_once() {
    check(1, 0, 5).await;
}

#[tokio::test(start_paused = true)]
async fn c15_the_second_partition_loses_the_connection_later_than_the_other_answers() {
    check(1, 20, 5).await;
}

#[tokio::test(start_paused = true)]
async fn c15_the_second_partition_loses_the_connection_sooner_than_the_other_answers() {
    check(1, 5, 20).await;
}

/// c2: a backlog is merged by time however long it is: what was read long ago is no reason to prefer a partition.
#[tokio::test(start_paused = true)]
async fn c2_a_long_backlog_is_merged_by_time_to_its_end() {
    let server = Server::new(2);
    let count = 3 * limits::STARVATION_RECORDS;
    for number in 0..count {
        server.append((number % 2) as usize, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let (mut read, mut last) = (0, None);
    while read < count {
        let batch = consumer.poll(1_000, SECOND).await.unwrap();
        read += batch.len() as u64;
        for record in &batch.records {
            assert!(last <= Some(record.timestamp), "{:?} behind {last:?}", record.timestamp);
            last = Some(record.timestamp);
        }
    }
}
