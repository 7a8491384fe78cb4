//! A partition that had nothing for a while, beside others whose requests take long.

use std::sync::Arc;
use std::time::Duration;

use crate::served::{Event, Fate, HOUR, MS, SECOND, Scripted, Server, event};
use event_log_core::engine::TransportLog;
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// Callers that append to partition 1, two at a time, each request of which takes so long.
fn busy(log: &TransportLog<Event, Scripted>, server: &Arc<Server>, takes: Duration) {
    for _ in 0..2 {
        let (log, server) = (log.clone(), server.clone());
        let takes = takes.as_millis() as u64;
        tokio::spawn(async move {
            loop {
                server.fate(1, Fate::Confirmed(takes));
                drop(log.append_acked(event(1, 0)).await);
            }
        });
    }
}

async fn lone(takes: Duration) {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    server.state.lock().watermarks_take = MS;
    busy(&log, &server, takes);
    sleep(10 * SECOND).await;
    let start = Instant::now();
    let acked = timeout(HOUR, log.append_acked(event(0, 1))).await;
    let (sends, others) =
        (server.with(0, |partition| partition.sends), server.with(1, |partition| partition.sends));
    assert!(acked.is_ok(), "it was not sent ({sends} requests) in an hour, in which {others} others were");
    assert!(start.elapsed() < 3 * takes, "{:?}", start.elapsed());
}

/// ARCHITECTURE, 8: "Partitions do not wait for one another: not for a slow request, for what has to be read back, or for a
/// question about another one's end." There is one connection, and they take turns.
#[tokio::test(start_paused = true)]
async fn a7_a_lone_append_has_its_turn_beside_requests_of_more_than_a_second() {
    lone(Duration::from_millis(1_500)).await;
}

/// The control.
#[tokio::test(start_paused = true)]
async fn control_a_lone_append_has_its_turn_beside_requests_of_less_than_a_second() {
    lone(Duration::from_millis(900)).await;
}

/// Two connections, and two partitions that are busy. Each request takes two and a half seconds.
#[tokio::test(start_paused = true)]
async fn a7_a_lone_append_has_its_turn_beside_slow_requests_of_two_connections() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.state.lock().watermarks_take = MS;
    for (partition, callers) in [(1, 3), (2, 3)] {
        for _ in 0..callers {
            let (log, server) = (log.clone(), server.clone());
            tokio::spawn(async move {
                loop {
                    server.fate(partition, Fate::Confirmed(2_500));
                    drop(log.append_acked(event(partition, 0)).await);
                }
            });
        }
    }
    sleep(30 * SECOND).await;
    let start = Instant::now();
    let acked = timeout(HOUR, log.append_acked(event(0, 1))).await;
    let sends = [0, 1, 2].map(|at| server.with(at, |partition| partition.sends));
    assert!(acked.is_ok(), "it was not sent in an hour: {sends:?} requests of each partition");
    assert!(start.elapsed() < 10 * SECOND, "{:?}", start.elapsed());
}

/// ARCHITECTURE: "next partition in turn: one request over a connection that is free". What was buffered in an outage, on a log
/// whose requests take 1.2 s: ten requests of each partition. Each has its turn.
#[tokio::test(start_paused = true)]
async fn a7_partitions_take_turns_after_an_outage() {
    let server = Server::new(true, 1);
    let mut config = ProducerConfig::default();
    config.request_events = 1;
    let log = server.open(config).await;
    server.state.lock().watermarks_take = MS;
    server.state.lock().down = true;
    log.state().wait_for(|state| !state.is_connected()).await;
    let mut tickets = Vec::new();
    for partition in 0..3 {
        for number in 0..50 {
            server.fate(partition, Fate::Confirmed(1_200));
            tickets.push(log.submit(event(partition, number)).unwrap());
        }
    }
    server.state.lock().down = false;
    log.state().wait_for(|state| state.is_connected()).await;
    sleep(40 * SECOND).await;
    let sends = [0, 1, 2].map(|at| server.with(at, |partition| partition.sends));
    assert!(sends.iter().all(|&sends| sends >= 5), "requests of each partition: {sends:?}");
}

/// a7: "what has to be found out of one partition keeps no other waiting"; DESIGN: "where there is one connection for both they
/// take turns". There are two hundred answers to read, each of which takes so long.
async fn beside_reading_back(takes: u64) {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    log.append_acked(event(1, 0)).await.unwrap();
    {
        let mut state = server.state.lock();
        (state.most, state.watermarks_take) = (1, MS);
    }
    server.with(1, |partition| partition.every_fetch = Some(crate::served::FetchFate::After(takes)));
    server.fate(1, Fate::LostAfter(500));
    let _lost = log.submit(event(1, 1)).unwrap();
    sleep(10 * MS).await;
    // While it is under way, or just before it: in any case it has to be looked for among these.
    server.others(1, 200);
    log.state().wait_for(|state| !state.is_connected()).await;
    log.state().wait_for(|state| state.is_connected()).await;
    sleep(10 * SECOND).await;
    let start = Instant::now();
    timeout(HOUR, log.append_acked(event(0, 1))).await.unwrap().unwrap();
    let (took, fetched) = (start.elapsed(), server.with(1, |partition| partition.fetched));
    assert!(
        took < 5 * SECOND,
        "it waited for {took:?}, until after {fetched} fetches of the other partition"
    );
}

#[tokio::test(start_paused = true)]
async fn a7_a_lone_append_has_its_turn_beside_slow_fetches() {
    beside_reading_back(1_500).await;
}

#[tokio::test(start_paused = true)]
async fn control_a_lone_append_has_its_turn_beside_fetches_of_less_than_a_second() {
    beside_reading_back(700).await;
}
