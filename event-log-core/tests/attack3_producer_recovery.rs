//! New attempts to break the producing side: what the writer reads back, and from where.
#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod attack_served;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use attack_served::{Event, Fate, HOUR, SECOND, Scripted, Server, event};
use event_log_core::engine::TransportLog;
use event_log_core::{AppendErrorKind, EventLog as _, EventLogExt as _, ProducerConfig};
use futures::FutureExt as _;
use tokio::time::{sleep, timeout};

/// Events go one by one.
fn alone() -> ProducerConfig {
    let mut config = ProducerConfig::default();
    config.request_events = 1;
    config
}

/// Keeps partition 1 busy, so that the queue is never idle, until it is aborted.
fn busy(log: &TransportLog<Event, Scripted>, server: &Arc<Server>) -> tokio::task::JoinHandle<()> {
    let (log, server) = (log.clone(), server.clone());
    tokio::spawn(async move {
        let mut tickets = VecDeque::new();
        for number in 0.. {
            server.fate(1, Fate::Confirmed(100));
            tickets.push_back(log.submit(event(1, number)).unwrap());
            if tickets.len() > 3 {
                tickets.pop_front().unwrap().await.unwrap();
            }
        }
    })
}

/// The same for a handle that is busy with another partition.
#[tokio::test(start_paused = true)]
async fn a17_retention_while_another_partition_is_busy_makes_no_outcome_unknown() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    let busy = busy(&log, &server);
    sleep(30 * SECOND).await;
    server.others(0, 100);
    server.trim(0, 50);
    sleep(15 * SECOND).await;
    server.fate(0, Fate::Lost);
    let outcome = timeout(HOUR, log.append_acked(event(0, 1))).await.unwrap();
    busy.abort();
    assert!(outcome.is_ok(), "{:?}", outcome.unwrap_err().kind());
}

/// a17: "What the writer reads back after an ambiguous request grows neither with what other producers have appended ...".
#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_is_not_read_back_by_a_handle_that_is_busy_elsewhere() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    let busy = busy(&log, &server);
    sleep(45 * SECOND).await;
    server.others(0, 50_000);
    sleep(2 * SECOND).await;
    server.fate(0, Fate::Lost);
    log.append_acked(event(0, 1)).await.unwrap();
    busy.abort();
    let read = *server.records_read.lock();
    assert!(read < 1_000, "{read} records were read back, of which none was ours");
}

/// The same after minutes, when one request has taken as long: the question that is asked then is answered too late.
#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_while_a_request_was_slow_is_not_read_back() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(1, Fate::Confirmed(200_000));
    let _slow = log.submit(event(1, 0)).unwrap();
    sleep(150 * SECOND).await;
    server.others(0, 50_000);
    server.fate(0, Fate::Lost);
    *server.watermarks_take.lock() = Duration::from_millis(10);
    log.append_acked(event(0, 1)).await.unwrap();
    let read = *server.records_read.lock();
    assert!(read < 1_000, "{read} records were read back, of which none was ours");
}

/// A log that confirms without saying where, as [`ProducerConnection::send`] allows, and a producer that goes on.
#[tokio::test(start_paused = true)]
async fn a17_retention_makes_no_outcome_unknown_on_a_log_that_does_not_say_where() {
    let server = Server::new(false, 1);
    let log = server.open(alone()).await;
    // One append a second, for ten minutes.
    for number in 0..600 {
        server.fate(0, Fate::Confirmed(990));
        log.append_acked(event(0, number)).await.unwrap();
    }
    server.trim(0, 599);
    server.fate(0, Fate::Lost);
    let outcome = timeout(HOUR, log.append_acked(event(0, 600))).await.unwrap();
    assert!(outcome.is_ok(), "{:?}", outcome.unwrap_err().kind());
}

/// Pipelined: something is always in flight when the minute's question is answered.
#[tokio::test(start_paused = true)]
async fn a17_what_is_read_back_does_not_grow_on_a_log_that_does_not_say_where() {
    let server = Server::new(false, 1);
    let log = server.open(alone()).await;
    *server.watermarks_take.lock() = Duration::from_millis(5);
    let mut tickets = VecDeque::new();
    for number in 0..6_000 {
        server.fate(0, Fate::Confirmed(100));
        tickets.push_back(log.submit(event(0, number)).unwrap());
        if tickets.len() > 2 {
            tickets.pop_front().unwrap().await.unwrap();
        }
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
    server.partitions.lock()[0].fates.clear();
    server.fate(0, Fate::Lost);
    log.append_acked(event(0, 6_000)).await.unwrap();
    let read = *server.records_read.lock();
    assert!(read < 1_300, "{read} records were read back: all since the handle was opened");
}

/// The question of every minute is answered late: what was acknowledged meanwhile is forgotten.
#[tokio::test(start_paused = true)]
async fn a1_a_second_copy_is_not_acknowledged_by_the_first_after_a_late_answer() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    let busy = busy(&log, &server);
    sleep(58 * SECOND).await;
    *server.watermarks_take.lock() = 5 * SECOND;
    sleep(4 * SECOND).await;
    // The question is under way.
    let with_id = |number| Event { partition: 0, number, id: Some(7) };
    let first = log.append_acked(with_id(1)).await.unwrap();
    sleep(4 * SECOND).await;
    *server.watermarks_take.lock() = Duration::ZERO;
    server.fate(0, Fate::Lost);
    let second = log.append_acked(with_id(2)).await.unwrap();
    busy.abort();
    assert_eq!(server.numbers(0), [0, 1, 2], "{first:?} {second:?}");
}

#[tokio::test(start_paused = true)]
async fn a17_retention_makes_no_outcome_unknown_after_a_late_answer() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    let busy = busy(&log, &server);
    sleep(58 * SECOND).await;
    *server.watermarks_take.lock() = 5 * SECOND;
    sleep(4 * SECOND).await;
    let mut last = None;
    for number in 1..10 {
        last = log.append_acked(event(0, number)).await.unwrap().offset;
    }
    sleep(4 * SECOND).await;
    *server.watermarks_take.lock() = Duration::ZERO;
    // Nobody else has appended, and what was acknowledged last is still there.
    server.trim(0, last.unwrap().0);
    server.fate(0, Fate::Lost);
    let outcome = timeout(HOUR, log.append_acked(event(0, 10))).await.unwrap();
    busy.abort();
    assert!(outcome.is_ok(), "{:?}", outcome.unwrap_err().kind());
}

/// A partition that began again, and has grown since, after a late answer: it is not known again, so that the event is
/// sent twice.
#[tokio::test(start_paused = true)]
async fn a8_no_duplicate_after_a_late_answer_and_a_partition_that_began_again() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    server.others(0, 10);
    let busy = busy(&log, &server);
    sleep(58 * SECOND).await;
    *server.watermarks_take.lock() = 5 * SECOND;
    sleep(4 * SECOND).await;
    log.append_acked(event(0, 1)).await.unwrap();
    sleep(4 * SECOND).await;
    *server.watermarks_take.lock() = Duration::ZERO;
    server.begin_again(0);
    server.fate(0, Fate::ReplyLost);
    let ticket = log.submit(event(0, 2)).unwrap();
    sleep(Duration::from_millis(200)).await;
    server.others(0, 100);
    let outcome = ticket.await;
    busy.abort();
    assert_eq!(server.numbers(0), [2], "{outcome:?}");
}

/// The control: without a late answer it is known again.
#[tokio::test(start_paused = true)]
async fn a8_no_duplicate_after_a_partition_that_began_again() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    server.others(0, 10);
    let busy = busy(&log, &server);
    log.append_acked(event(0, 1)).await.unwrap();
    server.begin_again(0);
    server.fate(0, Fate::ReplyLost);
    let ticket = log.submit(event(0, 2)).unwrap();
    sleep(Duration::from_millis(200)).await;
    server.others(0, 100);
    let outcome = ticket.await;
    busy.abort();
    assert_eq!(server.numbers(0), [2], "{outcome:?}");
}

/// ARCHITECTURE, 8: "Partitions do not wait for one another."
#[tokio::test(start_paused = true)]
async fn a7_a_partition_that_cannot_be_read_back_keeps_no_other_away() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::ReplyLost);
    // Each fetch takes its connection with it.
    server.partitions.lock()[0].fails = true;
    let stuck = log.submit(event(0, 1)).unwrap();
    sleep(SECOND).await;
    for number in 0..5 {
        let outcome = timeout(40 * SECOND, log.append_acked(event(1, number))).await;
        assert!(
            outcome.is_ok(),
            "{number}: nothing of partition 1, after {} connections",
            server.connects.lock()
        );
    }
    let outcome = timeout(HOUR, stuck).await.expect("it is given up").unwrap_err();
    assert!(matches!(outcome.kind(), AppendErrorKind::Unknown(_)), "{outcome:?}");
    assert_eq!(server.numbers(1), [0, 1, 2, 3, 4]);
}

/// a19: "`close` and `flush` have an attempt made at once."
#[tokio::test(start_paused = true)]
async fn a19_close_has_an_attempt_made_at_once_although_another_request_is_slow() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(20_000));
    server.fate(0, Fate::Cut(1_000));
    let slow = log.submit(event(1, 1)).unwrap();
    let cut = log.submit(event(0, 1)).unwrap();
    sleep(2 * SECOND).await;
    assert!(!log.state().current().is_connected());
    let closed = timeout(HOUR, log.close(10 * SECOND)).await.unwrap();
    let outcome = cut.now_or_never().unwrap();
    drop(slow);
    assert!(outcome.is_ok(), "{outcome:?} {closed:?}, {} connections", server.connects.lock());
}

#[tokio::test(start_paused = true)]
async fn a19_flush_has_an_attempt_made_at_once_although_another_request_is_slow() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(20_000));
    server.fate(0, Fate::Cut(1_000));
    let _slow = log.submit(event(1, 1)).unwrap();
    let cut = log.submit(event(0, 1)).unwrap();
    sleep(2 * SECOND).await;
    let before = *server.connects.lock();
    drop(timeout(SECOND, log.flush()).await);
    let after = *server.connects.lock();
    assert!(after > before, "no attempt within a second");
    drop(cut);
}

/// "`close`: With what could not be sent. Each event comes back exactly once".
#[tokio::test(start_paused = true)]
async fn l3_an_event_that_is_refused_while_closing_and_whose_ticket_nobody_holds_comes_back() {
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
async fn l3_an_event_that_is_unknown_while_closing_and_whose_ticket_nobody_holds_comes_back() {
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
