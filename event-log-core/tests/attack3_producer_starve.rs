//! New attempts to break the producing side: deadlines of a writer that always has something to do.
#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod attack_served;

use std::time::{Duration, Instant};

use attack_served::{Fate, Server, event};
use event_log_core::{EventLog as _, ProducerConfig};
use tokio::time::{sleep, timeout};

fn one_by_one() -> ProducerConfig {
    let mut config = ProducerConfig::default();
    config.request_events = 1;
    config
}

/// a16: "An event that has waited longer than its expiry comes back soon after, whether the log is connected and slow, ...".
/// Partition 0 is slow, and partition 1 takes what it gets at once, which is always something.
#[tokio::test]
async fn a16_an_event_expires_although_the_writer_always_has_something_to_do() {
    let server = Server::new(true, 2);
    let mut config = one_by_one();
    config.expiry = Some(Duration::from_millis(200));
    let log = server.open(config).await;
    server.fate(0, Fate::Confirmed(1_000_000_000));
    let _in_flight = log.submit(event(0, 1)).unwrap();
    sleep(Duration::from_millis(20)).await;
    let mut waits = log.submit(event(0, 2)).unwrap();
    let start = Instant::now();
    let mut number = 0;
    let expired = loop {
        // As much as there is space for.
        while let Ok(ticket) = log.submit(event(1, number)) {
            drop(ticket);
            number += 1;
        }
        tokio::task::yield_now().await;
        match waits.try_outcome() {
            Ok(outcome) => break Some(outcome),
            Err(ticket) => waits = ticket,
        }
        if start.elapsed() > Duration::from_secs(4) {
            break None;
        }
    };
    let took = start.elapsed();
    assert!(expired.is_some(), "it has not expired after {took:?}, in which {number} others were appended");
    assert!(expired.unwrap().is_err());
    assert!(took < Duration::from_secs(1), "{took:?}, in which {number} others were appended");
}

/// l3: "`close` sends what is queued until its deadline and returns the rest".
#[tokio::test]
async fn l3_close_keeps_its_deadline_although_the_log_takes_everything_at_once() {
    const EVENTS: u64 = 300_000;
    let server = Server::new(true, 1);
    let mut config = one_by_one();
    config.buffer_events = EVENTS as usize;
    let log = server.open(config).await;
    for number in 0..EVENTS {
        drop(log.submit(event(0, number)).unwrap());
    }
    let start = Instant::now();
    let closed = timeout(Duration::from_secs(60), log.close(Duration::from_millis(10))).await.unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?} {closed:?}");
}

/// The same with other work on the thread.
#[tokio::test]
async fn l9_a_writer_that_always_has_something_to_do_leaves_timers_their_turn() {
    let server = Server::new(true, 1);
    let mut config = one_by_one();
    config.buffer_events = 300_000;
    let log = server.open(config).await;
    for number in 0..300_000 {
        drop(log.submit(event(0, number)).unwrap());
    }
    let start = Instant::now();
    sleep(Duration::from_millis(20)).await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    std::mem::forget(log);
}

/// Dropped, it is given up: the task ends at once.
#[tokio::test]
async fn l3_a_dropped_log_ends_although_it_takes_everything_at_once() {
    let server = Server::new(true, 1);
    let mut config = one_by_one();
    config.buffer_events = 300_000;
    let log = server.open(config).await;
    for number in 0..300_000 {
        drop(log.submit(event(0, number)).unwrap());
    }
    let mut state = log.state();
    drop(log);
    let start = Instant::now();
    state.wait_for(|state| state.is_closed()).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "it went on for {took:?}");
}
