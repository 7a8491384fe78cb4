//! Attempts of an outside reader to break the producing side: the code of hostile callers.

use event_log_core::engine::Clock;
use event_log_core::{EventLog as _, EventLogExt as _, Overflow, ProducerConfig, Timestamp};
use event_log_memory::{MemoryBroker, Retention};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Wake, Waker};
use std::thread::ThreadId;
use std::time::Duration;
use tokio::time::{sleep, timeout};

use crate::producing::{HOUR, Numbered, SECOND, block_on, config, open};

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
