//! Attack: offsets have gaps, "so that nothing computes a count from two offsets".

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod matrix;

use std::time::Duration;

use event_log_core::{
    EventConsumer as _, EventId, EventLog as _, EventLogExt as _, PartitionId, RawCodec, RawEvent,
    SeekPosition,
};
use event_log_memory::{MemoryBroker, MemoryLog};
use matrix::{SECOND, append, open};

async fn raw() -> (MemoryLog<RawEvent>, MemoryBroker) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().codec(RawCodec).broker(&broker).partitions(1).open().await.unwrap();
    (log, broker)
}

fn with_id(id: u128) -> RawEvent {
    let mut event = RawEvent::new("k".to_owned(), format!("event {id}"));
    event.id = Some(EventId::from_u128(id));
    event
}

/// a8 and DESIGN.md: "Whoever takes a partition over reads so many records back [2,048] before it delivers anything". The copy is
/// two records behind the first.
#[tokio::test(start_paused = true)]
async fn a8_a_second_copy_behind_a_handover_and_a_gap_is_dropped() {
    let (log, broker) = raw().await;
    let faults = broker.faults("events").unwrap();
    log.append_acked(with_id(1)).await.unwrap();
    faults.skip_offsets(PartitionId(0), 5_000);
    log.append_acked(with_id(2)).await.unwrap();
    let mut first = log.consumer("g").await.unwrap();
    let batch = first.poll(100, SECOND).await.unwrap();
    assert_eq!(batch.len(), 2);
    first.commit(batch.cursor()).await.unwrap();
    first.leave().await.unwrap();
    log.append_acked(with_id(1)).await.unwrap();
    log.append_acked(with_id(3)).await.unwrap();
    let mut second = log.consumer("g").await.unwrap();
    let batch = second.poll(100, SECOND).await.unwrap();
    let got: Vec<_> = batch.records.iter().map(|record| record.id.as_u128()).collect();
    assert_eq!(got, [3], "{:?}", batch.notices);
}

/// The same with a request that was held up on its way, as `Faults::hold_requests` says: "consumers deliver one".
#[tokio::test(start_paused = true)]
async fn a8_a_held_request_behind_a_handover_and_a_gap_is_delivered_once() {
    let (log, faults, _) = open().await;
    append(&log, 0, [0]).await;
    faults.hold_requests(1);
    let ticket = log.append(matrix::event(0, 1)).await.unwrap();
    ticket.acked().await.unwrap();
    faults.skip_offsets(PartitionId(0), 5_000);
    append(&log, 0, [2]).await;
    let mut first = log.consumer("g").await.unwrap();
    let mut numbers = Vec::new();
    while numbers.len() < 3 {
        let batch = first.poll(100, SECOND).await.unwrap();
        let cursor = batch.cursor().clone();
        numbers.extend(batch.into_events().map(|event| event.number));
        first.commit(&cursor).await.unwrap();
    }
    first.leave().await.unwrap();
    assert_eq!(faults.deliver_held_requests(), 1);
    append(&log, 0, [3]).await;
    let mut second = log.consumer("g").await.unwrap();
    for _ in 0..3 {
        let batch = second.poll(100, Duration::from_millis(100)).await.unwrap();
        numbers.extend(batch.into_events().map(|event| event.number));
    }
    assert_eq!(numbers, [0, 1, 2, 3]);
}

/// `Faults::trailing_gap`, and a seek to the end.
#[tokio::test(start_paused = true)]
async fn c5_a_copy_behind_a_sought_end_and_a_trailing_gap_is_dropped() {
    let (log, broker) = raw().await;
    let faults = broker.faults("events").unwrap();
    let mut consumer = log.consumer("g").await.unwrap();
    log.append_acked(with_id(1)).await.unwrap();
    faults.trailing_gap(PartitionId(0), 3_000);
    consumer.seek(SeekPosition::End).await.unwrap();
    log.append_acked(with_id(1)).await.unwrap();
    log.append_acked(with_id(2)).await.unwrap();
    let batch = consumer.poll(100, SECOND).await.unwrap();
    let got: Vec<_> = batch.records.iter().map(|record| record.id.as_u128()).collect();
    assert_eq!(got, [2], "{:?}", batch.notices);
}
