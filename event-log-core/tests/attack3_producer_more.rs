//! New attempts to break the producing side: connections and read-backs that are slow, flap, or concern one partition.
#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod attack_served;

use std::time::Duration;

use attack_served::{Fate, HOUR, SECOND, Server, event};
use event_log_core::{Connection, EventLog as _, EventLogExt as _, ProducerConfig};
use tokio::time::{Instant, sleep, timeout};

/// a7: "One supervisor reconnects with exponential backoff and jitter".
#[tokio::test(start_paused = true)]
async fn a7_a_log_that_loses_idle_connections_at_once_is_asked_ever_more_rarely() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    *server.flaps.lock() = true;
    // It looks again when there is something to do.
    log.append_acked(event(0, 1)).await.unwrap();
    sleep(600 * SECOND).await;
    let connects = *server.connects.lock();
    assert!(connects < 60, "{connects} connections in ten minutes");
}

/// DESIGN: "A lone append takes one request and three switches of tasks"; a9: "a lone append waits for no company".
#[tokio::test(start_paused = true)]
async fn a9_a_lone_append_waits_for_no_question() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    sleep(2 * SECOND).await;
    *server.watermarks_take.lock() = 10 * SECOND;
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
    *server.down.lock() = true;
    let ticket = log.submit(event(0, 1)).unwrap();
    sleep(SECOND).await;
    server.others(0, 50_000);
    *server.down.lock() = false;
    ticket.await.unwrap();
    let read = *server.records_read.lock();
    assert!(read <= 5_000, "{read} records were read back, and the first was ours");
}

/// ARCHITECTURE, 8: "Partitions do not wait for one another."
#[tokio::test(start_paused = true)]
async fn a7_a_slow_read_back_of_one_partition_keeps_no_other_away() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(0, Fate::ReplyLost);
    *server.fetch_takes.lock() = 25 * SECOND;
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

/// a19: "While the log is away `LogState` says ... when the next attempt is"; `next_attempt`: "`None` while one is under way".
#[tokio::test(start_paused = true)]
async fn a19_the_state_says_when_the_next_attempt_is_although_a_request_is_slow() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(25_000));
    server.fate(0, Fate::Cut(1_000));
    let _slow = log.submit(event(1, 1)).unwrap();
    let _cut = log.submit(event(0, 1)).unwrap();
    sleep(10 * SECOND).await;
    let before = *server.connects.lock();
    let state = log.state().current();
    // It need not be away any more.
    let Connection::Reconnecting { next_attempt, .. } = state.connection else { return };
    sleep(Duration::from_millis(1)).await;
    assert!(next_attempt.is_some() || *server.connects.lock() > before, "no attempt is under way");
}

/// Read-back of two partitions at once, one after the other lost; everything comes out right, once.
#[tokio::test(start_paused = true)]
async fn a8_two_partitions_lost_together_are_read_back_each_for_itself() {
    for (one, other) in
        [(Fate::Lost, Fate::ReplyLost), (Fate::ReplyLost, Fate::Lost), (Fate::Lost, Fate::Lost)]
    {
        let server = Server::new(true, 2);
        let log = server.open(ProducerConfig::default()).await;
        server.fate(0, one);
        server.fate(1, other);
        server.others(0, 5_000);
        let tickets: Vec<_> =
            (0..10).map(|number| log.submit(event(number as u32 % 2, number)).unwrap()).collect();
        for ticket in tickets {
            timeout(HOUR, ticket).await.unwrap().unwrap();
        }
        assert_eq!(server.numbers(0), [0, 2, 4, 6, 8]);
        assert_eq!(server.numbers(1), [1, 3, 5, 7, 9]);
    }
}

/// `limits::FLUSH_ATTEMPT_INTERVAL`: "The shortest time between two attempts to reconnect that `flush` asks for".
#[tokio::test(start_paused = true)]
async fn a19_attempts_that_a_flush_asks_for_keep_their_interval() {
    let server = Server::new(true, 1);
    let mut config = ProducerConfig::default();
    config.reconnect = event_log_core::ReconnectPolicy::new(Duration::from_millis(1), 30 * SECOND);
    let log = server.open(config).await;
    *server.down.lock() = true;
    server.fate(0, Fate::Cut(1));
    let _ticket = log.submit(event(0, 1)).unwrap();
    // The waits have grown.
    sleep(120 * SECOND).await;
    let before = *server.connects.lock();
    let start = Instant::now();
    while start.elapsed() < SECOND {
        drop(timeout(Duration::from_millis(1), log.flush()).await);
    }
    let made = *server.connects.lock() - before;
    let most = 1 + (SECOND.as_millis() / event_log_core::limits::FLUSH_ATTEMPT_INTERVAL.as_millis()) as usize;
    assert!(made <= most + 1, "{made} attempts in a second, and at most {most} are promised");
}

/// The question for where the partitions end fails once; the connection that events are sent over is good.
#[tokio::test(start_paused = true)]
async fn a7_a_question_that_takes_long_keeps_no_partition_from_being_sent_to() {
    let server = Server::new(true, 2);
    let log = server.open(ProducerConfig::default()).await;
    server.fate(1, Fate::Confirmed(5_000));
    let _slow = log.submit(event(1, 1)).unwrap();
    sleep(2 * SECOND).await;
    *server.watermarks_take.lock() = 20 * SECOND;
    let start = Instant::now();
    log.append_acked(event(0, 1)).await.unwrap();
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

/// The same while the log closes.
#[tokio::test(start_paused = true)]
async fn a19_attempts_that_a_flush_asks_for_keep_their_interval_while_closing() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    *server.down.lock() = true;
    server.fate(0, Fate::Cut(1));
    let _ticket = log.submit(event(0, 1)).unwrap();
    sleep(120 * SECOND).await;
    let closing = log.clone();
    let close = tokio::spawn(async move { closing.close(60 * SECOND).await });
    sleep(5 * SECOND).await;
    let before = *server.connects.lock();
    let start = Instant::now();
    while start.elapsed() < SECOND {
        drop(timeout(Duration::from_millis(1), log.flush()).await);
    }
    let made = *server.connects.lock() - before;
    close.abort();
    assert!(made <= 12, "{made} attempts in a second");
}

/// Closing again and again is no way to a storm either.
#[tokio::test(start_paused = true)]
async fn a19_however_often_a_log_is_closed_there_is_no_storm_of_attempts() {
    let server = Server::new(true, 1);
    let log = server.open(ProducerConfig::default()).await;
    *server.down.lock() = true;
    server.fate(0, Fate::Cut(1));
    let _ticket = log.submit(event(0, 1)).unwrap();
    sleep(120 * SECOND).await;
    let before = *server.connects.lock();
    let start = Instant::now();
    while start.elapsed() < SECOND {
        drop(timeout(Duration::from_millis(1), log.close(60 * SECOND)).await);
    }
    let made = *server.connects.lock() - before;
    assert!(made <= 12, "{made} attempts in a second");
}

/// A log that is lost while somebody waits in `flush` is looked for at once, as if `flush` had been called then.
#[tokio::test(start_paused = true)]
async fn a19_a_flush_that_waits_when_the_connection_is_lost_has_an_attempt_made_at_once() {
    let server = Server::new(true, 1);
    let mut config = ProducerConfig::default();
    config.reconnect = event_log_core::ReconnectPolicy::new(30 * SECOND, 30 * SECOND);
    let log = server.open(config).await;
    server.fate(0, Fate::Cut(1_000));
    let _ticket = log.submit(event(0, 1)).unwrap();
    let start = Instant::now();
    log.flush().await.unwrap();
    assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
}

/// The same for `close`.
#[tokio::test(start_paused = true)]
async fn a19_a_close_that_waits_when_the_connection_is_lost_has_an_attempt_made_at_once() {
    let server = Server::new(true, 1);
    let mut config = ProducerConfig::default();
    config.reconnect = event_log_core::ReconnectPolicy::new(30 * SECOND, 30 * SECOND);
    let log = server.open(config).await;
    server.fate(0, Fate::Cut(1_000));
    let _ticket = log.submit(event(0, 1)).unwrap();
    let start = Instant::now();
    log.close(60 * SECOND).await.unwrap();
    assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
}

/// A log that comes back is told of once, and what waits for space in front of it goes in order.
#[tokio::test(start_paused = true)]
async fn a2_appends_that_wait_for_space_go_in_order_through_losses() {
    for overflow in [
        event_log_core::Overflow::Reject,
        event_log_core::Overflow::DropOldest,
        event_log_core::Overflow::Block { deadline: HOUR },
    ] {
        let server = Server::new(true, 2);
        let mut config = ProducerConfig::default();
        (config.buffer_events, config.request_events, config.overflow) = (3, 2, overflow);
        let log = server.open(config).await;
        for fate in [Fate::Confirmed(100), Fate::ReplyLost, Fate::Lost, Fate::Cut(100), Fate::Confirmed(100)]
        {
            server.fate(0, fate);
        }
        let mut tasks = Vec::new();
        for number in 0..30 {
            let log = log.clone();
            tasks.push(tokio::spawn(async move { log.append(event(0, number)).await?.acked().await }));
            tokio::task::yield_now().await;
        }
        let (mut acked, mut failed) = (Vec::new(), 0);
        for (number, task) in (0..).zip(tasks) {
            match timeout(HOUR, task).await.unwrap().unwrap() {
                Ok(_) => acked.push(number),
                Err(error) => {
                    assert!(!error.may_have_taken_effect(), "{error:?}");
                    failed += 1;
                }
            }
        }
        assert_eq!(server.numbers(0), acked, "{overflow:?} {failed}");
    }
}
