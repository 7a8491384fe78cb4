//! New attempts to break the producing side: a subscriber, for the whole process, that keeps what it is told in the log.
//!
//! l7: "Code of the caller may panic, block, take long or call the log wherever the log calls it: that call fails or waits".
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

#[allow(dead_code, reason = "it uses a part")]
#[path = "attacks/producing.rs"]
mod producing;

use std::sync::OnceLock;
use std::time::Duration;

use event_log_core::{EventLog as _, Overflow};
use event_log_memory::MemoryLog;
use producing::{Numbered, config, cut, open};

static LOG: OnceLock<MemoryLog<Numbered>> = OnceLock::new();

struct KeepsAll;

impl tracing::Subscriber for KeepsAll {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        // What the engine and its metrics say, and not what others do.
        if event.metadata().target().starts_with("event_log") {
            if let Some(log) = LOG.get() {
                drop(log.submit(Numbered(1_000)));
            }
        }
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
fn l7_a_subscriber_that_submits_what_it_is_told_of_drops_ends_no_process() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = config(|config| (config.buffer_events, config.overflow) = (10, Overflow::DropOldest));
    let (log, faults, _broker) = runtime.block_on(open(config));
    runtime.block_on(cut(&log, &faults));
    // The state says that the log is away before the queue drops anything for it.
    while !log.submit(Numbered(0)).is_ok_and(|ticket| ticket.is_buffered()) {
        std::thread::yield_now();
    }
    assert!(LOG.set(log.clone()).is_ok());
    tracing::subscriber::set_global_default(KeepsAll).unwrap();
    for number in 0..20 {
        drop(log.submit(Numbered(number)));
    }
    let dropped = log.state().current().dropped;
    assert!(dropped >= 10, "{dropped}");
    faults.reconnect();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), log.flush()).await.unwrap().unwrap();
    });
}
