//! Attack: a minute of waiting, in every state that a consumer can be in: neither the processor nor the log is kept busy.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::time::Duration;

use crate::picky::picky;
use crate::reading_ahead::{MS, SECOND, Server};
use event_log_core::engine::{LogBuilder, TransportLog};
use event_log_core::{
    ConsumerOptions, DeadLetter, Error, EventConsumer, EventLog as _, EventLogExt as _, Offset, PartitionId,
    PoisonPolicy, Position, RawEvent, SeekPosition,
};
use tokio::time::{Instant, sleep, timeout};

/// A minute of polls. Returns how often the future was polled, and what the server was asked.
async fn minute(
    server: &Arc<Server>,
    consumer: &mut Box<dyn EventConsumer<RawEvent>>,
    timeout: Duration,
) -> (u64, BTreeMap<&'static str, u64>, usize) {
    server.change(|state| state.calls.clear());
    let (mut wakes, mut polls) = (0, 0);
    let start = Instant::now();
    while start.elapsed() < 60 * SECOND {
        let mut poll = Box::pin(consumer.poll(100, timeout));
        drop(
            poll_fn(|cx| {
                wakes += 1;
                assert!(
                    wakes < 200_000,
                    "busy: {:?} {:?}",
                    start.elapsed(),
                    server.change(|state| state.calls.clone())
                );
                poll.as_mut().poll(cx)
            })
            .await,
        );
        polls += 1;
        if polls > 5_000 {
            break;
        }
    }
    (wakes, server.change(|state| state.calls.clone()), polls)
}

/// A log of letters that takes none: it is away.
async fn letters_away() -> PoisonPolicy {
    let builder = LogBuilder::new(Arc::new(event_log_core::JsonCodec));
    let log: TransportLog<DeadLetter, _> = builder.open(Arc::new(crate::reading_ahead::Away)).await.unwrap();
    PoisonPolicy::Park(Arc::new(log))
}

fn latencies(server: &Arc<Server>) {
    server.change(|state| {
        state.parts.iter_mut().for_each(|part| part.fetch_takes = 2 * MS);
        (state.ask_takes, state.wait_takes) = (MS, MS);
    });
}

fn check(
    name: &str,
    (wakes, calls, polls): (u64, BTreeMap<&'static str, u64>, usize),
    failures: &mut Vec<String>,
) {
    let asked: u64 = calls.values().sum();
    // The server of this test looks every 5 ms while a consumer waits, for each of two questions.
    if wakes > 28_000 || asked > 2_000 {
        failures.push(format!("{name}: {wakes} wake-ups, {polls} polls, {calls:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn c1_no_state_keeps_the_processor_or_the_log_busy() {
    let mut failures = Vec::new();
    for timeout in [60 * SECOND, SECOND] {
        // Nothing at all.
        let server = Server::new(3);
        latencies(&server);
        let log = picky(&server).await;
        let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
        check("idle", minute(&server, &mut consumer, timeout).await, &mut failures);

        // A partition that fails.
        server.change(|state| state.parts[0].fetch_fails = true);
        server.append(0, 1);
        check("a fetch that fails", minute(&server, &mut consumer, timeout).await, &mut failures);
        server.change(|state| state.parts[0].fetch_fails = false);

        // A place that cannot be asked for.
        server.change(|state| state.parts[1].place_fails = true);
        server.change(|state| {
            state.parts[1].last_instance = None;
            state.rebalance();
        });
        check("a place that fails", minute(&server, &mut consumer, timeout).await, &mut failures);
        server.change(|state| state.parts[1].place_fails = false);

        // Down.
        server.change(|state| state.up = false);
        server.evict_all();
        check("down", minute(&server, &mut consumer, timeout).await, &mut failures);
        server.change(|state| state.up = true);
        check("up again", minute(&server, &mut consumer, timeout).await, &mut failures);

        // Sought beyond the end, while the place of the group cannot be asked for.
        server.change(|state| state.parts[2].place_fails = true);
        consumer.seek(SeekPosition::Position(Position::new(PartitionId(2), Offset(99)))).await.unwrap();
        check("beyond the end", minute(&server, &mut consumer, timeout).await, &mut failures);
        server.change(|state| state.parts[2].place_fails = false);

        // A parked head whose letter waits, in a partition that grows and then loses its tail.
        let server = Server::new(2);
        latencies(&server);
        let log = picky(&server).await;
        let options = ConsumerOptions::default().poison(letters_away().await);
        let mut consumer = log.consumer_with("g", options).await.unwrap();
        server.append_as(0, 1, "bad");
        for number in 2..400 {
            server.append(0, number);
        }
        check("a letter that waits", minute(&server, &mut consumer, timeout).await, &mut failures);
        for number in 400..900 {
            server.append(0, number);
        }
        check(
            "a letter that waits, and growth",
            minute(&server, &mut consumer, timeout).await,
            &mut failures,
        );
        server.change(|state| {
            let part = &mut state.parts[0];
            part.records.truncate(3);
            (part.high, part.incarnation) = (3, 1);
        });
        check(
            "a letter that waits, and truncation",
            minute(&server, &mut consumer, timeout).await,
            &mut failures,
        );

        // Nothing but rumours of empty answers: a high watermark with nothing below it.
        let server = Server::new(2);
        latencies(&server);
        let log = picky(&server).await;
        let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
        server.append(0, 1);
        server.change(|state| state.most = 0);
        server.change(|state| state.tells_scanned = false);
        check("empty answers", minute(&server, &mut consumer, timeout).await, &mut failures);
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// `GroupMember::wait`: "Returning early is allowed". c1: "a poll returns as soon as a record is there". In real time.
#[tokio::test]
async fn c1_records_at_hand_wait_for_no_wait_that_returns_early() {
    let server = Server::new(2);
    let log = server.open().await;
    for number in 0..5_000 {
        server.append(0, number);
    }
    server.change(|state| {
        state.wait_is_early = true;
        state.parts[0].fetch_takes = 20 * MS;
    });
    let mut consumer = log.consumer("g").await.unwrap();
    let mut all = Vec::new();
    for _ in 0..4 {
        let start = Instant::now();
        let batch = consumer.poll(10, 3 * SECOND).await.unwrap();
        all.push((batch.len(), start.elapsed()));
    }
    let waits = server.change(|state| state.calls["wait"]);
    assert!(all.iter().all(|(_, took)| *took < SECOND), "{all:?}, {waits} calls of wait");
}

/// c1: "a zero timeout polls once".
#[tokio::test(start_paused = true)]
async fn c1_an_answer_from_before_the_poll_is_no_look() {
    let server = Server::new(1);
    let log = server.open().await;
    server.append(0, 1);
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(1, SECOND).await.unwrap().len(), 1);
    server.change(|state| state.wait_is_remote = true);
    assert!(timeout(SECOND, consumer.poll(1, 2 * SECOND)).await.is_err());
    sleep(10 * SECOND).await;
    server.append(0, 2);
    sleep(3_600 * SECOND).await;
    let batch = consumer.poll(1, Duration::ZERO).await.unwrap();
    assert_eq!(batch.len(), 1, "a record has been there for an hour");
}

/// c6: "Other partitions are delivered first".
#[tokio::test(start_paused = true)]
async fn c6_an_answer_from_before_the_poll_halts_nothing() {
    let server = Server::new(2);
    server.append_as(0, 1, "bad");
    let log = picky(&server).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let halted = consumer.poll(10, SECOND).await;
    assert!(matches!(halted, Err(Error::Poisoned { .. })), "{halted:?}");
    server.change(|state| state.wait_is_remote = true);
    assert!(timeout(Duration::ZERO, consumer.poll(10, SECOND)).await.is_err());
    sleep(10 * SECOND).await;
    server.append(1, 2);
    sleep(3_600 * SECOND).await;
    let polled = consumer.poll(10, SECOND).await;
    assert!(
        polled.as_ref().is_ok_and(|batch| batch.len() == 1),
        "a record of the other partition has been there for an hour: {polled:?}"
    );
}

/// A record is there, and answers are empty and do not show where the partition ends. "Empty is no proof of the end."
async fn empty_answers() -> (Arc<Server>, Box<dyn EventConsumer<RawEvent>>) {
    let server = Server::new(1);
    let log = server.open().await;
    let consumer = log.consumer("g").await.unwrap();
    server.append(0, 1);
    server.change(|state| {
        (state.most, state.tells_scanned, state.tells_high) = (0, false, false);
        state.calls.clear();
    });
    (server, consumer)
}

/// c1: "waiting keeps no processor busy".
#[tokio::test(start_paused = true)]
async fn c1_empty_answers_that_do_not_tell_the_end() {
    let (server, mut consumer) = empty_answers().await;
    server.change(|state| {
        state.parts[0].fetch_takes = 2 * MS;
        (state.ask_takes, state.wait_takes) = (MS, MS);
    });
    let _ = consumer.poll(10, 60 * SECOND).await;
    let calls = server.change(|state| state.calls.clone());
    let asked: u64 = calls.values().sum();
    assert!(asked < 3_000, "in one poll of a minute: {calls:?}");
}

/// The same, as long as a poll may take: without a pause in between the task never rests.
#[tokio::test(start_paused = true)]
async fn c1_empty_answers_that_take_no_time() {
    let (server, mut consumer) = empty_answers().await;
    let mut poll = Box::pin(consumer.poll(10, 60 * SECOND));
    let mut wakes = 0;
    poll_fn(|cx| {
        wakes += 1;
        assert!(wakes < 20_000, "busy: {:?}", server.change(|state| state.calls.clone()));
        poll.as_mut().poll(cx).map(drop)
    })
    .await;
}
