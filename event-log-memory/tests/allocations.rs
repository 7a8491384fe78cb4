//! How often the log asks the allocator for memory: counted, and held here. Each count is of the calling
//! thread, with events that are ready before and dropped after; the memory of the log itself (a segment for each
//! 1,024 records of a partition) comes on top where it is named.

use std::time::Duration;

use allocation_counter::measure;
use event_log_core::{EventLog, EventLogExt, Partitionable, RawCodec, RawEvent};
use event_log_memory::MemoryLog;
use futures::FutureExt;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Tick {
    number: u64,
}

impl Partitionable for Tick {
    fn partition_key(&self) -> Option<&str> {
        Some("clock")
    }
}

/// A segment, and now and then the list of segments.
const FOR_A_SEGMENT: u64 = 2;

async fn ticking() -> MemoryLog<Tick> {
    let log = event_log_memory::builder().partitions(1).open().await.expect("a log opens");
    // The first append makes the first segment, and this thread's buffer to encode in.
    log.submit(Tick { number: u64::MAX }).expect("it is taken").await.expect("it is appended");
    log
}

fn allocations(run: impl FnOnce()) -> u64 {
    measure(run).count_total
}

#[tokio::test]
async fn a_submit_allocates_once() {
    let log = ticking().await;
    let submit = |number| drop(log.submit(Tick { number }).unwrap());
    for number in 0..1_000 {
        assert_eq!(allocations(|| submit(number)), 1, "the payload");
    }
    assert!(allocations(|| (0..10_240).for_each(submit)) <= 10_240 + 10 * FOR_A_SEGMENT);
}

#[tokio::test]
async fn an_append_allocates_twice() {
    let log = ticking().await;
    let append = |number| drop(log.append(Tick { number }).now_or_never().unwrap().unwrap());
    for number in 0..1_000 {
        assert_eq!(allocations(|| append(number)), 2, "the future and the payload");
        // An append spends of what its task may do at a time.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_event_of_a_batch_allocates_nothing_of_its_own() {
    let log = ticking().await;
    let batch_of = |count: u64| {
        let events: Vec<_> = (0..count).map(|number| Tick { number }).collect();
        allocations(|| drop(log.append_batch(events).now_or_never().unwrap().unwrap()))
    };
    let (of_100, of_800) = (batch_of(100), batch_of(800));
    println!("a batch of 100: {of_100} allocations; of 800: {of_800}");
    assert!(of_100 <= 14, "{of_100}");
    // The encodings fill pages, which take an allocation each, and one to be shared.
    let of_pages = 2 * (800 * 14_u64).div_ceil(4_096 - 512);
    assert!(of_800 <= of_100 + FOR_A_SEGMENT + of_pages, "{of_800} for eight times as many");
}

#[tokio::test]
async fn a_record_allocates_only_what_decoding_it_does() {
    let log = event_log_memory::builder().partitions(8).codec(RawCodec).open().await.unwrap();
    let event = |n: u64| RawEvent::new(format!("key-{}", n % 64), n.to_be_bytes().repeat(10));
    let mut consumer = log.consumer("readers").await.unwrap();
    let poll = |consumer: &mut Box<dyn event_log_core::EventConsumer<RawEvent>>, expected| {
        allocations(|| {
            let poll = consumer.poll(1_024, Duration::ZERO);
            // Without the budget of a task, which a test that never waits would soon have used up.
            let batch = tokio::task::coop::unconstrained(poll).now_or_never().unwrap().unwrap();
            assert_eq!(batch.len(), expected);
        })
    };
    for appended_singly in [false, true] {
        let append = |count: u64| {
            let events = (0..count).map(event);
            if appended_singly {
                events.for_each(|event| drop(log.submit(event).unwrap()));
            } else {
                drop(log.append_batch(events.collect()).now_or_never().unwrap().unwrap());
            }
        };
        // What a consumer remembers of each partition has grown to its size.
        for _ in 0..100 {
            append(1_024);
            poll(&mut consumer, 1_024);
        }
        append(1_000);
        let polled = poll(&mut consumer, 1_000);
        println!("a poll of 1,000 records, appended singly: {appended_singly}: {polled} allocations");
        // The payload of an event that was appended by itself begins to be counted when it is first read.
        let of_the_records = if appended_singly { 1_000 } else { 0 };
        // For each of the eight partitions the fetch and its records; and the batch.
        assert!(polled <= 24 + of_the_records, "{polled}");
    }
}
