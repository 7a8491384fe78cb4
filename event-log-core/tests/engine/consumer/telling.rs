//! When a consumer tells what it has to report, while fetches of other partitions bring nothing.

use std::sync::Arc;

use event_log_core::{EventConsumer as _, EventLogExt as _, Notice};
use tokio::time::{Instant, sleep};

use crate::reading_ahead::{MS, SECOND, Server};

/// c15: "a poll that has a notice returns with it". One partition is faulty; two others have offsets used up by notes of the
/// log's own (`scanned_to`: "it is how a log tells of offsets that no record has, behind its last record too").
#[tokio::test(start_paused = true)]
async fn c15_a_notice_waits_for_no_notes_of_others() {
    let server = Server::new(4);
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(100, 100 * MS).await.unwrap().is_empty());
    server.change(|state| {
        state.parts[1..].iter_mut().for_each(|part| part.fetch_takes = 80 * MS);
        state.parts[0].fetch_fails = true;
    });
    let notes = {
        let server = Arc::clone(&server);
        async move {
            for nth in 0..100_000 {
                server.change(|state| state.parts[if nth == 10 { 0 } else { 1 + nth % 3 }].high += 1);
                sleep(30 * MS).await;
            }
        }
    };
    let start = Instant::now();
    let polling = async {
        let batch = consumer.poll(100, 60 * SECOND).await.unwrap();
        (start.elapsed(), format!("{:?}", batch.notices))
    };
    let (took, notices) = tokio::select! {
        biased;
        polled = polling => polled,
        () = notes => panic!("never"),
    };
    assert!(took < SECOND, "the fault was there at once, and was told after {took:?}: {notices}");
}

/// The same of a revocation.
#[tokio::test(start_paused = true)]
async fn c15_a_revocation_waits_for_no_notes_of_others() {
    let server = Server::new(4);
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(100, 100 * MS).await.unwrap().is_empty());
    server.change(|state| state.parts.iter_mut().for_each(|part| part.fetch_takes = 80 * MS));
    let notes = {
        let server = Arc::clone(&server);
        async move {
            for nth in 0..100_000 {
                server.change(|state| state.parts[[0, 2][nth % 2]].high += 1);
                sleep(20 * MS).await;
            }
        }
    };
    let start = Instant::now();
    let polling = async {
        let batch = consumer.poll(100, 60 * SECOND).await.unwrap();
        (start.elapsed(), format!("{:?}", batch.notices))
    };
    let other = async {
        sleep(SECOND).await;
        let other = log.consumer("g").await.unwrap();
        sleep(100 * SECOND).await;
        drop(other);
    };
    let (took, notices) = tokio::select! {
        biased;
        polled = polling => polled,
        () = notes => panic!("never"),
        () = other => panic!("never"),
    };
    assert!(took < 2 * SECOND, "the revocation was there after 1 s, and was told after {took:?}: {notices}");
}

/// c7, on a log that has nothing but the record that was read last to tell that it began again and grew as long as it was.
#[tokio::test(start_paused = true)]
async fn c7_a_log_that_began_again_is_recognised_by_what_was_read_last() {
    let server = Server::new(1);
    server.change(|state| (state.tells_high, state.tells_incarnation) = (false, false));
    for number in 0..10 {
        server.append(0, number);
    }
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(100, SECOND).await.unwrap().len(), 10);
    server.change(|state| {
        let part = &mut state.parts[0];
        (part.high, part.place) = (0, None);
        part.records.clear();
        part.since.clear();
    });
    for number in 100..120 {
        server.append(0, number);
    }
    let (mut read, mut truncations) = (0, 0);
    for _ in 0..10 {
        let batch = consumer.poll(100, SECOND).await.unwrap();
        read += batch.len();
        truncations +=
            batch.notices.iter().filter(|notice| matches!(notice, Notice::Truncated { .. })).count();
    }
    assert_eq!((read, truncations), (20, 1));
}
