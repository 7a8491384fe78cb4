//! `close` and `flush` while the answers of other connections are waited for.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crate::served::{Fate, HOUR, MS, SECOND, Scripted, Server, event, steady};
use event_log_core::engine::LogBuilder;
use event_log_core::{Connection, EventLog as _, JsonCodec, ProducerConfig, ReconnectPolicy};
use tokio::time::{Instant, sleep, timeout};

/// A log of two connections: one hangs with a request of partition 1, the other one was cut a moment ago with one of partition 0.
/// A new connection can be made at any time.
async fn cut_beside_a_slow_one() -> (
    Arc<Server>,
    event_log_core::engine::TransportLog<crate::served::Event, crate::served::Scripted>,
    [event_log_core::Ticket<crate::served::Event>; 2],
) {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(25_000));
    server.fate(0, Fate::Cut(100));
    let slow = log.submit(event(1, 1)).unwrap();
    sleep(10 * MS).await;
    let cut = log.submit(event(0, 1)).unwrap();
    log.state().wait_for(|state| !state.is_connected()).await;
    (server, log, [slow, cut])
}

/// a19: "`close` and `flush` have an attempt made at once."
#[tokio::test(start_paused = true)]
async fn a19_close_with_a_short_deadline_has_an_attempt_made_beside_a_slow_request() {
    let (server, log, [slow, cut]) = cut_beside_a_slow_one().await;
    let before = server.state.lock().connects;
    let closed = timeout(HOUR, log.close(Duration::from_millis(900))).await.unwrap();
    let connects = server.state.lock().connects - before;
    let (cut, slow) = (cut.await, slow.await);
    assert!(connects > 0, "no attempt was made in 900 ms: {closed:?}, {cut:?}, {slow:?}");
}

#[tokio::test(start_paused = true)]
async fn a19_flush_has_an_attempt_made_at_once_beside_a_slow_request() {
    let (server, log, _tickets) = cut_beside_a_slow_one().await;
    let (before, start) = (server.state.lock().connects, Instant::now());
    let flush = log.flush();
    let looked = async {
        while server.state.lock().connects == before {
            sleep(MS).await;
        }
    };
    tokio::select! {
        flushed = flush => flushed.unwrap(),
        () = looked => {}
    }
    let took = start.elapsed();
    assert!(took <= Duration::from_millis(200), "the attempt was made after {took:?}");
}

/// `Connection::Reconnecting::next_attempt`: "When the next attempt begins; `None` while one is under way."
#[tokio::test(start_paused = true)]
async fn a19_the_state_says_when_the_next_attempt_is() {
    let (server, log, _tickets) = cut_beside_a_slow_one().await;
    let before = server.state.lock().connects;
    sleep(500 * MS).await;
    let Connection::Reconnecting { next_attempt, .. } = log.state().current().connection else { panic!() };
    let connects = server.state.lock().connects - before;
    assert!(next_attempt.is_some() || connects > 0, "no attempt is under way, nor said when");
    let _ = SECOND;
}

/// Connections that are lost twice while a caller waits in `close`, or in `flush`.
async fn lost_twice(closes: bool) -> Duration {
    let server = Server::new(true, 1);
    let mut config = ProducerConfig::default();
    config.reconnect.jitter_percent = 0;
    config.reconnect = ReconnectPolicy::new(30 * SECOND, 30 * SECOND);
    let log = server.open(config).await;
    server.fate(0, Fate::Cut(1_000));
    server.fate(0, Fate::Cut(1_000));
    drop(log.submit(event(0, 1)).unwrap());
    let start = Instant::now();
    if closes {
        log.close(60 * SECOND).await.unwrap();
    } else {
        log.flush().await.unwrap();
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a19_a_close_during_which_the_connection_is_lost_twice() {
    let flush = lost_twice(false).await;
    let close = lost_twice(true).await;
    assert!(close < 5 * SECOND, "close took {close:?}, and flush {flush:?}");
}

/// Keeps how many hold the transport when it is woken.
struct Holders(Weak<Scripted>, AtomicUsize);

impl Wake for Holders {
    fn wake(self: Arc<Self>) {
        self.1.store(self.0.strong_count(), Ordering::Relaxed);
    }
}

/// l3: "what is closed holds nothing of the backend but through its handles."
#[tokio::test(start_paused = true)]
async fn l3_a_closed_log_has_let_go_of_its_connections() {
    let transport = Arc::new(Scripted(Server::new(true, 2)));
    let log = LogBuilder::new(Arc::new(JsonCodec)).open(Arc::clone(&transport)).await.unwrap();
    let _receipt = log.append(event(0, 1)).await.unwrap();
    let holders = Arc::new(Holders(Arc::downgrade(&transport), AtomicUsize::new(0)));
    let mut close = log.close(SECOND);
    let waker = Waker::from(Arc::clone(&holders));
    while close.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
        sleep(MS).await;
    }
    // The test and the handle.
    assert_eq!(holders.1.load(Ordering::Relaxed), 2);
}

/// The connection of a request that had no answer is being closed, and all that there was to send has expired.
async fn closing_beside_a_close(closes_take: Duration, has_ticket: bool) -> Duration {
    let server = Server::new(true, 2);
    let mut config = steady();
    config.expiry = Some(3 * SECOND);
    let log = server.open(config).await;
    server.state.lock().closes_take = closes_take;
    server.fate(0, Fate::Lost);
    let ticket = log.submit(event(0, 1)).unwrap();
    let ticket = has_ticket.then_some(ticket);
    // It is connected again.
    sleep(2 * SECOND).await;
    assert!(log.state().current().is_connected());
    let start = Instant::now();
    let _closed = timeout(HOUR, log.close(60 * SECOND)).await.unwrap();
    let took = start.elapsed();
    assert!(ticket.is_none_or(|ticket| ticket.try_outcome().unwrap().is_err()));
    took
}

#[tokio::test(start_paused = true)]
async fn l3_close_does_not_wait_for_the_closing_of_the_connection_of_what_has_expired() {
    let took = closing_beside_a_close(30 * SECOND, true).await;
    assert!(took < 2 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn l3_the_same_of_an_event_that_close_returns() {
    let took = closing_beside_a_close(30 * SECOND, false).await;
    assert!(took < 2 * SECOND, "{took:?}");
}
