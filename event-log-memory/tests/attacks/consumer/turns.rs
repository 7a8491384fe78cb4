//! Attack: a backlog in two partitions, read a few records at a time.

use std::sync::Arc;
use std::time::Duration;

use crate::fixture::{SECOND, append};
use event_log_core::engine::TokioClock;
use event_log_core::{EventConsumer as _, EventLogExt as _, Timestamp, limits};
use event_log_memory::MemoryBroker;

/// c2: "the partitions are merged by append time where it is known"; `STARVATION_TURNS`: "Turns of `TURN_RECORDS` that the other
/// partitions may have before a record that claims to be newer than theirs is delivered all the same"; DESIGN.md: "after 256 turns
/// of the others (some sixteen thousand records)".
async fn newer_comes_after(max: usize) -> usize {
    let clock = TokioClock::starting_at(Timestamp(1_000_000_000));
    let broker = MemoryBroker::with_clock(Arc::new(clock));
    let log = event_log_memory::builder().broker(&broker).partitions(2).open().await.unwrap();
    append(&log, 0, 0..3_000).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    append(&log, 1, [77_777]).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut before = 0;
    loop {
        for event in consumer.poll(max, SECOND).await.unwrap().into_events() {
            if event.number == 77_777 {
                return before;
            }
            before += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c2_a_backlog_read_one_by_one_is_merged_by_time() {
    assert_eq!(limits::STARVATION_RECORDS as usize, 16_384);
    let mut found = Vec::new();
    for max in [1, 2, 10, 64, 100, 1_000] {
        found.push((max, newer_comes_after(max).await));
    }
    assert!(
        found.iter().all(|(_, before)| *before == 3_000),
        "(max_count, older records before it): {found:?}"
    );
}

/// Three partitions with honest clocks: two are busy, event by event, and the third has had one event after all of theirs. Whatever a
/// poll asks for.
#[tokio::test(start_paused = true)]
async fn c2_a_backlog_of_two_busy_partitions_and_a_quiet_one_is_merged_by_time() {
    let mut found = Vec::new();
    for max in [100, 1_000] {
        let clock = TokioClock::starting_at(Timestamp(1_000_000_000));
        let broker = MemoryBroker::with_clock(Arc::new(clock));
        let log = event_log_memory::builder().broker(&broker).partitions(3).open().await.unwrap();
        let keys: Vec<String> = (0..3)
            .map(|partition| {
                let mut keys = (0..).map(|n: u32| format!("k{n}"));
                keys.find(|key| event_log_core::partition_of(key, 3).0 == partition).unwrap()
            })
            .collect();
        for number in 0..2_000 {
            let key = keys[(number % 2) as usize].clone();
            log.append_acked(Keyed { key, number }).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        log.append_acked(Keyed { key: keys[2].clone(), number: 77_777 }).await.unwrap();
        let mut consumer = log.consumer("g").await.unwrap();
        let mut before = 0;
        'reading: loop {
            for event in consumer.poll(max, SECOND).await.unwrap().into_events() {
                if event.number == 77_777 {
                    break 'reading;
                }
                before += 1;
            }
        }
        found.push((max, before));
    }
    assert!(
        found.iter().all(|(_, before)| *before == 2_000),
        "(max_count, older records before it): {found:?}"
    );
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Keyed {
    key: String,
    number: u64,
}

impl event_log_core::Partitionable for Keyed {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.key)
    }
}
