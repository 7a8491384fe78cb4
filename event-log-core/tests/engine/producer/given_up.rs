//! A request that is given up goes on below, as in the SDK of Iggy: nothing ends it, and closing its connection waits for it.

use std::sync::Arc;
use std::time::Duration;

use crate::served::{Event, Fate, HOUR, MS, SECOND, Scripted, Server, event, steady};
use event_log_core::EventLog as _;
use event_log_core::engine::TransportLog;
use tokio::time::{sleep, timeout};

/// The first request of partition 0 lies in its connection for five seconds.
async fn open(expiry: Option<Duration>) -> (Arc<Server>, TransportLog<Event, Scripted>) {
    let server = Server::new(true, 2);
    let mut config = steady();
    (config.reconnect.initial, config.expiry) = (500 * MS, expiry);
    let log = server.open(config).await;
    server.fate(0, Fate::Lies(5_000));
    (server, log)
}

/// How many copies of one event of partition 0 there are, and how many requests.
async fn copies(loses: bool) -> (usize, usize) {
    let (server, log) = open(None).await;
    if loses {
        server.fate(1, Fate::Cut(100));
    }
    let slow = log.submit(event(0, 0)).unwrap();
    let other = log.submit(event(1, 0)).unwrap();
    timeout(HOUR, slow).await.unwrap().unwrap();
    timeout(HOUR, other).await.unwrap().unwrap();
    sleep(60 * SECOND).await;
    (server.numbers(0).len(), server.with(0, |partition| partition.sends))
}

#[tokio::test(start_paused = true)]
async fn a8_a_request_that_is_given_up_beside_a_good_connection_is_over_before_it_is_read_back() {
    assert_eq!(copies(true).await.0, 1);
}

#[tokio::test(start_paused = true)]
async fn control_a8_a_slow_request_is_there_once() {
    assert_eq!(copies(false).await, (1, 1));
}

/// The first event has expired when its request is given up, and arrives after the second one was submitted.
#[tokio::test(start_paused = true)]
async fn a2_an_event_is_behind_one_that_has_expired_and_arrives_late() {
    let (server, log) = open(Some(3 * SECOND)).await;
    server.fate(1, Fate::Cut(100));
    let slow = log.submit(event(0, 0)).unwrap();
    let _other = log.submit(event(1, 0)).unwrap();
    let slow = timeout(4 * SECOND, slow).await.unwrap().unwrap_err();
    assert!(slow.may_have_taken_effect(), "{slow:?}");
    timeout(HOUR, log.submit(event(0, 1)).unwrap()).await.unwrap().unwrap();
    assert_eq!(server.numbers(0), [0, 1]);
}
