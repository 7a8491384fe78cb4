//! Second copies behind a handover, where gaps lie between them and the records before.

use crate::fixture::{SECOND, append, open};
use event_log_core::{
    EventConsumer as _, EventId, EventLog as _, EventLogExt as _, PartitionId, RawCodec, RawEvent,
    SeekPosition,
};
use event_log_memory::{MemoryBroker, MemoryLog};
use std::time::Duration;

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

/// a8 and DESIGN.md: a consumer that takes a partition over reads back 2,048 records before it delivers anything. The copy is
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
    let ticket = log.append(crate::fixture::event(0, 1)).await.unwrap();
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

/// `LOOK_BACK_OFFSETS`: "to know the last [`DEDUP_WINDOW_RECORDS`] records before it, where gaps lie between them". The copy is
/// of the very last record before; gaps have the reader look far back, where many records are.
async fn look_back(far: u128, near: [(u64, u128); 2], copied: u128, descending: bool) {
    let (log, broker) = raw().await;
    let faults = broker.faults("events").unwrap();
    let mut id = 1_000_000_u128;
    let mut next = || {
        if descending {
            id -= 1;
        } else {
            id += 1;
        };
        id
    };
    let mut all = Vec::new();
    for _ in 0..far {
        all.push(next());
        log.append_acked(with_id(all[all.len() - 1])).await.unwrap();
    }
    for (gap, count) in near {
        faults.skip_offsets(PartitionId(0), gap);
        for _ in 0..count {
            all.push(next());
            log.append_acked(with_id(all[all.len() - 1])).await.unwrap();
        }
    }
    let mut consumer = log.consumer("g").await.unwrap();
    consumer.seek(SeekPosition::End).await.unwrap();
    let position = consumer.position().clone();
    consumer.commit(&position).await.unwrap();
    consumer.leave().await.unwrap();
    let copy = all[all.len() - copied as usize];
    log.append_acked(with_id(copy)).await.unwrap();
    log.append_acked(with_id(7_000_000)).await.unwrap();
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SECOND).await.unwrap();
    let got: Vec<_> = batch.records.iter().map(|record| record.id.as_u128()).collect();
    assert_eq!(got, [7_000_000], "the copy of a record {copied} before is delivered; {:?}", batch.notices);
}

#[tokio::test(start_paused = true)]
async fn a8_the_last_record_before_a_handover_is_known_though_gaps_have_the_reader_look_far_back() {
    look_back(9_000, [(1_900, 100), (1_900, 100)], 1, false).await;
}

#[tokio::test(start_paused = true)]
async fn a8_the_same_with_ids_that_descend() {
    look_back(9_000, [(1_900, 100), (1_900, 100)], 1, true).await;
}

#[tokio::test(start_paused = true)]
async fn a8_the_same_of_a_record_a_little_before() {
    look_back(9_000, [(1_900, 100), (1_900, 100)], 150, false).await;
}

#[tokio::test(start_paused = true)]
async fn a8_the_same_where_all_is_near() {
    look_back(9_000, [(0, 0), (0, 0)], 2_000, false).await;
}

#[tokio::test(start_paused = true)]
async fn a8_the_same_behind_one_gap() {
    look_back(40_000, [(20_000, 10), (10_000, 10)], 1, false).await;
}
