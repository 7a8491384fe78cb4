//! Attempts of an outside reader to break the producing side: `append_all`, the buffer and its bounds.

use event_log_core::{
    EventLog as _, EventLogExt as _, Headers, Overflow, Partitionable, ProducerConfig, RawCodec, RawEvent,
};
use event_log_memory::{MemoryBroker, Retention};
use serde::Serialize;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

use crate::producing::{HOUR, Numbered, SECOND, config, cut, numbers, open};

fn small_buffer(overflow: Overflow) -> ProducerConfig {
    config(|config| (config.buffer_events, config.overflow) = (10, overflow))
}

#[tokio::test(start_paused = true)]
async fn a2_append_all_keeps_the_order_when_a_chunk_does_not_fit_into_the_buffer() {
    for overflow in [Overflow::DropOldest, Overflow::Reject, Overflow::Block { deadline: HOUR }] {
        let (log, faults, broker) = open(small_buffer(overflow)).await;
        cut(&log, &faults).await;
        faults.reconnect();
        let appended = timeout(HOUR, log.append_all(&mut (0..3_000).map(Numbered))).await.unwrap();
        let seen = numbers(&broker);
        assert!(seen.is_sorted(), "{overflow:?} {:?}: {:?}", appended.map_err(|e| e.appended), &seen[..12]);
    }
}

#[tokio::test(start_paused = true)]
async fn a14_append_all_that_is_dropped_leaves_a_prefix() {
    let (log, faults, broker) = open(small_buffer(Overflow::Reject)).await;
    cut(&log, &faults).await;
    let mut events = (0..3_000).map(Numbered);
    assert!(timeout(Duration::from_millis(100), log.append_all(&mut events)).await.is_err());
    faults.reconnect();
    log.flush().await.unwrap();
    let seen = numbers(&broker);
    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>(), "a prefix of what was drawn");
}

#[tokio::test(start_paused = true)]
async fn a2_append_all_of_large_events_keeps_the_order_with_the_default_settings() {
    let broker = MemoryBroker::new();
    let builder = event_log_memory::builder().codec(RawCodec).broker(&broker).partitions(1);
    let log = builder.open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    faults.disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
    let payload = |number: u64| [&number.to_be_bytes()[..], &[0; 70_000][..]].concat();
    let mut events = (0..2_048).map(|number| RawEvent::new("k".to_owned(), payload(number)));
    assert!(timeout(Duration::from_millis(100), log.append_all(&mut events)).await.is_err());
    faults.reconnect();
    log.flush().await.unwrap();
    let number =
        |content: &event_log_memory::Content| u64::from_be_bytes(content.payload[..8].try_into().unwrap());
    let seen: Vec<u64> = broker.contents("events").iter().map(number).collect();
    assert_eq!(seen, (0..seen.len() as u64).collect::<Vec<_>>(), "a prefix of what was drawn");
}

#[tokio::test(start_paused = true)]
async fn a11_append_all_draws_nothing_after_a_failure() {
    #[derive(Debug, Serialize)]
    struct Text(u64, String);
    impl Partitionable for Text {
        fn partition_key(&self) -> Option<&str> {
            Some("k")
        }
    }
    let broker = MemoryBroker::new();
    let config = config(|config| config.max_event_bytes = 1_000);
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config).open().await.unwrap();
    let long = |number| if number == 5 { "x".repeat(2_000) } else { String::new() };
    let mut events = (0..5_000).map(|number| Text(number, long(number)));
    let error = log.append_all(&mut events).await.unwrap_err();
    let drawn = 5_000 - events.count();
    let seen = broker.contents("events").len();
    assert!(
        drawn == 6 && seen == 5,
        "the sixth is refused at once, {drawn} were drawn, and {seen} appended behind it: {:?}",
        error.appended
    );
}

#[tokio::test(start_paused = true)]
async fn a10_a_batch_that_waits_for_space_is_let_in_when_the_log_is_back_and_its_queue_empty() {
    let (log, faults, _broker) = open(config(|config| {
        (config.buffer_events, config.request_events) = (10, 10);
        (config.overflow, config.expiry) = (Overflow::Block { deadline: HOUR }, Some(30 * SECOND));
    }))
    .await;
    faults.slow_appends(2 * SECOND);
    let mut tickets: Vec<_> = (0..10).map(|number| log.submit(Numbered(number)).unwrap()).collect();
    sleep(Duration::from_millis(10)).await;
    tickets.extend((10..20).map(|number| log.submit(Numbered(number)).unwrap()));
    let other = log.clone();
    let batch = tokio::spawn(async move { other.append_batch((100..150).map(Numbered).collect()).await });
    sleep(Duration::from_millis(10)).await;
    faults.disconnect();
    for ticket in tickets {
        ticket.await.unwrap_err();
    }
    assert_eq!(log.state().current().buffered, 0);
    faults.slow_appends(Duration::ZERO);
    faults.reconnect();
    log.state().wait_for(|state| state.is_connected()).await;
    let back = Instant::now();
    let outcome = batch.await.unwrap();
    assert!(
        // What no buffer can hold comes back when the log goes away.
        back.elapsed() < 60 * SECOND,
        "it waited {:?} beside an empty queue: {:?}",
        back.elapsed(),
        outcome.map(|receipts| receipts.len())
    );
}

#[tokio::test(start_paused = true)]
async fn a6_a_batch_that_can_never_fit_keeps_no_other_from_the_buffer_of_a_log_that_is_away() {
    let (log, faults, _broker) = open(config(|config| {
        (config.buffer_events, config.request_events) = (10, 1);
        config.overflow = Overflow::Block { deadline: HOUR };
    }))
    .await;
    faults.slow_appends(SECOND);
    let _first = log.submit(Numbered(0)).unwrap();
    sleep(Duration::from_millis(10)).await;
    let _second = log.submit(Numbered(1)).unwrap();
    let other = log.clone();
    let batch =
        tokio::spawn(async move { other.append_batch((100..120).map(Numbered).collect()).await.map(drop) });
    sleep(Duration::from_millis(10)).await;
    cut(&log, &faults).await;
    assert!(log.state().current().buffered <= 2);
    // Offered now it would be refused at once: it does not even fit into an empty buffer.
    let submitted = log.submit(Numbered(2)).map(drop).map_err(|error| error.kind);
    let appended =
        timeout(SECOND, log.append(Numbered(3))).await.map(|receipt| receipt.map(|it| it.is_buffered()));
    assert!(
        submitted.is_ok() && matches!(appended, Ok(Ok(true))),
        "eight of ten places are free: {submitted:?}, {appended:?}, batch refused: {}",
        batch.is_finished()
    );
}

#[derive(Debug, Serialize)]
struct Headed(u64);

impl Partitionable for Headed {
    fn partition_key(&self) -> Option<&str> {
        Some("k")
    }

    fn headers(&self) -> Headers {
        let mut headers = Headers::new();
        headers.insert("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        headers
    }
}

#[tokio::test(start_paused = true)]
async fn a5_an_event_with_headers_within_every_limit_finds_an_empty_buffer_large_enough() {
    let broker = MemoryBroker::new();
    // What `validate` calls enough for one event.
    let config = config(|config| (config.max_event_bytes, config.buffer_bytes) = (64, 64));
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config).open().await.unwrap();
    log.append_acked(Headed(0)).await.unwrap();
    broker.faults("events").unwrap().disconnect();
    log.state().wait_for(|state| !state.is_connected()).await;
    let submitted = log.submit(Headed(1));
    assert!(submitted.is_ok(), "the empty buffer that drops the oldest says {:?}", submitted.map(drop));
}

#[tokio::test(start_paused = true)]
async fn a5_an_event_with_headers_is_not_dropped_from_a_buffer_that_has_nothing_else() {
    let broker = MemoryBroker::new();
    let config = config(|config| (config.max_event_bytes, config.buffer_bytes) = (64, 64));
    let log = event_log_memory::builder().broker(&broker).partitions(1).config(config).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    faults.slow_appends(SECOND);
    let first = log.submit(Headed(0)).unwrap();
    sleep(Duration::from_millis(10)).await;
    let second = log.submit(Headed(1)).unwrap();
    faults.interrupt();
    first.await.unwrap();
    let outcome = second.await;
    assert!(outcome.is_ok(), "{outcome:?}");
}

#[test]
fn l8_a_record_of_a_batch_keeps_no_more_memory_than_its_own() {
    #[derive(Serialize)]
    struct Text(String);
    impl Partitionable for Text {
        fn partition_key(&self) -> Option<&str> {
            Some("k")
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let retained = |batch: bool| {
        let builder = event_log_memory::builder().partitions(1).retention(Retention::records(1));
        let log = runtime.block_on(builder.open()).unwrap();
        let text = || Text("x".repeat(10_000));
        runtime.block_on(log.append_acked(text())).unwrap();
        let counted = allocation_counter::measure(|| {
            if batch {
                let events = (0..1_000).map(|_| text()).collect();
                drop(runtime.block_on(log.append_batch(events)).unwrap());
            } else {
                for _ in 0..1_000 {
                    runtime.block_on(log.append_acked(text())).unwrap();
                }
            }
        });
        counted.bytes_current
    };
    let (single, batch) = (retained(false), retained(true));
    assert!(
        batch <= single + 200_000,
        "one record of 10 kB is retained: {single} bytes after single appends, {batch} after a batch"
    );
}
