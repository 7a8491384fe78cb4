//! Deadlines of a writer that always has something to do, and of one that is closing.

use std::time::Duration;

use crate::served::{Fate, FetchFate, HOUR, SECOND, Server, alone, event};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// "`close`: With what could not be sent. Each event comes back exactly once".
#[tokio::test(start_paused = true)]
async fn l3_an_event_that_is_refused_while_closing_and_without_a_ticket_comes_back() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::Confirmed(1_000));
    server.fate(0, Fate::Refused);
    drop(log.submit(event(0, 1)).unwrap());
    sleep(Duration::from_millis(1)).await;
    drop(log.submit(event(0, 2)).unwrap());
    let closed = timeout(HOUR, log.close(10 * SECOND)).await.unwrap();
    assert_eq!(server.numbers(0), [1]);
    let left = closed.expect_err("close says that all was sent");
    assert_eq!(left.not_appended.len(), 1);
}

/// The same for one whose outcome is unknown.
#[tokio::test(start_paused = true)]
async fn l3_an_event_that_is_unknown_while_closing_and_without_a_ticket_comes_back() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    for number in 0..5 {
        log.append_acked(event(0, number)).await.unwrap();
    }
    server.fate(0, Fate::Lost);
    drop(log.submit(event(0, 5)).unwrap());
    sleep(Duration::from_millis(10)).await;
    server.others(0, 10);
    server.trim(0, 10);
    let closed = timeout(HOUR, log.close(10 * SECOND)).await.unwrap();
    assert_eq!(server.numbers(0), [0_u64; 0]);
    let left = closed.expect_err("close says that all was sent");
    assert_eq!(left.unknown.len(), 1);
}

/// a16: "An event that has waited longer than its expiry comes back soon after, whether the log is connected and slow, ...".
/// Partition 0 is slow, and partition 1 takes what it gets at once, which is always something.
#[tokio::test]
async fn a16_an_event_expires_although_the_writer_always_has_something_to_do() {
    let server = Server::new(true, 2);
    let mut config = alone();
    config.expiry = Some(Duration::from_millis(200));
    let log = server.open(config).await;
    server.fate(0, Fate::Confirmed(1_000_000_000));
    let _in_flight = log.submit(event(0, 1)).unwrap();
    sleep(Duration::from_millis(20)).await;
    let mut waits = log.submit(event(0, 2)).unwrap();
    let start = std::time::Instant::now();
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
    let mut config = alone();
    config.buffer_events = EVENTS as usize;
    let log = server.open(config).await;
    for number in 0..EVENTS {
        drop(log.submit(event(0, number)).unwrap());
    }
    let start = std::time::Instant::now();
    let closed = timeout(Duration::from_secs(60), log.close(Duration::from_millis(10))).await.unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?} {closed:?}");
}

/// The same with other work on the thread.
#[tokio::test]
async fn l9_a_writer_that_always_has_something_to_do_leaves_timers_their_turn() {
    let server = Server::new(true, 1);
    let mut config = alone();
    config.buffer_events = 300_000;
    let log = server.open(config).await;
    for number in 0..300_000 {
        drop(log.submit(event(0, number)).unwrap());
    }
    let start = std::time::Instant::now();
    sleep(Duration::from_millis(20)).await;
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    std::mem::forget(log);
}

/// Dropped, it is given up: the task ends at once.
#[tokio::test]
async fn l3_a_dropped_log_ends_although_it_takes_everything_at_once() {
    let server = Server::new(true, 1);
    let mut config = alone();
    config.buffer_events = 300_000;
    let log = server.open(config).await;
    for number in 0..300_000 {
        drop(log.submit(event(0, number)).unwrap());
    }
    let mut state = log.state();
    drop(log);
    let start = std::time::Instant::now();
    state.wait_for(|state| state.is_closed()).await;
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "it went on for {took:?}");
}

/// `close`: returns once nothing is left to send, although a fetch hangs.
#[tokio::test(start_paused = true)]
async fn l3_close_does_not_wait_for_the_fetch_of_what_has_expired() {
    let server = Server::new(true, 2);
    let mut config = ProducerConfig::default();
    config.expiry = Some(3 * SECOND);
    let log = server.open(config).await;
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::TimesOut(30_000)));
    server.fate(0, Fate::ReplyLost);
    let ticket = log.submit(event(0, 1)).unwrap();
    sleep(2 * SECOND).await;
    let start = Instant::now();
    let closed = timeout(HOUR, log.close(20 * SECOND)).await.unwrap();
    let took = start.elapsed();
    drop(ticket);
    assert!(took < 3 * SECOND, "{took:?} {closed:?}");
}
