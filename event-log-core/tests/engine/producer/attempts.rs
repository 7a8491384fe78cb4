//! When the next attempt to connect is made, and what the state says of it.

use std::sync::Arc;
use std::time::Duration;

use crate::served::{Event, Fate, HOUR, SECOND, Scripted, Server, event};
use event_log_core::engine::TransportLog;
use event_log_core::{Connection, EventLog as _, EventLogExt as _, ProducerConfig, Ticket};
use futures::FutureExt as _;
use tokio::time::{Instant, sleep, timeout};

/// a7: "One supervisor reconnects with exponential backoff and jitter".
#[tokio::test(start_paused = true)]
async fn a7_a_log_that_loses_idle_connections_at_once_is_asked_ever_more_rarely() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    server.state.lock().flaps = true;
    // It looks again when there is something to do.
    log.append_acked(event(0, 1)).await.unwrap();
    sleep(600 * SECOND).await;
    let connects = server.state.lock().connects;
    assert!(connects < 60, "{connects} connections in ten minutes");
}

/// a19: "While the log is away `LogState` says ... when the next attempt is"; `next_attempt`: "`None` while one is under way".
#[tokio::test(start_paused = true)]
async fn a19_the_state_says_when_the_next_attempt_is_although_a_request_is_slow() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(25_000));
    server.fate(0, Fate::Cut(1_000));
    let _slow = log.submit(event(1, 1)).unwrap();
    let _cut = log.submit(event(0, 1)).unwrap();
    sleep(10 * SECOND).await;
    let before = server.state.lock().connects;
    let state = log.state().current();
    // It need not be away any more.
    let Connection::Reconnecting { next_attempt, .. } = state.connection else { return };
    sleep(Duration::from_millis(1)).await;
    assert!(next_attempt.is_some() || server.state.lock().connects > before, "no attempt is under way");
}

/// `limits::FLUSH_ATTEMPT_INTERVAL`: "The shortest time between two attempts to reconnect that `flush` asks for".
#[tokio::test(start_paused = true)]
async fn a19_attempts_that_a_flush_asks_for_keep_their_interval() {
    let server = Server::new(true, 1);
    let mut config = ProducerConfig::default();
    config.reconnect = event_log_core::ReconnectPolicy::new(Duration::from_millis(1), 30 * SECOND);
    let log = server.open(config).await;
    server.state.lock().refuses_connections = true;
    server.fate(0, Fate::Cut(1));
    let _ticket = log.submit(event(0, 1)).unwrap();
    // The waits have grown.
    sleep(120 * SECOND).await;
    let before = server.state.lock().connects;
    let start = Instant::now();
    while start.elapsed() < SECOND {
        drop(timeout(Duration::from_millis(1), log.flush()).await);
    }
    let made = server.state.lock().connects - before;
    let most = 1 + (SECOND.as_millis() / event_log_core::limits::FLUSH_ATTEMPT_INTERVAL.as_millis()) as usize;
    assert!(made <= most + 1, "{made} attempts in a second, and at most {most} are promised");
}

/// The same while the log closes.
#[tokio::test(start_paused = true)]
async fn a19_attempts_that_a_flush_asks_for_keep_their_interval_while_closing() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    server.state.lock().refuses_connections = true;
    server.fate(0, Fate::Cut(1));
    let _ticket = log.submit(event(0, 1)).unwrap();
    sleep(120 * SECOND).await;
    let closing = log.clone();
    let close = tokio::spawn(async move { closing.close(60 * SECOND).await });
    sleep(5 * SECOND).await;
    let before = server.state.lock().connects;
    let start = Instant::now();
    while start.elapsed() < SECOND {
        drop(timeout(Duration::from_millis(1), log.flush()).await);
    }
    let made = server.state.lock().connects - before;
    close.abort();
    assert!(made <= 12, "{made} attempts in a second");
}

/// Closing again and again is no way to a storm either.
#[tokio::test(start_paused = true)]
async fn a19_however_often_a_log_is_closed_there_is_no_storm_of_attempts() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    server.state.lock().refuses_connections = true;
    server.fate(0, Fate::Cut(1));
    let _ticket = log.submit(event(0, 1)).unwrap();
    sleep(120 * SECOND).await;
    let before = server.state.lock().connects;
    let start = Instant::now();
    while start.elapsed() < SECOND {
        drop(timeout(Duration::from_millis(1), log.close(60 * SECOND)).await);
    }
    let made = server.state.lock().connects - before;
    assert!(made <= 12, "{made} attempts in a second");
}

/// A log that tries each half minute, and whose connection is lost in a second.
async fn lost_in_a_second() -> TransportLog<Event, Scripted> {
    let server = Server::new(true, 1);
    let mut config = ProducerConfig::default();
    config.reconnect = event_log_core::ReconnectPolicy::new(30 * SECOND, 30 * SECOND);
    let log = server.open(config).await;
    server.fate(0, Fate::Cut(1_000));
    drop(log.submit(event(0, 1)).unwrap());
    log
}

/// A log that is lost while a caller waits in `flush` is looked for at once, as if `flush` had been called then.
#[tokio::test(start_paused = true)]
async fn a19_a_flush_that_waits_when_the_connection_is_lost_has_an_attempt_made_at_once() {
    let (log, start) = (lost_in_a_second().await, Instant::now());
    log.flush().await.unwrap();
    assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
}

/// The same for `close`.
#[tokio::test(start_paused = true)]
async fn a19_a_close_that_waits_when_the_connection_is_lost_has_an_attempt_made_at_once() {
    let (log, start) = (lost_in_a_second().await, Instant::now());
    log.close(60 * SECOND).await.unwrap();
    assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
}

/// A log with two connections: the request over one is cut after a second, that over the other takes twenty.
async fn cut_beside_a_slow_one() -> (Arc<Server>, TransportLog<Event, Scripted>, [Ticket<Event>; 2]) {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(20_000));
    server.fate(0, Fate::Cut(1_000));
    let slow = log.submit(event(1, 1)).unwrap();
    let cut = log.submit(event(0, 1)).unwrap();
    sleep(SECOND + SECOND / 100).await;
    (server, log, [slow, cut])
}

/// a19: "`close` and `flush` have an attempt made at once."
#[tokio::test(start_paused = true)]
async fn a19_close_has_an_attempt_made_at_once_although_another_request_is_slow() {
    let (server, log, [_slow, cut]) = cut_beside_a_slow_one().await;
    let closed = timeout(HOUR, log.close(SECOND / 2)).await.unwrap();
    let outcome = cut.now_or_never().unwrap();
    assert!(outcome.is_ok(), "{outcome:?} {closed:?}, {} connections", server.state.lock().connects);
}

#[tokio::test(start_paused = true)]
async fn a19_flush_has_an_attempt_made_at_once_although_another_request_is_slow() {
    let (_server, log, [_slow, cut]) = cut_beside_a_slow_one().await;
    drop(timeout(SECOND / 2, log.flush()).await);
    let outcome = cut.now_or_never().expect("it is read back, and sent again");
    assert!(outcome.is_ok(), "{outcome:?}");
}
