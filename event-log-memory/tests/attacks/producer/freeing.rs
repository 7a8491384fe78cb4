//! New attempts to break the producing side: two pieces of the caller's code that panic in a row while something is freed.
//! A process that aborts takes everything of every caller with it.
//!
//! l7: "Code of the caller may panic, block, take long or call the log wherever the log calls it: that call fails or waits,
//! and no event of another caller is lost, doubled or stuck". DESIGN: "Dropping an event, a payload or an error, ... runs ...
//! through `contain`, which ends a panic where it begins".
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use event_log_core::{
    Codec, CodecError, EventLog as _, EventLogExt as _, Headers, Partitionable, ProducerConfig,
};
use event_log_memory::{MemoryBroker, MemoryLog};
use serde::{Deserialize, Serialize};

/// An event whose `Drop` panics, each for itself.
#[derive(Serialize)]
struct Panics(u64, #[serde(skip)] Arc<AtomicBool>);

impl Partitionable for Panics {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

impl Drop for Panics {
    fn drop(&mut self) {
        assert!(!self.1.load(SeqCst), "a fault in an event");
    }
}

/// Two events are given up with their log; their tickets were dropped.
fn given_up(count: u64, close: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = MemoryBroker::new();
    let log: MemoryLog<Panics> =
        runtime.block_on(event_log_memory::builder().broker(&broker).partitions(1).open()).unwrap();
    let other: MemoryLog<Numbered> =
        runtime.block_on(event_log_memory::builder().broker(&broker).topic("other").open()).unwrap();
    let faults = broker.faults("events").unwrap();
    faults.disconnect();
    runtime.block_on(async { log.state().wait_for(|state| !state.is_connected()).await });
    let armed = Arc::new(AtomicBool::new(false));
    for number in 0..count {
        drop(log.submit(Panics(number, armed.clone())).unwrap());
    }
    if close {
        runtime.block_on(async {
            drop(tokio::time::timeout(Duration::from_millis(1), log.close(Duration::from_millis(100))).await);
        });
    }
    armed.store(true, SeqCst);
    drop(log);
    std::thread::sleep(Duration::from_millis(500));
    armed.store(false, SeqCst);
    runtime.block_on(async { other.append_acked(Numbered(1)).await.unwrap() });
}

#[test]
fn l7_one_event_that_panics_when_it_is_given_up_with_its_log_ends_no_process() {
    given_up(1, false);
}

#[test]
fn l7_two_events_that_panic_when_they_are_given_up_with_their_log_end_no_process() {
    given_up(2, false);
}

#[test]
fn l7_two_events_that_panic_when_a_close_that_was_dropped_gives_them_up_end_no_process() {
    given_up(2, true);
}

#[derive(Debug, Serialize, Deserialize)]
struct Numbered(u64);

impl Partitionable for Numbered {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

struct Owner(Vec<u8>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        panic!("a fault in an owner");
    }
}

fn owned() -> Bytes {
    Bytes::from_owner(Owner(vec![7; 1_000]))
}

/// A codec that has the encodings of some events at hand, in memory of its own.
struct AtHand(Mutex<Vec<Bytes>>);

impl Codec<Numbered> for AtHand {
    fn encode(&self, event: &Numbered, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, event).map_err(CodecError::new)
    }

    fn encoded(&self, _: &Numbered) -> Option<Bytes> {
        self.0.lock().unwrap().pop()
    }

    fn decode(&self, payload: &Bytes, _: &Headers) -> Result<Numbered, CodecError> {
        serde_json::from_slice(payload).map_err(CodecError::new)
    }
}

/// So many events, each with memory of its own, expire together after the request that they were in was lost.
fn expire_together(count: u64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_millis(300));
    let payloads = (0..count).map(|_| owned()).collect();
    let builder = event_log_memory::builder().codec(AtHand(Mutex::new(payloads))).config(config);
    let log: MemoryLog<Numbered> = runtime.block_on(builder.broker(&broker).partitions(1).open()).unwrap();
    let faults = broker.faults("events").unwrap();
    faults.lose_requests(1);
    runtime.block_on(async {
        // Both travel in one request.
        let batch = log.append_batch((0..count).map(Numbered).collect()).await.unwrap();
        assert!(batch.iter().all(event_log_core::Receipt::is_buffered));
        faults.disconnect();
        for receipt in batch {
            assert!(receipt.acked().await.unwrap_err().may_have_taken_effect());
        }
        faults.reconnect();
        log.state().wait_for(|state| state.is_connected()).await;
        log.append_acked(Numbered(100)).await.unwrap();
    });
    std::mem::forget((log, runtime));
}

/// The control.
#[test]
fn l7_one_payload_that_panics_when_its_lost_request_expires_ends_no_process() {
    expire_together(1);
}

#[test]
fn l7_two_payloads_that_panic_when_their_lost_request_expires_end_no_process() {
    expire_together(2);
}

/// DESIGN: dropping a payload "runs when no lock is held". One whose owner looks after what is held, when the broker is
/// killed.
#[test]
fn l7_a_payload_that_calls_the_faults_when_a_crash_frees_it_hangs_no_caller() {
    struct Calls(Vec<u8>, event_log_memory::Faults);
    impl AsRef<[u8]> for Calls {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
    impl Drop for Calls {
        fn drop(&mut self) {
            self.1.deliver_held_requests();
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_millis(200));
    let codec = Arc::new(Mutex::new(Vec::new()));
    struct Shares(Arc<Mutex<Vec<Bytes>>>);
    impl Codec<Numbered> for Shares {
        fn encode(&self, event: &Numbered, out: &mut Vec<u8>) -> Result<(), CodecError> {
            serde_json::to_writer(out, event).map_err(CodecError::new)
        }
        fn encoded(&self, _: &Numbered) -> Option<Bytes> {
            self.0.lock().unwrap().pop()
        }
        fn decode(&self, payload: &Bytes, _: &Headers) -> Result<Numbered, CodecError> {
            serde_json::from_slice(payload).map_err(CodecError::new)
        }
    }
    let builder = event_log_memory::builder().codec(Shares(codec.clone())).config(config);
    let log: MemoryLog<Numbered> = runtime.block_on(builder.broker(&broker).partitions(1).open()).unwrap();
    let faults = broker.faults("events").unwrap();
    codec.lock().unwrap().push(Bytes::from_owner(Calls(vec![7; 1_000], faults.clone())));
    faults.hold_requests(1);
    let ticket = log.submit(Numbered(0)).unwrap();
    runtime.block_on(async { log.state().wait_for(|state| !state.is_connected()).await });
    faults.disconnect();
    // It has expired, and only the request that is held has its payload.
    runtime.block_on(ticket).unwrap_err();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        faults.crash();
        sender.send(()).unwrap();
    });
    let crashed = receiver.recv_timeout(Duration::from_secs(5)).is_ok();
    std::mem::forget((log, runtime));
    assert!(crashed, "it hangs");
}
