//! ARCHITECTURE, 8: "Partitions do not wait for one another."

use std::time::Duration;

use crate::served::{Fate, FetchFate, HOUR, MS, SECOND, Server, event};
use event_log_core::{AppendErrorKind, EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// ARCHITECTURE, 8: "Partitions do not wait for one another."
#[tokio::test(start_paused = true)]
async fn a7_a_slow_read_back_of_one_partition_keeps_no_other_away() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::ReplyLost);
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::After(25_000)));
    let _slow = log.submit(event(0, 1)).unwrap();
    sleep(10 * SECOND).await;
    let start = Instant::now();
    log.append_acked(event(1, 1)).await.unwrap();
    assert!(start.elapsed() < 5 * SECOND, "partition 1 had to wait for {:?}", start.elapsed());
}

/// The same while the answers of others are waited for: the request that was cut has certainly not arrived.
#[tokio::test(start_paused = true)]
async fn a7_a_slow_request_of_one_partition_keeps_no_other_away() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(25_000));
    server.fate(0, Fate::Cut(1_000));
    let _slow = log.submit(event(1, 1)).unwrap();
    let start = Instant::now();
    log.append_acked(event(0, 1)).await.unwrap();
    assert!(start.elapsed() < 10 * SECOND, "partition 0 had to wait for {:?}", start.elapsed());
}

/// ARCHITECTURE, 8: "Partitions do not wait for one another."
#[tokio::test(start_paused = true)]
async fn a7_a_partition_that_cannot_be_read_back_keeps_no_other_away() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::ReplyLost);
    // Each fetch takes its connection with it.
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::Unavailable));
    let stuck = log.submit(event(0, 1)).unwrap();
    sleep(SECOND).await;
    for number in 0..5 {
        let outcome = timeout(40 * SECOND, log.append_acked(event(1, number))).await;
        assert!(
            outcome.is_ok(),
            "{number}: nothing of partition 1, after {} connections",
            server.state.lock().connects
        );
    }
    let outcome = timeout(HOUR, stuck).await.expect("it is given up").unwrap_err();
    assert!(matches!(outcome.kind(), AppendErrorKind::Unknown(_)), "{outcome:?}");
    assert_eq!(server.numbers(1), [0, 1, 2, 3, 4]);
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

/// `READ_BACK_PATIENCE`: a partition that cannot be read for half an hour holds its own events for a minute, and no longer.
#[tokio::test(start_paused = true)]
async fn a7_what_cannot_be_read_back_is_given_up_after_a_minute() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::ReplyLost);
    server.with(0, |partition| partition.every_fetch = Some(crate::served::FetchFate::Fault));
    let first = log.submit(event(0, 1)).unwrap();
    let start = Instant::now();
    sleep(5 * SECOND).await;
    let second = log.submit(event(0, 2)).unwrap();
    assert!(timeout(HOUR, first).await.unwrap().unwrap_err().may_have_taken_effect());
    timeout(HOUR, second).await.unwrap().unwrap();
    let took = start.elapsed();
    assert!(took > 55 * SECOND && took < 65 * SECOND, "{took:?}");
}

/// How long the first append to the healthy partition takes.
async fn healthy(connections: usize, fate: FetchFate) -> (Duration, usize) {
    let server = Server::new(true, connections);
    let log = server.open(ProducerConfig::default()).await;
    server.with(0, |partition| partition.every_fetch = Some(fate));
    server.fate(0, Fate::ReplyLost);
    let _stuck = log.submit(event(0, 1)).unwrap();
    sleep(SECOND / 2).await;
    let start = Instant::now();
    timeout(HOUR, log.append_acked(event(1, 0))).await.unwrap().unwrap();
    let connects = server.state.lock().connects;
    (start.elapsed(), connects)
}

async fn check(connections: usize, fate: FetchFate) {
    let (took, connects) = healthy(connections, fate).await;
    assert!(took < 10 * SECOND, "{took:?}, {fate:?}: {connects} of {connections} were made");
}

#[tokio::test(start_paused = true)]
async fn a7_one_connection_and_fetches_that_time_out_after_half_a_second() {
    check(1, FetchFate::TimesOut(500)).await;
}

#[tokio::test(start_paused = true)]
async fn a7_one_connection_and_fetches_that_lose_it() {
    check(1, FetchFate::Unavailable).await;
}

#[tokio::test(start_paused = true)]
async fn a7_four_connections_and_fetches_that_lose_them() {
    check(4, FetchFate::Unavailable).await;
}

#[tokio::test(start_paused = true)]
async fn a7_four_connections_and_fetches_that_time_out_after_half_a_second() {
    check(4, FetchFate::TimesOut(500)).await;
}

/// The control: a fault of the partition that leaves the connection alone.
#[tokio::test(start_paused = true)]
async fn a7_one_connection_and_faults_of_the_partition() {
    check(1, FetchFate::Fault).await;
}

/// The second connection could not be opened once; the first one has a request that takes five minutes.
#[tokio::test(start_paused = true)]
async fn a7_a_connection_that_could_not_be_opened_is_opened_later() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(300_000));
    server.state.lock().refuses_connections = true;
    let _slow = log.submit(event(1, 0)).unwrap();
    sleep(MS).await;
    let start = Instant::now();
    let ticket = log.submit(event(2, 0)).unwrap();
    sleep(MS).await;
    server.state.lock().refuses_connections = false;
    timeout(HOUR, ticket).await.unwrap().unwrap();
    assert!(start.elapsed() < 15 * SECOND, "sent after {:?}", start.elapsed());
}

/// A further connection could not be opened a moment ago. When it may be tried again nothing waits for it; then something does.
async fn widened_for(waits: Duration) -> Duration {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.state.lock().refuses_connections = true;
    server.fate(1, Fate::Confirmed(2_000));
    let first = log.submit(event(1, 0)).unwrap();
    sleep(10 * MS).await;
    log.append_acked(event(0, 0)).await.unwrap();
    first.await.unwrap();
    server.state.lock().refuses_connections = false;
    server.fate(1, Fate::Confirmed(3_600_000));
    let _slow = log.submit(event(1, 1)).unwrap();
    sleep(waits).await;
    let start = Instant::now();
    timeout(2 * HOUR, log.append_acked(event(0, 1))).await.unwrap().unwrap();
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a7_a_further_connection_is_opened_for_what_came_while_none_could_be_opened() {
    let took = widened_for(5 * SECOND).await;
    assert!(took < 15 * SECOND, "it waited for the slow request of another partition: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a7_a_further_connection_is_opened_for_what_came_when_one_could_be_opened_again() {
    let took = widened_for(60 * SECOND).await;
    assert!(took < 15 * SECOND, "it waited for the slow request of another partition: {took:?}");
}
