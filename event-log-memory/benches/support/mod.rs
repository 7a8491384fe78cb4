//! Events that are prepared before the clock starts, so that the log's own cost counts.

use event_log_core::{RawCodec, RawEvent};
use event_log_memory::MemoryLog;
use tokio::runtime::{Builder, Runtime};

pub(crate) const PAYLOAD_BYTES: usize = 200;
pub(crate) const SESSIONS: usize = 64;
pub(crate) const BATCH: usize = 100;

/// The `n`-th event: 200 bytes, keyed by one of 64 sessions.
pub(crate) fn event(n: usize) -> RawEvent {
    RawEvent::new(format!("session-{:04}", n % SESSIONS), vec![b'x'; PAYLOAD_BYTES])
}

/// Batches of events.
pub(crate) fn batches(events: usize) -> Vec<Vec<RawEvent>> {
    (0..events / BATCH).map(|batch| (0..BATCH).map(|n| event(batch * BATCH + n)).collect()).collect()
}

pub(crate) async fn open() -> MemoryLog<RawEvent> {
    event_log_memory::builder().codec(RawCodec).open().await.expect("a log opens")
}

/// Two workers: one for the producer, one for the consumer.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
