//! Attempts of an outside reader to break the producing side: loops that have to yield.

use event_log_core::{EventLog as _, Overflow, ProducerConfig};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::producing::{Numbered, SECOND, config, cut, open};

/// How many turns another task of the same thread gets while `work` goes on.
async fn turns_of_others(work: impl Future<Output = ()>) -> usize {
    let turns = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counting.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
        }
    });
    work.await;
    other.abort();
    turns.load(SeqCst)
}

#[tokio::test]
async fn l9_a_loop_of_appends_leaves_others_their_turn_while_away() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    cut(&log, &faults).await;
    let turns = turns_of_others(async {
        for number in 0..2_000 {
            drop(log.append(Numbered(number)).await.unwrap());
        }
    });
    assert!(turns.await > 1, "2,000 appends, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_batches_leaves_others_their_turn_while_away() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    cut(&log, &faults).await;
    let turns = turns_of_others(async {
        for number in 0..2_000 {
            drop(log.append_batch(vec![Numbered(number)]).await.unwrap());
        }
    });
    assert!(turns.await > 1, "2,000 batches, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_that_retries_what_is_full_lets_the_log_come_back() {
    let (log, faults, _broker) =
        open(config(|config| (config.buffer_events, config.overflow) = (1, Overflow::Reject))).await;
    cut(&log, &faults).await;
    drop(log.append(Numbered(0)).await.unwrap());
    faults.reconnect();
    let start = std::time::Instant::now();
    // The error says that it is worth a retry, and the log is there again after a second.
    let mut event = Numbered(1);
    while let Err(error) = log.append(event).await {
        assert!(error.is_retryable());
        event = error.into_event();
        assert!(start.elapsed() < 3 * SECOND, "the loop keeps the log from coming back");
    }
}

#[tokio::test]
async fn l9_draining_the_buffer_leaves_others_their_turn() {
    let (log, faults, broker) = open(config(|config| config.request_events = 1)).await;
    faults.slow_appends(Duration::from_millis(1));
    let mut last = None;
    for number in 0..5_000 {
        last = Some(log.submit(Numbered(number)).unwrap());
    }
    faults.slow_appends(Duration::ZERO);
    let turns = turns_of_others(async {
        last.unwrap().await.unwrap();
    })
    .await;
    assert_eq!(broker.contents("events").len(), 5_000);
    assert!(turns > 5, "5,000 requests, and others had {turns} turns");
}
