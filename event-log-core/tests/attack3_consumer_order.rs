//! Attack: the order across partitions of a backlog, whatever a poll asks for.

#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod attack_reading_ahead;

use std::time::Duration;

use attack_reading_ahead::{MS, SECOND, Server};
use event_log_core::{ConsumerOptions, EventConsumer as _, EventLog as _};

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
