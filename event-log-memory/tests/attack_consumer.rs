//! Attempts of an outside reader to break the consuming side.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod matrix;

use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use event_log_core::engine::Clock;
use event_log_core::{
    AppendError, BatchError, CloseError, Codec, CodecError, CommitErrorKind, ConsumerOptions, DeadLetter,
    Error, EventConsumer, EventId, EventLog, EventLogExt as _, Headers, JsonCodec, Lag, Notice, Offset,
    PartitionId, Partitionable, PoisonPolicy, Position, ProducerConfig, Receipt, SeekPosition, StateReceiver,
    SubmitError, Ticket, Timestamp, Watermarks,
};
use event_log_memory::{MemoryBroker, MemoryLog};
use futures::FutureExt as _;
use matrix::{Event, SECOND, SHORT, append, event, open, read_all, starting_at};
use serde::{Deserialize, Serialize};

/// A clock that a test sets.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// An event with an id and a key of the caller's choice.
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

// ------------------------------------------------------------------------------------------------ c1, l8

#[tokio::test(start_paused = true)]
async fn l8_a_timeout_just_short_of_the_end_of_time_does_not_panic() {
    let (log, ..) = open().await;
    append(&log, 0, [1]).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let now = tokio::time::Instant::now();
    // The longest that can still be added to the clock.
    let (mut low, mut high) = (0_u64, u64::MAX);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match now.checked_add(Duration::from_secs(middle)) {
            Some(_) => low = middle,
            None => high = middle - 1,
        }
    }
    for less in 0..3 {
        let poll = AssertUnwindSafe(consumer.poll(1, Duration::from_secs(low - less))).catch_unwind().await;
        assert!(poll.is_ok(), "poll panicked, {less} s from the longest");
        append(&log, 0, [2]).await;
    }
}

/// Polls a future, and fails when it is woken too often.
async fn within_wakeups<F: Future>(future: F, most: usize) -> F::Output {
    let mut future = Box::pin(future);
    let mut count = 0;
    poll_fn(move |cx| {
        count += 1;
        assert!(count <= most, "the future was polled {most} times: it keeps the processor busy");
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() { Poll::Pending } else { polled }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn c1_a_letter_that_waits_for_its_retry_while_the_log_is_away_keeps_no_processor_busy() {
    let (log, faults, _broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    let elsewhere = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_millis(50));
    let letters = event_log_memory::builder::<DeadLetter>().broker(&elsewhere).partitions(1).config(config);
    let letters = letters.open().await.unwrap();
    elsewhere.faults("events").unwrap().disconnect();
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::new(letters)));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let batch = consumer.poll(10, SECOND).await.unwrap();
    assert!(matches!(batch.notices[..], [Notice::Fault { .. }]), "{:?}", batch.notices);
    faults.disconnect();
    let poll = within_wakeups(consumer.poll(10, 10 * SECOND), 5_000).await;
    assert!(matches!(&poll, Ok(batch) if !batch.notices.is_empty()), "{poll:?}");
}

// ------------------------------------------------------------------------------------------------ c2

#[tokio::test(start_paused = true)]
async fn c2_a_partition_that_was_idle_for_long_is_merged_by_time_all_the_same() {
    let clock = Hand::default();
    let broker = MemoryBroker::with_clock(Arc::new(clock.clone()));
    let log = event_log_memory::builder().broker(&broker).partitions(2).open().await.unwrap();
    let mut consumer = log.consumer("g").await.unwrap();
    for number in 0..300 {
        clock.0.fetch_add(1, Ordering::SeqCst);
        append(&log, 0, [number]).await;
        assert_eq!(consumer.poll(10, SHORT).await.unwrap().len(), 1);
    }
    for (partition, number) in [(0, 1_000), (1, 1_001), (0, 1_002), (1, 1_003)] {
        clock.0.fetch_add(1, Ordering::SeqCst);
        append(&log, partition, [number]).await;
    }
    let batch = consumer.poll(10, SHORT).await.unwrap();
    let seen: Vec<_> = batch.into_events().map(|event| event.number).collect();
    assert_eq!(seen, [1_000, 1_001, 1_002, 1_003]);
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Keyed(String);

impl Partitionable for Keyed {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn c2_none_of_many_partitions_with_a_backlog_starves() {
    const PARTITIONS: u32 = 300;
    const EACH: usize = 20;
    let broker = MemoryBroker::with_clock(Arc::new(Hand::default()));
    let log =
        event_log_memory::builder::<Keyed>().broker(&broker).partitions(PARTITIONS).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    for _ in 0..EACH {
        for partition in 0..PARTITIONS {
            faults.append_foreign(PartitionId(partition), r#""k""#).unwrap();
        }
    }
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = vec![0; PARTITIONS as usize];
    // Three rounds for everybody, at one record a turn.
    for _ in 0..5 * PARTITIONS {
        for record in consumer.poll(1, SHORT).await.unwrap().records {
            seen[record.position.partition.0 as usize] += 1;
        }
    }
    let starved: Vec<_> = (0..PARTITIONS).filter(|&nth| seen[nth as usize] == 0).collect();
    assert!(
        starved.is_empty(),
        "no record of {starved:?} within 5 rounds, and up to {:?} of others",
        seen.iter().max()
    );
}

// ------------------------------------------------------------------------------------------------ c5 and truncation

#[tokio::test(start_paused = true)]
async fn c5_a_seek_to_the_beginning_before_the_truncation_is_noticed_hides_nothing() {
    for noticed in [true, false] {
        let broker = MemoryBroker::new();
        let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
        let faults = broker.faults("events").unwrap();
        log.append_acked(named(1)).await.unwrap();
        let mut consumer = log.consumer("g").await.unwrap();
        assert_eq!(drain(&mut consumer).await.0.len(), 1);
        // The log is recreated, and filled in another order.
        faults.begin_again();
        for id in [2, 3, 1] {
            log.append_acked(named(id)).await.unwrap();
        }
        if noticed {
            drain(&mut consumer).await;
        }
        consumer.seek(SeekPosition::Beginning).await.unwrap();
        let (events, notices) = drain(&mut consumer).await;
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        assert_eq!(ids, [2, 3, 1], "noticed: {noticed}, {notices:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c5_a_sought_end_and_a_start_at_the_end_agree_about_a_second_copy() {
    for as_start in [true, false] {
        let (log, faults, _broker) = open().await;
        faults.hold_requests(1);
        log.append_acked(event(0, 1)).await.unwrap();
        let mut consumer = if as_start {
            log.consumer_with("g", starting_at(SeekPosition::End)).await.unwrap()
        } else {
            let mut consumer = log.consumer("g").await.unwrap();
            consumer.seek(SeekPosition::End).await.unwrap();
            consumer
        };
        assert!(faults.deliver_held_requests() > 0);
        log.append_acked(event(0, 2)).await.unwrap();
        let (seen, notices) = read_all(&mut consumer).await;
        assert_eq!(seen, [2], "as start: {as_start}, {notices:?}");
    }
}

// ------------------------------------------------------------------------------------------------ c13

#[tokio::test(start_paused = true)]
async fn c13_a_cursor_from_before_many_seeks_concerns_its_partition_alone() {
    let (log, ..) = open().await;
    append(&log, 0, 0..5).await;
    append(&log, 1, 5..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SHORT).await.unwrap();
    assert_eq!(batch.len(), 10);
    for _ in 0..17 {
        let to = Position::new(PartitionId(0), Offset(0));
        consumer.seek(SeekPosition::Position(to)).await.unwrap();
    }
    let error = consumer.commit(batch.cursor()).await.unwrap_err();
    let [(PartitionId(0), kind)] = error.failures() else { panic!("{error:?}") };
    assert_eq!(log.lag("g").await.unwrap().total(), 5, "partition 1 is stored: {kind:?}");
    assert!(matches!(kind, CommitErrorKind::Superseded), "{kind:?}");
}

#[tokio::test(start_paused = true)]
async fn c13_a_commit_to_a_group_that_was_deleted_meanwhile_is_stored() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SHORT).await.unwrap();
    consumer.commit(batch.cursor()).await.unwrap();
    // The consumer is no member until it has joined again.
    faults.interrupt();
    log.delete_group("g").await.unwrap();
    let polled = consumer.poll(100, SHORT).await;
    let position = consumer.position().clone();
    let committed = consumer.commit(&position).await;
    let lag = log.lag("g").await.unwrap().total();
    assert!(committed.is_err() || lag == 0, "{polled:?}, {committed:?}, lag {lag}");
}

#[tokio::test(start_paused = true)]
async fn c12_a_consumer_that_joins_a_deleted_group_again_starts_it() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    let end = || starting_at(SeekPosition::End);
    let mut consumer = log.consumer_with("g", end()).await.unwrap();
    read_all(&mut consumer).await;
    faults.interrupt();
    log.delete_group("g").await.unwrap();
    append(&log, 0, [10]).await;
    // It goes on, and dies before it commits.
    let batch = consumer.poll(100, SHORT).await.unwrap();
    let delivered: Vec<_> = batch.into_events().map(|event| event.number).collect();
    drop(consumer);
    let mut again = log.consumer_with("g", end()).await.unwrap();
    let seen = read_all(&mut again).await.0;
    assert!(
        delivered.is_empty() || !seen.is_empty(),
        "{delivered:?} was delivered, not committed, and is lost"
    );
}

// ------------------------------------------------------------------------------------------------ l7

/// Panics with something that panics again when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "the payload of the panic panics too");
    }
}

/// An error that cannot be shown.
#[derive(Debug)]
struct Unspeakable;

impl fmt::Display for Unspeakable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("an error that panics when it is shown")
    }
}

impl std::error::Error for Unspeakable {}

#[derive(Clone, Copy, Debug)]
enum Evil {
    Bomb,
    Unspeakable,
}

impl Codec<Event> for Evil {
    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), CodecError> {
        JsonCodec.encode(event, out)
    }

    fn decode(&self, payload: &Bytes, headers: &Headers) -> Result<Event, CodecError> {
        let event: Event = Codec::<Event>::decode(&JsonCodec, payload, headers)?;
        match self {
            _ if event.number != 13 => Ok(event),
            Self::Bomb => std::panic::panic_any(Bomb),
            Self::Unspeakable => Err(CodecError::new(Unspeakable)),
        }
    }
}

/// Reads through panics of `poll`, a few of them.
async fn read_through(consumer: &mut Box<dyn EventConsumer<Event>>) -> (Vec<u64>, usize) {
    let (mut seen, mut panics) = (Vec::new(), 0);
    for _ in 0..10 {
        match AssertUnwindSafe(consumer.poll(100, SHORT)).catch_unwind().await {
            Ok(Ok(batch)) => seen.extend(batch.into_events().map(|event| event.number)),
            Ok(Err(_)) => {}
            Err(payload) => {
                std::mem::forget(payload);
                panics += 1;
            }
        }
    }
    (seen, panics)
}

async fn evil(codec: Evil, policy: PoisonPolicy) -> (Vec<u64>, usize) {
    let (log, _, broker) = open().await;
    for number in [1, 2, 13, 3] {
        append(&log, 0, [number]).await;
    }
    append(&log, 1, [4, 5]).await;
    let reader = event_log_memory::builder().broker(&broker).partitions(2).codec(codec).open().await.unwrap();
    let mut consumer = reader.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    let (mut seen, panics) = read_through(&mut consumer).await;
    seen.sort_unstable();
    (seen, panics)
}

#[tokio::test(start_paused = true)]
async fn l7_a_panic_of_the_codec_whose_payload_panics_is_a_poisoned_record() {
    assert_eq!(evil(Evil::Bomb, PoisonPolicy::Skip).await, (vec![1, 2, 3, 4, 5], 0));
}

#[tokio::test(start_paused = true)]
async fn l7_an_error_of_the_codec_that_cannot_be_shown_is_parked() {
    let letters = event_log_memory::builder::<DeadLetter>().partitions(1).open().await.unwrap();
    let parked = evil(Evil::Unspeakable, PoisonPolicy::Park(Arc::new(letters))).await;
    assert_eq!(parked, (vec![1, 2, 3, 4, 5], 0));
}

/// A dead-letter log of the caller's that panics, once or always.
struct Panicking {
    inner: MemoryLog<DeadLetter>,
    always: bool,
    done: AtomicBool,
}

#[async_trait]
impl EventLog<DeadLetter> for Panicking {
    fn submit(&self, event: DeadLetter) -> Result<Ticket<DeadLetter>, SubmitError<DeadLetter>> {
        assert!(self.done.swap(true, Ordering::SeqCst) && !self.always, "a fault of the caller");
        self.inner.submit(event)
    }
    async fn append(&self, event: DeadLetter) -> Result<Receipt<DeadLetter>, AppendError<DeadLetter>> {
        self.inner.append(event).await
    }
    async fn append_batch(
        &self,
        events: Vec<DeadLetter>,
    ) -> Result<Vec<Receipt<DeadLetter>>, BatchError<DeadLetter>> {
        self.inner.append_batch(events).await
    }
    async fn consumer_with(
        &self,
        group: &str,
        options: ConsumerOptions,
    ) -> Result<Box<dyn EventConsumer<DeadLetter>>, Error> {
        self.inner.consumer_with(group, options).await
    }
    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.inner.watermarks().await
    }
    async fn lag(&self, group: &str) -> Result<Lag, Error> {
        self.inner.lag(group).await
    }
    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        self.inner.delete_group(group).await
    }
    fn state(&self) -> StateReceiver {
        self.inner.state()
    }
    async fn flush(&self) -> Result<(), Error> {
        self.inner.flush().await
    }
    async fn close(&self, deadline: Duration) -> Result<(), CloseError<DeadLetter>> {
        self.inner.close(deadline).await
    }
}

#[tokio::test(start_paused = true)]
async fn l7_a_dead_letter_log_that_panics_keeps_its_partition_alone_waiting() {
    for always in [false, true] {
        let (log, faults, _broker) = open().await;
        faults.append_foreign(PartitionId(0), "garbage").unwrap();
        append(&log, 0, [1]).await;
        append(&log, 1, [2]).await;
        let inner = event_log_memory::builder().partitions(1).open().await.unwrap();
        let letters = Panicking { inner, always, done: AtomicBool::new(false) };
        let options = ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::new(letters)));
        let mut consumer = log.consumer_with("g", options).await.unwrap();
        let mut seen = Vec::new();
        for _ in 0..10 {
            let polled = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await;
            if let Ok(Ok(batch)) = polled {
                seen.extend(batch.into_events().map(|event| event.number));
            }
        }
        seen.sort_unstable();
        assert!(seen.contains(&2), "always: {always}: the other partition is hidden: {seen:?}");
        assert!(always || seen.contains(&1), "one panic stopped the partition for good: {seen:?}");
    }
}

// ------------------------------------------------------------------------------------------------ l9

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future without any runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

fn outside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(work).join())
        .expect("a thread without a runtime can use the consumer")
}

#[test]
fn l9_a_seek_that_looks_back_works_on_a_thread_without_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, faults, _broker) = runtime.block_on(open());
    runtime.block_on(append(&log, 0, 0..10));
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    for slow in [false, true] {
        if slow {
            faults.slow_fetches(Duration::from_millis(5));
        } else {
            faults.empty_fetches(1);
        }
        outside(|| block_on(consumer.seek(SeekPosition::FromEnd(3)))).unwrap();
        let batch = outside(|| block_on(consumer.poll(10, SECOND))).unwrap();
        assert_eq!(batch.len(), 3);
        outside(|| block_on(consumer.commit(batch.cursor()))).unwrap();
    }
    outside(|| block_on(consumer.leave())).unwrap();
}

#[test]
fn l9_a_consumer_of_a_thread_without_a_runtime_comes_through_an_outage() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, faults, _broker) = runtime.block_on(open());
    runtime.block_on(append(&log, 0, 0..10));
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    faults.disconnect();
    let away = outside(|| block_on(consumer.poll(10, SHORT)));
    assert!(away.is_err());
    faults.reconnect();
    let batch = outside(|| block_on(consumer.poll(10, SECOND))).unwrap();
    assert_eq!(batch.len(), 10);
    outside(|| block_on(consumer.commit(batch.cursor()))).unwrap();
    outside(|| block_on(consumer.end())).unwrap();
}

// ------------------------------------------------------------------------------------------------ the rest

#[tokio::test(start_paused = true)]
async fn a8_what_was_seen_before_two_truncations_is_a_copy_as_it_is_after_one() {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = Vec::new();
    for incarnation in 0..3 {
        // The producers send all again.
        for id in [1, 2, 3] {
            log.append_acked(named(id)).await.unwrap();
        }
        seen.extend(drain(&mut consumer).await.0.iter().map(|event| (incarnation, event.id)));
        faults.begin_again();
    }
    assert_eq!(seen, [(0, 1), (0, 2), (0, 3)]);
}

#[test]
fn c12_of_two_first_members_one_prevails_in_a_log_of_the_usual_size() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let broker = MemoryBroker::new();
        let log = event_log_memory::builder::<Keyed>().broker(&broker).partitions(8);
        let log = Arc::new(log.open().await.unwrap());
        let faults = broker.faults("events").unwrap();
        for partition in 0..8 {
            faults.append_foreign(PartitionId(partition), r#""k""#).unwrap();
        }
        let start = std::time::Instant::now();
        for round in 0.. {
            if start.elapsed() > 5 * SECOND {
                break;
            }
            let group = format!("g{round}");
            let open = |start| {
                let (log, group) = (Arc::clone(&log), group.clone());
                tokio::spawn(async move {
                    drop(log.consumer_with(&group, ConsumerOptions::starting_at(start)).await.unwrap());
                })
            };
            let (one, two) = (open(SeekPosition::Beginning), open(SeekPosition::End));
            one.await.unwrap();
            two.await.unwrap();
            let lag = log.lag(&group).await.unwrap().total();
            assert!(lag == 0 || lag == 8, "round {round}: the starts are mixed, lag {lag}");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn l7_an_error_of_the_codec_that_cannot_be_shown_is_skipped_or_halts() {
    assert_eq!(evil(Evil::Unspeakable, PoisonPolicy::Skip).await, (vec![1, 2, 3, 4, 5], 0));
    assert_eq!(evil(Evil::Unspeakable, PoisonPolicy::Halt).await, (vec![1, 2, 4, 5], 0));
}

#[tokio::test(start_paused = true)]
async fn c14_a_notice_of_a_place_that_was_left_is_not_told_of_the_new_one() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let beyond = Position::new(PartitionId(0), Offset(100));
    consumer.seek(SeekPosition::Position(beyond)).await.unwrap();
    drop(tokio::time::timeout(Duration::ZERO, consumer.poll(1, SHORT)).await);
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    let (seen, _) = read_all(&mut consumer).await;
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[test]
fn l9_a_seek_over_slow_fetches_works_on_a_thread_without_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (log, faults, _broker) = runtime.block_on(open());
    runtime.block_on(append(&log, 0, 0..10));
    let mut consumer = runtime.block_on(log.consumer("g")).unwrap();
    faults.slow_fetches(Duration::from_millis(5));
    outside(|| block_on(consumer.seek(SeekPosition::FromEnd(3)))).unwrap();
}

#[tokio::test(start_paused = true)]
async fn l7_a_dead_letter_log_that_always_panics_hides_no_other_partition() {
    let (log, faults, _broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    let inner = event_log_memory::builder().partitions(1).open().await.unwrap();
    let letters = Panicking { inner, always: true, done: AtomicBool::new(false) };
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::new(letters)));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let mut seen = Vec::new();
    for number in 0..5 {
        append(&log, 1, [number]).await;
        let polled = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await;
        if let Ok(Ok(batch)) = polled {
            seen.extend(batch.into_events().map(|event| event.number));
        }
    }
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn c13_a_cursor_set_by_hand_from_before_a_truncation_concerns_its_partition_alone() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    append(&log, 1, 10..15).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read_all(&mut consumer).await;
    // As serde gives it back: without epochs.
    let kept = serde_json::from_str(&serde_json::to_string(consumer.position()).unwrap()).unwrap();
    faults.begin_again();
    append(&log, 0, 100..103).await;
    append(&log, 1, 103..110).await;
    read_all(&mut consumer).await;
    let committed = consumer.commit(&kept).await;
    let lag = log.lag("g").await.unwrap();
    assert!(committed.is_err());
    // Partition 1 has reached 5 again, so that its place can be stored.
    assert_eq!(lag.total(), 3 + 2, "{committed:?}");
}
