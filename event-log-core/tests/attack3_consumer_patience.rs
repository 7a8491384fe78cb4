//! Attack: "No partition waits for another longer than `limits::MERGE_PATIENCE`", with many others that are slow one after the
//! other.

#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod attack_reading_ahead;

use std::sync::Arc;
use std::time::Duration;

use attack_reading_ahead::{MS, SECOND, Server};
use event_log_core::{EventConsumer as _, EventLogExt as _, PartitionId, limits};
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
