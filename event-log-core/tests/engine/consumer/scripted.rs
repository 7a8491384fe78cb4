//! The consumer against a log with switches: work that takes longer than a poll, and a question that fails for one partition.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use event_log_core::{EventConsumerExt as _, EventLogExt as _, Notice, PartitionId, SeekPosition};
use futures::StreamExt as _;
use tokio::time::Instant;

use crate::scripted::{Server, event};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_fetch_that_takes_longer_than_a_poll_is_delivered_by_a_later_one() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    server.fetch_takes.store(1_500, Relaxed);
    let (start, mut seen) = (Instant::now(), Vec::new());
    while seen.len() < 20 && start.elapsed() < 60 * SECOND {
        // An answer in flight at the timeout is an error, and the next poll goes on with it.
        if let Ok(batch) = consumer.poll(100, Duration::from_millis(200)).await {
            seen.extend(batch.records.iter().map(|record| (start.elapsed(), record.position.partition)));
        }
    }
    assert_eq!(seen.len(), 20);
    assert!(start.elapsed() < 4 * SECOND, "{:?}", start.elapsed());
    let healthy = seen.iter().filter(|(_, partition)| *partition == PartitionId(1));
    assert!(healthy.clone().count() == 10 && healthy.clone().all(|(after, _)| *after < SECOND), "{seen:?}");
    assert!(server.fetches.load(Relaxed) <= 3, "{} fetches", server.fetches.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_fetch_goes_on_although_polls_are_dropped() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    server.fetch_takes.store(1_500, Relaxed);
    let (start, mut seen) = (Instant::now(), 0);
    while seen < 20 && start.elapsed() < 60 * SECOND {
        tokio::select! {
            batch = consumer.poll(100, 60 * SECOND) => seen += batch.unwrap().len(),
            () = tokio::time::sleep(SECOND) => {}
        }
    }
    assert_eq!(seen, 20);
    assert!(start.elapsed() < 4 * SECOND, "{:?}", start.elapsed());
    assert!(server.fetches.load(Relaxed) <= 3, "{} fetches", server.fetches.load(Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_place_that_cannot_be_asked_for_hides_no_other_partition() {
    let server = Arc::new(Server::default());
    let log = server.with_events(0).await;
    let mut consumer = log.consumer("g").await.unwrap();
    drop(consumer.poll(100, SECOND).await);
    server.committed_of_1_fails.store(true, Relaxed);
    server.epoch_of_1.store(1, Relaxed);
    for number in 0..10 {
        log.append_acked(event(0, number)).await.unwrap();
        log.append_acked(event(1, number)).await.unwrap();
    }
    let (start, mut seen, mut is_told) = (Instant::now(), 0, false);
    while start.elapsed() < 10 * SECOND && (seen < 10 || !is_told) {
        let batch = consumer.poll(100, SECOND).await.unwrap();
        is_told |= batch
            .notices
            .iter()
            .any(|notice| matches!(notice, Notice::Fault { partition: PartitionId(1), .. }));
        seen += batch.records.iter().filter(|record| record.position.partition == PartitionId(0)).count();
    }
    assert_eq!(seen, 10, "partition 0 has no fault");
    assert!(is_told && start.elapsed() < 3 * SECOND, "told: {is_told}, {:?}", start.elapsed());
    server.committed_of_1_fails.store(false, Relaxed);
    let mut of_1 = 0;
    for _ in 0..20 {
        of_1 += consumer.poll(100, SECOND).await.unwrap().len();
        if of_1 == 10 {
            break;
        }
    }
    assert_eq!(of_1, 10, "partition 1 is read once its place is known");
}

#[tokio::test(start_paused = true)]
async fn a_gap_behind_the_last_record_stops_no_reader() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    server.trailing_gap.store(2, Relaxed);
    let mut consumer = log.consumer("g").await.unwrap();
    consumer.seek(SeekPosition::FromEnd(3)).await.unwrap();
    let mut seen = 0;
    while seen < 3 {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
    assert_eq!(seen, 3);
    let mut consumer = log.consumer("h").await.unwrap();
    let history = consumer.until_caught_up(100).collect::<Vec<_>>();
    let history = tokio::time::timeout(60 * SECOND, history).await.expect("catching up ends");
    assert_eq!(history.into_iter().map(|batch| batch.unwrap().len()).sum::<usize>(), 20);
    let start = server.fetches.load(Relaxed);
    assert!(consumer.poll(100, 60 * SECOND).await.unwrap().is_empty());
    let fetches = server.fetches.load(Relaxed) - start;
    assert!(fetches <= 2, "{fetches} fetches in a minute in which nothing is appended");
}

#[tokio::test(start_paused = true)]
async fn a_seek_passes_over_no_partition_whose_place_is_not_known() {
    let server = Arc::new(Server::default());
    let log = server.with_events(3).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(100, SECOND).await.unwrap().len(), 6);
    server.committed_of_1_fails.store(true, Relaxed);
    server.epoch_of_1.store(1, Relaxed);
    let error = consumer.seek(SeekPosition::End).await.expect_err("partition 1 would stay behind");
    assert!(error.is_retryable(), "{error:?}");
    server.committed_of_1_fails.store(false, Relaxed);
    let start = Instant::now();
    while consumer.seek(SeekPosition::End).await.is_err() {
        assert!(start.elapsed() < 60 * SECOND, "the place is known again");
        drop(consumer.poll(1, Duration::from_millis(100)).await);
    }
    assert_eq!(consumer.position().len(), 2);
    let batch = consumer.poll(100, Duration::from_millis(500)).await.unwrap();
    assert!(batch.is_empty(), "it was all behind the end: {batch:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fault_that_is_met_while_opening_is_reported() {
    let server = Arc::new(Server::default());
    let log = server.with_events(3).await;
    // Another member has started the group.
    drop(log.consumer("g").await.unwrap());
    server.committed_of_1_fails.store(true, Relaxed);
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SECOND).await.unwrap();
    let is_told = |notice: &Notice| matches!(notice, Notice::Fault { partition: PartitionId(1), .. });
    assert!(batch.notices.iter().any(is_told), "{:?}", batch.notices);
}
