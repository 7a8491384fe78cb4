//! Code of the caller, wherever the log calls it, that panics, blocks, or calls back into the log: its own call fails or
//! waits, and the events of all others end as promised.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use bytes::Bytes;
use event_log_core::{
    Codec, CodecError, EventConsumer as _, EventId, EventLog as _, EventLogExt as _, Headers, Partitionable,
    ProducerConfig, ReconnectPolicy,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

/// Longer than anything here takes, on any machine: what is not there then hangs.
const LONG: Duration = Duration::from_secs(20);
/// The number of the events that are hostile.
const HOSTILE: u64 = 1_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Encode,
    Key,
    Id,
    Headers,
    Drop,
    Decode,
    Wake,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Panic,
    /// Until the test opens the gate.
    Block,
    /// Submits, and looks at the state.
    Reenter,
}

const DEEDS: [Deed; 3] = [Deed::Panic, Deed::Block, Deed::Reenter];

#[derive(Debug, Default)]
struct Gate {
    /// Whether the caller's code has come to it, and whether it is open.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.0 = true;
        self.changed.notify_all();
        drop(self.changed.wait_timeout_while(state, 2 * LONG, |state| !state.1).unwrap());
    }

    fn open(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }

    fn wait_until_reached(&self) -> bool {
        let state = self.state.lock().unwrap();
        !self.changed.wait_timeout_while(state, LONG, |state| !state.0).unwrap().1.timed_out()
    }
}

/// What the caller's code does, once, and where.
#[derive(Debug)]
struct Trick {
    place: Place,
    deed: Deed,
    gate: Gate,
    log: OnceLock<Weak<MemoryLog<Event>>>,
    done: Mutex<bool>,
}

impl Trick {
    fn strike(&self, place: Place) {
        if self.place != place || std::mem::replace(&mut *self.done.lock().unwrap(), true) {
            return;
        }
        match self.deed {
            Deed::Panic => {
                self.gate.open();
                self.gate.pass();
                panic!("a fault of the caller");
            }
            Deed::Block => self.gate.pass(),
            Deed::Reenter => {
                let log = self.log.get().and_then(Weak::upgrade).expect("the log is there");
                drop(log.state().current());
                drop(log.submit(Event::healthy(HOSTILE + 1)).expect("it takes an event"));
                self.gate.open();
                self.gate.pass();
            }
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Event {
    number: u64,
    #[serde(skip)]
    trick: Option<Arc<Trick>>,
}

impl Event {
    fn healthy(number: u64) -> Self {
        Self { number, trick: None }
    }

    fn strike(&self, place: Place) {
        if let Some(trick) = &self.trick {
            trick.strike(place);
        }
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        self.strike(Place::Drop);
    }
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        self.strike(Place::Key);
        Some("k")
    }

    fn event_id(&self) -> Option<EventId> {
        self.strike(Place::Id);
        None
    }

    fn headers(&self) -> Headers {
        self.strike(Place::Headers);
        Headers::new()
    }
}

struct Json(Arc<Trick>);

impl Codec<Event> for Json {
    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), CodecError> {
        event.strike(Place::Encode);
        serde_json::to_writer(out, event).map_err(CodecError::new)
    }

    fn decode(&self, payload: &Bytes, _: &Headers) -> Result<Event, CodecError> {
        let event: Event = serde_json::from_slice(payload).map_err(CodecError::new)?;
        if event.number == HOSTILE {
            self.0.strike(Place::Decode);
        }
        Ok(event)
    }
}

struct Stage {
    runtime: Option<Runtime>,
    log: Arc<MemoryLog<Event>>,
    faults: Faults,
    trick: Arc<Trick>,
}

impl Stage {
    fn with(place: Place, deed: Deed) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (gate, log, done) = (Gate::default(), OnceLock::new(), Mutex::new(false));
        let trick = Arc::new(Trick { place, deed, gate, log, done });
        let broker = MemoryBroker::new();
        let mut config = ProducerConfig::default();
        config.reconnect = ReconnectPolicy::new(Duration::from_millis(10), Duration::from_millis(10));
        let builder = event_log_memory::builder().broker(&broker).partitions(1).config(config);
        let builder = builder.codec(Json(Arc::clone(&trick)));
        let log = Arc::new(runtime.block_on(builder.open()).unwrap());
        trick.log.set(Arc::downgrade(&log)).unwrap();
        let faults = broker.faults("events").unwrap();
        Self { runtime: Some(runtime), log, faults, trick }
    }

    /// Runs a call on a thread of its own. The answer says whether it came back without a panic.
    fn call<F>(&self, work: F) -> Receiver<bool>
    where
        F: FnOnce(&Arc<MemoryLog<Event>>, &Arc<Trick>) + Send + 'static,
    {
        let (done, is_done) = channel();
        let (log, trick) = (Arc::clone(&self.log), Arc::clone(&self.trick));
        std::thread::spawn(move || {
            let ended = catch_unwind(AssertUnwindSafe(|| work(&log, &trick)));
            // What is held is dropped before the test goes on.
            drop((log, trick));
            _ = done.send(ended.is_ok());
        });
        is_done
    }

    /// Runs a call of another caller, and fails the test if it does not come back.
    fn call_and_wait<F>(&self, name: &str, work: F)
    where
        F: FnOnce(&Arc<MemoryLog<Event>>, &Arc<Trick>) + Send + 'static,
    {
        let ended = self.call(work).recv_timeout(LONG);
        assert_eq!(ended, Ok(true), "{name}, {:?} {:?}", self.trick.place, self.trick.deed);
    }

    /// The numbers that are in the log, in order; a record that cannot be decoded counts as hostile.
    fn numbers(&self) -> Vec<u64> {
        self.runtime().block_on(async {
            let mut consumer = self.log.consumer("reader").await.unwrap();
            let mut numbers = Vec::new();
            loop {
                let batch = consumer.poll(100, Duration::from_millis(50)).await.unwrap();
                if batch.is_empty() && batch.notices.is_empty() {
                    return numbers;
                }
                numbers.extend(batch.records.iter().map(|record| match &record.event {
                    Ok(event) => event.number,
                    Err(_) => HOSTILE,
                }));
            }
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it runs until the stage is dropped")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.trick.gate.open();
        if let Some(runtime) = self.runtime.take() {
            // A thread that hangs fails the test, rather than hanging it.
            runtime.shutdown_background();
        }
    }
}

/// Submits healthy events, and looks at the log in every way that waits for none.
fn others_go_on(log: &Arc<MemoryLog<Event>>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        drop(log.submit(Event::healthy(number)).expect("a healthy event is taken"));
        drop(log.state().current());
    }
}

fn is_connected(stage: &Stage) {
    let mut state = stage.log.state();
    let connected = async { tokio::time::timeout(LONG, state.wait_for(|state| state.is_connected())).await };
    assert!(stage.runtime().block_on(connected).is_ok(), "it is connected");
}

#[test]
fn what_an_event_does_while_it_is_submitted_is_its_own_trouble() {
    for place in [Place::Encode, Place::Key, Place::Id, Place::Headers] {
        for deed in DEEDS {
            for is_away in [false, true] {
                let stage = Stage::with(place, deed);
                if is_away {
                    stage.faults.disconnect();
                    let mut state = stage.log.state();
                    stage.runtime().block_on(state.wait_for(|state| !state.is_connected()));
                }
                let hostile = stage.call(|log, trick| {
                    drop(log.submit(Event { number: HOSTILE, trick: Some(Arc::clone(trick)) }).map(drop));
                });
                assert!(stage.trick.gate.wait_until_reached(), "{place:?} {deed:?} is called");
                stage.call_and_wait("others", |log, _| others_go_on(log, 0..10));
                stage.trick.gate.open();
                let ended = hostile.recv_timeout(LONG);
                assert_ne!(ended, Err(RecvTimeoutError::Timeout), "{place:?} {deed:?} away: {is_away}");
                stage.faults.reconnect();
                is_connected(&stage);
                stage.call_and_wait("later", |log, _| others_go_on(log, 10..20));
                let flushed = async { tokio::time::timeout(LONG, stage.log.flush()).await };
                stage.runtime().block_on(flushed).expect("it does not hang").unwrap();
                let numbers = stage.numbers();
                let healthy: Vec<_> = numbers.iter().copied().filter(|&number| number < HOSTILE).collect();
                assert_eq!(healthy, (0..20).collect::<Vec<_>>(), "{place:?} {deed:?} away: {is_away}");
                let hostile = numbers.iter().filter(|&&number| number == HOSTILE).count();
                assert!(hostile <= 1, "{place:?} {deed:?} away: {is_away}");
                let reentered = numbers.iter().filter(|&&number| number == HOSTILE + 1).count();
                assert_eq!(reentered, usize::from(deed == Deed::Reenter));
            }
        }
    }
}

#[test]
fn what_an_event_does_while_it_is_dropped_loses_and_stops_nothing() {
    for deed in DEEDS {
        let stage = Stage::with(Place::Drop, deed);
        // Behind a slow log the event is dropped by the writer, once it is acknowledged.
        stage.faults.slow_appends(Duration::from_millis(1));
        let hostile = stage.call(|log, trick| {
            drop(log.submit(Event { number: HOSTILE, trick: Some(Arc::clone(trick)) }).map(drop));
        });
        assert!(stage.trick.gate.wait_until_reached(), "{deed:?}: it is dropped");
        // The writer may wait for it; `submit` and the state do not.
        stage.call_and_wait("others", |log, _| others_go_on(log, 0..10));
        stage.trick.gate.open();
        assert_ne!(hostile.recv_timeout(LONG), Err(RecvTimeoutError::Timeout), "{deed:?}");
        let flushed = async { tokio::time::timeout(LONG, stage.log.flush()).await };
        stage.runtime().block_on(flushed).expect("it does not hang").unwrap();
        let numbers = stage.numbers();
        let healthy: Vec<_> = numbers.iter().copied().filter(|&number| number < HOSTILE).collect();
        assert_eq!(healthy, (0..10).collect::<Vec<_>>(), "{deed:?}");
    }
}

#[test]
fn what_a_codec_does_while_it_decodes_concerns_its_consumer_alone() {
    for deed in DEEDS {
        let stage = Stage::with(Place::Decode, deed);
        stage.call_and_wait("append", |log, _| {
            for number in [0, HOSTILE, 1, 2] {
                drop(log.submit(Event::healthy(number)).expect("it is taken"));
            }
        });
        let (read, is_read) = channel();
        let log = Arc::clone(&stage.log);
        stage.runtime().spawn(async move {
            let mut consumer = log.consumer("hostile").await.unwrap();
            let mut seen = Vec::new();
            while seen.len() < 4 {
                let batch = consumer.poll(100, Duration::from_millis(100)).await.unwrap();
                consumer.commit(batch.cursor()).await.unwrap();
                seen.extend(
                    batch.records.iter().map(|record| record.event.as_ref().ok().map(|event| event.number)),
                );
            }
            drop(read.send(seen));
        });
        assert!(stage.trick.gate.wait_until_reached(), "{deed:?}: it is decoded");
        // Another consumer, and the producer, while the first one decodes.
        assert!(stage.numbers().len() >= 4, "{deed:?}");
        stage.call_and_wait("others", |log, _| others_go_on(log, 3..10));
        stage.trick.gate.open();
        let seen = is_read.recv_timeout(LONG).expect("its consumer goes on");
        let poisoned = if deed == Deed::Panic { None } else { Some(HOSTILE) };
        assert_eq!(seen[..4], [Some(0), poisoned, Some(1), Some(2)], "{deed:?}");
    }
}

struct HostileWaker {
    trick: Arc<Trick>,
    armed: AtomicBool,
}

impl Wake for HostileWaker {
    fn wake(self: Arc<Self>) {
        if self.armed.load(Ordering::SeqCst) {
            self.trick.strike(Place::Wake);
        }
    }
}

/// Polls a future until it no longer wakes itself, with a waker that is hostile from then on. Returns whether it waits.
fn poll_hostile<F: Future>(mut future: Pin<&mut F>, trick: &Arc<Trick>) -> bool {
    let waker = Arc::new(HostileWaker { trick: Arc::clone(trick), armed: AtomicBool::new(false) });
    // A consumer looks a few times before it goes to sleep.
    for _ in 0..100 {
        let task = Waker::from(Arc::clone(&waker));
        if future.as_mut().poll(&mut Context::from_waker(&task)).is_ready() {
            return false;
        }
    }
    waker.armed.store(true, Ordering::SeqCst);
    true
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Ticket,
    State,
    Flush,
    Records,
}

/// Something waits with a hostile waker, is woken, and all others go on.
fn is_woken(waits: Waits, deed: Deed) {
    let stage = Stage::with(Place::Wake, deed);
    let name = format!("{waits:?} {deed:?}");
    stage.faults.slow_appends(Duration::from_millis(50));
    is_connected(&stage);
    let mut receiver = stage.log.state();
    // A change from before the call counts as well.
    while !poll_hostile(Box::pin(receiver.changed()).as_mut(), &stage.trick) {}
    drop(receiver);
    let mut receiver = stage.log.state();
    let mut consumer = stage.runtime().block_on(stage.log.consumer("hostile")).unwrap();
    while !stage.runtime().block_on(consumer.poll(1, Duration::ZERO)).unwrap().notices.is_empty() {}
    let _entered = stage.runtime().enter();
    let ticket;
    // Each is kept until the end: one that is dropped is not woken.
    let mut changed = Box::pin(receiver.changed());
    let mut poll = Box::pin(consumer.poll(1, 2 * LONG));
    let mut flush = Box::pin(stage.log.flush());
    if waits == Waits::State {
        assert!(poll_hostile(changed.as_mut(), &stage.trick), "{name}");
        stage.faults.interrupt();
        assert!(stage.trick.gate.wait_until_reached(), "{name}: it is woken");
        ticket = stage.log.submit(Event::healthy(0)).unwrap();
    } else {
        if waits == Waits::Records {
            assert!(poll_hostile(poll.as_mut(), &stage.trick), "{name}");
        }
        let mut submitted = Box::pin(stage.log.submit(Event::healthy(0)).unwrap());
        if waits == Waits::Ticket {
            assert!(poll_hostile(submitted.as_mut(), &stage.trick), "{name}");
        } else if waits == Waits::Flush {
            assert!(poll_hostile(flush.as_mut(), &stage.trick), "{name}");
        }
        assert!(stage.trick.gate.wait_until_reached(), "{name}: it is woken");
        ticket = *Pin::into_inner(submitted);
    }
    stage.call_and_wait("others", |log, _| others_go_on(log, 1..10));
    stage.trick.gate.open();
    let flushed = async { tokio::time::timeout(LONG, stage.log.flush()).await };
    let flushed = stage.runtime().block_on(flushed).expect("it does not hang");
    assert!(flushed.is_ok(), "{name}: {:?}", stage.log.state().current());
    stage.runtime().block_on(ticket).unwrap();
    drop(poll);
    drop(consumer);
    let healthy: Vec<_> = stage.numbers().into_iter().filter(|&number| number < HOSTILE).collect();
    assert_eq!(healthy, (0..10).collect::<Vec<_>>(), "{name}");
}

#[test]
fn a_waker_of_a_ticket_loses_and_stops_nothing() {
    for deed in DEEDS {
        is_woken(Waits::Ticket, deed);
    }
}

#[test]
fn a_waker_of_a_state_loses_and_stops_nothing() {
    for deed in [Deed::Block, Deed::Reenter] {
        is_woken(Waits::State, deed);
    }
}

#[test]
fn a_waker_of_a_flush_loses_and_stops_nothing() {
    for deed in [Deed::Block, Deed::Reenter] {
        is_woken(Waits::Flush, deed);
    }
}

#[test]
fn a_waker_of_a_poll_loses_and_stops_nothing() {
    for deed in [Deed::Block, Deed::Reenter] {
        is_woken(Waits::Records, deed);
    }
}

#[test]
fn a_waker_of_a_state_that_panics_does_not_end_the_log() {
    is_woken(Waits::State, Deed::Panic);
}

#[test]
fn a_waker_of_a_flush_that_panics_does_not_end_the_log() {
    is_woken(Waits::Flush, Deed::Panic);
}

#[test]
fn a_waker_of_a_poll_that_panics_does_not_end_the_log() {
    is_woken(Waits::Records, Deed::Panic);
}
