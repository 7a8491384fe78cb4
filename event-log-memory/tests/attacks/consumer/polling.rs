//! Attempts of outside readers to break the consuming side: polling, merging and fairness.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::consuming::within_wakeups;
use crate::fixture::{HOUR, SECOND, SHORT, append, open};
use event_log_core::engine::Clock;
use event_log_core::{
    ConsumerOptions, DeadLetter, Error, EventConsumer, EventConsumerExt as _, EventLog, EventLogExt as _,
    Notice, PartitionId, Partitionable, PoisonPolicy, ProducerConfig, Timestamp,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};
use futures::{FutureExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};

/// A clock that a test sets.
#[derive(Clone, Default)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Keyed(String);

impl Partitionable for Keyed {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.0)
    }
}

/// A dead-letter log that is away, beside its faults.
async fn letters_away() -> (Arc<MemoryLog<DeadLetter>>, Faults) {
    let elsewhere = MemoryBroker::new();
    let letters = event_log_memory::builder::<DeadLetter>().broker(&elsewhere).partitions(1);
    let letters = Arc::new(letters.open().await.unwrap());
    let away = elsewhere.faults("events").unwrap();
    away.disconnect();
    (letters, away)
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Numbered {
    number: u64,
}

impl Partitionable for Numbered {
    fn partition_key(&self) -> Option<&str> {
        None
    }
}

/// A clock that ticks whenever it is read.
#[derive(Clone, Default)]
struct Ticking(Arc<std::sync::atomic::AtomicU64>);

impl event_log_core::engine::Clock for Ticking {
    fn now(&self) -> event_log_core::Timestamp {
        event_log_core::Timestamp(self.0.fetch_add(1, Ordering::SeqCst))
    }
}

async fn merged_with(policy: PoisonPolicy, poisoned: u64, max_count: usize, partitions: u32) -> Vec<u64> {
    let broker = MemoryBroker::with_clock(Arc::new(Ticking::default()));
    let log =
        event_log_memory::builder::<Numbered>().broker(&broker).partitions(partitions).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let number = |number: u64| serde_json::to_vec(&Numbered { number }).unwrap();
    for _ in 0..poisoned {
        faults.append_foreign(PartitionId(0), "garbage").unwrap();
    }
    for round in 0..3 * u64::from(partitions) {
        faults.append_foreign(PartitionId((round % u64::from(partitions)) as u32), number(round)).unwrap();
    }
    let mut consumer = log.consumer_with("g", ConsumerOptions::default().poison(policy)).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..2 * poisoned + 100 {
        let batch = consumer.poll(max_count, Duration::ZERO).await.unwrap();
        seen.extend(batch.into_events().map(|event| event.number));
    }
    seen
}

#[tokio::test(start_paused = true)]
async fn l8_a_timeout_just_short_of_the_end_of_time_does_not_panic() {
    let (log, ..) = open().await;
    append(&log, 0, [1]).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let now = tokio::time::Instant::now();
    // The longest that can still be added to the clock.
    let (mut low, mut high) = (0_u64, u64::MAX);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        match now.checked_add(Duration::from_secs(middle)) {
            Some(_) => low = middle,
            None => high = middle - 1,
        }
    }
    for less in 0..3 {
        let poll = AssertUnwindSafe(consumer.poll(1, Duration::from_secs(low - less))).catch_unwind().await;
        assert!(poll.is_ok(), "poll panicked, {less} s from the longest");
        append(&log, 0, [2]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn c1_a_letter_that_waits_for_its_retry_while_the_log_is_away_keeps_no_processor_busy() {
    let (log, faults, _broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    let elsewhere = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_millis(50));
    let letters = event_log_memory::builder::<DeadLetter>().broker(&elsewhere).partitions(1).config(config);
    let letters = letters.open().await.unwrap();
    elsewhere.faults("events").unwrap().disconnect();
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::new(letters)));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let batch = consumer.poll(10, SECOND).await.unwrap();
    assert!(matches!(batch.notices[..], [Notice::Fault { .. }]), "{:?}", batch.notices);
    faults.disconnect();
    let poll = within_wakeups(consumer.poll(10, 10 * SECOND), 5_000).await;
    assert!(matches!(&poll, Ok(batch) if !batch.notices.is_empty()), "{poll:?}");
}

#[tokio::test(start_paused = true)]
async fn c2_a_partition_that_was_idle_for_long_is_merged_by_time_all_the_same() {
    let clock = Hand::default();
    let broker = MemoryBroker::with_clock(Arc::new(clock.clone()));
    let log = event_log_memory::builder().broker(&broker).partitions(2).open().await.unwrap();
    let mut consumer = log.consumer("g").await.unwrap();
    for number in 0..300 {
        clock.0.fetch_add(1, Ordering::SeqCst);
        append(&log, 0, [number]).await;
        assert_eq!(consumer.poll(10, SHORT).await.unwrap().len(), 1);
    }
    for (partition, number) in [(0, 1_000), (1, 1_001), (0, 1_002), (1, 1_003)] {
        clock.0.fetch_add(1, Ordering::SeqCst);
        append(&log, partition, [number]).await;
    }
    let batch = consumer.poll(10, SHORT).await.unwrap();
    let seen: Vec<_> = batch.into_events().map(|event| event.number).collect();
    assert_eq!(seen, [1_000, 1_001, 1_002, 1_003]);
}

#[tokio::test(start_paused = true)]
async fn c2_none_of_many_partitions_with_a_backlog_starves() {
    const PARTITIONS: u32 = 300;
    const EACH: usize = 20;
    let broker = MemoryBroker::with_clock(Arc::new(Hand::default()));
    let log =
        event_log_memory::builder::<Keyed>().broker(&broker).partitions(PARTITIONS).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    for _ in 0..EACH {
        for partition in 0..PARTITIONS {
            faults.append_foreign(PartitionId(partition), r#""k""#).unwrap();
        }
    }
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = vec![0; PARTITIONS as usize];
    // Three rounds for everybody, at one record a turn.
    for _ in 0..5 * PARTITIONS {
        for record in consumer.poll(1, SHORT).await.unwrap().records {
            seen[record.position.partition.0 as usize] += 1;
        }
    }
    let starved: Vec<_> = (0..PARTITIONS).filter(|&nth| seen[nth as usize] == 0).collect();
    assert!(
        starved.is_empty(),
        "no record of {starved:?} within 5 rounds, and up to {:?} of others",
        seen.iter().max()
    );
}

#[tokio::test(start_paused = true)]
async fn c15_a_letter_that_takes_long_hides_no_partition_that_comes_to_the_member() {
    let (log, faults, _broker) = open().await;
    let (letters, _away) = letters_away().await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(letters));
    let mut one = log.consumer_with("g", options).await.unwrap();
    let two = log.consumer("g").await.unwrap();
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 0, [1]).await;
    while !one.poll(1, SHORT).await.unwrap().notices.is_empty() {}
    append(&log, 1, [2]).await;
    let start = tokio::time::Instant::now();
    let leaving = async {
        tokio::time::sleep(SHORT).await;
        two.leave().await.unwrap();
    };
    let reading = async {
        loop {
            let batch = one.poll(1, HOUR).await.unwrap();
            if batch.len() == 1 {
                return batch.into_events().next().unwrap().number;
            }
        }
    };
    let (number, ()) = tokio::join!(reading, leaving);
    assert_eq!(number, 2);
    assert!(
        start.elapsed() < 2 * SECOND,
        "partition 1 came after 100 ms, its record after {:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn c1_a_fetch_that_failed_behind_a_letter_under_way_keeps_no_processor_busy() {
    let (log, faults, _broker) = open().await;
    let (letters, _away) = letters_away().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 0, 0..5).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(letters));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert!(consumer.poll(10, SHORT).await.unwrap().is_empty());
    faults.fail_fetches(PartitionId(0), 1);
    let batch = consumer.poll(10, SHORT).await.unwrap();
    assert!(matches!(batch.notices[..], [Notice::Fault { .. }]), "{:?}", batch.notices);
    let poll = within_wakeups(consumer.poll(1, 10 * SECOND), 5_000).await.unwrap();
    assert!(poll.is_empty());
}

#[tokio::test(start_paused = true)]
async fn c1_a_fetch_that_failed_behind_records_at_hand_keeps_no_processor_busy() {
    let (log, faults, _broker) = open().await;
    append(&log, 1, 0..20).await;
    append(&log, 0, 20..25).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(10, SHORT).await.unwrap().len(), 10);
    faults.fail_fetches(PartitionId(0), 1);
    let batch = consumer.poll(10, SHORT).await.unwrap();
    assert_eq!((batch.len(), batch.notices.len()), (10, 1), "{:?}", batch.notices);
    // It could be tried again by now, and nothing asks for that; the other partition answers soon.
    tokio::time::sleep(SECOND).await;
    faults.slow_fetches(Duration::from_millis(50));
    let batch = within_wakeups(consumer.poll(1, SECOND), 1_000).await.unwrap();
    assert_eq!(batch.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c2_records_behind_a_stretch_of_poison_are_merged_by_time() {
    for partitions in [2, 3, 8] {
        for max_count in [100, 200, 500, 1_024] {
            let seen = merged_with(PoisonPolicy::Skip, 300, max_count, partitions).await;
            let expected: Vec<_> = (0..3 * u64::from(partitions)).collect();
            assert_eq!(seen, expected, "{partitions} partitions, polls for {max_count}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn c2_a_backlog_of_several_partitions_is_merged_by_time_whatever_a_poll_asks_for() {
    for (max_count, partitions) in [(1, 2), (7, 3), (130, 5), (200, 3), (1_024, 8)] {
        let broker = MemoryBroker::with_clock(Arc::new(Ticking::default()));
        let log = event_log_memory::builder::<Numbered>()
            .broker(&broker)
            .partitions(partitions)
            .open()
            .await
            .unwrap();
        let faults = broker.faults("events").unwrap();
        for number in 0..2_000_u64 {
            // In stretches of different lengths.
            let partition = (number / 7 + number / 190 * number) % u64::from(partitions);
            let payload = serde_json::to_vec(&Numbered { number }).unwrap();
            faults.append_foreign(PartitionId(partition as u32), payload).unwrap();
        }
        let mut consumer = log.consumer("g").await.unwrap();
        let mut seen = Vec::new();
        while seen.len() < 2_000 {
            let batch = consumer.poll(max_count, SHORT).await.unwrap();
            assert!(!batch.is_empty());
            seen.extend(batch.into_events().map(|event| event.number));
        }
        let wrong = seen.windows(2).find(|pair| pair[0] > pair[1]);
        assert_eq!(wrong, None, "{partitions} partitions, polls for {max_count}");
    }
}

/// c15: "a poll that has a notice returns with it".
#[tokio::test(start_paused = true)]
async fn c15_a_fault_is_told_although_others_have_gaps_behind_their_records() {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder::<Numbered>().broker(&broker).partitions(4).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let mut consumer = log.consumer("g").await.unwrap();
    assert!(consumer.poll(100, SHORT).await.unwrap().is_empty());
    faults.slow_fetches(Duration::from_millis(80));
    let notes = tokio::spawn({
        let faults = faults.clone();
        async move {
            for nth in 0..4_000 {
                if nth == 10 {
                    faults.fail_fetches(PartitionId(0), 1_000_000);
                    faults.trailing_gap(PartitionId(0), 1);
                }
                faults.trailing_gap(PartitionId(1 + nth % 3), 1);
                tokio::time::sleep(Duration::from_millis(30)).await;
            }
        }
    });
    let start = tokio::time::Instant::now();
    let batch = consumer.poll(100, 60 * SECOND).await.unwrap();
    let took = start.elapsed();
    notes.abort();
    assert!(took < SECOND, "told after {took:?}: {:?}", batch.notices);
}

/// "`Error::Poisoned` with `PoisonPolicy::Halt`, once the other partitions have nothing to deliver."
#[tokio::test(start_paused = true)]
async fn c6_halt_delivers_the_backlog_of_the_others_first() {
    let (log, faults, _broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 1, 0..1_000).await;
    faults.slow_fetches(Duration::from_millis(150));
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let mut seen = 0;
    let mut stream = consumer.stream(100);
    while let Some(item) = stream.next().await {
        match item {
            Ok(batch) => seen += batch.len(),
            Err(Error::Poisoned { .. }) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(seen, 1_000, "halted before the others were delivered");
}

#[tokio::test(start_paused = true)]
async fn c1_a_stream_yields_nothing_while_nothing_comes() {
    let (log, _faults, _broker) = open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut stream = consumer.stream(100);
    let early = tokio::time::timeout(HOUR, stream.next()).await;
    assert!(early.is_err(), "{early:?}");
    append(&log, 0, 0..1).await;
    assert_eq!(stream.next().await.unwrap().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c1_a_stream_goes_on_after_an_error_that_passes() {
    let (log, faults, _broker) = open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut stream = consumer.stream(100);
    faults.disconnect();
    let away = stream.next().await.expect("the stream is not over");
    assert!(away.is_err_and(|error| error.is_retryable()));
    faults.reconnect();
    append(&log, 0, 0..1).await;
    let back = async {
        loop {
            if let Ok(batch) = stream.next().await.expect("the stream is not over") {
                return batch;
            }
        }
    };
    assert_eq!(tokio::time::timeout(HOUR, back).await.expect("the log is back").len(), 1);
}
