//! Attack: payloads that are the application's (`Bytes::from_owner`) and panic when they are freed, while a consumer is the last
//! to hold them: what it has fetched was purged since.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::fixture::{SECOND, append, event, open};
use bytes::Bytes;
use event_log_core::{
    ConsumerOptions, EventConsumer as _, EventLog as _, EventLogExt as _, Notice, Offset, PartitionId,
    PoisonPolicy, Position, SeekPosition,
};
use futures::FutureExt as _;

struct Owner(Vec<u8>, Arc<AtomicBool>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.1.load(Relaxed) {
            panic!("a fault in an owner");
        }
    }
}

/// Bytes whose owner panics when they are freed, as long as the switch is on.
fn owned(bytes: Vec<u8>, is_on: &Arc<AtomicBool>) -> Bytes {
    Bytes::from_owner(Owner(bytes, Arc::clone(is_on)))
}

fn json(partition: u32, number: u64) -> Vec<u8> {
    serde_json::to_vec(&event(partition, number)).unwrap()
}

/// A record that can be decoded, whose payload panics when it is freed: the next record of another caller is healthy.
#[tokio::test(start_paused = true)]
async fn l7_a_payload_that_panics_when_its_record_is_delivered_skips_no_other_record() {
    let (log, faults, _) = open().await;
    let is_on = Arc::new(AtomicBool::new(true));
    append(&log, 0, [0]).await;
    faults.append_foreign(PartitionId(0), owned(json(0, 1), &is_on)).unwrap();
    append(&log, 0, [2, 3]).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Skip);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert_eq!(consumer.poll(1, SECOND).await.unwrap().len(), 1);
    // What was fetched is the consumer's alone.
    faults.purge();
    let (mut numbers, mut skipped) = (vec![0], Vec::new());
    for _ in 0..5 {
        let Ok(Ok(batch)) = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await else {
            continue;
        };
        skipped.extend(batch.notices.iter().filter_map(|notice| match notice {
            Notice::Skipped { position, .. } => Some(*position),
            _ => None,
        }));
        numbers.extend(batch.into_events().map(|event| event.number));
    }
    is_on.store(false, Relaxed);
    assert_eq!(numbers, [0, 1, 2, 3], "skipped: {skipped:?}");
}

/// A record that is skipped takes a healthy one with it.
#[tokio::test(start_paused = true)]
async fn l7_a_payload_that_panics_when_its_record_is_skipped_skips_no_other_record() {
    let (log, faults, _) = open().await;
    let is_on = Arc::new(AtomicBool::new(true));
    append(&log, 0, [0]).await;
    faults.append_foreign(PartitionId(0), owned(b"garbage".to_vec(), &is_on)).unwrap();
    append(&log, 0, [2, 3]).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Skip);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert_eq!(consumer.poll(1, SECOND).await.unwrap().len(), 1);
    faults.purge();
    let (mut numbers, mut skipped) = (vec![0], Vec::new());
    for _ in 0..5 {
        let Ok(Ok(batch)) = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await else {
            continue;
        };
        skipped.extend(batch.notices.iter().filter_map(|notice| match notice {
            Notice::Skipped { position, .. } => Some(position.offset.0),
            _ => None,
        }));
        numbers.extend(batch.into_events().map(|event| event.number));
    }
    is_on.store(false, Relaxed);
    assert_eq!((numbers, skipped), (vec![0, 2, 3], vec![1]));
}

/// "a seek ... the consumer stays where it was" or has moved, and nothing in between.
#[tokio::test(start_paused = true)]
async fn l7_a_payload_that_panics_while_its_consumer_seeks_moves_it_not_by_half() {
    let (log, faults, _) = open().await;
    let is_on = Arc::new(AtomicBool::new(true));
    append(&log, 0, [0]).await;
    faults.append_foreign(PartitionId(0), owned(json(0, 1), &is_on)).unwrap();
    append(&log, 0, [2, 3]).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(1, SECOND).await.unwrap().len(), 1);
    faults.purge();
    append(&log, 0, 4..8).await;
    let to = SeekPosition::Position(Position::new(PartitionId(0), Offset(4)));
    let sought = AssertUnwindSafe(consumer.seek(to)).catch_unwind().await;
    let is_sought = matches!(sought, Ok(Ok(())));
    is_on.store(false, Relaxed);
    append(&log, 0, [8]).await;
    let mut numbers = Vec::new();
    for _ in 0..5 {
        if let Ok(Ok(batch)) = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await {
            numbers.extend(batch.into_events().map(|event| event.number));
        }
    }
    let (all, moved): (Vec<u64>, Vec<u64>) = ((1..9).collect(), (4..9).collect());
    assert!(numbers == moved || !is_sought && numbers == all, "sought: {is_sought}, {numbers:?}");
}

/// Seeking back, in a log that retains everything: the payload that panics belongs to a record that retention has removed.
#[tokio::test(start_paused = true)]
async fn l7_a_payload_that_panics_while_its_consumer_seeks_loses_nothing_that_is_there() {
    let broker = event_log_memory::MemoryBroker::new();
    let log = event_log_memory::builder()
        .broker(&broker)
        .partitions(2)
        .retention(event_log_memory::Retention::records(3))
        .open()
        .await
        .unwrap();
    let faults = broker.faults("events").unwrap();
    let is_on = Arc::new(AtomicBool::new(true));
    append(&log, 0, [0]).await;
    faults.append_foreign(PartitionId(0), owned(json(0, 1), &is_on)).unwrap();
    append(&log, 0, [2]).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(1, SECOND).await.unwrap().len(), 1);
    // Retention leaves 2, 3, 4; in the buffer are 1 and 2.
    append(&log, 0, [3, 4]).await;
    let sought = AssertUnwindSafe(consumer.seek(SeekPosition::Beginning)).catch_unwind().await;
    let is_sought = matches!(sought, Ok(Ok(())));
    is_on.store(false, Relaxed);
    let mut numbers = Vec::new();
    for _ in 0..5 {
        if let Ok(Ok(batch)) = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await {
            numbers.extend(batch.into_events().map(|event| event.number));
        }
    }
    assert!(numbers.ends_with(&[2, 3, 4]), "sought: {is_sought}, {numbers:?}");
}

/// A partition goes, and takes with it a payload that panics: the one that comes at the same time is read.
#[tokio::test(start_paused = true)]
async fn l7_a_payload_that_panics_when_its_partition_is_revoked_leaves_no_partition_without_a_reader() {
    let (log, faults, _) = open().await;
    let is_on = Arc::new(AtomicBool::new(true));
    let other = log.consumer("g").await.unwrap();
    let mut consumer = log.consumer("g").await.unwrap();
    // It has partition 1.
    append(&log, 1, [0]).await;
    faults.append_foreign(PartitionId(1), owned(json(1, 1), &is_on)).unwrap();
    append(&log, 1, [2]).await;
    append(&log, 0, [10, 11]).await;
    assert_eq!(consumer.poll(1, SECOND).await.unwrap().len(), 1);
    faults.purge();
    append(&log, 0, [12, 13]).await;
    append(&log, 1, [3, 4]).await;
    // Now the first leaves and another one comes: the consumer has partition 0 and no more partition 1.
    other.leave().await.unwrap();
    let third = log.consumer("g").await.unwrap();
    let mut numbers = Vec::new();
    for _ in 0..10 {
        if let Ok(Ok(batch)) = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await {
            numbers.extend(batch.into_events().map(|event| event.number));
        }
    }
    is_on.store(false, Relaxed);
    drop(third);
    assert!(numbers.ends_with(&[12, 13]), "{numbers:?}");
}

/// A second copy whose payload panics when it is passed over.
#[tokio::test(start_paused = true)]
async fn l7_a_second_copy_whose_payload_panics_skips_no_other_record() {
    use event_log_core::{EventId, RawCodec, RawEvent};
    let broker = event_log_memory::MemoryBroker::new();
    let log = event_log_memory::builder().codec(RawCodec).broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let is_on = Arc::new(AtomicBool::new(true));
    let long = |number: u8| Bytes::from(vec![number; 1_000]);
    let with_id = |id: u128, payload: Bytes| {
        let mut event = RawEvent::new("k".to_owned(), payload);
        event.id = Some(EventId::from_u128(id));
        event
    };
    log.append_acked(with_id(1, long(1))).await.unwrap();
    drop(log.submit(with_id(1, owned(vec![2; 1_000], &is_on))).unwrap());
    log.append_acked(with_id(3, long(3))).await.unwrap();
    log.append_acked(with_id(4, long(4))).await.unwrap();
    let mut consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
    assert_eq!(consumer.poll(1, SECOND).await.unwrap().len(), 1);
    faults.purge();
    let (mut numbers, mut poisoned) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let Ok(Ok(batch)) = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await else {
            continue;
        };
        for record in batch {
            match record.event {
                Ok(event) => numbers.push(event.payload[0]),
                Err(_) => poisoned.push(record.position.offset.0),
            }
        }
    }
    is_on.store(false, Relaxed);
    assert_eq!((numbers, poisoned), (vec![3, 4], vec![]));
}

/// Two such payloads in a row, with healthy records of other callers before and behind them.
#[tokio::test(start_paused = true)]
async fn l7_two_payloads_that_panic_lose_no_record_that_the_same_poll_has_taken() {
    let (log, faults, _) = open().await;
    let is_on = Arc::new(AtomicBool::new(true));
    append(&log, 0, 0..6).await;
    faults.append_foreign(PartitionId(0), owned(json(0, 6), &is_on)).unwrap();
    faults.append_foreign(PartitionId(0), owned(json(0, 7), &is_on)).unwrap();
    append(&log, 0, 8..10).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Skip);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert_eq!(consumer.poll(1, SECOND).await.unwrap().len(), 1);
    faults.purge();
    let mut numbers = vec![0];
    for _ in 0..5 {
        if let Ok(Ok(batch)) = AssertUnwindSafe(consumer.poll(100, SECOND)).catch_unwind().await {
            numbers.extend(batch.into_events().map(|event| event.number));
        }
    }
    is_on.store(false, Relaxed);
    let healthy: Vec<u64> = numbers.iter().copied().filter(|number| ![6, 7].contains(number)).collect();
    assert_eq!(healthy, [0, 1, 2, 3, 4, 5, 8, 9], "of all {numbers:?}");
}
