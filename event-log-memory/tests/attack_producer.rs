//! Attempts of an outside reader to break the producing side.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, clippy::allow_attributes_without_reason)]

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;
use std::time::Duration;

use event_log_core::engine::{Clock, TokioClock};
use event_log_core::{
    AppendErrorKind, Connection, EventConsumer as _, EventLog as _, EventLogExt as _, Headers, Overflow,
    PartitionId, Partitionable, ProducerConfig, RawCodec, RawEvent, ReconnectPolicy, SubmitErrorKind,
    Timestamp,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog, Retention};
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Serialize, Deserialize)]
struct Numbered(u64);

impl Partitionable for Numbered {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

async fn open(config: ProducerConfig) -> (MemoryLog<Numbered>, Faults, MemoryBroker) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config);
    let log = log.open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    (log, faults, broker)
}

async fn cut(log: &MemoryLog<Numbered>, faults: &Faults) {
    faults.disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
}

fn numbers(broker: &MemoryBroker) -> Vec<u64> {
    let number = |content: &event_log_memory::Content| serde_json::from_slice(&content.payload).unwrap();
    broker.contents("events").iter().map(number).collect()
}

fn config(change: impl FnOnce(&mut ProducerConfig)) -> ProducerConfig {
    let mut config = ProducerConfig::default();
    change(&mut config);
    config
}

// ---------------------------------------------------------------------------------------------------- scheduling

/// How many turns another task of the same thread gets while `work` goes on.
async fn turns_of_others(work: impl Future<Output = ()>) -> usize {
    let turns = Arc::new(AtomicUsize::new(0));
    let counting = Arc::clone(&turns);
    let other = tokio::spawn(async move {
        loop {
            counting.fetch_add(1, SeqCst);
            tokio::task::yield_now().await;
        }
    });
    work.await;
    other.abort();
    turns.load(SeqCst)
}

#[tokio::test]
async fn l9_a_loop_of_appends_leaves_others_their_turn_while_away() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    cut(&log, &faults).await;
    let turns = turns_of_others(async {
        for number in 0..2_000 {
            drop(log.append(Numbered(number)).await.unwrap());
        }
    });
    assert!(turns.await > 1, "2,000 appends, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_of_batches_leaves_others_their_turn_while_away() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    cut(&log, &faults).await;
    let turns = turns_of_others(async {
        for number in 0..2_000 {
            drop(log.append_batch(vec![Numbered(number)]).await.unwrap());
        }
    });
    assert!(turns.await > 1, "2,000 batches, and no other had a turn");
}

#[tokio::test]
async fn l9_a_loop_that_retries_what_is_full_lets_the_log_come_back() {
    let (log, faults, _broker) =
        open(config(|config| (config.buffer_events, config.overflow) = (1, Overflow::Reject))).await;
    cut(&log, &faults).await;
    drop(log.append(Numbered(0)).await.unwrap());
    faults.reconnect();
    let start = std::time::Instant::now();
    // The error says that it is worth a retry, and the log is there again after a second.
    let mut event = Numbered(1);
    while let Err(error) = log.append(event).await {
        assert!(error.is_retryable());
        event = error.into_event();
        assert!(start.elapsed() < 3 * SECOND, "the loop keeps the log from coming back");
    }
}

#[tokio::test]
async fn l9_draining_the_buffer_leaves_others_their_turn() {
    let (log, faults, broker) = open(config(|config| config.request_events = 1)).await;
    faults.slow_appends(Duration::from_millis(1));
    let mut last = None;
    for number in 0..5_000 {
        last = Some(log.submit(Numbered(number)).unwrap());
    }
    faults.slow_appends(Duration::ZERO);
    let turns = turns_of_others(async {
        last.unwrap().await.unwrap();
    })
    .await;
    assert_eq!(broker.contents("events").len(), 5_000);
    assert!(turns > 5, "5,000 requests, and others had {turns} turns");
}

// ------------------------------------------------------------------------------------------------------ append_all

fn small_buffer(overflow: Overflow) -> ProducerConfig {
    config(|config| (config.buffer_events, config.overflow) = (10, overflow))
}

#[tokio::test(start_paused = true)]
async fn a2_append_all_keeps_the_order_when_a_chunk_does_not_fit_into_the_buffer() {
    for overflow in [Overflow::DropOldest, Overflow::Reject, Overflow::Block { deadline: HOUR }] {
        let (log, faults, broker) = open(small_buffer(overflow)).await;
        cut(&log, &faults).await;
        faults.reconnect();
        let appended = timeout(HOUR, log.append_all(&mut (0..3_000).map(Numbered))).await.unwrap();
        let seen = numbers(&broker);
        assert!(seen.is_sorted(), "{overflow:?} {:?}: {:?}", appended.map_err(|e| e.appended), &seen[..12]);
    }
}

#[tokio::test(start_paused = true)]
async fn a14_append_all_that_is_dropped_leaves_a_prefix() {
    let (log, faults, broker) = open(small_buffer(Overflow::Reject)).await;
    cut(&log, &faults).await;
    let mut events = (0..3_000).map(Numbered);
    assert!(timeout(Duration::from_millis(100), log.append_all(&mut events)).await.is_err());
    faults.reconnect();
    log.flush().await.unwrap();
    let seen = numbers(&broker);
    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>(), "a prefix of what was drawn");
}

#[tokio::test(start_paused = true)]
async fn a2_append_all_of_large_events_keeps_the_order_with_the_default_settings() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder().codec(RawCodec).broker(&broker).partitions(1);
    let log = builder.open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    faults.disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
    let payload = |number: u64| [&number.to_be_bytes()[..], &[0; 70_000][..]].concat();
    let mut events = (0..2_048).map(|number| RawEvent::new("k".to_owned(), payload(number)));
    assert!(timeout(Duration::from_millis(100), log.append_all(&mut events)).await.is_err());
    faults.reconnect();
    log.flush().await.unwrap();
    let number =
        |content: &event_log_memory::Content| u64::from_be_bytes(content.payload[..8].try_into().unwrap());
    let seen: Vec<u64> = broker.contents("events").iter().map(number).collect();
    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>(), "a prefix of what was drawn");
}

#[tokio::test(start_paused = true)]
async fn a11_append_all_draws_nothing_after_a_failure() {
    #[derive(Debug, Serialize)]
    struct Text(u64, String);
    impl Partitionable for Text {
        fn partition_key(&self) -> Option<&str> {
            Some("k")
        }
    }
    let broker = MemoryBroker::new();
    let config = config(|config| config.max_event_bytes = 1_000);
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config).open().await.unwrap();
    let long = |number| if number == 5 { "x".repeat(2_000) } else { String::new() };
    let mut events = (0..5_000).map(|number| Text(number, long(number)));
    let error = log.append_all(&mut events).await.unwrap_err();
    let drawn = 5_000 - events.count();
    let seen = broker.contents("events").len();
    assert!(
        drawn == 6 && seen == 5,
        "the sixth is refused at once, {drawn} were drawn, and {seen} appended behind it: {:?}",
        error.appended
    );
}

// --------------------------------------------------------------------------------------------- buffer and its bounds

#[tokio::test(start_paused = true)]
async fn a10_a_batch_that_waits_for_space_is_let_in_when_the_log_is_back_and_its_queue_empty() {
    let (log, faults, _broker) = open(config(|config| {
        (config.buffer_events, config.request_events) = (10, 10);
        (config.overflow, config.expiry) = (Overflow::Block { deadline: HOUR }, Some(30 * SECOND));
    }))
    .await;
    faults.slow_appends(2 * SECOND);
    let mut tickets: Vec<_> = (0..10).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    sleep(Duration::from_millis(10)).await;
    tickets.extend((10..20).map(|number| log.submit(Numbered(number)).unwrap()));
    let other = log.clone();
    let batch = tokio::spawn(async move { other.append_batch((100..150).map(Numbered).collect()).await });
    sleep(Duration::from_millis(10)).await;
    faults.disconnect();
    for ticket in tickets {
        ticket.await.unwrap_err();
    }
    assert_eq!(log.state().current().buffered, 0);
    faults.slow_appends(Duration::ZERO);
    faults.reconnect();
    log.state().wait_for(|state| state.is_connected()).await;
    let back = Instant::now();
    let outcome = batch.await.unwrap();
    assert!(
        // What no buffer can hold comes back when the log goes away.
        back.elapsed() < 60 * SECOND,
        "it waited {:?} beside an empty queue: {:?}",
        back.elapsed(),
        outcome.map(|receipts| receipts.len())
    );
}

#[tokio::test(start_paused = true)]
async fn a6_a_batch_that_can_never_fit_keeps_no_other_from_the_buffer_of_a_log_that_is_away() {
    let (log, faults, _broker) = open(config(|config| {
        (config.buffer_events, config.request_events) = (10, 1);
        config.overflow = Overflow::Block { deadline: HOUR };
    }))
    .await;
    faults.slow_appends(SECOND);
    let _first = log.submit(Numbered(0)).unwrap();
    sleep(Duration::from_millis(10)).await;
    let _second = log.submit(Numbered(1)).unwrap();
    let other = log.clone();
    let batch =
        tokio::spawn(async move { other.append_batch((100..120).map(Numbered).collect()).await.map(drop) });
    sleep(Duration::from_millis(10)).await;
    cut(&log, &faults).await;
    assert!(log.state().current().buffered <= 2);
    // Offered now it would be refused at once: it does not even fit into an empty buffer.
    let submitted = log.submit(Numbered(2)).map(drop).map_err(|error| error.kind);
    let appended =
        timeout(SECOND, log.append(Numbered(3))).await.map(|receipt| receipt.map(|it| it.is_buffered()));
    assert!(
        submitted.is_ok() && matches!(appended, Ok(Ok(true))),
        "eight of ten places are free: {submitted:?}, {appended:?}, batch refused: {}",
        batch.is_finished()
    );
}

#[derive(Debug, Serialize)]
struct Headed(u64);

impl Partitionable for Headed {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }

    fn headers(&self) -> Headers {
        let mut headers = Headers::new();
        headers.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        headers
    }
}

#[tokio::test(start_paused = true)]
async fn a5_an_event_with_headers_within_every_limit_finds_an_empty_buffer_large_enough() {
    let broker = MemoryBroker::new();
    // What `validate` calls enough for one event.
    let config = config(|config| (config.max_event_bytes, config.buffer_bytes) = (64, 64));
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config).open().await.unwrap();
    log.append_acked(Headed(0)).await.unwrap();
    broker.faults("events").unwrap().disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
    let submitted = log.submit(Headed(1));
    assert!(submitted.is_ok(), "the empty buffer that drops the oldest says {:?}", submitted.map(drop));
}

#[tokio::test(start_paused = true)]
async fn a5_an_event_with_headers_is_not_dropped_from_a_buffer_that_has_nothing_else() {
    let broker = MemoryBroker::new();
    let config = config(|config| (config.max_event_bytes, config.buffer_bytes) = (64, 64));
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    faults.slow_appends(SECOND);
    let first = log.submit(Headed(0)).unwrap();
    sleep(Duration::from_millis(10)).await;
    let second = log.submit(Headed(1)).unwrap();
    faults.interrupt();
    first.await.unwrap();
    let outcome = second.await;
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn l8_a_record_of_a_batch_keeps_no_more_memory_than_its_own() {
    #[derive(Serialize)]
    struct Text(String);
    impl Partitionable for Text {
        fn partition_key(&self) -> Option<&str> {
            Some("k")
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let retained = |batch: bool| {
        let builder = event_log_memory::builder().partitions(1).retention(Retention::records(1));
        let log = runtime.block_on(builder.open()).unwrap();
        let text = || Text("x".repeat(10_000));
        runtime.block_on(log.append_acked(text())).unwrap();
        let counted = allocation_counter::measure(|| {
            if batch {
                let events = (0..1_000).map(|_| text()).collect();
                drop(runtime.block_on(log.append_batch(events)).unwrap());
            } else {
                for _ in 0..1_000 {
                    runtime.block_on(log.append_acked(text())).unwrap();
                }
            }
        });
        counted.bytes_current
    };
    let (single, batch) = (retained(false), retained(true));
    assert!(
        batch <= single + 200_000,
        "one record of 10 kB is retained: {single} bytes after single appends, {batch} after a batch"
    );
}

// ------------------------------------------------------------------------------------------------- recovery, attempts

#[tokio::test(start_paused = true)]
async fn a7_a_flush_of_one_outage_does_not_hasten_the_next() {
    let (log, faults, _broker) = open(config(|config| {
        config.reconnect = ReconnectPolicy::new(SECOND, 30 * SECOND);
        config.reconnect.jitter_percent = 0;
    }))
    .await;
    cut(&log, &faults).await;
    faults.slow_connects(5 * SECOND);
    faults.reconnect();
    sleep(2 * SECOND).await;
    // An attempt is under way: there is nothing to hasten.
    log.flush().await.unwrap();
    log.state().wait_for(|state| state.is_connected()).await;
    faults.slow_connects(Duration::ZERO);
    sleep(HOUR).await;
    let start = Instant::now();
    faults.interrupt();
    log.state().wait_for(|state| !state.is_connected()).await;
    log.state().wait_for(|state| state.is_connected()).await;
    assert!(start.elapsed() >= SECOND, "it reconnected after {:?} instead of 1 s", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a19_the_state_says_when_the_attempt_is_that_a_flush_asked_for() {
    let clock = Arc::new(TokioClock::starting_at(Timestamp(1_700_000_000_000_000)));
    let broker = MemoryBroker::with_clock(clock.clone());
    let mut config = ProducerConfig::default();
    config.reconnect = ReconnectPolicy::new(10 * SECOND, 30 * SECOND);
    let builder = event_log_memory::builder::<Numbered>().broker(&broker).partitions(1).config(config);
    let log = builder.open().await.unwrap();
    broker.faults("events").unwrap().disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
    drop(log.submit(Numbered(0)).unwrap());
    let mut flush = Box::pin(log.flush());
    assert!((&mut flush).now_or_never().is_none());
    sleep(Duration::from_millis(10)).await;
    let Connection::Reconnecting { next_attempt, attempt, .. } = log.state().current().connection else {
        panic!("it is away");
    };
    let wait = next_attempt.map(|next| next.0.saturating_sub(clock.now().0) / 1_000);
    let mut state = log.state();
    let start = Instant::now();
    state
        .wait_for(|state| matches!(state.connection, Connection::Reconnecting { attempt: now, .. } if now > attempt))
        .await;
    let took = start.elapsed().as_millis() as u64;
    assert!(wait.is_none_or(|wait| wait <= took + 5), "said to be in {wait:?} ms, and was after {took} ms");
}

#[tokio::test(start_paused = true)]
async fn a6_a_connection_that_is_cut_while_a_request_is_slow_is_noticed() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.slow_appends(HOUR);
    let _ticket = log.submit(Numbered(0)).unwrap();
    sleep(Duration::from_millis(10)).await;
    faults.disconnect();
    sleep(SECOND).await;
    assert!(!log.state().current().is_connected(), "cut for a second");
    let appended = timeout(SECOND, log.append(Numbered(1))).await;
    assert!(appended.is_ok_and(|receipt| receipt.is_ok_and(|receipt| receipt.is_buffered())));
}

#[tokio::test(start_paused = true)]
async fn a7_a_log_that_takes_connections_and_loses_every_request_is_not_asked_every_second() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.lose_requests(1_000_000);
    let _ticket = log.submit(Numbered(0)).unwrap();
    sleep(600 * SECOND).await;
    let reconnects = log.state().current().reconnects;
    // Doubling from 1 s to 30 s, less the jitter, makes about thirty.
    assert!(reconnects < 60, "{reconnects} reconnections in ten minutes: no backoff");
}

#[tokio::test(start_paused = true)]
async fn a6_an_append_that_is_queued_when_a_closing_log_goes_away_is_told_that_it_is_buffered() {
    let (log, faults, _broker) = open(config(|config| config.request_events = 1)).await;
    faults.slow_appends(SECOND);
    let mut first = Box::pin(log.append(Numbered(0)));
    assert!(begin(&mut first).is_none());
    sleep(Duration::from_millis(10)).await;
    let mut second = Box::pin(log.append(Numbered(1)));
    assert!(begin(&mut second).is_none());
    let mut close = Box::pin(log.close(HOUR));
    assert!(begin(&mut close).is_none());
    faults.disconnect();
    sleep(10 * SECOND).await;
    assert!(!log.state().current().is_connected());
    assert!(begin(&mut first).is_some_and(|receipt| receipt.is_ok_and(|receipt| receipt.is_buffered())));
    assert!(
        begin(&mut second).is_some_and(|receipt| receipt.is_ok_and(|receipt| receipt.is_buffered())),
        "the first is told, the one behind it waits"
    );
}

#[tokio::test(start_paused = true)]
async fn l5_what_cannot_be_decoded_does_not_appear_in_debug_output() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.append_foreign(PartitionId(0), "\"top-secret\"").unwrap();
    let batch = log.consumer("g").await.unwrap().poll(10, SECOND).await.unwrap();
    let shown = format!("{batch:?} {:?} {:?}", batch.records, batch.records[0].event);
    assert!(!shown.contains("top-secret"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a19_however_often_a_log_is_flushed_there_is_no_storm_of_attempts() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    cut(&log, &faults).await;
    drop(log.submit(Numbered(0)).unwrap());
    for _ in 0..10_000 {
        drop(timeout(Duration::from_millis(1), log.flush()).await);
    }
    let Connection::Reconnecting { attempt, .. } = log.state().current().connection else {
        panic!("it is away");
    };
    assert!((50..=110).contains(&attempt), "{attempt} attempts in ten seconds of flushing");
}

// ---------------------------------------------------------------------------------------------------- hostile callers

struct Panics(AtomicBool);

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        assert!(!self.0.swap(false, SeqCst), "a fault in a waker");
    }
}

#[test]
fn l7_a_waker_of_an_append_whose_wait_for_space_ends_at_its_deadline_may_panic() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = config(|config| {
        (config.buffer_events, config.request_events) = (1, 1);
        config.overflow = Overflow::Block { deadline: Duration::from_millis(100) };
    });
    let (log, faults, _broker) = runtime.block_on(open(config));
    faults.slow_appends(Duration::from_millis(500));
    let first = log.submit(Numbered(0)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let second = log.submit(Numbered(1)).unwrap();
    let mut append = Box::pin(log.append(Numbered(2)));
    let waker = Waker::from(Arc::new(Panics(AtomicBool::new(true))));
    assert!(append.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    let (done, is_done) = channel();
    std::thread::spawn(move || done.send(block_on(async { first.await.is_ok() && second.await.is_ok() })));
    let ended = is_done.recv_timeout(5 * SECOND);
    if ended.is_err() {
        std::mem::forget((runtime, log.clone()));
    }
    assert_eq!(ended, Ok(true), "the events of others");
}

/// A waker whose last owner runs code, as the one of an executor does that frees its task then.
struct PanicsWhenFreed;

impl Wake for PanicsWhenFreed {
    fn wake(self: Arc<Self>) {
        std::mem::forget(self);
    }
}

impl Drop for PanicsWhenFreed {
    fn drop(&mut self) {
        panic!("a fault in a destructor of a waker");
    }
}

#[tokio::test(start_paused = true)]
async fn l7_a_waker_of_a_dropped_ticket_that_panics_when_it_is_freed_does_not_end_the_log() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.slow_appends(SECOND);
    let mut ticket = log.submit(Numbered(0)).unwrap();
    let waker = Waker::from(Arc::new(PanicsWhenFreed));
    assert!(Pin::new(&mut ticket).poll(&mut Context::from_waker(&waker)).is_pending());
    drop((ticket, waker));
    let other = log.submit(Numbered(1)).unwrap();
    assert!(other.await.is_ok(), "the event of another caller");
    log.append_acked(Numbered(2)).await.unwrap();
}

#[derive(Default)]
struct Gate(Mutex<(bool, bool)>, Condvar);

impl Gate {
    fn pass(&self) {
        let mut state = self.0.lock().unwrap();
        state.0 = true;
        self.1.notify_all();
        drop(self.1.wait_timeout_while(state, 8 * SECOND, |state| !state.1).unwrap());
    }

    fn open(&self) {
        self.0.lock().unwrap().1 = true;
        self.1.notify_all();
    }

    fn wait_until_reached(&self) -> bool {
        let state = self.0.lock().unwrap();
        !self.1.wait_timeout_while(state, 5 * SECOND, |state| !state.0).unwrap().1.timed_out()
    }
}

enum Deed {
    Panic,
    Block(Arc<Gate>),
}

/// A clock that does something, once, on any thread but one.
#[derive(Default)]
struct Hostile(Mutex<Option<(Deed, Option<ThreadId>)>>);

impl Hostile {
    fn arm(&self, deed: Deed, not_on: Option<ThreadId>) {
        *self.0.lock().unwrap() = Some((deed, not_on));
    }
}

impl Clock for Hostile {
    fn now(&self) -> Timestamp {
        let mut armed = self.0.lock().unwrap();
        let here = std::thread::current().id();
        let deed = armed.take_if(|(_, not_on)| *not_on != Some(here));
        drop(armed);
        match deed {
            Some((Deed::Panic, _)) => panic!("a fault in a clock"),
            Some((Deed::Block(gate), _)) => gate.pass(),
            None => {}
        }
        Timestamp(1_700_000_000_000_000)
    }
}

#[tokio::test(start_paused = true)]
async fn l7_a_clock_that_panics_once_when_the_connection_is_lost_does_not_end_the_log() {
    let clock = Arc::new(Hostile::default());
    let broker = MemoryBroker::with_clock(clock.clone());
    let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    sleep(SECOND).await;
    clock.arm(Deed::Panic, None);
    faults.disconnect();
    sleep(SECOND).await;
    faults.reconnect();
    let appended = timeout(HOUR, log.append_acked(Numbered(1))).await;
    assert!(matches!(appended, Ok(Ok(_))), "{appended:?}, {:?}", log.state().current());
}

#[tokio::test(start_paused = true)]
async fn l7_a_clock_that_panics_once_while_a_request_is_appended_does_not_end_the_log() {
    let clock = Arc::new(Hostile::default());
    let broker = MemoryBroker::with_clock(clock.clone());
    let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    faults.slow_appends(SECOND);
    let ticket = log.submit(Numbered(0)).unwrap();
    sleep(Duration::from_millis(10)).await;
    clock.arm(Deed::Panic, None);
    let outcome = timeout(HOUR, ticket).await;
    assert!(outcome.is_ok());
    let appended = timeout(HOUR, log.append_acked(Numbered(1))).await;
    assert!(matches!(appended, Ok(Ok(_))), "{appended:?}, {:?}", log.state().current());
}

#[test]
fn l7_a_clock_that_blocks_one_caller_blocks_no_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let clock = Arc::new(Hostile::default());
    let broker = MemoryBroker::with_clock(clock.clone());
    let builder = event_log_memory::builder().broker(&broker).partitions(1).retention(Retention::age(HOUR));
    let log = runtime.block_on(builder.open()).unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let gate = Arc::new(Gate::default());
    clock.arm(Deed::Block(gate.clone()), None);
    let asking = log.clone();
    std::thread::spawn(move || block_on(asking.watermarks()).is_ok());
    assert!(gate.wait_until_reached());
    let (done, is_done) = channel();
    let other = log.clone();
    std::thread::spawn(move || done.send(other.submit(Numbered(0)).is_ok()));
    let submitted = is_done.recv_timeout(2 * SECOND);
    gate.open();
    assert_eq!(submitted, Ok(true), "another caller's submit, which never blocks");
}

#[test]
fn faults_nothing_reaches_the_log_after_disconnect_has_returned() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let clock = Arc::new(Hostile::default());
    let broker = MemoryBroker::with_clock(clock.clone());
    let log = runtime.block_on(event_log_memory::builder().broker(&broker).partitions(1).open()).unwrap();
    let faults = broker.faults("events").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    faults.slow_appends(Duration::from_millis(1));
    let gate = Arc::new(Gate::default());
    // The writer has looked whether the connection is good, and is delayed by something before it appends.
    clock.arm(Deed::Block(gate.clone()), Some(std::thread::current().id()));
    let ticket = log.submit(Numbered(0)).unwrap();
    assert!(gate.wait_until_reached());
    faults.disconnect();
    let before = broker.contents("events").len();
    gate.open();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(broker.contents("events").len(), before, "{:?}", ticket.try_outcome());
}

// ------------------------------------------------------------------------------------------------- sizes and readability

#[test]
fn l8_counts_of_faults_may_be_as_large_as_they_are() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (log, faults, _broker) = open(ProducerConfig::default()).await;
        let switched = catch_unwind(AssertUnwindSafe(|| {
            faults.lose_requests(usize::MAX);
            faults.lose_replies(1);
        }));
        assert!(switched.is_ok(), "a sum of what the caller says overflows");
        let ticket = log.submit(Numbered(0)).unwrap();
        assert!(timeout(SECOND, ticket).await.is_err(), "every request is lost");
    });
}

#[tokio::test(start_paused = true)]
async fn l8_a_partition_at_the_end_of_its_offsets_takes_a_batch_without_a_panic() {
    let (log, faults, broker) = open(ProducerConfig::default()).await;
    faults.trailing_gap(PartitionId(0), u64::MAX);
    let batch = AssertUnwindSafe(log.append_batch(vec![Numbered(0)])).catch_unwind().await;
    assert!(batch.is_ok(), "it panics, with {} events in the log", broker.contents("events").len());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nested(Vec<Nested>);

impl Partitionable for Nested {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

#[tokio::test(start_paused = true)]
async fn a18_an_event_that_is_nested_too_deeply_to_be_decoded_is_refused() {
    let log = event_log_memory::builder().partitions(1).open().await.unwrap();
    let nested = (0..150).fold(Nested(Vec::new()), |inner, _| Nested(vec![inner]));
    if log.append_acked(nested).await.is_err() {
        return;
    }
    let batch = log.consumer("g").await.unwrap().poll(10, SECOND).await.unwrap();
    assert!(batch.records[0].event.is_ok(), "acknowledged, and {:?}", batch.records[0].event);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Float(f64);

impl Partitionable for Float {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

#[tokio::test(start_paused = true)]
async fn a18_a_float_is_read_as_it_was() {
    let log = event_log_memory::builder().partitions(1).open().await.unwrap();
    let mut seed = 7_u64;
    let mut events = Vec::new();
    while events.len() < 10_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = f64::from_bits(seed.rotate_left(17));
        if value.is_finite() {
            events.push(Float(value));
        }
    }
    drop(log.append_batch(events.clone()).await.unwrap());
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < events.len() {
        seen.extend(consumer.poll(1_000, SECOND).await.unwrap().into_events());
    }
    let wrong: Vec<_> = events.iter().zip(&seen).filter(|(one, other)| one != other).collect();
    assert!(wrong.is_empty(), "{} of 10,000 were read as another number, {:?}", wrong.len(), wrong.first());
}

#[tokio::test(start_paused = true)]
async fn a18_a_quotient_is_read_as_it_was() {
    let log = event_log_memory::builder().partitions(1).open().await.unwrap();
    let events: Vec<_> = (0..10_000).map(|number| Float(f64::from(number) / 7.0)).collect();
    drop(log.append_batch(events.clone()).await.unwrap());
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < events.len() {
        seen.extend(consumer.poll(1_000, SECOND).await.unwrap().into_events());
    }
    let wrong: Vec<_> = events.iter().zip(&seen).filter(|(one, other)| one != other).collect();
    assert!(wrong.is_empty(), "{} of 10,000 were read as another number, {:?}", wrong.len(), wrong.first());
}

// --------------------------------------------------------------------------------------------- tickets, closing, runtimes

#[tokio::test(start_paused = true)]
async fn a4_a_ticket_that_returned_its_ack_has_it_for_try_outcome_too() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.slow_appends(SECOND);
    let mut ticket = log.submit(Numbered(0)).unwrap();
    let ack = (&mut ticket).await.unwrap();
    assert_eq!(ticket.try_outcome().expect("there is an outcome").unwrap(), ack);
}

#[tokio::test(start_paused = true)]
async fn l3_closing_reaches_a_log_that_comes_back_shortly_before_the_deadline() {
    for back in [10, 1_000, 5_100, 9_500, 9_900] {
        let (log, faults, _broker) = open(ProducerConfig::default()).await;
        faults.disconnect();
        sleep(300 * SECOND).await;
        drop(log.submit(Numbered(0)).unwrap());
        let closing = log.clone();
        let close = tokio::spawn(async move { closing.close(10 * SECOND).await });
        sleep(Duration::from_millis(back)).await;
        faults.reconnect();
        assert!(close.await.unwrap().is_ok(), "back after {back} ms of 10 s");
    }
}

#[tokio::test(start_paused = true)]
async fn l3_what_a_cancelled_close_left_goes_to_the_next_one_exactly_once() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    cut(&log, &faults).await;
    drop(log.submit(Numbered(0)).unwrap());
    let held = log.submit(Numbered(1)).unwrap();
    assert!(timeout(Duration::from_millis(1), log.close(SECOND)).await.is_err());
    sleep(2 * SECOND).await;
    let (one, two) = tokio::join!(log.close(SECOND), log.close(SECOND));
    let left: usize = [one, two].into_iter().filter_map(Result::err).map(|error| error.len()).sum();
    assert_eq!(left, 2);
    assert!(matches!(held.await.unwrap_err().kind(), AppendErrorKind::Closed));
}

#[test]
fn a4_everything_ends_when_the_runtime_does() {
    for overflow in [Overflow::DropOldest, Overflow::Block { deadline: HOUR }] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let config = config(|config| {
            (config.buffer_events, config.request_events, config.overflow) = (1, 1, overflow);
        });
        let (log, faults, broker) = runtime.block_on(open(config));
        faults.slow_appends(HOUR);
        let first = log.submit(Numbered(0)).unwrap();
        runtime.block_on(async { sleep(Duration::from_millis(10)).await });
        let second = log.submit(Numbered(1)).unwrap();
        let mut waits = Box::pin(log.append(Numbered(2)));
        let mut flush = Box::pin(log.flush());
        assert!((&mut waits).now_or_never().is_none());
        assert!((&mut flush).now_or_never().is_none());
        drop(runtime);
        let error = first.now_or_never().expect("at once").unwrap_err();
        assert!(matches!(error.kind(), AppendErrorKind::Unknown(_)), "{error:?}");
        let error = second.now_or_never().expect("at once").unwrap_err();
        assert!(matches!(error.kind(), AppendErrorKind::Closed), "{error:?}");
        let error = waits.now_or_never().expect("at once").unwrap_err();
        assert!(matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Closed)), "{error:?}");
        assert!(flush.now_or_never().expect("at once").is_err());
        assert!(log.submit(Numbered(3)).is_err());
        assert!(log.append(Numbered(4)).now_or_never().expect("at once").is_err());
        assert!(log.append_batch(vec![Numbered(5)]).now_or_never().expect("at once").is_err());
        assert!(log.state().current().is_closed());
        drop(log.close(HOUR).now_or_never().expect("at once"));
        assert!(broker.contents("events").is_empty());
    }
}

#[test]
fn l9_an_append_waits_for_space_and_gives_up_on_a_thread_without_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = config(|config| {
        (config.buffer_events, config.request_events) = (1, 1);
        config.overflow = Overflow::Block { deadline: Duration::from_millis(50) };
    });
    let (log, faults, _broker) = runtime.block_on(open(config));
    faults.slow_appends(Duration::from_millis(300));
    let _first = log.submit(Numbered(0)).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let _second = log.submit(Numbered(1)).unwrap();
    let error = block_on(log.append(Numbered(2))).unwrap_err();
    assert!(matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Full)));
    block_on(log.append_acked(Numbered(3))).map(drop).unwrap_err();
    block_on(log.flush()).unwrap();
    block_on(log.close(SECOND)).unwrap();
}

/// Polls once, with a waker that does nothing.
fn begin<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    match Pin::new(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn a14_appends_that_are_dropped_while_they_wait_leave_no_gap_for_those_behind() {
    let (log, faults, broker) =
        open(config(|config| (config.buffer_events, config.request_events) = (2, 2))).await;
    faults.slow_appends(SECOND);
    drop(log.submit(Numbered(0)).unwrap());
    sleep(Duration::from_millis(10)).await;
    drop((log.submit(Numbered(1)).unwrap(), log.submit(Numbered(2)).unwrap()));
    let mut waiting: Vec<_> = (3..10).map(|number| Box::pin(log.append(Numbered(number)))).collect();
    assert!(waiting.iter_mut().all(|append| begin(append).is_none()));
    // Every other one, the first among them.
    let mut kept = Vec::new();
    for (at, append) in waiting.into_iter().enumerate() {
        if at % 2 == 1 {
            kept.push(append);
        }
    }
    let outcomes = timeout(HOUR, futures::future::join_all(kept)).await.unwrap();
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(numbers(&broker), [0, 1, 2, 4, 6, 8]);
    // And the way is free again.
    faults.clear();
    log.flush().await.unwrap();
    assert!(log.append(Numbered(10)).now_or_never().is_some());
}

struct Unparks(std::thread::Thread);

impl Wake for Unparks {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on a thread that knows of no runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(Unparks(std::thread::current())));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}
