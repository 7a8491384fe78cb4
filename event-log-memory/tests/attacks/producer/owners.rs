//! Attempts of an outside reader to break the producing side with memory that belongs to the caller: a payload or the
//! value of a header may be an owner whose `Drop` is the caller's code.

use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use event_log_core::{
    AppendErrorKind, Codec, CodecError, EventLog as _, EventLogExt as _, Headers, Partitionable,
    ProducerConfig, RawCodec, RawEvent,
};
use event_log_memory::{MemoryBroker, MemoryLog, Retention};
use serde::{Deserialize, Serialize};

const SECOND: Duration = Duration::from_secs(1);

type Deed = Arc<dyn Fn() + Send + Sync>;

/// Bytes whose owner does something when they are freed.
struct Owner(Vec<u8>, Deed);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        (self.1)();
    }
}

fn owned(deed: impl Fn() + Send + Sync + 'static) -> Bytes {
    Bytes::from_owner(Owner(vec![7; 1_000], Arc::new(deed)))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Runs it on a thread of its own: whether it came back without a panic.
fn call(work: impl FnOnce() + Send + 'static) -> Option<bool> {
    let (done, is_done) = channel();
    std::thread::spawn(move || {
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        _ = done.send(ended.is_ok());
    });
    is_done.recv_timeout(3 * SECOND).ok()
}

#[test]
fn l7_a_payload_whose_owner_panics_when_retention_frees_it_concerns_no_other_caller() {
    let runtime = runtime();
    let builder = event_log_memory::builder().codec(RawCodec).partitions(1).retention(Retention::records(1));
    let log = runtime.block_on(builder.open()).unwrap();
    drop(log.submit(RawEvent::new("k".to_owned(), owned(|| panic!("a fault in an owner")))).unwrap());
    let other = log.clone();
    let submitted =
        call(move || drop(other.submit(RawEvent::new("k".to_owned(), "of another caller")).unwrap()));
    assert_eq!(submitted, Some(true), "the submit of another caller");
}

#[test]
fn l7_a_payload_whose_owner_looks_at_the_log_when_retention_frees_it_stops_no_other() {
    let runtime = runtime();
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder().codec(RawCodec).broker(&broker).partitions(1);
    let log = runtime.block_on(builder.retention(Retention::records(1)).open()).unwrap();
    let looked_at = broker.clone();
    let payload = owned(move || drop(looked_at.contents("events")));
    drop(log.submit(RawEvent::new("k".to_owned(), payload)).unwrap());
    let other = log.clone();
    let submitted =
        call(move || drop(other.submit(RawEvent::new("k".to_owned(), "of another caller")).unwrap()));
    if submitted.is_none() {
        // It cannot be dropped any more.
        std::mem::forget((runtime, log, broker));
    }
    assert_eq!(submitted, Some(true), "the submit of another caller");
}

#[derive(Debug, Serialize, Deserialize)]
struct Numbered(u64);

impl Partitionable for Numbered {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

/// A codec that has the encoding of one event at hand, in memory of its own.
struct AtHand(Mutex<Option<Bytes>>);

impl Codec<Numbered> for AtHand {
    fn encode(&self, event: &Numbered, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, event).map_err(CodecError::new)
    }

    fn encoded(&self, _: &Numbered) -> Option<Bytes> {
        self.0.lock().unwrap().take()
    }

    fn decode(&self, payload: &Bytes, _: &Headers) -> Result<Numbered, CodecError> {
        serde_json::from_slice(payload).map_err(CodecError::new)
    }
}

/// The first event expires after its request was lost. Whether the log goes on.
fn expires(deed: impl Fn(&MemoryLog<Numbered>) + Send + Sync + 'static) -> Option<bool> {
    let runtime = runtime();
    let broker = MemoryBroker::new();
    let shared: Arc<OnceLock<Weak<MemoryLog<Numbered>>>> = Arc::default();
    let held = shared.clone();
    let payload = owned(move || {
        if let Some(log) = held.get().and_then(Weak::upgrade) {
            deed(&log);
        }
    });
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_millis(200));
    let builder = event_log_memory::builder().codec(AtHand(Mutex::new(Some(payload)))).config(config);
    let log = Arc::new(runtime.block_on(builder.broker(&broker).partitions(1).open()).unwrap());
    assert!(shared.set(Arc::downgrade(&log)).is_ok());
    let faults = broker.faults("events").unwrap();
    faults.lose_requests(1);
    let ticket = log.submit(Numbered(0)).unwrap();
    runtime.block_on(async { log.state().wait_for(|state| !state.is_connected()).await });
    faults.disconnect();
    std::thread::sleep(Duration::from_millis(600));
    let looking = log.clone();
    if call(move || drop(looking.state().current())).is_none() {
        std::mem::forget((runtime, log, ticket));
        return None;
    }
    faults.reconnect();
    let kind = runtime.block_on(ticket).unwrap_err();
    assert!(matches!(kind.kind(), AppendErrorKind::Unknown(_)), "{kind:?}");
    let appending = log.clone();
    let handle = runtime.handle().clone();
    let ended = call(move || {
        handle.block_on(async {
            appending.state().wait_for(|state| state.is_connected()).await;
            appending.append_acked(Numbered(1)).await.unwrap();
        });
    });
    std::mem::forget((runtime, log));
    ended
}

#[test]
fn l7_a_payload_whose_owner_looks_at_the_log_when_a_lost_request_expires_stops_no_other() {
    assert_eq!(expires(|log| drop(log.state().current())), Some(true));
}

#[test]
fn l7_a_payload_whose_owner_panics_when_a_lost_request_expires_does_not_end_the_log() {
    assert_eq!(expires(|_| panic!("a fault in an owner")), Some(true));
}

#[test]
fn l3_a_dropped_log_leaves_no_task_behind_while_a_connection_is_under_way() {
    let runtime = runtime();
    let broker = MemoryBroker::new();
    let log: MemoryLog<Numbered> =
        runtime.block_on(event_log_memory::builder().broker(&broker).partitions(1).open()).unwrap();
    let faults = broker.faults("events").unwrap();
    faults.disconnect();
    faults.slow_connects(1_000 * SECOND);
    drop(log.submit(Numbered(0)));
    std::thread::sleep(Duration::from_millis(1_500));
    drop(log);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(runtime.metrics().num_alive_tasks(), 0);
}
