//! Attack: loops over the consumer's calls on a thread that has other tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::fixture::{SECOND, append, open};
use event_log_core::{
    EventConsumer as _, EventConsumerExt as _, EventLog as _, EventLogExt as _, SeekPosition,
};
use futures::StreamExt as _;
use tokio::time::Instant;

/// l9: "Every loop that can go on without waiting yields"; c1: "waiting keeps no processor busy". `until_caught_up` is a loop that
/// goes on through errors that are worth a retry.
#[tokio::test(start_paused = true)]
async fn l9_catching_up_while_the_log_is_away_leaves_others_their_turn() {
    let (log, faults, _) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    faults.disconnect();
    let has_run = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let (has_run, faults) = (Arc::clone(&has_run), faults.clone());
        async move {
            has_run.store(true, Relaxed);
            tokio::time::sleep(SECOND).await;
            faults.reconnect();
        }
    });
    let start = Instant::now();
    let (mut errors, mut seen) = (0, 0);
    let mut stream = consumer.until_caught_up(100);
    while let Some(batch) = stream.next().await {
        match batch {
            Ok(batch) => seen += batch.len(),
            Err(error) => {
                assert!(error.is_retryable());
                errors += 1;
                assert!(
                    errors < 100_000,
                    "{errors} errors in {:?}; whether another task of the thread has run: {}",
                    start.elapsed(),
                    has_run.load(Relaxed)
                );
            }
        }
    }
    other.await.unwrap();
    assert_eq!(seen, 10);
    assert!(errors < 100, "{errors} errors in {:?}", start.elapsed());
}

/// The same for calls that are made in a loop.
async fn others_run(name: &str, mut call: impl AsyncFnMut()) -> Option<String> {
    let has_run = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let has_run = Arc::clone(&has_run);
        async move { has_run.store(true, Relaxed) }
    });
    let mut calls = 0;
    while !has_run.load(Relaxed) && calls < 10_000 {
        call().await;
        calls += 1;
    }
    let failed =
        (!has_run.load(Relaxed)).then(|| format!("{name}: {calls} calls, and no other task has run"));
    other.await.unwrap();
    failed
}

#[tokio::test(start_paused = true)]
async fn l9_loops_of_consumer_calls_leave_others_their_turn() {
    let (log, faults, _) = open().await;
    append(&log, 0, 0..50_000).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut failures = Vec::new();
    failures.extend(others_run("poll", async || drop(consumer.poll(1, SECOND).await)).await);
    let cursor = consumer.position().clone();
    failures.extend(others_run("commit", async || drop(consumer.commit(&cursor).await)).await);
    failures.extend(others_run("seek", async || drop(consumer.seek(SeekPosition::Beginning).await)).await);
    failures.extend(others_run("end", async || drop(consumer.end().await)).await);
    failures.extend(others_run("lag", async || drop(log.lag("g").await)).await);
    failures.extend(others_run("consumer", async || drop(log.consumer("h").await)).await);
    faults.disconnect();
    failures.extend(
        others_run("poll while away", async || drop(consumer.poll(1, std::time::Duration::ZERO).await)).await,
    );
    failures.extend(others_run("commit while away", async || drop(consumer.commit(&cursor).await)).await);
    assert!(failures.is_empty(), "{failures:#?}");
}
