//! Events that are prepared before the clock starts, so that the log's own cost counts.

use std::time::Duration;

use event_log_core::{EventLog, RawCodec, RawEvent};
use event_log_memory::{MemoryLog, Retention};
use tokio::runtime::{Builder, Runtime};

pub(crate) const PAYLOAD_BYTES: usize = 200;
pub(crate) const SESSIONS: usize = 64;
pub(crate) const BATCH: usize = 100;
pub(crate) const PARTITIONS: u32 = 8;

/// The `n`-th event: keyed by one of 64 sessions.
pub(crate) fn event_of(n: usize, payload_bytes: usize) -> RawEvent {
    RawEvent::new(format!("session-{:04}", n % SESSIONS), vec![b'x'; payload_bytes])
}

/// The `n`-th event, of 200 bytes.
pub(crate) fn event(n: usize) -> RawEvent {
    event_of(n, PAYLOAD_BYTES)
}

/// Makes one batch after the other.
pub(crate) fn batches_of(events: usize, payload_bytes: usize) -> impl Iterator<Item = Vec<RawEvent>> {
    let batch = move |from| (from..events.min(from + BATCH)).map(|n| event_of(n, payload_bytes)).collect();
    (0..events).step_by(BATCH).map(batch)
}

/// Batches of events of 200 bytes, all made.
pub(crate) fn batches(events: usize) -> Vec<Vec<RawEvent>> {
    batches_of(events, PAYLOAD_BYTES).collect()
}

pub(crate) async fn open_with(partitions: u32, retention: Retention) -> MemoryLog<RawEvent> {
    let builder = event_log_memory::builder().partitions(partitions).retention(retention).codec(RawCodec);
    builder.open().await.expect("a log opens")
}

pub(crate) async fn open() -> MemoryLog<RawEvent> {
    open_with(PARTITIONS, Retention::FOREVER).await
}

/// Ends a log and frees what it retains, beside the clock: left to its task, that happens while the next one is measured.
pub(crate) async fn end(log: MemoryLog<RawEvent>) {
    log.close(Duration::from_secs(1)).await.expect("everything was sent");
}

/// Two workers: one for the producer, one for the consumer.
pub(crate) fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}
