//! Partitions whose requests lose their connections, beside others: these are read back, and sent to, all the same.

use std::time::Duration;

use crate::served::{Fate, FetchFate, HOUR, MS, SECOND, Server, event, steady};
use event_log_core::{EventLog as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// A fetch of partition 0 has failed once, or takes 200 ms; the requests of partition 1 always lose their connection.
async fn read_back_beside(
    bad: Fate,
    connections: usize,
    fetch: FetchFate,
) -> (Option<Duration>, usize, usize) {
    let server = Server::new(true, connections);
    let log = server.open(steady()).await;
    server.others(0, 1);
    server.fate(0, Fate::ReplyLost);
    server.fetch_fate(0, fetch);
    let ticket = log.submit(event(0, 1)).unwrap();
    let start = Instant::now();
    while server.with(0, |partition| partition.fetched) == 0 {
        sleep(MS).await;
    }
    server.with(1, |partition| partition.every_send = Some(bad));
    let _bad = log.submit(event(1, 0)).unwrap();
    let outcome = timeout(HOUR, ticket).await;
    let (fetched, connects) = (server.with(0, |partition| partition.fetched), server.state.lock().connects);
    (
        outcome.ok().map(|outcome| {
            outcome.unwrap();
            start.elapsed()
        }),
        fetched,
        connects,
    )
}

/// One connection: sending goes first once a fetch has failed, and ends the connection each time.
#[tokio::test(start_paused = true)]
async fn a4_a_partition_is_read_back_beside_one_that_always_loses_the_connection() {
    let (took, fetched, connects) = read_back_beside(Fate::Cut(10), 1, FetchFate::Fault).await;
    assert!(took.is_some(), "pending after an hour, with {fetched} fetches over {connects} connections");
}

/// Two connections, and no fetch has failed: the first one was interrupted.
#[tokio::test(start_paused = true)]
async fn a4_the_same_where_no_fetch_has_failed() {
    let (took, fetched, connects) = read_back_beside(Fate::Cut(0), 2, FetchFate::After(200)).await;
    assert!(took.is_some(), "pending after an hour, with {fetched} fetches over {connects} connections");
}

/// The control: no fetch fails or is interrupted.
#[tokio::test(start_paused = true)]
async fn control_a4_a_partition_is_read_back() {
    assert!(read_back_beside(Fate::Cut(10), 1, FetchFate::After(0)).await.0.is_some());
}

/// Fetches of 200 ms are interrupted by another partition's requests, which lose their connections after 50 ms.
#[tokio::test(start_paused = true)]
async fn a7_a_bad_partition_keeps_no_other_from_being_read_back() {
    let server = Server::new(true, 2);
    let log = server.open(steady()).await;
    server.others(0, 1);
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::After(200)));
    server.with(1, |partition| partition.every_send = Some(Fate::Cut(50)));
    server.fate(0, Fate::Lost);
    let ticket = log.submit(event(0, 1)).unwrap();
    let _bad = log.submit(event(1, 0)).unwrap();
    let start = Instant::now();
    let outcome = timeout(24 * HOUR, ticket).await.unwrap();
    let fetched = server.with(0, |partition| partition.fetched);
    assert!(outcome.is_ok(), "{outcome:?} after {:?} and {fetched} fetches", start.elapsed());
}

/// A log whose requests take a second and a half and whose fetches take 200 ms, and nothing of partition 0 is ever lost. Those of
/// partition 1 lose their connections after 50 ms.
#[tokio::test(start_paused = true)]
async fn a7_a_bad_partition_makes_no_event_of_another_unknown() {
    let server = Server::new(true, 2);
    let log = server.open(steady()).await;
    server.others(0, 1);
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::After(200)));
    server.with(0, |partition| partition.every_send = Some(Fate::Confirmed(1_500)));
    server.with(1, |partition| partition.every_send = Some(Fate::Cut(50)));
    let _bad = log.submit(event(1, 0)).unwrap();
    let start = Instant::now();
    let mut outcomes = Vec::new();
    for number in 0..5 {
        let ticket = log.submit(event(0, number)).unwrap();
        let outcome = timeout(24 * HOUR, ticket).await.unwrap();
        outcomes.push((start.elapsed(), outcome.map_err(|error| error.into_event())));
    }
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()), "{outcomes:#?}");
}

/// Others append to partition 0 while it is read back over connections that another partition's requests lose.
async fn chase(bad: bool) -> (Option<Duration>, usize) {
    let server = Server::new(true, 2);
    let log = server.open(steady()).await;
    server.state.lock().most = 10;
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::After(20)));
    if bad {
        server.with(1, |partition| partition.every_send = Some(Fate::Cut(100)));
    }
    server.fate(0, Fate::Lost);
    let appending = {
        let server = server.clone();
        tokio::spawn(async move {
            loop {
                server.others(0, 60);
                sleep(SECOND).await;
            }
        })
    };
    let ticket = log.submit(event(0, 1)).unwrap();
    let _other = log.submit(event(1, 1)).unwrap();
    let start = Instant::now();
    let outcome = timeout(HOUR, ticket).await;
    appending.abort();
    let fetched = server.with(0, |partition| partition.fetched);
    (
        outcome.ok().map(|outcome| {
            outcome.unwrap();
            start.elapsed()
        }),
        fetched,
    )
}

#[tokio::test(start_paused = true)]
async fn a4_what_has_to_be_read_back_has_an_end() {
    let (took, fetched) = chase(true).await;
    assert!(took.is_some(), "pending after an hour, in which {fetched} fetches have succeeded");
}

/// A partition whose requests lose their connection at once, beside one whose requests are answered.
async fn beside_a_bad_one(connections: usize) -> Duration {
    let server = Server::new(true, connections);
    let mut config = ProducerConfig::default();
    config.request_events = 1;
    config.reconnect.jitter_percent = 0;
    let log = server.open(config).await;
    server.with(1, |partition| partition.every_send = Some(Fate::Cut(10)));
    server.with(0, |partition| partition.every_send = Some(Fate::Confirmed(50)));
    let _bad = log.submit(event(1, 0)).unwrap();
    let start = Instant::now();
    let tickets: Vec<_> = (0..20).map(|number| log.submit(event(0, number)).unwrap()).collect();
    for ticket in tickets {
        timeout(HOUR, ticket).await.unwrap().unwrap();
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a7_a_bad_partition_makes_no_outage_of_the_others() {
    let one = beside_a_bad_one(1).await;
    let two = beside_a_bad_one(2).await;
    assert!(two < 3 * one, "{two:?} over two connections, {one:?} over one");
}
