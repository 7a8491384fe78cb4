//! What surrounds a log and is the application's: a subscriber of `tracing`, a clock, an executor that is not tokio. One
//! that panics, takes long or calls the log takes nothing from others.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use event_log_core::engine::Clock;
use event_log_core::{
    AppendErrorKind, EventConsumer as _, EventLog as _, EventLogExt as _, Overflow, Partitionable,
    ProducerConfig, SubmitErrorKind, Timestamp,
};
use event_log_memory::{MemoryBroker, MemoryLog, Retention};
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use tracing::span;

const SECOND: Duration = Duration::from_secs(1);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize, Deserialize)]
struct Numbered(u64);

impl Partitionable for Numbered {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

async fn open(config: ProducerConfig) -> (Arc<MemoryLog<Numbered>>, MemoryBroker) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config);
    (Arc::new(log.open().await.expect("it opens")), broker)
}

/// A subscriber that does the same at every event.
struct Subscriber<F>(F);

impl<F: Fn() + Send + Sync + 'static> tracing::Subscriber for Subscriber<F> {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        if event.metadata().target().starts_with("event_log") {
            (self.0)();
        }
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// An outage with an attempt that fails, an event that is dropped, a reconnection: all that is ever reported. What is in
/// the log afterwards, and what became of the first event.
async fn an_outage(log: &MemoryLog<Numbered>, broker: &MemoryBroker) -> (Vec<u64>, bool) {
    let faults = broker.faults("events").unwrap();
    faults.disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
    let dropped = log.submit(Numbered(0)).unwrap();
    let kept: Vec<_> = (1..=2).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    tokio::time::sleep(5 * SECOND).await;
    faults.reconnect();
    for ticket in kept {
        tokio::time::timeout(60 * SECOND, ticket).await.expect("it resolves").expect("it is acknowledged");
    }
    let dropped = tokio::time::timeout(SECOND, dropped).await.expect("it resolves");
    let is_dropped = matches!(dropped.unwrap_err().kind(), AppendErrorKind::Dropped);
    let mut consumer = log.consumer("reader").await.unwrap();
    let batch = consumer.poll(100, SECOND).await.unwrap();
    (batch.into_events().map(|event| event.0).collect(), is_dropped)
}

fn two_events() -> ProducerConfig {
    let mut config = ProducerConfig::default();
    config.buffer_events = 2;
    config
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_panics_takes_nothing_from_the_log() {
    let (log, broker) = open(two_events()).await;
    let _guard = tracing::subscriber::set_default(Subscriber(|| panic!("a fault of the subscriber")));
    assert_eq!(an_outage(&log, &broker).await, (vec![1, 2], true));
    // The last handle reports too.
    drop(log);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_that_calls_the_log_is_answered() {
    static LOG: OnceLock<Weak<MemoryLog<Numbered>>> = OnceLock::new();
    let (log, broker) = open(two_events()).await;
    LOG.set(Arc::downgrade(&log)).unwrap();
    let calls = || {
        if let Some(log) = LOG.get().and_then(Weak::upgrade) {
            drop(log.state().current());
            drop(log.submit(Numbered(u64::MAX)).map(|ticket| ticket.try_outcome().is_ok()));
        }
    };
    let _guard = tracing::subscriber::set_default(Subscriber(calls));
    // What the subscriber submits drops others, and is dropped: every ticket resolves all the same.
    let faults = broker.faults("events").unwrap();
    faults.disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
    let tickets: Vec<_> = (0..4).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    tokio::time::sleep(5 * SECOND).await;
    faults.reconnect();
    for ticket in tickets {
        drop(tokio::time::timeout(60 * SECOND, ticket).await.expect("it resolves"));
    }
}

/// Says that it was woken, and takes long.
struct Slow {
    entered: Sender<()>,
    may_leave: Mutex<Receiver<()>>,
}

impl Wake for Slow {
    fn wake(self: Arc<Self>) {
        _ = self.entered.send(());
        _ = self.may_leave.lock().unwrap().recv_timeout(LONG);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_waits_for_a_ticket_that_another_ticket_holds_up() {
    let (log, broker) = open(two_events()).await;
    broker.faults("events").unwrap().disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
    let (mut first, second) = (log.submit(Numbered(1)).unwrap(), log.submit(Numbered(2)).unwrap());
    let mut flush = log.flush();
    assert!((&mut flush).now_or_never().is_none(), "two events are buffered");
    let (entered, is_entered) = channel();
    let (leave, may_leave) = channel();
    let waker = Waker::from(Arc::new(Slow { entered, may_leave: Mutex::new(may_leave) }));
    assert!(Pin::new(&mut first).poll(&mut Context::from_waker(&waker)).is_pending());
    let other = Arc::clone(&log);
    // Both are dropped together; resolving the first wakes a task that takes long.
    let thread = std::thread::spawn(move || {
        drop(futures::executor::block_on(other.append_batch(vec![Numbered(3), Numbered(4)])));
    });
    is_entered.recv_timeout(LONG).expect("the first is resolved");
    let flushed = tokio::time::timeout(Duration::from_millis(100), flush).await;
    let second = second.try_outcome();
    assert!(second.is_ok() || flushed.is_err(), "flush has returned, and a ticket is not resolved");
    drop(leave);
    thread.join().unwrap();
}

/// A clock with a switch.
struct Switched(Arc<AtomicBool>);

impl Clock for Switched {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::SeqCst), "a fault of the clock");
        Timestamp(1_700_000_000_000_000)
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_panics_takes_nothing_from_the_log() {
    let fails = Arc::new(AtomicBool::new(false));
    let broker = MemoryBroker::with_clock(Arc::new(Switched(Arc::clone(&fails))));
    let retention = Retention::age(Duration::from_secs(3_600));
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(two_events());
    let log = log.retention(retention).open().await.unwrap();
    fails.store(true, Ordering::SeqCst);
    assert_eq!(an_outage(&log, &broker).await, (vec![1, 2], true));
    log.append_acked(Numbered(3)).await.unwrap();
    log.close(SECOND).await.unwrap();
}

/// An executor that is not tokio.
fn block_on<F: Future>(future: F) -> F::Output {
    futures::executor::block_on(future)
}

#[test]
fn an_append_that_blocks_works_under_any_executor() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let mut config = ProducerConfig::default();
    config.buffer_events = 1;
    config.overflow = Overflow::Block { deadline: Duration::from_millis(50) };
    let (log, broker) = runtime.block_on(open(config));
    let faults = broker.faults("events").unwrap();
    block_on(log.append_acked(Numbered(0))).unwrap();
    faults.disconnect();
    let mut state = log.state();
    block_on(state.wait_for(|state| !state.is_connected()));
    drop(log.submit(Numbered(1)).unwrap());
    let error = block_on(log.append(Numbered(2))).unwrap_err();
    assert!(matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Full)), "{error:?}");
}
