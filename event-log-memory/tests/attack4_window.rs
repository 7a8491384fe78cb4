//! Attempts to have a second copy delivered: what a reader that takes over looks back to.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::time::Duration;

use event_log_core::{
    EventConsumer as _, EventId, EventLogExt as _, PartitionId, RawCodec, RawEvent, SeekPosition,
};
use event_log_memory::{MemoryBroker, MemoryLog};

const SECOND: Duration = Duration::from_secs(1);

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
