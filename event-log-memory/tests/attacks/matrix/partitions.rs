//! Each partition for itself: one that fails, is poisoned, slow, ahead of the clock or revoked keeps no other waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_log_core::engine::Clock;
use event_log_core::{
    ConsumerOptions, DeadLetter, EventConsumer as _, EventLog, EventLogExt as _, Notice, PartitionId,
    PoisonPolicy, Timestamp,
};
use event_log_memory::{MemoryBroker, MemoryLog};
use tokio::time::Instant;

use crate::fixture::{Consumer, Event, HOUR, PARTITIONS, SECOND, SHORT, append, event, open, read_all};

const TROUBLED: PartitionId = PartitionId(0);

fn parking(letters: &Arc<dyn EventLog<DeadLetter>>) -> ConsumerOptions {
    ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::clone(letters)))
}

/// Reads so many records, within a second for every poll that it takes.
async fn read(consumer: &mut Consumer, count: usize) -> (Vec<u64>, Vec<Notice>) {
    let (mut numbers, mut notices) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let mut batch = consumer.poll(100, SECOND).await.expect("the poll succeeds");
        notices.append(&mut batch.notices);
        numbers.extend(batch.into_events().map(|event| event.number));
        if numbers.len() >= count {
            break;
        }
    }
    numbers.sort_unstable();
    (numbers, notices)
}

#[tokio::test(start_paused = true)]
async fn a_failing_fetch_keeps_no_other_partition_waiting() {
    let (log, faults, _broker) = open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    faults.fail_fetches(TROUBLED, usize::MAX);
    append(&log, 0, 0..10).await;
    append(&log, 1, 10..20).await;
    let start = Instant::now();
    let (seen, notices) = read(&mut consumer, 10).await;
    assert_eq!(seen, (10..20).collect::<Vec<_>>());
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    assert!(matches!(notices[..], [Notice::Fault { partition: TROUBLED, .. }, ..]), "{notices:?}");
    faults.fail_fetches(TROUBLED, 0);
    assert_eq!(read(&mut consumer, 10).await.0, (0..10).collect::<Vec<_>>(), "and it is back");
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_told_before_the_timeout_is_over() {
    let (log, faults, _broker) = open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    read_all(&mut consumer).await;
    append(&log, 0, [1]).await;
    faults.fail_fetches(TROUBLED, usize::MAX);
    let start = Instant::now();
    let batch = consumer.poll(10, HOUR).await.unwrap();
    assert!(matches!(batch.notices[..], [Notice::Fault { .. }, ..]), "{:?}", batch.notices);
    assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_revocation_is_told_before_the_timeout_is_over() {
    let (log, ..) = open().await;
    let mut one = log.consumer("g").await.unwrap();
    read_all(&mut one).await;
    let (other, start) = (log.clone(), Instant::now());
    let joining = tokio::spawn(async move {
        tokio::time::sleep(SECOND).await;
        other.consumer("g").await
    });
    let batch = one.poll(10, HOUR).await.unwrap();
    assert!(matches!(batch.notices[..], [Notice::Revoked(_), ..]), "{:?}", batch.notices);
    assert!(start.elapsed() < 3 * SECOND, "{:?}", start.elapsed());
    drop(joining.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn notices_of_polls_that_are_dropped_do_not_pile_up() {
    let (log, faults, _broker) = open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    faults.fail_fetches(TROUBLED, usize::MAX);
    append(&log, 0, [1]).await;
    for _ in 0..10_000 {
        tokio::select! {
            biased;
            // Dropped at its second turn at the latest.
            () = tokio::task::yield_now() => {}
            _ = consumer.poll(10, HOUR) => {}
        }
        tokio::time::advance(SHORT).await;
    }
    let batch = consumer.poll(10, SECOND).await.unwrap();
    assert!(batch.notices.len() <= 2, "{} notices", batch.notices.len());
    faults.fail_fetches(TROUBLED, 0);
    assert_eq!(read(&mut consumer, 1).await.0, [1]);
}

#[tokio::test(start_paused = true)]
async fn a_stretch_of_poison_is_passed_over_without_sleeping() {
    let (log, faults, _broker) = open().await;
    for _ in 0..20_000 {
        faults.append_foreign(TROUBLED, "garbage").unwrap();
    }
    append(&log, 0, [1]).await;
    append(&log, 1, [2]).await;
    let skip = ConsumerOptions::default().poison(PoisonPolicy::Skip);
    let mut consumer = log.consumer_with("g", skip).await.unwrap();
    let (start, mut seen, mut skipped) = (Instant::now(), Vec::new(), 0);
    while seen.len() < 2 {
        let batch = consumer.poll(10, HOUR).await.unwrap();
        assert!(batch.notices.len() <= 1_100, "{} notices in one batch", batch.notices.len());
        skipped += batch.notices.iter().filter(|notice| matches!(notice, Notice::Skipped { .. })).count();
        seen.extend(batch.into_events().map(|event| event.number));
    }
    assert_eq!((seen.len(), skipped), (2, 20_000));
    assert!(start.elapsed() < 2 * SHORT, "it slept {:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_cannot_be_parked_hides_no_other_partition() {
    for closed in [false, true] {
        let (log, faults, _broker) = open().await;
        let letters_broker = MemoryBroker::new();
        let letters = event_log_memory::builder::<DeadLetter>().broker(&letters_broker).open().await.unwrap();
        faults.append_foreign(TROUBLED, "garbage").unwrap();
        append(&log, 0, 0..10).await;
        append(&log, 1, 10..20).await;
        if closed {
            letters.close(SECOND).await.unwrap();
        } else {
            letters_broker.faults("events").unwrap().disconnect();
        }
        let letters: Arc<dyn EventLog<DeadLetter>> = Arc::new(letters);
        let mut consumer = log.consumer_with("g", parking(&letters)).await.unwrap();
        let start = Instant::now();
        let (seen, _) = read(&mut consumer, 10).await;
        assert!((10..20).all(|number| seen.contains(&number)), "closed: {closed}, {seen:?}");
        assert!(start.elapsed() < 2 * SECOND, "closed: {closed}, {:?}", start.elapsed());
        if !closed {
            letters_broker.faults("events").unwrap().reconnect();
            tokio::time::sleep(60 * SECOND).await;
            let (seen, notices) = read(&mut consumer, 10).await;
            assert_eq!(seen, (0..10).collect::<Vec<_>>());
            assert!(notices.iter().any(|notice| matches!(notice, Notice::Parked { .. })), "{notices:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_record_of_any_legal_size_stops_nothing() {
    let (log, faults, _broker) = open().await;
    let letters: Arc<dyn EventLog<DeadLetter>> =
        Arc::new(event_log_memory::builder::<DeadLetter>().open().await.unwrap());
    for bytes in [0, 1, 3 << 20, event_log_core::limits::MAX_EVENT_BYTES] {
        faults.append_foreign(TROUBLED, vec![0xff; bytes]).unwrap();
    }
    append(&log, 0, 0..10).await;
    append(&log, 1, 10..20).await;
    let mut consumer = log.consumer_with("g", parking(&letters)).await.unwrap();
    let (mut events, mut poisoned, mut parked) = (0, 0, 0);
    for _ in 0..20 {
        let batch = consumer.poll(100, SECOND).await.unwrap();
        parked += batch.notices.iter().filter(|notice| matches!(notice, Notice::Parked { .. })).count();
        for record in batch {
            let count = if record.event.is_ok() { &mut events } else { &mut poisoned };
            *count += 1;
        }
        if events == 20 {
            break;
        }
    }
    assert_eq!((events, poisoned + parked), (20, 4), "{poisoned} are handed over, {parked} are parked");
    assert!(parked >= 3, "what fits into a letter is parked: {parked}");
}

#[tokio::test(start_paused = true)]
async fn letters_about_the_same_place_are_letters_of_their_own() {
    let broker = MemoryBroker::new();
    let letters = event_log_memory::builder::<DeadLetter>().topic("letters").partitions(1).broker(&broker);
    let letters: Arc<dyn EventLog<DeadLetter>> = Arc::new(letters.open().await.unwrap());
    for topic in ["orders", "payments"] {
        let log: MemoryLog<Event> =
            event_log_memory::builder().topic(topic).broker(&broker).open().await.unwrap();
        broker.faults(topic).unwrap().append_foreign(TROUBLED, format!("garbage in {topic}")).unwrap();
        for group in ["billing", "shipping"] {
            let mut consumer = log.consumer_with(group, parking(&letters)).await.unwrap();
            let (_, notices) = read_all(&mut consumer).await;
            assert!(notices.iter().any(|notice| matches!(notice, Notice::Parked { .. })), "{notices:?}");
        }
    }
    let mut reader = letters.consumer("operator").await.unwrap();
    let batch = reader.poll(100, SECOND).await.unwrap();
    assert_eq!(batch.len(), 4, "{:?}", batch.notices);
}

/// A clock that goes on with every look at it, and jumps when the test says so.
#[derive(Clone, Debug, Default)]
struct Jumpy(Arc<AtomicU64>);

impl Clock for Jumpy {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000_000 + self.0.fetch_add(1, Ordering::Relaxed))
    }
}

#[tokio::test(start_paused = true)]
async fn a_partition_whose_clock_jumped_ahead_has_its_turn() {
    let clock = Jumpy::default();
    let broker = MemoryBroker::with_clock(Arc::new(clock.clone()));
    let log = event_log_memory::builder().broker(&broker).partitions(PARTITIONS).open().await.unwrap();
    clock.0.fetch_add(3_600_000_000, Ordering::Relaxed);
    log.append_acked(event(0, 0)).await.unwrap();
    clock.0.fetch_sub(3_600_000_000, Ordering::Relaxed);
    append(&log, 1, 0..200).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let (mut came, mut others) = (false, 0);
    for _ in 0..1_000 {
        append(&log, 1, 0..100).await;
        let batch = consumer.poll(100, SECOND).await.unwrap();
        came |= batch.records.iter().any(|record| record.position.partition == TROUBLED);
        others += batch.len();
        if came {
            break;
        }
    }
    assert!(came, "{others} records of the other partition were delivered before");
    assert!(others > 0);
}
