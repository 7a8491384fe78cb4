//! What the files `matrix_*.rs` share: an event with a partition of its choice, a log beside its faults, and a reader.

use std::time::Duration;

use event_log_core::{
    ConsumerOptions, EventConsumer, EventLog as _, Notice, PartitionId, Partitionable, ProducerConfig,
    SeekPosition, partition_of,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};
use serde::{Deserialize, Serialize};

/// Two partitions: one that has the trouble, and one that has none.
pub(crate) const PARTITIONS: u32 = 2;
/// The timeout of a poll that finds what it looks for at once.
pub(crate) const SHORT: Duration = Duration::from_millis(100);
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const HOUR: Duration = Duration::from_secs(3_600);

pub(crate) type Consumer = Box<dyn EventConsumer<Event>>;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    key: String,
    pub(crate) number: u64,
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.key)
    }
}

/// An event of this partition (of two).
pub(crate) fn event(partition: u32, number: u64) -> Event {
    let mut keys = (0..).map(|n: u32| format!("k{n}"));
    let key = keys.find(|key| partition_of(key, PARTITIONS) == PartitionId(partition)).expect("there is one");
    Event { key, number }
}

pub(crate) async fn open_with(config: ProducerConfig) -> (MemoryLog<Event>, Faults, MemoryBroker) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(PARTITIONS).config(config);
    let log = log.open().await.expect("the log opens");
    let faults = broker.faults("events").expect("the topic is there");
    (log, faults, broker)
}

pub(crate) async fn open() -> (MemoryLog<Event>, Faults, MemoryBroker) {
    open_with(ProducerConfig::default()).await
}

/// Appends events with these numbers to a partition.
pub(crate) async fn append(log: &MemoryLog<Event>, partition: u32, numbers: impl IntoIterator<Item = u64>) {
    let events = numbers.into_iter().map(|number| event(partition, number)).collect();
    for receipt in log.append_batch(events).await.expect("the batch is taken") {
        receipt.acked().await.expect("the event is acknowledged");
    }
}

pub(crate) fn starting_at(start: SeekPosition) -> ConsumerOptions {
    ConsumerOptions::starting_at(start)
}

/// Reads until a poll of 100 ms brings neither a record nor a notice. The numbers are sorted.
pub(crate) async fn read_all(consumer: &mut Consumer) -> (Vec<u64>, Vec<Notice>) {
    let (mut numbers, mut notices) = (Vec::new(), Vec::new());
    loop {
        let mut batch = consumer.poll(100, SHORT).await.expect("the poll succeeds");
        if batch.is_empty() && batch.notices.is_empty() {
            numbers.sort_unstable();
            return (numbers, notices);
        }
        notices.append(&mut batch.notices);
        numbers.extend(batch.into_events().map(|event| event.number));
    }
}
