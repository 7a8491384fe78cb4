//! Attempts of an outside reader to break the producing side with the application's tracing subscriber.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, clippy::allow_attributes_without_reason)]

use std::fmt::{Debug, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use event_log_core::{EventLog as _, EventLogExt as _, Partitionable, ProducerConfig};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};
use serde::Serialize;
use tokio::time::{sleep, timeout};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, Interest};
use tracing::{Event, Level, Metadata, Subscriber};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Debug, Serialize)]
struct Numbered(u64);

impl Partitionable for Numbered {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

#[derive(Default)]
struct Inner {
    lines: Vec<(Level, String)>,
    /// It panics once at a line with this text.
    panics_at: Option<&'static str>,
}

/// Notes every line, and panics when it is told to.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Inner>>);

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, "{field}={value:?} ").unwrap();
    }
}

impl Subscriber for Notes {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("event_log")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let mut inner = self.0.lock().unwrap();
        let panics = inner.panics_at.take_if(|at| text.0.contains(*at)).is_some();
        inner.lines.push((*event.metadata().level(), text.0));
        drop(inner);
        assert!(!panics, "a fault in a subscriber");
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Notes {
    fn panics_at(&self, text: &'static str) {
        self.0.lock().unwrap().panics_at = Some(text);
    }

    fn has_panicked(&self) -> bool {
        self.0.lock().unwrap().panics_at.is_none()
    }
}

async fn open(config: ProducerConfig) -> (MemoryLog<Numbered>, Faults, Notes, DefaultGuard) {
    let notes = Notes::default();
    // The writer is on this thread as well.
    let guard = tracing::subscriber::set_default(notes.clone());
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    sleep(SECOND).await;
    (log, faults, notes, guard)
}

async fn cut(log: &MemoryLog<Numbered>, faults: &Faults) {
    faults.disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
}

#[tokio::test(start_paused = true)]
async fn a4_a_subscriber_that_panics_while_a_log_is_dropped_leaves_no_ticket_pending() {
    let (log, faults, notes, _guard) = open(ProducerConfig::default()).await;
    cut(&log, &faults).await;
    let ticket = log.submit(Numbered(0)).unwrap();
    notes.panics_at("dropped without close");
    drop(catch_unwind(AssertUnwindSafe(|| drop(log))));
    assert!(notes.has_panicked());
    let outcome = timeout(HOUR, ticket).await;
    assert!(outcome.is_ok(), "it is pending an hour after its log has gone");
}

#[tokio::test(start_paused = true)]
async fn l7_a_subscriber_that_panics_at_a_warning_about_drops_leaves_no_flush_pending() {
    let mut config = ProducerConfig::default();
    config.buffer_events = 1;
    let (log, faults, notes, _guard) = open(config).await;
    cut(&log, &faults).await;
    let first = log.submit(Numbered(0)).unwrap();
    notes.panics_at("the reconnect buffer is full");
    drop(catch_unwind(AssertUnwindSafe(|| log.submit(Numbered(1)).is_ok())));
    assert!(notes.has_panicked());
    first.await.unwrap_err();
    faults.reconnect();
    let third = log.submit(Numbered(2)).unwrap();
    drop(timeout(HOUR, third).await.expect("another caller's event"));
    assert!(
        timeout(HOUR, log.flush()).await.is_ok(),
        "everything is resolved, and a flush of another caller hangs"
    );
}

async fn goes_on(log: &MemoryLog<Numbered>, faults: &Faults, notes: &Notes) {
    assert!(notes.has_panicked());
    faults.reconnect();
    let appended = timeout(HOUR, log.append_acked(Numbered(9))).await;
    assert!(matches!(appended, Ok(Ok(_))), "{appended:?}, {:?}", log.state().current());
}

#[tokio::test(start_paused = true)]
async fn l7_a_subscriber_that_panics_when_the_connection_is_lost_does_not_end_the_log() {
    let (log, faults, notes, _guard) = open(ProducerConfig::default()).await;
    notes.panics_at("the connection to the log was lost");
    faults.disconnect();
    sleep(60 * SECOND).await;
    goes_on(&log, &faults, &notes).await;
}

#[tokio::test(start_paused = true)]
async fn l7_a_subscriber_that_panics_when_an_attempt_has_failed_does_not_end_the_log() {
    let (log, faults, notes, _guard) = open(ProducerConfig::default()).await;
    notes.panics_at("could not reconnect");
    faults.disconnect();
    sleep(60 * SECOND).await;
    goes_on(&log, &faults, &notes).await;
}
