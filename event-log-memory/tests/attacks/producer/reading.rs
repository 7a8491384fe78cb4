//! Attempts of an outside reader to break the producing side: sizes, and reading back what was acknowledged.

use event_log_core::{
    EventConsumer as _, EventLog as _, EventLogExt as _, PartitionId, Partitionable, ProducerConfig,
};
use futures::FutureExt as _;
use serde::{Deserialize, Serialize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::time::timeout;

use crate::producing::{Numbered, SECOND, open};

#[test]
fn l8_counts_of_faults_may_be_as_large_as_they_are() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (log, faults, _broker) = open(ProducerConfig::default()).await;
        let switched = catch_unwind(AssertUnwindSafe(|| {
            faults.lose_requests(usize::MAX);
            faults.lose_replies(1);
        }));
        assert!(switched.is_ok(), "a sum of what the caller says overflows");
        let ticket = log.submit(Numbered(0)).unwrap();
        assert!(timeout(SECOND, ticket).await.is_err(), "every request is lost");
    });
}

#[tokio::test(start_paused = true)]
async fn l8_a_partition_at_the_end_of_its_offsets_takes_a_batch_without_a_panic() {
    let (log, faults, broker) = open(ProducerConfig::default()).await;
    faults.trailing_gap(PartitionId(0), u64::MAX);
    let batch = AssertUnwindSafe(log.append_batch(vec![Numbered(0)])).catch_unwind().await;
    assert!(batch.is_ok(), "it panics, with {} events in the log", broker.contents("events").len());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nested(Vec<Nested>);

impl Partitionable for Nested {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

/// So many arrays within one another.
fn nested(levels: usize) -> Nested {
    (1..levels).fold(Nested(Vec::new()), |inner, _| Nested(vec![inner]))
}

#[tokio::test(start_paused = true)]
async fn a18_an_event_that_is_nested_too_deeply_to_be_decoded_is_refused() {
    let log = event_log_memory::builder().partitions(1).open().await.unwrap();
    log.append_acked(nested(127)).await.unwrap();
    assert!(log.append_acked(nested(128)).await.is_err());
    let batch = log.consumer("g").await.unwrap().poll(10, SECOND).await.unwrap();
    let read: Vec<_> = batch.records.into_iter().map(|record| record.event.unwrap()).collect();
    assert_eq!(read, [nested(127)]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Float(f64);

impl Partitionable for Float {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }
}

#[tokio::test(start_paused = true)]
async fn a18_a_float_is_read_as_it_was() {
    let log = event_log_memory::builder().partitions(1).open().await.unwrap();
    let mut seed = 7_u64;
    let mut events = Vec::new();
    while events.len() < 10_000 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let value = f64::from_bits(seed.rotate_left(17));
        if value.is_finite() {
            events.push(Float(value));
        }
    }
    drop(log.append_batch(events.clone()).await.unwrap());
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < events.len() {
        seen.extend(consumer.poll(1_000, SECOND).await.unwrap().into_events());
    }
    let wrong: Vec<_> = events.iter().zip(&seen).filter(|(one, other)| one != other).collect();
    assert!(wrong.is_empty(), "{} of 10,000 were read as another number, {:?}", wrong.len(), wrong.first());
}

#[tokio::test(start_paused = true)]
async fn a18_a_quotient_is_read_as_it_was() {
    let log = event_log_memory::builder().partitions(1).open().await.unwrap();
    let events: Vec<_> = (0..10_000).map(|number| Float(f64::from(number) / 7.0)).collect();
    drop(log.append_batch(events.clone()).await.unwrap());
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < events.len() {
        seen.extend(consumer.poll(1_000, SECOND).await.unwrap().into_events());
    }
    let wrong: Vec<_> = events.iter().zip(&seen).filter(|(one, other)| one != other).collect();
    assert!(wrong.is_empty(), "{} of 10,000 were read as another number, {:?}", wrong.len(), wrong.first());
}
