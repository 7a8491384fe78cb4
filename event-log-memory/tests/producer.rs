//! What the producing side promises where callers, clocks and connections are not kind to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use event_log_core::engine::TokioClock;
use event_log_core::{
    AppendErrorKind, EventConsumer as _, EventId, EventLog as _, EventLogExt as _, Overflow, Partitionable,
    ProducerConfig, Receipt, Timestamp,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog, Retention};
use serde::{Deserialize, Serialize};

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
    let log = log.open().await.expect("the log opens");
    let faults = broker.faults("events").expect("the topic was opened");
    (log, faults, broker)
}

async fn cut(log: &MemoryLog<Numbered>, faults: &Faults) {
    faults.disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
}

const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test(start_paused = true)]
async fn an_event_submitted_while_away_with_an_empty_buffer_expires() {
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_millis(500));
    let (log, faults, _broker) = open(config).await;
    cut(&log, &faults).await;
    let ticket = log.submit(Numbered(1)).unwrap();
    let error = tokio::time::timeout(HOUR, ticket).await.expect("it expires").unwrap_err();
    assert!(matches!(error.kind(), AppendErrorKind::Expired(_)), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn an_event_behind_a_slow_log_expires() {
    let mut config = ProducerConfig::default();
    (config.expiry, config.request_events) = (Some(Duration::from_secs(1)), 1);
    let (log, faults, _broker) = open(config).await;
    faults.slow_appends(Duration::from_secs(60));
    let start = tokio::time::Instant::now();
    let first = log.submit(Numbered(0)).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let second = log.submit(Numbered(1)).unwrap();
    let error = second.await.unwrap_err();
    assert!(matches!(error.kind(), AppendErrorKind::Expired(_)), "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(
        first.await.unwrap().offset.map(|offset| offset.0),
        Some(0),
        "what is in flight ends as it does"
    );
}

#[tokio::test(start_paused = true)]
async fn a_receipt_of_an_event_submitted_while_away_comes_at_once() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    let before = log.submit(Numbered(0)).unwrap();
    drop(before);
    cut(&log, &faults).await;
    let ticket = log.submit(Numbered(1)).unwrap().try_outcome().unwrap_err();
    let receipt = tokio::time::timeout(HOUR, ticket.receipt()).await.expect("at once").unwrap();
    assert!(receipt.is_buffered());
}

#[tokio::test(start_paused = true)]
async fn closing_drains_into_a_log_that_is_there() {
    let (log, faults, _broker) = open(ProducerConfig::default()).await;
    faults.disconnect();
    tokio::time::sleep(Duration::from_secs(300)).await;
    for number in 0..100 {
        drop(log.submit(Numbered(number)).unwrap());
    }
    // An attempt has just failed when the log comes back.
    let mut state = log.state();
    state.changed().await.unwrap();
    let attempt = |state: &event_log_core::LogState| match state.connection {
        event_log_core::Connection::Reconnecting { attempt, .. } => attempt,
        _ => 0,
    };
    let failed = attempt(&state.current());
    state.wait_for(|state| attempt(state) > failed).await;
    faults.reconnect();
    log.close(Duration::from_secs(2)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_sent_again_although_retention_has_removed_what_was_confirmed() {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).retention(Retention::records(50));
    let log = log.open().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1)).await;
    for number in 0..100 {
        log.append_acked(Numbered(number)).await.unwrap();
    }
    broker.faults("events").unwrap().lose_requests(1);
    assert_eq!(log.append_acked(Numbered(100)).await.unwrap().offset.map(|offset| offset.0), Some(100));
}

#[tokio::test(start_paused = true)]
async fn a_log_opened_again_with_its_seed_makes_other_ids() {
    let clock = TokioClock::starting_at(Timestamp(1_700_000_000_000_000));
    let broker = MemoryBroker::with_clock(Arc::new(clock));
    for number in 0..2 {
        let log = event_log_memory::builder().broker(&broker).seed(7).open().await.unwrap();
        log.append_acked(Numbered(number)).await.unwrap();
        log.close(Duration::from_secs(1)).await.unwrap();
    }
    let log = event_log_memory::builder::<Numbered>().broker(&broker).open().await.unwrap();
    let batch = log.consumer("g").await.unwrap().poll(10, Duration::from_secs(1)).await.unwrap();
    let seen: Vec<_> = batch.events().map(|(_, event)| event.0).collect();
    assert_eq!(seen, [0, 1], "{:?}", batch.notices);
}

#[tokio::test(start_paused = true)]
async fn an_outage_long_after_another_is_over_as_soon() {
    let mut config = ProducerConfig::default();
    config.reconnect.jitter_percent = 0;
    let (log, faults, _broker) = open(config).await;
    for number in 0..10 {
        // Nothing goes through the queue between two outages.
        log.append_acked(Numbered(number)).await.unwrap();
        cut(&log, &faults).await;
        faults.reconnect();
        let start = tokio::time::Instant::now();
        log.state().wait_for(|state| state.is_connected()).await;
        assert!(start.elapsed() <= Duration::from_secs(1), "outage {number}: {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_can_never_fit_is_refused_whole() {
    for overflow in [Overflow::DropOldest, Overflow::Reject] {
        let mut config = ProducerConfig::default();
        (config.buffer_events, config.overflow) = (10, overflow);
        let (log, faults, _broker) = open(config).await;
        cut(&log, &faults).await;
        let error = log.append_batch((0..100).map(Numbered).collect()).await.unwrap_err();
        assert_eq!(error.into_outcomes().iter().filter(|outcome| outcome.is_err()).count(), 100);
        assert_eq!(log.state().current().buffered, 0);
        let receipts = log.append_batch((0..10).map(Numbered).collect()).await.unwrap();
        assert!(receipts.iter().all(Receipt::is_buffered));
    }
}

#[tokio::test]
async fn a_timeout_around_a_loop_of_appends_fires() {
    let (log, ..) = open(ProducerConfig::default()).await;
    let start = Instant::now();
    let appending = async {
        while start.elapsed() < Duration::from_secs(2) {
            drop(log.append(Numbered(0)).await.unwrap());
            log.append_acked(Numbered(0)).await.unwrap();
        }
    };
    assert!(tokio::time::timeout(Duration::from_millis(10), appending).await.is_err(), "it never yields");
}

#[tokio::test(start_paused = true)]
async fn append_all_draws_no_more_than_it_hands_back() {
    let (log, ..) = open(ProducerConfig::default()).await;
    assert_eq!(log.append_all(&mut (0..5_000).map(Numbered)).await.unwrap(), 5_000);
    log.close(Duration::from_secs(1)).await.unwrap();
    let mut events = (0..5_000).map(Numbered);
    let error = log.append_all(&mut events).await.unwrap_err();
    assert_eq!((error.appended, error.failures.len() + events.count()), (0, 5_000));
    let mut endless = std::iter::repeat_with(|| Numbered(1));
    assert!(log.append_all(&mut endless).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn append_all_appends_nothing_behind_an_event_that_failed() {
    let mut config = ProducerConfig::default();
    (config.buffer_events, config.overflow) = (2, Overflow::Reject);
    config.expiry = Some(Duration::from_millis(100));
    let (log, faults, _broker) = open(config).await;
    cut(&log, &faults).await;
    // Into a buffer they go one by one, and the first expires.
    let mut events = (0..4).map(Numbered);
    let error = log.append_all(&mut events).await.unwrap_err();
    assert_eq!((error.appended, events.count()), (0, 3), "nothing more is drawn");
    let kinds: Vec<_> = error.failures.iter().map(event_log_core::AppendError::kind).collect();
    assert!(matches!(&kinds[..], [AppendErrorKind::Expired(_)]), "{kinds:?}");
    assert!(error.is_retryable() && !error.may_have_taken_effect(), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn append_all_goes_into_a_queue_that_is_smaller_than_a_chunk() {
    let mut config = ProducerConfig::default();
    (config.buffer_events, config.overflow) = (10, Overflow::block());
    let (log, faults, broker) = open(config).await;
    faults.slow_appends(Duration::from_millis(1));
    assert_eq!(log.append_all(&mut (0..100).map(Numbered)).await.unwrap(), 100);
    assert_eq!(broker.contents("events").len(), 100);
}

#[derive(Serialize)]
struct Text(String);

impl Partitionable for Text {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_first_event_is_large_takes_no_more_memory_than_it_needs() {
    let log = event_log_memory::builder().open().await.unwrap();
    let mut events = vec![Text("x".repeat(4 << 20))];
    events.extend((0..20_000).map(|_| Text("x".to_owned())));
    assert_eq!(log.append_batch(events).await.unwrap().len(), 20_001);
}

#[derive(Serialize)]
struct Panics(bool);

static PANICKED: AtomicUsize = AtomicUsize::new(0);

impl Partitionable for Panics {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        if self.0 {
            PANICKED.fetch_add(1, Ordering::Relaxed);
            panic!("a fault in a destructor");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_drop_panics_does_not_end_the_log() {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
    broker.faults("events").unwrap().slow_appends(Duration::from_millis(1));
    drop(log.submit(Panics(true)).unwrap());
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(PANICKED.load(Ordering::Relaxed), 1);
    assert!(log.submit(Panics(false)).is_ok(), "{:?}", log.state().current());
}

#[derive(Debug, Serialize)]
struct OwnId(u64);

impl Partitionable for OwnId {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }

    fn event_id(&self) -> Option<EventId> {
        Some(EventId::from_u128(7))
    }
}

#[tokio::test(start_paused = true)]
async fn two_copies_with_one_id_in_a_lost_request_have_two_positions() {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
    broker.faults("events").unwrap().lose_replies(1);
    let (one, two) = (log.submit(OwnId(1)).unwrap(), log.submit(OwnId(2)).unwrap());
    assert_ne!(one.await.unwrap().position(), two.await.unwrap().position());
}

#[test]
fn a_runtime_without_a_timer_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let opened = runtime.block_on(event_log_memory::builder::<Numbered>().open());
    let error = opened.map(drop).unwrap_err().to_string();
    assert!(error.contains("timer"), "{error}");
}

static LOG: OnceLock<Weak<MemoryLog<Looks>>> = OnceLock::new();

#[derive(Serialize)]
struct Looks(u64);

impl Partitionable for Looks {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        if let Some(log) = LOG.get().and_then(Weak::upgrade) {
            drop(log.state().current());
        }
    }
}

#[test]
fn an_event_whose_drop_looks_at_the_log_is_dropped_outside_of_its_lock() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_millis(50));
    let log = event_log_memory::builder::<Looks>().broker(&broker).config(config);
    let log = Arc::new(runtime.block_on(log.open()).unwrap());
    LOG.set(Arc::downgrade(&log)).unwrap();
    broker.faults("events").unwrap().disconnect();
    drop(log.submit(Looks(1)).unwrap());
    let (done, is_done) = std::sync::mpsc::channel();
    let other = Arc::clone(&log);
    std::thread::spawn(move || {
        let other_runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let flushed = other_runtime.block_on(other.flush());
        done.send(flushed.is_ok()).unwrap();
    });
    let flushed = is_done.recv_timeout(Duration::from_secs(20));
    if flushed.is_err() {
        // Dropping it would hang as well.
        std::mem::forget((runtime, log));
    }
    assert_eq!(flushed, Ok(true));
}
