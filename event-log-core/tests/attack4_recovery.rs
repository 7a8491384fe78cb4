//! Attempts to break reading back: a partition that begins again meanwhile, answers in pieces, hanging fetches.
#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod attack4_served;

use attack4_served::{Fate, FetchFate, HOUR, MS, SECOND, Server, event, message};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// a4: "no ticket stays pending for ever". The partition is purged while what became of a request is read back, over a
/// connection that stays good; nothing was acknowledged before.
#[tokio::test(start_paused = true)]
async fn a4_a_partition_that_begins_again_while_it_is_read_back() {
    let server = Server::new(true, 2);
    server.others(0, 10);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::Lost);
    server.fetch_fate(0, FetchFate::After(200));
    server.others(0, 10);
    let ticket = log.submit(event(0, 1)).unwrap();
    server.others(0, 10);
    // Away for about a second, then reading back.
    while server.with(0, |partition| partition.fetched) == 0 {
        sleep(10 * MS).await;
    }
    server.begin_again(0);
    let outcome = timeout(HOUR, ticket).await;
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "pending after an hour, in which {fetched} fetches were made");
}

/// The same where an event was acknowledged before, and the answer says that the partition was truncated.
#[tokio::test(start_paused = true)]
async fn a4_a_partition_that_begins_again_while_its_landmark_is_looked_for() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.others(0, 10);
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(0, Fate::Lost);
    server.fetch_fate(0, FetchFate::After(200));
    let ticket = log.submit(event(0, 1)).unwrap();
    while server.with(0, |partition| partition.fetched) == 0 {
        sleep(10 * MS).await;
    }
    server.begin_again(0);
    let outcome = timeout(HOUR, ticket).await;
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "pending after an hour, in which {fetched} fetches were made");
}

/// `READ_BACK_PATIENCE`: empty answers from below the high watermark, without an end.
#[tokio::test(start_paused = true)]
async fn a4_empty_answers_without_an_end() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::ReplyLost);
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::Empty));
    let ticket = log.submit(event(0, 1)).unwrap();
    let outcome = timeout(HOUR, ticket).await;
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "pending after an hour, in which {fetched} fetches were made");
}

/// a8: an event of a request of two was appended by another handle too, under the same id of its own. Answers have one record.
#[tokio::test(start_paused = true)]
async fn a8_a_copy_of_another_producer_counts_for_no_other_event() {
    let server = Server::new(true, 2);
    server.state.lock().most = 1;
    let log = server.open(ProducerConfig::default()).await;
    let with_id = |number, id| attack4_served::Event { partition: 0, number, id: Some(id) };
    server.fate(0, Fate::Confirmed(100));
    let first = log.submit(event(0, 0)).unwrap();
    sleep(10 * MS).await;
    server.fate(0, Fate::ReplyLostAfter(100));
    let one = log.submit(with_id(1, 7)).unwrap();
    let two = log.submit(with_id(2, 8)).unwrap();
    first.await.unwrap();
    sleep(10 * MS).await;
    // Behind the first, before the two.
    let copy = message(&with_id(attack4_served::OTHERS, 7), 7);
    server.with(0, |partition| partition.append(&[copy]));
    let (one, two) = (one.await, two.await);
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?} {:?}", server.numbers(0));
}

/// a17: "retention before the first open request makes no outcome unknown". The event was certainly not sent before the
/// outage, in which others appended and retention took some of that.
#[tokio::test(start_paused = true)]
async fn a17_retention_before_what_was_certainly_not_sent() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(0, Fate::Cut);
    let ticket = log.submit(event(0, 1)).unwrap();
    server.state.lock().down = true;
    sleep(600 * SECOND).await;
    server.others(0, 50_000);
    server.trim(0, 40_000);
    server.fate(0, Fate::Lost);
    server.state.lock().down = false;
    let outcome = timeout(HOUR, ticket).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(read < 1_000, "{read} records were read back");
}

/// a17: "What the writer reads back ... grows neither with what other producers have appended".
#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_before_what_was_certainly_not_sent() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(0, Fate::Cut);
    let ticket = log.submit(event(0, 1)).unwrap();
    server.state.lock().down = true;
    sleep(600 * SECOND).await;
    server.others(0, 50_000);
    server.fate(0, Fate::ReplyLost);
    server.state.lock().down = false;
    let outcome = timeout(HOUR, ticket).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(read < 1_000, "{read} records were read back");
}

/// `READ_BACK_PATIENCE`: "For how long fetches of a partition have to fail". Here two fail, ten minutes apart, in which the
/// log was away.
#[tokio::test(start_paused = true)]
async fn a7_an_outage_is_no_failing_of_fetches() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(0, Fate::ReplyLost);
    server.fetch_fate(0, FetchFate::Unavailable);
    let ticket = log.submit(event(0, 1)).unwrap();
    while server.with(0, |partition| partition.fetched) == 0 {
        sleep(MS).await;
    }
    server.state.lock().down = true;
    sleep(600 * SECOND).await;
    server.fetch_fate(0, FetchFate::Fault);
    server.state.lock().down = false;
    let outcome = timeout(HOUR, ticket).await.unwrap();
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "{:?} after {fetched} fetches", outcome.unwrap_err().kind());
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
    let tickets: Vec<_> = (0..61).map(|number| log.submit(event(0, number)).unwrap()).collect();
    for _ in 0..50 {
        sleep(SECOND).await;
        server.others(0, 1_000);
    }
    for ticket in tickets {
        timeout(HOUR, ticket).await.unwrap().unwrap();
    }
    let read = server.state.lock().records_read;
    assert!(read < 10_000, "{read} records were read back");
}

/// `READ_BACK_PATIENCE`: a partition that cannot be read for half an hour holds its own events for a minute, and no longer.
#[tokio::test(start_paused = true)]
async fn a7_what_cannot_be_read_back_is_given_up_after_a_minute() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::ReplyLost);
    server.with(0, |partition| partition.every_fetch = Some(attack4_served::FetchFate::Fault));
    let first = log.submit(event(0, 1)).unwrap();
    let start = Instant::now();
    sleep(5 * SECOND).await;
    let second = log.submit(event(0, 2)).unwrap();
    assert!(timeout(HOUR, first).await.unwrap().unwrap_err().may_have_taken_effect());
    timeout(HOUR, second).await.unwrap().unwrap();
    let took = start.elapsed();
    assert!(took > 55 * SECOND && took < 65 * SECOND, "{took:?}");
}
