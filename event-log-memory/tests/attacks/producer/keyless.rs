//! Where events without a key go.

use crate::producing::config;
use event_log_core::{EventLog as _, EventLogExt as _, PartitionId, Partitionable, SubmitErrorKind};
use event_log_memory::MemoryBroker;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::sleep;

#[derive(Debug, Serialize, Deserialize)]
struct Keyless(u64);

impl Partitionable for Keyless {
    fn partition_key(&self) -> Option<&str> {
        None
    }
}

fn spread(broker: &MemoryBroker) -> HashMap<PartitionId, usize> {
    let mut spread = HashMap::new();
    for content in broker.contents("events") {
        *spread.entry(content.position.partition).or_default() += 1;
    }
    spread
}

/// a12: "Events without a key are spread over the partitions".
#[tokio::test(start_paused = true)]
async fn a12_keyless_events_that_wait_for_space_are_spread_over_the_partitions() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder::<Keyless>().broker(&broker).partitions(2);
    let log = builder.config(config(|config| config.buffer_events = 1)).open().await.unwrap();
    broker.faults("events").unwrap().slow_appends(Duration::from_millis(10));
    let appends = (0..1_000).map(|number| log.append_acked(Keyless(number)));
    for outcome in futures::future::join_all(appends).await {
        outcome.unwrap();
    }
    let spread = spread(&broker);
    let least =
        (0..2).map(|partition| spread.get(&PartitionId(partition)).copied().unwrap_or_default()).min();
    assert!(least.unwrap() > 200, "{spread:?}");
}

#[tokio::test(start_paused = true)]
async fn a12_keyless_events_of_append_all_are_spread_over_the_partitions() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder::<Keyless>().broker(&broker).partitions(2);
    let config = config(|config| (config.buffer_events, config.request_events) = (1, 1));
    let log = builder.config(config).open().await.unwrap();
    broker.faults("events").unwrap().slow_appends(Duration::from_millis(10));
    log.append_all(&mut (0..1_000).map(Keyless)).await.unwrap();
    let spread = spread(&broker);
    let least =
        (0..2).map(|partition| spread.get(&PartitionId(partition)).copied().unwrap_or_default()).min();
    assert!(least.unwrap() > 200, "{spread:?}");
}

/// A producer that tries again what is full, as the error says that it may.
#[tokio::test(start_paused = true)]
async fn a12_keyless_events_that_are_tried_again_are_spread_over_the_partitions() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder::<Keyless>().broker(&broker).partitions(2);
    let config = config(|config| (config.buffer_events, config.request_events) = (1, 1));
    let log = builder.config(config).open().await.unwrap();
    broker.faults("events").unwrap().slow_appends(Duration::from_millis(10));
    for number in 0..1_000 {
        let mut event = Keyless(number);
        while let Err(error) = log.submit(event) {
            assert!(matches!(error.kind, SubmitErrorKind::Full));
            event = error.event;
            sleep(Duration::from_millis(10)).await;
        }
    }
    log.flush().await.unwrap();
    let spread = spread(&broker);
    let least =
        (0..2).map(|partition| spread.get(&PartitionId(partition)).copied().unwrap_or_default()).min();
    assert!(least.unwrap() > 200, "{spread:?}");
}
