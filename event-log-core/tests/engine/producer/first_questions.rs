//! The first question for where the partitions end over a connection, which has no answer, or a late one.

use std::time::Duration;

use crate::served::{Fate, HOUR, MS, SECOND, Server, event, steady};
use event_log_core::{EventLog as _, EventLogExt as _};
use tokio::time::{Instant, sleep, timeout};

/// The first question over a new connection fails, or takes long: for a reason of its own (on Iggy a partition whose first record
/// cannot be fetched is enough). Connections are good, and so is every request.
async fn first_question(fails: usize, takes: Duration) -> Duration {
    let server = Server::new(true, 2);
    let log = server.open(steady()).await;
    for partition in 0..3 {
        log.append_acked(event(partition, 0)).await.unwrap();
    }
    server.state.lock().fails_watermarks = fails;
    server.state.lock().watermarks_take = takes;
    // One connection is lost, once.
    server.fate(0, Fate::Cut(0));
    let _cut = log.submit(event(0, 1)).unwrap();
    sleep(100 * MS).await;
    let start = Instant::now();
    let outcome = timeout(HOUR, log.submit(event(1, 1)).unwrap()).await;
    let connects = server.state.lock().connects;
    assert!(outcome.is_ok(), "pending after an hour, {connects} connections; {:?}", log.state().current());
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a7_a_first_question_that_fails_keeps_no_partition_away() {
    let took = first_question(usize::MAX, Duration::ZERO).await;
    assert!(took <= 10 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a7_a_first_question_that_takes_ten_minutes_keeps_no_partition_away() {
    let took = first_question(0, 600 * SECOND).await;
    assert!(took <= 10 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn control_a7_a_first_question() {
    assert!(first_question(0, 100 * MS).await <= 10 * SECOND);
}

/// Questions that fail in the same way while a connection lasts keep nothing away.
#[tokio::test(start_paused = true)]
async fn control_a7_later_questions_that_fail() {
    let server = Server::new(true, 2);
    let log = server.open(steady()).await;
    log.append_acked(event(1, 0)).await.unwrap();
    server.state.lock().fails_watermarks = usize::MAX;
    sleep(5 * SECOND).await;
    timeout(SECOND, log.append_acked(event(1, 1))).await.unwrap().unwrap();
}

/// a6, a19: the first question of the very first connection takes ten minutes. Nothing is sent meanwhile, and the state says
/// that the log is connected.
#[tokio::test(start_paused = true)]
async fn a6_an_append_during_the_first_question_of_all_is_sent_or_buffered() {
    let server = Server::new(true, 2);
    server.state.lock().watermarks_take = 600 * SECOND;
    let log = server.open(steady()).await;
    let start = Instant::now();
    let receipt = timeout(HOUR, log.append(event(1, 1))).await.unwrap().unwrap();
    let took = start.elapsed();
    assert!(
        took <= 10 * SECOND,
        "{took:?}, buffered: {}; {:?}",
        receipt.is_buffered(),
        log.state().current()
    );
}
