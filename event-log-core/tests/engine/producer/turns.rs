//! Requests that have to wait for their turn: where reading back begins for them, and how long they wait.

use std::time::Duration;

use crate::served::{Fate, FetchFate, HOUR, MANY, MS, SECOND, Server, alone, event, one_of_many};
use event_log_core::{EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// a17 for a request that has certainly not arrived, and waits for its turn on the new connection.
async fn turn(trim: bool) {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    log.append_acked(event(1, 0)).await.unwrap();
    server.fate(0, Fate::Cut(100));
    server.fate(1, Fate::Confirmed(30_000));
    server.fate(0, Fate::Lost);
    let ours = log.submit(event(0, 1)).unwrap();
    sleep(SECOND / 100).await;
    // It goes before the one that is sent again.
    let other = log.submit(event(1, 1)).unwrap();
    log.state().wait_for(|state| !state.is_connected()).await;
    log.state().wait_for(|state| state.is_connected()).await;
    sleep(5 * SECOND).await;
    server.others(0, 50_000);
    if trim {
        server.trim(0, 40_000);
    }
    other.await.unwrap();
    let outcome = timeout(HOUR, ours).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(
        read < 1_100,
        "{read} records were read back, all appended twenty seconds before the request was sent"
    );
}

#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_while_a_resend_waits_for_its_turn() {
    turn(false).await;
}

#[tokio::test(start_paused = true)]
async fn a17_retention_while_a_resend_waits_for_its_turn() {
    turn(true).await;
}

/// a17 for the events of a refused request, which go one by one. All are refused, slowly.
async fn split(trim: bool) {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.fate(0, Fate::RefusedAfter(5_000));
    server.fate(0, Fate::RefusedAfter(20_000));
    server.fate(0, Fate::Lost);
    let first = log.submit(event(0, 1)).unwrap();
    let second = log.submit(event(0, 2)).unwrap();
    sleep(10 * SECOND).await;
    server.others(0, 50_000);
    if trim {
        server.trim(0, 40_000);
    }
    first.await.unwrap_err();
    let outcome = timeout(HOUR, second).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(
        read < 1_100,
        "{read} records were read back, all appended fifteen seconds before the request was sent"
    );
}

#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_while_another_event_was_being_refused() {
    split(false).await;
}

#[tokio::test(start_paused = true)]
async fn a17_retention_while_another_event_was_being_refused() {
    split(true).await;
}

/// a17 over a new connection: the answer to where the partitions end has taken ten seconds, in which others appended.
#[tokio::test(start_paused = true)]
async fn a17_what_others_appended_while_the_first_question_was_answered() {
    let server = Server::new(true, 1);
    let log = server.open(alone()).await;
    log.append_acked(event(0, 0)).await.unwrap();
    server.state.lock().down = true;
    log.state().wait_for(|state| !state.is_connected()).await;
    {
        let mut state = server.state.lock();
        (state.down, state.watermarks_take) = (false, 10 * SECOND);
    }
    let connects = server.state.lock().connects;
    while server.state.lock().connects == connects {
        sleep(SECOND / 100).await;
    }
    // It is asked now.
    sleep(2 * SECOND).await;
    server.others(0, 50_000);
    server.trim(0, 40_000);
    log.state().wait_for(|state| state.is_connected()).await;
    server.state.lock().watermarks_take = std::time::Duration::ZERO;
    server.fate(0, Fate::Lost);
    let outcome = timeout(HOUR, log.append_acked(event(0, 1))).await.unwrap();
    let read = server.state.lock().records_read;
    assert!(outcome.is_ok(), "{:?}, {read} read", outcome.unwrap_err().kind());
    assert!(
        read < 1_100,
        "{read} records were read back, all appended eight seconds before the request was sent"
    );
}

/// a7: "what has to be found out of one partition keeps no other from being sent". One connection, and one partition of which two
/// hundred answers have to be read, each of which takes so long; each other partition has an event. Returns how long the last of
/// those takes, and how many fetches there were meanwhile.
async fn many_beside_reading_back(takes: u64, healthy: u32) -> (Duration, usize) {
    let server = Server::of(MANY, true, 1);
    let log = server.open(ProducerConfig::default()).await;
    for partition in 0..MANY {
        log.append_acked(one_of_many(partition, 0)).await.unwrap();
    }
    {
        let mut state = server.state.lock();
        (state.most, state.watermarks_take) = (1, MS);
    }
    server.with(0, |partition| partition.every_fetch = Some(FetchFate::After(takes)));
    server.fate(0, Fate::LostAfter(500));
    let _lost = log.submit(one_of_many(0, 1)).unwrap();
    sleep(10 * MS).await;
    // While it is under way: it has to be looked for among these.
    server.others(0, 200);
    log.state().wait_for(|state| !state.is_connected()).await;
    log.state().wait_for(|state| state.is_connected()).await;
    sleep(SECOND).await;
    let fetched = server.with(0, |partition| partition.fetched);
    let start = Instant::now();
    let tickets: Vec<_> = (1..=healthy).map(|at| log.submit(one_of_many(at, 1)).unwrap()).collect();
    for ticket in tickets {
        timeout(HOUR, ticket).await.unwrap().unwrap();
    }
    (start.elapsed(), server.with(0, |partition| partition.fetched) - fetched)
}

#[tokio::test(start_paused = true)]
async fn a7_each_partition_has_its_turn_beside_one_that_is_read_back() {
    let (took, fetched) = many_beside_reading_back(5_000, 31).await;
    assert!(
        took <= 15 * SECOND,
        "the last of 31 healthy partitions waited for {took:?}, {fetched} turns of one that is read back"
    );
}

#[tokio::test(start_paused = true)]
async fn control_a7_one_partition_has_its_turn_beside_one_that_is_read_back() {
    let (took, fetched) = many_beside_reading_back(5_000, 1).await;
    assert!(took <= 15 * SECOND, "{took:?}, {fetched}");
}

/// Four connections, four partitions that are read back in slow answers, and twenty-eight healthy ones.
#[tokio::test(start_paused = true)]
async fn a7_each_partition_has_its_turn_beside_four_that_are_read_back() {
    let server = Server::of(MANY, true, 4);
    let log = server.open(ProducerConfig::default()).await;
    for partition in 0..MANY {
        log.append_acked(one_of_many(partition, 0)).await.unwrap();
    }
    server.state.lock().most = 1;
    for partition in 0..4 {
        server.with(partition, |partition| partition.every_fetch = Some(FetchFate::After(5_000)));
        server.fate(partition, Fate::LostAfter(500));
        drop(log.submit(one_of_many(partition, 1)).unwrap());
    }
    sleep(10 * MS).await;
    (0..4).for_each(|partition| server.others(partition, 2_000));
    sleep(60 * SECOND).await;
    let start = Instant::now();
    let tickets: Vec<_> = (4..MANY).map(|at| log.submit(one_of_many(at, 1)).unwrap()).collect();
    for ticket in tickets {
        timeout(HOUR, ticket).await.unwrap().unwrap();
    }
    let took = start.elapsed();
    assert!(took <= 15 * SECOND, "{took:?}");
}
