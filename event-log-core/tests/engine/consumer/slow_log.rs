//! Attempts of an outside reader to break the consuming side, where it takes a log that is slow or faulty in one place.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::scripted::{Event, Server, event};
use event_log_core::{
    ConsumerOptions, EventConsumer, EventLog as _, EventLogExt as _, Offset, PartitionId, Position,
    SeekPosition,
};
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Polls a future, and fails when it is woken too often.
async fn within_wakeups<F: Future>(future: F, most: usize) -> F::Output {
    let mut future = Box::pin(future);
    let mut count = 0;
    poll_fn(move |cx| {
        count += 1;
        assert!(count <= most, "the future was polled {most} times: it keeps the processor busy");
        future.as_mut().poll(cx)
    })
    .await
}

async fn read_two(consumer: &mut dyn EventConsumer<Event>) {
    let mut seen = 0;
    while seen < 2 {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
}

/// A record of this partition comes within ten seconds.
async fn delivers_soon(consumer: &mut dyn EventConsumer<Event>, partition: PartitionId) {
    let start = Instant::now();
    loop {
        if let Ok(batch) = consumer.poll(100, SECOND).await {
            if batch.records.iter().any(|record| record.position.partition == partition) {
                break;
            }
        }
        assert!(start.elapsed() < 10 * SECOND, "nothing of {partition} for {:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn c15_a_slow_fetch_of_one_partition_does_not_hide_what_comes_to_another() {
    let server = Arc::new(Server::default());
    let log = Arc::new(server.with_events(1).await);
    let mut consumer = log.consumer("g").await.unwrap();
    read_two(&mut *consumer).await;
    server.fetch_takes.store(30_000, Relaxed);
    log.append_acked(event(0, 1)).await.unwrap();
    // The fetch of partition 0 begins.
    drop(consumer.poll(100, Duration::from_millis(200)).await);
    let start = Instant::now();
    let append = {
        let log = Arc::clone(&log);
        async move {
            tokio::time::sleep(SECOND).await;
            log.append_acked(event(1, 1)).await.unwrap();
        }
    };
    let (batch, ()) = tokio::join!(
        async {
            let batch = consumer.poll(100, 60 * SECOND).await.unwrap();
            (
                start.elapsed(),
                batch.records.iter().map(|record| record.position.partition).collect::<Vec<_>>(),
            )
        },
        append
    );
    assert!(batch.0 < 3 * SECOND, "{batch:?}");
}

#[tokio::test(start_paused = true)]
async fn c15_a_slow_fetch_of_one_partition_does_not_hide_another_from_many_polls() {
    let server = Arc::new(Server::default());
    let log = server.with_events(1).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read_two(&mut *consumer).await;
    server.fetch_takes.store(30_000, Relaxed);
    log.append_acked(event(0, 1)).await.unwrap();
    drop(consumer.poll(100, Duration::from_millis(200)).await);
    log.append_acked(event(1, 1)).await.unwrap();
    delivers_soon(&mut *consumer, PartitionId(1)).await;
}

#[tokio::test(start_paused = true)]
async fn c15_a_slow_question_for_one_place_does_not_hide_what_comes_to_another_partition() {
    let server = Arc::new(Server::default());
    let log = server.with_events(1).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read_two(&mut *consumer).await;
    server.committed_takes.store(30_000, Relaxed);
    server.epoch_of_1.store(1, Relaxed);
    drop(consumer.poll(100, Duration::from_millis(200)).await);
    log.append_acked(event(0, 1)).await.unwrap();
    delivers_soon(&mut *consumer, PartitionId(0)).await;
}

#[tokio::test(start_paused = true)]
async fn c15_a_slow_question_for_one_place_does_not_delay_the_commit_of_another_partition() {
    let server = Arc::new(Server::default());
    let log = server.with_events(1).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read_two(&mut *consumer).await;
    server.committed_takes.store(30_000, Relaxed);
    server.epoch_of_1.store(1, Relaxed);
    drop(consumer.poll(100, Duration::from_millis(200)).await);
    let place = [(PartitionId(0), Offset(1))].into_iter().collect();
    let start = Instant::now();
    consumer.commit(&place).await.unwrap();
    assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn c1_a_place_that_could_not_be_asked_for_before_an_outage_keeps_no_processor_busy() {
    let server = Arc::new(Server::default());
    let log = server.with_events(1).await;
    let mut consumer = log.consumer("g").await.unwrap();
    drop(consumer.poll(100, SECOND).await);
    server.committed_of_1_fails.store(true, Relaxed);
    server.epoch_of_1.store(1, Relaxed);
    drop(consumer.poll(100, Duration::from_millis(10)).await);
    server.down.store(true, Relaxed);
    let poll = within_wakeups(consumer.poll(100, 20 * SECOND), 5_000).await;
    assert!(poll.is_err(), "{poll:?}");
}

#[tokio::test(start_paused = true)]
async fn c13_a_seek_back_behind_a_commit_that_was_dropped_can_be_committed() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = 0;
    while seen < 20 {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
    let all = consumer.position().clone();
    // Stored, and dropped before the answer.
    server.commit_hangs.store(true, Relaxed);
    assert!(tokio::time::timeout(SECOND, consumer.commit(&all)).await.is_err());
    server.commit_hangs.store(false, Relaxed);
    consumer.seek(SeekPosition::Position(Position::new(PartitionId(0), Offset(5)))).await.unwrap();
    let here = consumer.position().clone();
    consumer.commit(&here).await.unwrap();
    assert_eq!(log.lag("g").await.unwrap().total(), 5, "the place that was sought is stored");
}

#[tokio::test(start_paused = true)]
async fn c12_a_start_that_was_stored_by_half_is_finished() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    server.initialise_of_1_fails.store(true, Relaxed);
    let end = || ConsumerOptions::starting_at(SeekPosition::End);
    assert!(log.consumer_with("g", end()).await.is_err());
    server.initialise_of_1_fails.store(false, Relaxed);
    let mut consumer = log.consumer_with("g", end()).await.unwrap();
    let batch = consumer.poll(100, SECOND).await.unwrap();
    assert!(batch.is_empty(), "the group starts at the end, and got {} records", batch.len());
}

#[tokio::test(start_paused = true)]
async fn c15_a_place_that_cannot_be_asked_for_fails_no_commit_of_another_partition() {
    let server = Arc::new(Server::default());
    let log = server.with_events(10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = 0;
    while seen < 20 {
        seen += consumer.poll(100, SECOND).await.unwrap().len();
    }
    let all = consumer.position().clone();
    server.commit_hangs.store(true, Relaxed);
    assert!(tokio::time::timeout(SECOND, consumer.commit(&all)).await.is_err());
    server.commit_hangs.store(false, Relaxed);
    server.committed_of_1_fails.store(true, Relaxed);
    let place = [(PartitionId(0), Offset(10))].into_iter().collect();
    consumer.commit(&place).await.unwrap();
}
