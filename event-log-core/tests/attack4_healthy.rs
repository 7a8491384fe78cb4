//! ARCHITECTURE, 8: "Partitions do not wait for one another." Reading back one of them loses the connection each time.
#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod attack4_served;

use std::time::Duration;

use attack4_served::{Fate, FetchFate, HOUR, SECOND, Server, event};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

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
    println!("{connections} connections, {fate:?}: {took:?}, {connects} connects");
    assert!(took < 10 * SECOND, "{took:?}, in which {connects} connections were made");
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
