//! What a reader has in memory, and how long it goes on without a break.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use event_log_core::engine::{LogBuilder, StoredMessage};
use event_log_core::{
    Codec, CodecError, ConsumerOptions, EventConsumer as _, EventId, EventLog as _, EventLogExt as _,
    Headers, Offset, PoisonPolicy, RawEvent, Timestamp, limits,
};
use serde::de::DeserializeOwned;
use tokio::time::sleep;

use crate::reading_ahead::{MS, Reach, SECOND, Server};

/// What begins with 1 cannot be decoded.
struct Picky;

impl Codec<RawEvent> for Picky {
    fn encode(&self, event: &RawEvent, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&event.payload);
        Ok(())
    }

    fn decode(&self, payload: &Bytes, _: &Headers) -> Result<RawEvent, CodecError>
    where
        RawEvent: DeserializeOwned,
    {
        let is_bad = payload.first() == Some(&1);
        if is_bad { Err(CodecError::new("bad")) } else { Ok(RawEvent::new(None, payload.clone())) }
    }
}

/// Appends a record behind offsets that have none.
fn append_at(server: &Server, partition: usize, offset: u64, time: u64, payload: Bytes) {
    server.change(|state| {
        let part = &mut state.parts[partition];
        part.high = offset + 1;
        part.records.push_back(StoredMessage {
            offset: Offset(offset),
            id: EventId::from_u128(((partition as u128) << 64) | (u128::from(offset) + 1)),
            timestamp: Timestamp(time),
            headers: Headers::new(),
            payload,
        });
    });
}

/// l9: "Every loop that can go on without waiting yields"; c1: a poll ends with its timeout, and a second more at most. A log in
/// this process has been compacted: three million pages of a thousand offsets have no record.
#[tokio::test]
async fn l9_a_poll_over_offsets_that_have_no_record_leaves_others_their_turn() {
    for is_given_up in [true, false] {
        let server = Server::new(1);
        append_at(&server, 0, 3_000_000_000, 1, Bytes::from_static(b"record"));
        server.change(|state| (state.reads_ahead, state.page) = (false, 1_000));
        let log = server.open().await;
        let mut consumer = log.consumer("g").await.unwrap();
        let has_run = Arc::new(AtomicBool::new(false));
        let other = tokio::spawn({
            let has_run = Arc::clone(&has_run);
            async move { has_run.store(true, Relaxed) }
        });
        let start = std::time::Instant::now();
        let patience = if is_given_up { 50 * MS } else { 10 * SECOND };
        let polled = tokio::time::timeout(patience, consumer.poll(10, 10 * MS)).await;
        let took = start.elapsed();
        assert!(has_run.load(Relaxed), "{polled:?} after {took:?}, and another task has not had its turn");
        other.await.unwrap();
        assert!(took < 2 * SECOND, "a poll of 10 ms took {took:?}");
    }
}

/// What lies behind such a stretch is delivered by the poll that comes to it, also by one that polls once.
#[tokio::test(start_paused = true)]
async fn c1_a_poll_with_a_timeout_of_zero_passes_offsets_that_have_no_record() {
    for reads_ahead in [true, false] {
        let server = Server::new(2);
        append_at(&server, 0, 1_000_000, 1, Bytes::from_static(b"record"));
        server.change(|state| (state.reads_ahead, state.page) = (reads_ahead, 1_000));
        let log = server.open().await;
        let mut consumer = log.consumer("g").await.unwrap();
        let batch = consumer.poll(10, Duration::ZERO).await.unwrap();
        assert_eq!(batch.len(), 1, "reads ahead: {reads_ahead}, {batch:?}");
    }
}

/// The bytes of a reader that is held, beside one that is not: the most that were in memory, and how many records were delivered.
async fn most_alive(reads_ahead: bool, first_is_bad: bool, time: u64) -> (u64, usize) {
    let server = Server::new(2);
    let (good, bad) = (Bytes::from(vec![0; 1 << 20]), Bytes::from(vec![1; 1 << 20]));
    for offset in 0..1_000 {
        let payload = if first_is_bad && offset == 0 { &bad } else { &good };
        append_at(&server, 0, offset, time + offset, payload.clone());
    }
    for offset in 0..20_000 {
        append_at(&server, 1, offset, 1 + offset, Bytes::from_static(&[0; 10]));
    }
    server.change(|state| (state.reads_ahead, state.page) = (reads_ahead, 1_000));
    let log = LogBuilder::new(Arc::new(Picky)).open(Arc::new(Reach(Arc::clone(&server)))).await.unwrap();
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let mut seen = 0;
    for _ in 0..40 {
        seen += consumer.poll(1_000, SECOND).await.map_or(0, |batch| batch.len());
        sleep(100 * MS).await;
    }
    (server.change(|state| state.alive.1.load(Relaxed)), seen)
}

/// l6: "Every queue, buffer, window and retry has a documented default and limit".
async fn is_bounded(first_is_bad: bool, time: u64) {
    for reads_ahead in [true, false] {
        let (most, seen) = most_alive(reads_ahead, first_is_bad, time).await;
        let (mib, most_mib) = (most >> 20, (3 * limits::FETCH_BYTES) >> 20);
        assert!(mib <= most_mib as u64, "reads ahead: {reads_ahead}: {mib} MiB in memory, {seen} delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn l6_a_halted_partition_holds_no_more_than_three_fetches() {
    is_bounded(true, 1).await;
}

#[tokio::test(start_paused = true)]
async fn l6_a_partition_that_is_newer_holds_no_more_than_three_fetches() {
    is_bounded(false, 1_000_000).await;
}

/// l8: what is in front of a place is looked for copies, and no more than that is asked for.
#[tokio::test(start_paused = true)]
async fn l8_looking_back_asks_for_what_is_in_front_only() {
    let server = Server::new(1);
    for number in 0..2_000 {
        server.append(0, number);
    }
    server.change(|state| state.parts[0].place = Some(Offset(10)));
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(1, SECOND).await.unwrap();
    assert_eq!(batch.events().next().map(|(position, _)| position.offset), Some(Offset(10)));
    let asked = server.change(|state| state.most_asked);
    assert!(asked <= limits::PREFETCH_RECORDS, "{asked} records at once");
}
