//! Attack: the window of ids, with more than two copies.

#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod attack_reading_ahead;

use std::sync::Arc;

use attack_reading_ahead::{SECOND, Server};
use event_log_core::{ConsumerOptions, EventConsumer, EventLog as _, Notice, RawEvent, limits};

const WINDOW: u64 = limits::DEDUP_WINDOW_RECORDS as u64;

async fn read_all(consumer: &mut dyn EventConsumer<RawEvent>) -> (Vec<(u64, String)>, Vec<String>) {
    let (mut records, mut copies) = (Vec::new(), Vec::new());
    loop {
        let batch = consumer.poll(1_000, SECOND).await.unwrap();
        if batch.is_empty() && batch.notices.is_empty() {
            return (records, copies);
        }
        for notice in &batch.notices {
            if let Notice::Duplicate { position, .. } = notice {
                copies.push(position.to_string());
            }
        }
        for record in batch {
            let at = record.position.offset.0;
            records.push((at, String::from_utf8(record.event.unwrap().payload.to_vec()).unwrap()));
        }
    }
}

fn fill(server: &Arc<Server>, next: &mut u64, count: u64) {
    for _ in 0..count {
        *next += 1;
        server.append_as(0, u128::from(*next) << 32, "filler");
    }
}

/// "A consumer drops an id that it has seen at another offset among the last 2,048 records of the partition": a hundred
/// records ago it was seen, and dropped.
#[tokio::test(start_paused = true)]
async fn a8_a_third_copy_shortly_behind_a_second_one_is_dropped() {
    let mut failures = Vec::new();
    for before in [WINDOW - 1, 0, 1_000] {
        let server = Server::new(1);
        let mut next = 0;
        fill(&server, &mut next, before);
        next += 1;
        let id = u128::from(next) << 32;
        server.append_as(0, id, "the event");
        fill(&server, &mut next, WINDOW - 48);
        server.append_as(0, id, "the event");
        // In every case within the window behind the second copy.
        for _ in 0..3 {
            fill(&server, &mut next, 700);
            server.append_as(0, id, "the event");
        }
        let log = server.open().await;
        let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
        let (records, copies) = read_all(&mut *consumer).await;
        let got: Vec<_> = records.iter().filter(|(_, text)| text == "the event").map(|(at, _)| *at).collect();
        if got.len() != 1 {
            failures.push(format!(
                "with {before} records before it, it was delivered at {got:?}, and dropped at {copies:?}"
            ));
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}
