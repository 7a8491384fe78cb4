//! Where reading back begins: what others have appended, and what retention has removed, before a request was sent.

use std::collections::VecDeque;
use std::time::Duration;

use crate::served::{Fate, HOUR, SECOND, Server, alone, busy, event};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// DESIGN: "A lone append takes one request and three switches of tasks"; a9: "a lone append waits for no company".
#[tokio::test(start_paused = true)]
async fn a9_a_lone_append_waits_for_no_question() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    sleep(2 * SECOND).await;
    server.state.lock().watermarks_take = 10 * SECOND;
    let start = Instant::now();
    log.append_acked(event(0, 1)).await.unwrap();
    assert!(start.elapsed() < SECOND, "it took {:?}", start.elapsed());
}

/// a17: "What the writer reads back after an ambiguous request grows neither with what other producers have appended ...":
/// an outage of ten minutes, in which others went on. Our event is the first that is read.
#[tokio::test(start_paused = true)]
async fn a17_what_others_append_during_an_outage_is_not_read_back() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(0, Fate::ReplyLost);
    server.state.lock().refuses_connections = true;
    let ticket = log.submit(event(0, 1)).unwrap();
    sleep(SECOND).await;
    server.others(0, 50_000);
    server.state.lock().refuses_connections = false;
    ticket.await.unwrap();
    let read = server.state.lock().records_read;
    assert!(read <= 5_000, "{read} records were read back, and the first was ours");
}

/// The question for where the partitions end fails once; the connection that events are sent over is good.
#[tokio::test(start_paused = true)]
async fn a7_a_question_that_takes_long_keeps_no_partition_from_being_sent_to() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(5_000));
    let _slow = log.submit(event(1, 1)).unwrap();
    sleep(2 * SECOND).await;
    server.state.lock().watermarks_take = 20 * SECOND;
    let start = Instant::now();
    log.append_acked(event(0, 1)).await.unwrap();
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
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
    let read = server.state.lock().records_read;
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
    server.state.lock().watermarks_take = Duration::from_millis(10);
    log.append_acked(event(0, 1)).await.unwrap();
    let read = server.state.lock().records_read;
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
    server.state.lock().watermarks_take = Duration::from_millis(5);
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
    server.with(0, |partition| partition.fates.clear());
    server.fate(0, Fate::Lost);
    log.append_acked(event(0, 6_000)).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(read < 1_300, "{read} records were read back: all since the handle was opened");
}

#[tokio::test(start_paused = true)]
async fn a17_retention_makes_no_outcome_unknown_after_a_late_answer() {
    let server = Server::new(true, 2);
    let log = server.open(alone()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    let busy = busy(&log, &server);
    sleep(58 * SECOND).await;
    server.state.lock().watermarks_take = 5 * SECOND;
    sleep(4 * SECOND).await;
    let mut last = None;
    for number in 1..10 {
        last = log.append_acked(event(0, number)).await.unwrap().offset;
    }
    sleep(4 * SECOND).await;
    server.state.lock().watermarks_take = Duration::ZERO;
    // No other producer has appended, and what was acknowledged last is still there.
    server.trim(0, last.unwrap().0);
    server.fate(0, Fate::Lost);
    let outcome = timeout(HOUR, log.append_acked(event(0, 10))).await.unwrap();
    busy.abort();
    assert!(outcome.is_ok(), "{:?}", outcome.unwrap_err().kind());
}

/// An event that was certainly not sent before an outage, in which others appended.
async fn certainly_not_sent(trims: bool, fate: Fate) {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(0, Fate::Cut(0));
    let ticket = log.submit(event(0, 1)).unwrap();
    server.state.lock().down = true;
    sleep(600 * SECOND).await;
    server.others(0, 50_000);
    if trims {
        server.trim(0, 40_000);
    }
    server.fate(0, fate);
    server.state.lock().down = false;
    let outcome = timeout(HOUR, ticket).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(read < 1_000, "{read} records were read back");
}

/// a17: "Retention before that makes no outcome unknown".
#[tokio::test(start_paused = true)]
async fn a17_retention_before_what_was_certainly_not_sent() {
    certainly_not_sent(true, Fate::Lost).await;
}

/// a17: "What the writer reads back ... grows neither with what other producers had appended".
#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_before_what_was_certainly_not_sent() {
    certainly_not_sent(false, Fate::ReplyLost).await;
}

/// a17: "What the writer reads back ... grows neither with what other producers have appended": the events of a request that was
/// refused go one by one, over a minute, on a log that confirms without saying where.
#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_while_a_refused_request_goes_event_by_event() {
    let server = Server::new(false, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::Confirmed(100));
    server.fate(0, Fate::Refused);
    for _ in 0..59 {
        server.fate(0, Fate::Confirmed(1_000));
    }
    server.fate(0, Fate::ReplyLost);
    // The others wait for the answer to the first, and go together.
    let mut tickets = vec![log.submit(event(0, 0)).unwrap()];
    sleep(SECOND / 100).await;
    tickets.extend((1..61).map(|number| log.submit(event(0, number)).unwrap()));
    for _ in 0..50 {
        sleep(SECOND).await;
        server.others(0, 1_000);
    }
    for ticket in tickets {
        timeout(HOUR, ticket).await.unwrap().unwrap();
    }
    assert_eq!(server.with(0, |partition| partition.sends), 62, "each of the refused ones went by itself");
    let read = server.state.lock().records_read;
    assert!((1..10_000).contains(&read), "{read} records were read back");
}
