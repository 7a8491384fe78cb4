//! Attempts of a second outside reader to break the consuming side, over a log with switches.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::scripted::{Scripted, Server};
use event_log_core::engine::TransportLog;
use event_log_core::{
    ConsumerOptions, Cursor, EventConsumer, EventConsumerExt as _, EventLog as _, EventLogExt as _, Offset,
    PartitionId, SeekPosition,
};
use futures::StreamExt as _;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

type Consumer = Box<dyn EventConsumer<crate::scripted::Event>>;

fn at(offset: u64) -> Cursor {
    [(PartitionId(0), Offset(offset))].into_iter().collect()
}

async fn place_of_0(log: &TransportLog<crate::scripted::Event, Scripted>) -> Option<Offset> {
    log.lag("g").await.unwrap().get(PartitionId(0)).unwrap().committed
}

async fn read(consumer: &mut Consumer, count: usize) {
    let mut seen = 0;
    while seen < count {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
}

#[tokio::test(start_paused = true)]
async fn c15_a_slow_fetch_hides_no_partition_that_comes_to_the_member() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    server.without_1.store(true, Relaxed);
    let mut consumer = log.consumer("g").await.unwrap();
    read(&mut consumer, 10).await;
    // Something comes to partition 0, and fetching it takes half an hour.
    server.fetch_takes.store(1_800_000, Relaxed);
    log.append_acked(crate::scripted::event(0, 10)).await.unwrap();
    let start = Instant::now();
    let coming = async {
        tokio::time::sleep(SECOND).await;
        server.without_1.store(false, Relaxed);
    };
    let reading = async {
        loop {
            let batch = consumer.poll(100, 3_600 * SECOND).await.unwrap();
            if !batch.is_empty() {
                return batch.records[0].position.partition;
            }
        }
    };
    let (partition, ()) = tokio::join!(reading, coming);
    assert_eq!(partition, PartitionId(1));
    assert!(
        start.elapsed() < 3 * SECOND,
        "partition 1 came after 1 s, its records after {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn c12_a_deleted_group_whose_new_start_was_stored_by_half_is_finished() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let end = || ConsumerOptions::starting_at(SeekPosition::End);
    let mut consumer = log.consumer_with("g", end()).await.unwrap();
    assert!(consumer.poll(100, SECOND).await.unwrap().is_empty());
    server.down.store(true, Relaxed);
    assert!(consumer.poll(100, SECOND).await.is_err());
    server.forget_group();
    server.initialise_of_1_fails.store(true, Relaxed);
    // Another consumer has had the partition in between, as far as the backend knows.
    server.epoch_of_1.fetch_add(1, Relaxed);
    server.epoch_of_0.fetch_add(1, Relaxed);
    server.down.store(false, Relaxed);
    let mut seen = 0;
    for _ in 0..3 {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
    server.initialise_of_1_fails.store(false, Relaxed);
    for _ in 0..10 {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
    assert_eq!(seen, 0, "the group starts at the end");
}

#[tokio::test(start_paused = true)]
async fn c10_catching_up_leaves_no_partition_behind_whose_place_is_not_known_yet() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    server.committed_of_1_fails.store(true, Relaxed);
    server.epoch_of_1.fetch_add(1, Relaxed);
    let (mut seen, mut errors) = (0, 0);
    {
        let mut history = consumer.until_caught_up(100);
        while let Some(batch) = history.next().await {
            match batch {
                Ok(batch) => seen += batch.len(),
                Err(_) => errors += 1,
            }
            // The place can be asked for soon.
            server.committed_of_1_fails.store(false, Relaxed);
        }
    }
    assert!(seen == 20 || errors > 0, "the stream ended without an error after {seen} records of 20");
}

#[tokio::test(start_paused = true)]
async fn c4_an_older_cursor_changes_nothing_after_a_commit_that_was_dropped_behind_a_seek() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read(&mut consumer, 20).await;
    let all = consumer.position().clone();
    consumer.commit(&all).await.unwrap();
    consumer.seek(SeekPosition::Cursor(at(3))).await.unwrap();
    read(&mut consumer, 7).await;
    server.commit_hangs.store(true, Relaxed);
    assert!(tokio::time::timeout(SECOND, consumer.commit(&at(7))).await.is_err());
    server.commit_hangs.store(false, Relaxed);
    assert_eq!(place_of_0(&log).await, Some(Offset(7)));
    consumer.commit(&at(5)).await.unwrap();
    assert_eq!(place_of_0(&log).await, Some(Offset(7)), "the older cursor moved the place back");
}

#[tokio::test]
async fn l9_a_wait_that_returns_early_leaves_the_others_of_its_thread_their_turn() {
    let server = Arc::new(Server::default());
    let log = server.with_events(1).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read(&mut consumer, 2).await;
    server.wait_is_early.store(true, Relaxed);
    let turns = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counted.fetch_add(1, Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let before = turns.load(Relaxed);
    assert!(consumer.poll(1, SECOND).await.unwrap().is_empty());
    let had = turns.load(Relaxed) - before;
    other.abort();
    assert!(had > 100, "another task had {had} turns in a second");
}

#[tokio::test(start_paused = true)]
async fn c1_a_poll_without_a_timeout_is_empty_while_every_partition_waits_to_be_tried_again() {
    let server = Arc::new(Server::default());
    let log = server.with_events(1).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read(&mut consumer, 2).await;
    server.fetches_fail.store(true, Relaxed);
    for partition in 0..2 {
        log.append_acked(crate::scripted::event(partition, 10)).await.unwrap();
    }
    for _ in 0..20 {
        drop(consumer.poll(1, 2 * SECOND).await);
    }
    // No answer is in flight.
    for _ in 0..20 {
        let poll = consumer.poll(1, Duration::ZERO).await;
        assert!(poll.is_ok(), "{poll:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c15_a_question_for_places_that_is_refused_hides_nothing_of_a_partition_that_is_read() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read(&mut consumer, 20).await;
    server.committed_is_refused.store(true, Relaxed);
    server.epoch_of_1.fetch_add(1, Relaxed);
    log.append_acked(crate::scripted::event(0, 10)).await.unwrap();
    let mut seen = 0;
    for _ in 0..10 {
        seen += consumer.poll(100, SECOND).await.map_or(0, |batch| batch.len());
    }
    assert_eq!(seen, 1, "partition 0 goes on");
}

#[tokio::test(start_paused = true)]
async fn c13_a_kept_cursor_from_before_many_seeks_concerns_its_partition_alone() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read(&mut consumer, 20).await;
    let kept = serde_json::to_string(consumer.position()).unwrap();
    for _ in 0..17 {
        consumer.seek(SeekPosition::Cursor(at(0))).await.unwrap();
    }
    let kept: Cursor = serde_json::from_str(&kept).unwrap();
    drop(consumer.commit(&kept).await);
    let lag = log.lag("g").await.unwrap();
    assert_eq!(lag.get(PartitionId(1)).unwrap().committed, Some(Offset(10)));
}

#[tokio::test(start_paused = true)]
async fn c14_a_start_in_a_partition_that_there_is_not_is_refused_like_a_seek() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let nowhere = SeekPosition::Cursor([(PartitionId(7), Offset(5))].into_iter().collect());
    let mut consumer = log.consumer("other").await.unwrap();
    assert!(consumer.seek(nowhere.clone()).await.is_err());
    server.forget_group();
    let started = log.consumer_with("g", ConsumerOptions::starting_at(nowhere)).await;
    assert!(started.is_err(), "the start is taken, and means the beginning");
}
