//! Attempts of a second outside reader to break the consuming side.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "tests")]

mod matrix;

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use event_log_core::{
    Codec, CodecError, ConsumerOptions, DeadLetter, EventConsumer, EventId, EventLog as _, EventLogExt as _,
    Headers, JsonCodec, Notice, Offset, PartitionId, Partitionable, PoisonPolicy, Position, SeekPosition,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};
use futures::FutureExt as _;
use matrix::{Consumer, Event, HOUR, SECOND, SHORT, append, event, open, read_all};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Named {
    id: u128,
    key: String,
}

impl Partitionable for Named {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.key)
    }

    fn event_id(&self) -> Option<EventId> {
        Some(EventId::from_u128(self.id))
    }
}

fn named(id: u128) -> Named {
    Named { id, key: "k".to_owned() }
}

async fn drain<E: Send + 'static>(consumer: &mut Box<dyn EventConsumer<E>>) -> (Vec<E>, Vec<Notice>) {
    let (mut events, mut notices) = (Vec::new(), Vec::new());
    loop {
        let mut batch = consumer.poll(100, SHORT).await.unwrap();
        if batch.is_empty() && batch.notices.is_empty() {
            return (events, notices);
        }
        notices.append(&mut batch.notices);
        events.extend(batch.into_events());
    }
}

/// Polls a future, and fails when it is woken too often.
async fn within_wakeups<F: Future>(future: F, most: usize) -> F::Output {
    let mut future = Box::pin(future);
    let mut count = 0;
    poll_fn(move |cx| {
        count += 1;
        assert!(count <= most, "the future was polled {most} times: it keeps the processor busy");
        future.as_mut().poll(cx)
    })
    .await
}

fn foreign(faults: &Faults, partition: u32, number: u64) {
    let payload = serde_json::to_vec(&event(partition, number)).unwrap();
    faults.append_foreign(PartitionId(partition), payload).unwrap();
}

/// A dead-letter log that is away, beside its faults.
async fn letters_away() -> (Arc<MemoryLog<DeadLetter>>, Faults) {
    let elsewhere = MemoryBroker::new();
    let letters = event_log_memory::builder::<DeadLetter>().broker(&elsewhere).partitions(1);
    let letters = Arc::new(letters.open().await.unwrap());
    let away = elsewhere.faults("events").unwrap();
    away.disconnect();
    (letters, away)
}

// ------------------------------------------------------------------------------------------------ c15: news of the group

#[tokio::test(start_paused = true)]
async fn c15_a_letter_that_takes_long_hides_no_partition_that_comes_to_the_member() {
    let (log, faults, _broker) = open().await;
    let (letters, _away) = letters_away().await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(letters));
    let mut one = log.consumer_with("g", options).await.unwrap();
    let two = log.consumer("g").await.unwrap();
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 0, [1]).await;
    while !one.poll(1, SHORT).await.unwrap().notices.is_empty() {}
    append(&log, 1, [2]).await;
    let start = tokio::time::Instant::now();
    let leaving = async {
        tokio::time::sleep(SHORT).await;
        two.leave().await.unwrap();
    };
    let reading = async {
        loop {
            let batch = one.poll(1, HOUR).await.unwrap();
            if batch.len() == 1 {
                return batch.into_events().next().unwrap().number;
            }
        }
    };
    let (number, ()) = tokio::join!(reading, leaving);
    assert_eq!(number, 2);
    assert!(
        start.elapsed() < 2 * SECOND,
        "partition 1 came after 100 ms, its record after {:?}",
        start.elapsed()
    );
}

// ------------------------------------------------------------------------------------------------ c1

#[tokio::test(start_paused = true)]
async fn c1_a_fetch_that_failed_behind_a_letter_under_way_keeps_no_processor_busy() {
    let (log, faults, _broker) = open().await;
    let (letters, _away) = letters_away().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 0, 0..5).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(letters));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert!(consumer.poll(10, SHORT).await.unwrap().is_empty());
    faults.fail_fetches(PartitionId(0), 1);
    let batch = consumer.poll(10, SHORT).await.unwrap();
    assert!(matches!(batch.notices[..], [Notice::Fault { .. }]), "{:?}", batch.notices);
    let poll = within_wakeups(consumer.poll(1, 10 * SECOND), 5_000).await.unwrap();
    assert!(poll.is_empty());
}

#[tokio::test(start_paused = true)]
async fn c1_a_fetch_that_failed_behind_records_at_hand_keeps_no_processor_busy() {
    let (log, faults, _broker) = open().await;
    append(&log, 1, 0..20).await;
    append(&log, 0, 20..25).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(10, SHORT).await.unwrap().len(), 10);
    faults.fail_fetches(PartitionId(0), 1);
    let batch = consumer.poll(10, SHORT).await.unwrap();
    assert_eq!((batch.len(), batch.notices.len()), (10, 1), "{:?}", batch.notices);
    // It could be tried again by now, and nothing asks for that; the other partition answers soon.
    tokio::time::sleep(SECOND).await;
    faults.slow_fetches(Duration::from_millis(50));
    let batch = within_wakeups(consumer.poll(1, SECOND), 1_000).await.unwrap();
    assert_eq!(batch.len(), 1);
}

// ------------------------------------------------------------------------------------------------ truncation

#[tokio::test(start_paused = true)]
async fn c7_messages_of_foreign_producers_in_the_new_log_are_no_copies_of_those_in_the_old_one() {
    let (log, faults, _broker) = open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    for number in 0..3 {
        foreign(&faults, 0, number);
    }
    assert_eq!(read_all(&mut consumer).await.0, [0, 1, 2]);
    faults.begin_again();
    for number in 10..13 {
        foreign(&faults, 0, number);
    }
    let (seen, notices) = read_all(&mut consumer).await;
    assert_eq!(seen, [10, 11, 12], "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn l10_letters_about_messages_of_two_incarnations_are_letters_of_their_own() {
    let (log, faults, _broker) = open().await;
    let letters: Arc<MemoryLog<DeadLetter>> =
        Arc::new(event_log_memory::builder::<DeadLetter>().partitions(1).open().await.unwrap());
    for payload in ["garbage", "rubbish"] {
        faults.append_foreign(PartitionId(0), payload).unwrap();
        let options = ConsumerOptions::default().poison(PoisonPolicy::Park(letters.clone()));
        let mut consumer = log.consumer_with("g", options).await.unwrap();
        let (_, notices) = read_all(&mut consumer).await;
        assert!(notices.iter().any(|notice| matches!(notice, Notice::Parked { .. })), "{notices:?}");
        faults.begin_again();
    }
    let mut reader = letters.consumer("letters").await.unwrap();
    let (seen, notices) = drain(&mut reader).await;
    assert_eq!(seen.len(), 2, "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn c5_two_seeks_before_the_truncation_is_noticed_hide_nothing() {
    for seeks in 1..4 {
        let broker = MemoryBroker::new();
        let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
        let faults = broker.faults("events").unwrap();
        log.append_acked(named(1)).await.unwrap();
        let mut consumer = log.consumer("g").await.unwrap();
        assert_eq!(drain(&mut consumer).await.0.len(), 1);
        faults.begin_again();
        for id in [2, 3, 1] {
            log.append_acked(named(id)).await.unwrap();
        }
        for _ in 0..seeks {
            consumer.seek(SeekPosition::Beginning).await.unwrap();
        }
        let (events, notices) = drain(&mut consumer).await;
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        assert_eq!(ids, [2, 3, 1], "{seeks} seeks, {notices:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c13_a_cursor_from_before_a_seek_and_a_truncation_is_not_said_to_be_stored() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut old = consumer.poll(5, SHORT).await.unwrap().cursor().clone();
    old.remove(PartitionId(1));
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    assert_eq!(read_all(&mut consumer).await.0.len(), 10);
    faults.begin_again();
    append(&log, 0, 100..107).await;
    assert_eq!(read_all(&mut consumer).await.0.len(), 7);
    let here = consumer.position().clone();
    consumer.commit(&here).await.unwrap();
    // Nothing was committed while the old log was there.
    let committed = consumer.commit(&old).await;
    assert!(committed.is_err(), "Ok for a place of the log that is gone, which was never stored");
}

// ------------------------------------------------------------------------------------------------ l7

/// An error that panics when it is dropped, unless that would abort.
#[derive(Debug)]
struct Grenade(Arc<AtomicBool>);

impl fmt::Display for Grenade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a grenade")
    }
}

impl std::error::Error for Grenade {}

impl Drop for Grenade {
    fn drop(&mut self) {
        assert!(std::thread::panicking() || self.0.swap(true, Ordering::SeqCst), "dropping the error panics");
    }
}

/// Fails for the number 13, with a grenade the first time.
#[derive(Debug, Default)]
struct Armed(Arc<AtomicBool>);

impl Codec<Event> for Armed {
    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), CodecError> {
        JsonCodec.encode(event, out)
    }

    fn decode(&self, payload: &Bytes, headers: &Headers) -> Result<Event, CodecError> {
        let event: Event = Codec::<Event>::decode(&JsonCodec, payload, headers)?;
        if event.number == 13 { Err(CodecError::new(Grenade(Arc::clone(&self.0)))) } else { Ok(event) }
    }
}

async fn through_a_grenade(policy: PoisonPolicy) -> Vec<u64> {
    let (log, _, broker) = open().await;
    for number in [1, 2, 13, 3] {
        append(&log, 0, [number]).await;
    }
    append(&log, 1, [4, 5]).await;
    let reader = event_log_memory::builder().broker(&broker).partitions(2).codec(Armed::default());
    let reader = reader.open().await.unwrap();
    let mut consumer = reader.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let poll = AssertUnwindSafe(consumer.poll(100, SHORT)).catch_unwind().await;
        if let Ok(Ok(batch)) = poll {
            for notice in batch.notices {
                drop(std::panic::catch_unwind(AssertUnwindSafe(|| drop(notice))));
            }
            seen.extend(
                batch.records.into_iter().filter_map(|record| record.event.ok()).map(|event| event.number),
            );
        }
    }
    seen.sort_unstable();
    seen
}

#[tokio::test(start_paused = true)]
async fn l7_an_error_of_the_codec_that_panics_when_it_is_dropped_loses_no_record_when_parked() {
    let letters = event_log_memory::builder::<DeadLetter>().partitions(1).open().await.unwrap();
    assert_eq!(through_a_grenade(PoisonPolicy::Park(Arc::new(letters))).await, [1, 2, 3, 4, 5]);
}

#[tokio::test(start_paused = true)]
async fn l7_an_error_of_the_codec_that_panics_when_it_is_dropped_loses_no_record_when_halting() {
    let seen = through_a_grenade(PoisonPolicy::Halt).await;
    assert_eq!(seen, [1, 2, 4, 5]);
}

/// A waker that panics when it is woken, once it is armed.
#[derive(Default)]
struct Evil {
    armed: AtomicBool,
    woken: AtomicBool,
}

impl Wake for Evil {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.armed.load(Ordering::SeqCst) {
            self.woken.store(true, Ordering::SeqCst);
            panic!("waking panics");
        }
    }
}

fn one_worker() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn l7_a_waker_that_panics_when_a_poll_times_out_harms_no_other() {
    let runtime = one_worker();
    let (log, faults, _broker) = runtime.block_on(open());
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    let evil = Arc::new(Evil::default());
    let waker = Waker::from(Arc::clone(&evil));
    let mut poll = consumer.poll(1, Duration::from_millis(200));
    for _ in 0..50 {
        assert!(poll.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    evil.armed.store(true, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(500));
    assert!(evil.woken.load(Ordering::SeqCst), "the timeout was told");
    drop(poll);
    // The event of another caller, through an outage that takes a timer.
    faults.disconnect();
    let ticket = log.submit(event(0, 1)).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    faults.reconnect();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let other = tokio::runtime::Builder::new_current_thread().build().unwrap();
        sender.send(other.block_on(ticket).is_ok())
    });
    let acked = receiver.recv_timeout(Duration::from_secs(6));
    std::mem::forget(runtime);
    assert_eq!(acked, Ok(true), "the event of another caller is stuck");
}

#[test]
fn l9_a_waker_that_panics_fails_its_poll_and_blocks_no_thread() {
    let runtime = one_worker();
    let (log, _faults, _broker) = runtime.block_on(open());
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    let evil = Evil { armed: AtomicBool::new(true), woken: AtomicBool::new(false) };
    let waker = Waker::from(Arc::new(evil));
    let start = std::time::Instant::now();
    let polled = std::panic::catch_unwind(AssertUnwindSafe(|| {
        consumer.poll(1, Duration::from_secs(3)).as_mut().poll(&mut Context::from_waker(&waker)).is_ready()
    }));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "one poll of the future took {took:?}: {polled:?}");
    runtime.block_on(append(&log, 0, [1]));
    let batch = runtime.block_on(consumer.poll(1, SHORT)).unwrap();
    assert_eq!(batch.len(), 1);
}

// ------------------------------------------------------------------------------------------------ c8, c9: drops at every await

/// Polls a future `times` times, and drops it then.
async fn poll_and_drop<F: Future>(future: F, times: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut left = times;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn c9_futures_that_are_dropped_at_any_await_lose_nothing() {
    for seed in 0..60_usize {
        let (log, faults, _broker) = open().await;
        append(&log, 0, 0..40).await;
        append(&log, 1, 40..80).await;
        let mut consumer = log.consumer("g").await.unwrap();
        faults.slow_fetches(Duration::from_millis(3));
        let mut seen = Vec::new();
        for round in 0..60 {
            let times = (seed * 7 + round * 3) % 9;
            if let Some(Ok(batch)) = poll_and_drop(consumer.poll(5, SHORT), times).await {
                let cursor = batch.cursor().clone();
                seen.extend(batch.into_events().map(|event| event.number));
                drop(poll_and_drop(consumer.commit(&cursor), times % 3).await);
            }
            let to = SeekPosition::Position(Position::new(PartitionId(5), Offset(0)));
            drop(poll_and_drop(consumer.seek(to), 2).await);
            if round % 11 == 0 {
                faults.interrupt();
            }
            if round % 7 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        for _ in 0..100 {
            if let Ok(batch) = consumer.poll(5, SHORT).await {
                seen.extend(batch.into_events().map(|event| event.number));
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..80).collect::<Vec<_>>(), "seed {seed}");
    }
}

fn _types(_: Consumer) {}

// ------------------------------------------------------------------------------------------------ a truncation half noticed

/// A consumer that has fetched the answer that shows the truncation, and has not been told of it. It has delivered 1 and 9.
async fn half_aware() -> (MemoryLog<Named>, Faults, Box<dyn EventConsumer<Named>>) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    for id in [1, 9] {
        log.append_acked(named(id)).await.unwrap();
    }
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(1, SHORT).await.unwrap().len(), 1);
    faults.begin_again();
    for id in [2, 3, 1, 4] {
        log.append_acked(named(id)).await.unwrap();
    }
    let batch = consumer.poll(5, SHORT).await.unwrap();
    assert_eq!((batch.len(), batch.notices.len()), (1, 0));
    (log, faults, consumer)
}

#[tokio::test(start_paused = true)]
async fn c5_a_seek_to_the_beginning_while_a_truncation_waits_to_be_told_hides_nothing() {
    let (_log, _faults, mut consumer) = half_aware().await;
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    let (events, notices) = drain(&mut consumer).await;
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids, [2, 3, 1, 4], "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn c14_a_seek_to_a_kept_offset_while_a_truncation_waits_to_be_told_hides_no_truncation() {
    let (_log, _faults, mut consumer) = half_aware().await;
    let kept = Position::new(PartitionId(0), Offset(1));
    consumer.seek(SeekPosition::Position(kept)).await.unwrap();
    let (events, notices) = drain(&mut consumer).await;
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let is_told = notices.iter().any(|notice| matches!(notice, Notice::Truncated { .. }));
    assert!(is_told, "the offset is of the log that is gone, and that is not told: {ids:?}, {notices:?}");
}

#[tokio::test(start_paused = true)]
async fn c14_a_seek_to_a_kept_offset_before_a_truncation_is_noticed_is_told() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..3).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(read_all(&mut consumer).await.0.len(), 3);
    faults.begin_again();
    append(&log, 0, 100..110).await;
    consumer.seek(SeekPosition::Position(Position::new(PartitionId(0), Offset(1)))).await.unwrap();
    let (seen, notices) = read_all(&mut consumer).await;
    assert_eq!(seen, (100..110).collect::<Vec<_>>(), "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn c13_what_was_committed_in_the_old_log_is_not_taken_for_the_place_in_the_new_one() {
    for to in [SeekPosition::Beginning, SeekPosition::End] {
        let (log, faults, _broker) = open().await;
        append(&log, 0, 0..10).await;
        let mut consumer = log.consumer("g").await.unwrap();
        assert_eq!(read_all(&mut consumer).await.0.len(), 10);
        let here = consumer.position().clone();
        consumer.commit(&here).await.unwrap();
        faults.begin_again();
        append(&log, 0, 100..110).await;
        consumer.seek(to.clone()).await.unwrap();
        let (seen, notices) = read_all(&mut consumer).await;
        let here = consumer.position().clone();
        let committed = consumer.commit(&here).await;
        let lag = log.lag("g").await.unwrap();
        assert!(
            committed.is_err() || lag.total() == 0,
            "{to:?}: {seen:?}, {notices:?}, Ok for {here}, and {lag:?}"
        );
    }
}

// ------------------------------------------------------------------------------------------------ c2

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Numbered {
    number: u64,
}

impl Partitionable for Numbered {
    fn partition_key(&self) -> Option<&str> {
        None
    }
}

/// A clock that ticks whenever it is read.
#[derive(Clone, Default)]
struct Ticking(Arc<std::sync::atomic::AtomicU64>);

impl event_log_core::engine::Clock for Ticking {
    fn now(&self) -> event_log_core::Timestamp {
        event_log_core::Timestamp(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

async fn merged_with(policy: PoisonPolicy, poisoned: u64, max_count: usize, partitions: u32) -> Vec<u64> {
    let broker = MemoryBroker::with_clock(Arc::new(Ticking::default()));
    let log =
        event_log_memory::builder::<Numbered>().broker(&broker).partitions(partitions).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let number = |number: u64| serde_json::to_vec(&Numbered { number }).unwrap();
    for _ in 0..poisoned {
        faults.append_foreign(PartitionId(0), "garbage").unwrap();
    }
    for round in 0..3 * u64::from(partitions) {
        faults.append_foreign(PartitionId((round % u64::from(partitions)) as u32), number(round)).unwrap();
    }
    let mut consumer = log.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 * poisoned + 100 {
        let batch = consumer.poll(max_count, Duration::ZERO).await.unwrap();
        seen.extend(batch.into_events().map(|event| event.number));
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn c2_records_behind_a_stretch_of_poison_are_merged_by_time() {
    for partitions in [2, 3, 8] {
        for max_count in [100, 200, 500, 1_024] {
            let seen = merged_with(PoisonPolicy::Skip, 300, max_count, partitions).await;
            let expected: Vec<_> = (0..3 * u64::from(partitions)).collect();
            assert_eq!(seen, expected, "{partitions} partitions, polls for {max_count}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c2_a_backlog_of_several_partitions_is_merged_by_time_whatever_a_poll_asks_for() {
    for (max_count, partitions) in [(1, 2), (7, 3), (130, 5), (200, 3), (1_024, 8)] {
        let broker = MemoryBroker::with_clock(Arc::new(Ticking::default()));
        let log = event_log_memory::builder::<Numbered>()
            .broker(&broker)
            .partitions(partitions)
            .open()
            .await
            .unwrap();
        let faults = broker.faults("events").unwrap();
        for number in 0..2_000_u64 {
            // In stretches of different lengths.
            let partition = (number / 7 + number / 190 * number) % u64::from(partitions);
            let payload = serde_json::to_vec(&Numbered { number }).unwrap();
            faults.append_foreign(PartitionId(partition as u32), payload).unwrap();
        }
        let mut consumer = log.consumer("g").await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2_000 {
            let batch = consumer.poll(max_count, SHORT).await.unwrap();
            assert!(!batch.is_empty());
            seen.extend(batch.into_events().map(|event| event.number));
        }
        let wrong = seen.windows(2).find(|pair| pair[0] > pair[1]);
        assert_eq!(wrong, None, "{partitions} partitions, polls for {max_count}");
    }
}

// ------------------------------------------------------------------------------------------------ threads

#[test]
fn c8_members_on_threads_of_their_own_lose_nothing_and_get_nothing_twice_in_an_epoch() {
    const COUNT: u64 = 4_000;
    let runtime = one_worker();
    let (log, faults, _broker) = runtime.block_on(open());
    let seen = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let until = std::time::Instant::now() + Duration::from_secs(7);
    std::thread::scope(|scope| {
        for nth in 0..3_u64 {
            let (log, seen, handle) = (log.clone(), Arc::clone(&seen), runtime.handle().clone());
            scope.spawn(move || {
                let outside = tokio::runtime::Builder::new_current_thread().build().unwrap();
                let mut rounds = nth;
                let open = || {
                    let _entered = handle.enter();
                    loop {
                        if let Ok(consumer) = outside.block_on(log.consumer("g")) {
                            return consumer;
                        }
                    }
                };
                let mut consumer = open();
                let mut epoch = std::collections::BTreeSet::new();
                while seen.lock().unwrap().len() < COUNT as usize && std::time::Instant::now() < until {
                    rounds += 1;
                    let Ok(batch) = outside.block_on(consumer.poll(50, Duration::from_millis(20))) else {
                        continue;
                    };
                    let cursor = batch.cursor().clone();
                    for notice in &batch.notices {
                        if let Notice::Revoked(partitions) = notice {
                            epoch.retain(|(partition, _)| !partitions.contains(partition));
                        }
                    }
                    for record in batch.records {
                        let number = record.event.unwrap().number;
                        assert!(
                            epoch.insert((record.position.partition, number)),
                            "{number} twice in an epoch"
                        );
                        seen.lock().unwrap().insert(number);
                    }
                    if rounds % 3 == 0 {
                        drop(outside.block_on(consumer.commit(&cursor)));
                    }
                    if rounds % 97 == nth {
                        consumer = open();
                        epoch.clear();
                    }
                }
            });
        }
        scope.spawn(|| {
            for number in 0..COUNT {
                drop(log.submit(event((number % 2) as u32, number)).map(std::mem::forget));
                if number % 500 == 0 {
                    faults.interrupt();
                }
                if number % 10 == 0 {
                    std::thread::sleep(Duration::from_micros(300));
                }
            }
        });
    });
    let missing: Vec<_> = (0..COUNT).filter(|number| !seen.lock().unwrap().contains(number)).collect();
    assert!(missing.is_empty(), "{} are missing, from {:?}", missing.len(), missing.first());
}
