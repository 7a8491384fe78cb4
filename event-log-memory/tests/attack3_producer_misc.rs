//! New attempts to break the producing side: keyless events, warnings, identities, and what an empty answer proves.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod attack_producing;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use attack_producing::{HOUR, Numbered, SECOND, begin, config, cut, open};
use event_log_core::{
    EventLog as _, EventLogExt as _, Overflow, PartitionId, Partitionable, SubmitErrorKind, limits,
};
use event_log_memory::{MemoryBroker, MemoryLog, Retention};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

#[derive(Debug, Serialize, Deserialize)]
struct Keyless(u64);

impl Partitionable for Keyless {
    fn partition_key(&self) -> Option<&str> {
        None
    }
}

fn spread(broker: &MemoryBroker) -> HashMap<PartitionId, usize> {
    let mut spread = HashMap::new();
    for content in broker.contents("events") {
        *spread.entry(content.position.partition).or_default() += 1;
    }
    spread
}

/// a12: "Events without a key are spread over the partitions".
#[tokio::test(start_paused = true)]
async fn a12_keyless_events_that_wait_for_space_are_spread_over_the_partitions() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder::<Keyless>().broker(&broker).partitions(2);
    let log = builder.config(config(|config| config.buffer_events = 1)).open().await.unwrap();
    broker.faults("events").unwrap().slow_appends(Duration::from_millis(10));
    let appends = (0..1_000).map(|number| log.append_acked(Keyless(number)));
    for outcome in futures::future::join_all(appends).await {
        outcome.unwrap();
    }
    let spread = spread(&broker);
    let least =
        (0..2).map(|partition| spread.get(&PartitionId(partition)).copied().unwrap_or_default()).min();
    assert!(least.unwrap() > 200, "{spread:?}");
}

#[tokio::test(start_paused = true)]
async fn a12_keyless_events_of_append_all_are_spread_over_the_partitions() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder::<Keyless>().broker(&broker).partitions(2);
    let config = config(|config| (config.buffer_events, config.request_events) = (1, 1));
    let log = builder.config(config).open().await.unwrap();
    broker.faults("events").unwrap().slow_appends(Duration::from_millis(10));
    log.append_all(&mut (0..1_000).map(Keyless)).await.unwrap();
    let spread = spread(&broker);
    let least =
        (0..2).map(|partition| spread.get(&PartitionId(partition)).copied().unwrap_or_default()).min();
    assert!(least.unwrap() > 200, "{spread:?}");
}

/// A producer that tries again what is full, as the error says that it may.
#[tokio::test(start_paused = true)]
async fn a12_keyless_events_that_are_tried_again_are_spread_over_the_partitions() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder::<Keyless>().broker(&broker).partitions(2);
    let config = config(|config| (config.buffer_events, config.request_events) = (1, 1));
    let log = builder.config(config).open().await.unwrap();
    broker.faults("events").unwrap().slow_appends(Duration::from_millis(10));
    for number in 0..1_000 {
        let mut event = Keyless(number);
        while let Err(error) = log.submit(event) {
            assert!(matches!(error.kind, SubmitErrorKind::Full));
            event = error.event;
            sleep(Duration::from_millis(10)).await;
        }
    }
    log.flush().await.unwrap();
    let spread = spread(&broker);
    let least =
        (0..2).map(|partition| spread.get(&PartitionId(partition)).copied().unwrap_or_default()).min();
    assert!(least.unwrap() > 200, "{spread:?}");
}

/// Counts warnings about events that are given up.
struct Warnings(Arc<AtomicUsize>);

struct Given(bool);

impl tracing::field::Visit for Given {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        self.0 |= field.name() == "message"
            && ["given up", "gave up", "unsent", "not sent", "lost for good"]
                .iter()
                .any(|words| text.contains(words));
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        let mut given = Given(false);
        event.record(&mut given);
        if *event.metadata().level() <= tracing::Level::WARN && given.0 {
            self.0.fetch_add(1, SeqCst);
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// l3: "dropping a log without closing it gives up what is queued, which it warns about"; a5: "never silently lost".
#[tokio::test(start_paused = true)]
async fn l3_what_a_close_that_was_dropped_gives_up_is_warned_about() {
    let count = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Warnings(count.clone()));
    let config = config(|config| {
        (config.reconnect.initial, config.reconnect.max) = (HOUR, HOUR);
    });
    let (log, faults, _broker) = open(config).await;
    cut(&log, &faults).await;
    for number in 0..10 {
        drop(log.submit(Numbered(number)).unwrap());
    }
    let mut close = Box::pin(log.close(Duration::from_millis(10)));
    assert!(begin(&mut close).is_none());
    drop(close);
    let before = count.load(SeqCst);
    drop(log);
    sleep(SECOND).await;
    assert!(count.load(SeqCst) > before, "ten events are given up, and nobody is told");
}

/// The control: dropped without `close`.
#[tokio::test(start_paused = true)]
async fn l3_what_a_dropped_log_gives_up_is_warned_about() {
    let count = Arc::new(AtomicUsize::new(0));
    let _guard = tracing::subscriber::set_default(Warnings(count.clone()));
    let (log, faults, _broker) = open(config(|_| ())).await;
    cut(&log, &faults).await;
    drop(log.submit(Numbered(1)).unwrap());
    drop(log);
    sleep(SECOND).await;
    assert_eq!(count.load(SeqCst), 1);
}

/// An answer without records is no proof of anything, says the contract of the transport.
#[tokio::test(start_paused = true)]
async fn a8_an_empty_answer_does_not_hide_that_a_partition_began_again() {
    began_again(true, 1).await;
}

/// The control.
#[tokio::test(start_paused = true)]
async fn a8_a_partition_that_began_again_is_known_by_what_was_acknowledged() {
    began_again(true, 0).await;
}

async fn began_again(by_queue: bool, empty: usize) {
    {
        let broker = MemoryBroker::new();
        let log: MemoryLog<Numbered> =
            event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
        let other: MemoryLog<Numbered> =
            event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
        let faults = broker.faults("events").unwrap();
        for number in 0..10 {
            log.append_acked(Numbered(number)).await.unwrap();
        }
        faults.slow_appends(Duration::from_millis(100));
        if by_queue {
            // Through the queue, so that the writer knows a record of the partition.
            log.append_acked(Numbered(10)).await.unwrap();
        }
        faults.lose_replies(1);
        let ticket = log.submit(Numbered(100)).unwrap();
        sleep(Duration::from_millis(50)).await;
        // The request is on its way.
        faults.begin_again();
        sleep(Duration::from_millis(100)).await;
        faults.slow_appends(Duration::ZERO);
        for number in 1_000..1_100 {
            other.append_acked(Numbered(number)).await.unwrap();
        }
        faults.empty_fetches(empty);
        let outcome = timeout(HOUR, ticket).await.unwrap();
        let copies = attack_producing::numbers(&broker).into_iter().filter(|&number| number == 100).count();
        assert_eq!(copies, 1, "{empty} empty answers: {outcome:?}");
    }
}

/// l3: "`close` sends what is queued until its deadline and returns the rest", on the log in memory.
#[tokio::test]
async fn l3_close_keeps_its_deadline_although_the_log_takes_everything_at_once() {
    const EVENTS: u64 = 300_000;
    let config = config(|config| (config.buffer_events, config.request_events) = (EVENTS as usize, 1));
    let (log, faults, broker) = open(config).await;
    faults.slow_appends(Duration::from_millis(1));
    for number in 0..EVENTS {
        drop(log.submit(Numbered(number)).unwrap());
    }
    faults.slow_appends(Duration::ZERO);
    let start = std::time::Instant::now();
    let closed = log.close(Duration::from_millis(10)).await;
    let took = start.elapsed();
    let there = broker.contents("events").len();
    assert!(took < SECOND, "{took:?} {closed:?}, {there} in the log");
}

/// a18: what is acknowledged can be read; floats of both widths, also where serde keeps them in between.
#[tokio::test]
async fn a18_short_floats_are_read_as_they_were() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(tag = "t")]
    enum Tagged {
        Short { value: f32 },
        Long { value: f64 },
    }
    use event_log_core::{Codec, Headers, JsonCodec};
    let mut bits = 1_u64;
    for _ in 0..300_000 {
        bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        for event in [
            Tagged::Short { value: f32::from_bits((bits >> 32) as u32) },
            Tagged::Long { value: f64::from_bits(bits) },
        ] {
            let mut out = Vec::new();
            if JsonCodec.encode(&event, &mut out).is_ok() {
                let back: Tagged = JsonCodec.decode(&out.into(), &Headers::new()).unwrap();
                assert_eq!(back, event);
            }
        }
    }
}

/// The same with a partition that was purged by an operator (the offsets go on), and one whose records expired.
#[tokio::test(start_paused = true)]
async fn a17_a_purge_before_the_request_makes_no_outcome_unknown() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder().broker(&broker).partitions(1).retention(Retention::records(5));
    let log: MemoryLog<Numbered> = builder.open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    for number in 0..10 {
        log.append_acked(Numbered(number)).await.unwrap();
    }
    faults.purge();
    faults.lose_requests(1);
    log.append_acked(Numbered(100)).await.unwrap();
}

/// a6 and a16 for a log that is away with a full buffer that blocks.
#[tokio::test(start_paused = true)]
async fn a16_what_waits_for_space_comes_in_when_the_others_expire_while_away() {
    let config = config(|config| {
        (config.buffer_events, config.expiry) = (2, Some(SECOND));
        config.overflow = Overflow::Block { deadline: HOUR };
    });
    let (log, faults, _broker) = open(config).await;
    cut(&log, &faults).await;
    let old: Vec<_> = (0..2).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    let mut waits: Vec<_> = (2..6).map(|number| Box::pin(log.append(Numbered(number)))).collect();
    for wait in &mut waits {
        assert!(begin(wait).is_none());
    }
    sleep(SECOND + Duration::from_millis(10)).await;
    for ticket in old {
        assert!(ticket.try_outcome().expect("it has expired").is_err());
    }
    let receipts: Vec<_> = waits.iter_mut().map(|wait| begin(wait).is_some()).collect();
    assert_eq!(receipts, [true, true, false, false]);
    assert_eq!(log.state().current().buffered, 2);
    let _ = limits::WARN_INTERVAL;
}

/// A ticket that is dropped by its own waker, an event that is submitted by the waker of another.
#[tokio::test(start_paused = true)]
async fn a4_a_flush_and_a_close_at_the_same_time_end() {
    let (log, faults, _broker) = open(config(|_| ())).await;
    faults.slow_appends(SECOND);
    let tickets: Vec<_> = (0..3).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    let (flushed, closed, flushed_again) = tokio::join!(log.flush(), log.close(HOUR), log.flush());
    assert!(closed.is_ok() && flushed.is_err() && flushed_again.is_err(), "{flushed:?} {flushed_again:?}");
    for ticket in tickets {
        ticket.try_outcome().expect("it is resolved").unwrap();
    }
}
