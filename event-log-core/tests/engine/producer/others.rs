//! What one partition does to others through what they share.

use crate::served::{Fate, HOUR, MS, SECOND, Server, event};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// `TransportProperties::connections`: "They are opened as they turn out to be of use. With more than one, requests to different
/// partitions are in flight together"; ARCHITECTURE, 8: "Partitions do not wait for one another: not for a slow request". A further
/// connection could not be opened once, an hour ago.
#[tokio::test(start_paused = true)]
async fn a7_a_further_connection_is_tried_again() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    let slow = |takes| {
        server.fate(1, Fate::Confirmed(takes));
        log.submit(event(1, 0)).unwrap()
    };
    server.state.lock().refuses_connections = true;
    let first = slow(5_000);
    sleep(10 * MS).await;
    log.append_acked(event(0, 0)).await.unwrap();
    first.await.unwrap();
    server.state.lock().refuses_connections = false;
    sleep(HOUR).await;
    let _second = slow(600_000);
    sleep(10 * MS).await;
    let start = Instant::now();
    timeout(HOUR, log.append_acked(event(0, 1))).await.unwrap().unwrap();
    assert!(start.elapsed() < 5 * SECOND, "it waited for {:?}", start.elapsed());
}

/// The question for where the partitions end fails, and the connection that events are sent over is good: a slow request of
/// another partition is not given up for it.
#[tokio::test(start_paused = true)]
async fn a7_a_question_that_fails_does_not_end_the_requests_under_way() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(1, Fate::AnswerAfter(10_000));
    let slow = log.submit(event(1, 0)).unwrap();
    sleep(2 * SECOND).await;
    server.state.lock().fails_watermarks = 1;
    let receipt = log.append(event(0, 1)).await.unwrap();
    let state = log.state().current();
    let (buffered, reconnects) = (receipt.is_buffered(), state.reconnects);
    receipt.acked().await.unwrap();
    slow.await.unwrap();
    assert!(!buffered && reconnects == 0, "{state:?}");
}

/// ARCHITECTURE, 8: "Partitions do not wait for one another"; a4: "no ticket stays pending for ever". Requests of partition 1 lose
/// their connection after three seconds, always; one of partition 0 takes five, over a connection of its own that is good. (A
/// request that is given up does not arrive.)
#[tokio::test(start_paused = true)]
async fn a4_a_slow_request_is_answered_although_those_of_another_partition_are_lost() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.with(0, |partition| partition.every_send = Some(Fate::Confirmed(5_000)));
    server.with(1, |partition| partition.every_send = Some(Fate::Cut(3_000)));
    let _other = log.submit(event(1, 0)).unwrap();
    sleep(10 * MS).await;
    let slow = log.submit(event(0, 1)).unwrap();
    let outcome = timeout(24 * HOUR, slow).await;
    let sends = server.with(0, |partition| partition.sends);
    assert!(outcome.is_ok(), "it is pending after a day, and was sent {sends} times");
}
