//! Batches, opening, keyless events and what is shown, on the log in memory.
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use event_log_core::{
    AppendErrorKind, Codec, CodecError, EventLog as _, EventLogExt as _, Headers, Overflow, Partitionable,
    ProducerConfig, Receipt, SubmitErrorKind,
};
use event_log_memory::{MemoryBroker, Retention};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Event {
    key: Option<String>,
    number: u64,
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

fn event(partition: u32, number: u64) -> Event {
    let mut keys = ('a'..='z').map(|key| key.to_string());
    let key = keys.find(|key| event_log_core::partition_of(key, 2).0 == partition);
    Event { key, number }
}

type Deed = Box<dyn FnOnce() + Send>;

/// JSON, in memory that does something when it is freed: that of the event with number 0.
#[derive(Clone, Default)]
struct Owning(Arc<Mutex<Option<Deed>>>);

struct Owner(Vec<u8>, Option<Owning>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let deed = self.1.as_ref().and_then(|owning| owning.0.lock().unwrap().take());
        if let Some(deed) = deed {
            deed();
        }
    }
}

impl Codec<Event> for Owning {
    fn encode(&self, event: &Event, out: &mut Vec<u8>) -> Result<(), CodecError> {
        serde_json::to_writer(out, event).map_err(CodecError::new)
    }

    fn encoded(&self, event: &Event) -> Option<Bytes> {
        let json = serde_json::to_vec(event).unwrap();
        Some(Bytes::from_owner(Owner(json, (event.number == 0).then(|| self.clone()))))
    }

    fn decode(&self, payload: &Bytes, _: &Headers) -> Result<Event, CodecError> {
        serde_json::from_slice(payload).map_err(CodecError::new)
    }
}

/// `append_batch`: "A batch is taken whole or not at all: if one event cannot be accepted, none is queued." The connection is
/// lost between two partitions of a batch (here by the code that frees an old record; another thread could do it as well).
#[test]
fn a_batch_is_taken_whole_or_not_at_all_when_the_log_goes_away_meanwhile() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (broker, codec) = (MemoryBroker::new(), Owning::default());
        let mut config = ProducerConfig::default();
        (config.buffer_events, config.overflow) = (2, Overflow::Reject);
        let log = event_log_memory::builder::<Event>().broker(&broker).partitions(2).config(config);
        let log = log.retention(Retention::records(1)).codec(codec.clone()).open().await.unwrap();
        log.append_acked(event(0, 0)).await.unwrap();
        let (faults, handle) = (broker.faults("events").unwrap(), log.clone());
        *codec.0.lock().unwrap() = Some(Box::new(move || {
            faults.disconnect();
            while handle.state().current().is_connected() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }));
        let batch = vec![event(0, 1), event(1, 2), event(1, 3), event(1, 4)];
        let appended = timeout(Duration::from_secs(10), log.append_batch(batch)).await.unwrap();
        let outcomes = appended.map_or_else(event_log_core::BatchError::into_outcomes, |receipts| {
            receipts.into_iter().map(Ok).collect()
        });
        let taken = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok(Receipt::Acked(_) | Receipt::Buffered(_))))
            .count();
        let full = |outcome: &&Result<_, event_log_core::AppendError<Event>>| {
            outcome
                .as_ref()
                .is_err_and(|error| matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Full)))
        };
        let rejected = outcomes.iter().filter(full).count();
        assert!(taken == 0 || rejected == 0, "{taken} were taken and {rejected} rejected: {outcomes:?}");
    });
}

/// `MemoryBroker::faults`: "`None` until a log has opened the topic"; l1: "verifies it when it is present".
#[tokio::test]
async fn l1_a_log_that_is_not_opened_makes_no_topic() {
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.buffer_events = 0;
    let log = event_log_memory::builder::<Event>().broker(&broker).partitions(3).config(config);
    drop(log.open().await.expect_err("the settings are wrong"));
    let exists = broker.faults("events").is_some();
    let opened = event_log_memory::builder::<Event>().broker(&broker).partitions(8).open().await;
    assert!(!exists && opened.is_ok(), "the topic is there: {exists}; {:?}", opened.err());
}

/// l5: "No event and no credential appears in `Debug`".
#[tokio::test]
async fn l5_no_event_appears_in_what_a_broker_shows() {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder::<Event>().broker(&broker).partitions(1).open().await.unwrap();
    log.append_acked(Event { key: Some("the-password".into()), number: 1 }).await.unwrap();
    let shown = format!("{:?}", broker.contents("events"));
    assert!(!shown.contains("the-password"), "{shown}");
}

/// a12: "Events without a key are spread over the partitions". Every second one is rejected by a full buffer.
#[tokio::test(start_paused = true)]
async fn a12_keyless_events_are_spread_although_every_second_append_is_rejected() {
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    (config.buffer_events, config.request_events) = (1, 1);
    config.overflow = Overflow::Block { deadline: Duration::from_millis(1) };
    let log = event_log_memory::builder::<Event>().broker(&broker).partitions(2).config(config);
    let log = log.open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    faults.slow_appends(Duration::from_millis(100));
    for number in 0..200 {
        // One in flight, one that waits, and one for which there is no space.
        let _first = log.submit(Event { key: None, number });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let second = log.submit(Event { key: None, number });
        let third = log.append(Event { key: None, number }).await;
        assert!(second.is_err() || third.is_err());
        log.flush().await.unwrap();
    }
    let mut spread = HashMap::<_, usize>::new();
    for content in broker.contents("events") {
        *spread.entry(content.position.partition).or_default() += 1;
    }
    eprintln!("{spread:?}");
    let all: usize = spread.values().sum();
    assert!(spread.values().all(|&count| count > all / 4) && spread.len() == 2, "{spread:?}");
}

/// The same with batches that are too large for a buffer.
#[tokio::test(start_paused = true)]
async fn a12_keyless_events_are_spread_although_every_batch_is_rejected() {
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.buffer_events = 2;
    config.overflow = Overflow::Reject;
    let log = event_log_memory::builder::<Event>().broker(&broker).partitions(4).config(config);
    let log = log.open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    for number in 0..100 {
        faults.disconnect();
        log.state().wait_for(|state| !state.is_connected()).await;
        let batch = (0..3).map(|_| Event { key: None, number }).collect();
        let refused = log.append_batch(batch).await.expect_err("it is too large");
        // As the error says, an event at a time.
        let one = refused.into_outcomes().remove(0).unwrap_err().into_event();
        let receipt = log.append(one).await.unwrap();
        faults.reconnect();
        receipt.acked().await.unwrap();
    }
    let mut spread = HashMap::<_, usize>::new();
    for content in broker.contents("events") {
        *spread.entry(content.position.partition).or_default() += 1;
    }
    assert!(spread.len() == 4, "{spread:?}");
}

/// The same for what is refused because it is too large: it takes no turn. (The control.)
#[tokio::test]
async fn a12_keyless_events_are_spread_although_every_second_is_too_large() {
    let broker = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.max_event_bytes = 30;
    let log = event_log_memory::builder::<Event>()
        .broker(&broker)
        .partitions(2)
        .config(config)
        .open()
        .await
        .unwrap();
    for number in 0..100 {
        drop(log.append(Event { key: None, number }).await.unwrap());
        drop(log.append(Event { key: None, number: u64::MAX }).await.expect_err("it is too large"));
    }
    let mut spread = HashMap::<_, usize>::new();
    for content in broker.contents("events") {
        *spread.entry(content.position.partition).or_default() += 1;
    }
    assert!(spread.len() == 2, "{spread:?}");
}
