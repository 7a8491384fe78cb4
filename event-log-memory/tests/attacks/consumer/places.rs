//! Attempts of outside readers to break the consuming side: places, seeks, and a log that begins again.

use std::sync::Arc;
use std::time::Duration;

use crate::consuming::{Named, drain, named};
use crate::fixture::{SECOND, SHORT, append, event, open, read_all, starting_at};
use event_log_core::{
    CommitErrorKind, ConsumerOptions, DeadLetter, EventConsumer, EventLog, EventLogExt as _, Notice, Offset,
    PartitionId, Partitionable, PoisonPolicy, Position, SeekPosition,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Keyed(String);

impl Partitionable for Keyed {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.0)
    }
}

fn foreign(faults: &Faults, partition: u32, number: u64) {
    let payload = serde_json::to_vec(&event(partition, number)).unwrap();
    faults.append_foreign(PartitionId(partition), payload).unwrap();
}

/// A consumer that has fetched the answer that shows the truncation, and has not been told of it. It has delivered 1 and 9.
async fn half_aware() -> (MemoryLog<Named>, Faults, Box<dyn EventConsumer<Named>>) {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    for id in [1, 9] {
        log.append_acked(named(id)).await.unwrap();
    }
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(1, SHORT).await.unwrap().len(), 1);
    faults.begin_again();
    for id in [2, 3, 1, 4] {
        log.append_acked(named(id)).await.unwrap();
    }
    let batch = consumer.poll(5, SHORT).await.unwrap();
    assert_eq!((batch.len(), batch.notices.len()), (1, 0));
    (log, faults, consumer)
}

#[tokio::test(start_paused = true)]
async fn c5_a_seek_to_the_beginning_before_the_truncation_is_noticed_hides_nothing() {
    for noticed in [true, false] {
        let broker = MemoryBroker::new();
        let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
        let faults = broker.faults("events").unwrap();
        log.append_acked(named(1)).await.unwrap();
        let mut consumer = log.consumer("g").await.unwrap();
        assert_eq!(drain(&mut consumer).await.0.len(), 1);
        // The log is recreated, and filled in another order.
        faults.begin_again();
        for id in [2, 3, 1] {
            log.append_acked(named(id)).await.unwrap();
        }
        if noticed {
            drain(&mut consumer).await;
        }
        consumer.seek(SeekPosition::Beginning).await.unwrap();
        let (events, notices) = drain(&mut consumer).await;
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        assert_eq!(ids, [2, 3, 1], "noticed: {noticed}, {notices:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c5_a_sought_end_and_a_start_at_the_end_agree_about_a_second_copy() {
    for as_start in [true, false] {
        let (log, faults, _broker) = open().await;
        faults.hold_requests(1);
        log.append_acked(event(0, 1)).await.unwrap();
        let mut consumer = if as_start {
            log.consumer_with("g", starting_at(SeekPosition::End)).await.unwrap()
        } else {
            let mut consumer = log.consumer("g").await.unwrap();
            consumer.seek(SeekPosition::End).await.unwrap();
            consumer
        };
        assert!(faults.deliver_held_requests() > 0);
        log.append_acked(event(0, 2)).await.unwrap();
        let (seen, notices) = read_all(&mut consumer).await;
        assert_eq!(seen, [2], "as start: {as_start}, {notices:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c13_a_cursor_from_before_many_seeks_concerns_its_partition_alone() {
    let (log, ..) = open().await;
    append(&log, 0, 0..5).await;
    append(&log, 1, 5..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SHORT).await.unwrap();
    assert_eq!(batch.len(), 10);
    for _ in 0..17 {
        let to = Position::new(PartitionId(0), Offset(0));
        consumer.seek(SeekPosition::Position(to)).await.unwrap();
    }
    let error = consumer.commit(batch.cursor()).await.unwrap_err();
    let [(PartitionId(0), kind)] = error.failures() else { panic!("{error:?}") };
    assert_eq!(log.lag("g").await.unwrap().total(), 5, "partition 1 is stored: {kind:?}");
    assert!(matches!(kind, CommitErrorKind::Superseded), "{kind:?}");
}

#[tokio::test(start_paused = true)]
async fn c13_a_commit_to_a_group_that_was_deleted_meanwhile_is_stored() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SHORT).await.unwrap();
    consumer.commit(batch.cursor()).await.unwrap();
    // The consumer is no member until it has joined again.
    faults.interrupt();
    log.delete_group("g").await.unwrap();
    let polled = consumer.poll(100, SHORT).await;
    let position = consumer.position().clone();
    let committed = consumer.commit(&position).await;
    let lag = log.lag("g").await.unwrap().total();
    assert!(committed.is_err() || lag == 0, "{polled:?}, {committed:?}, lag {lag}");
}

#[tokio::test(start_paused = true)]
async fn c12_a_consumer_that_joins_a_deleted_group_again_starts_it() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    let end = || starting_at(SeekPosition::End);
    let mut consumer = log.consumer_with("g", end()).await.unwrap();
    read_all(&mut consumer).await;
    faults.interrupt();
    log.delete_group("g").await.unwrap();
    append(&log, 0, [10]).await;
    // It goes on, and dies before it commits.
    let batch = consumer.poll(100, SHORT).await.unwrap();
    let delivered: Vec<_> = batch.into_events().map(|event| event.number).collect();
    drop(consumer);
    let mut again = log.consumer_with("g", end()).await.unwrap();
    let seen = read_all(&mut again).await.0;
    assert!(
        delivered.is_empty() || !seen.is_empty(),
        "{delivered:?} was delivered, not committed, and is lost"
    );
}

#[tokio::test(start_paused = true)]
async fn a8_what_was_seen_before_two_truncations_is_a_copy_as_it_is_after_one() {
    let broker = MemoryBroker::new();
    let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
    let faults = broker.faults("events").unwrap();
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = Vec::new();
    for incarnation in 0..3 {
        // The producers send all again.
        for id in [1, 2, 3] {
            log.append_acked(named(id)).await.unwrap();
        }
        seen.extend(drain(&mut consumer).await.0.iter().map(|event| (incarnation, event.id)));
        faults.begin_again();
    }
    assert_eq!(seen, [(0, 1), (0, 2), (0, 3)]);
}

#[test]
fn c12_of_two_first_members_one_prevails_in_a_log_of_the_usual_size() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let broker = MemoryBroker::new();
        let log = event_log_memory::builder::<Keyed>().broker(&broker).partitions(8);
        let log = Arc::new(log.open().await.unwrap());
        let faults = broker.faults("events").unwrap();
        for partition in 0..8 {
            faults.append_foreign(PartitionId(partition), r#""k""#).unwrap();
        }
        let start = std::time::Instant::now();
        for round in 0.. {
            if start.elapsed() > 5 * SECOND {
                break;
            }
            let group = format!("g{round}");
            let open = |start| {
                let (log, group) = (Arc::clone(&log), group.clone());
                tokio::spawn(async move {
                    drop(log.consumer_with(&group, ConsumerOptions::starting_at(start)).await.unwrap());
                })
            };
            let (one, two) = (open(SeekPosition::Beginning), open(SeekPosition::End));
            one.await.unwrap();
            two.await.unwrap();
            let lag = log.lag(&group).await.unwrap().total();
            assert!(lag == 0 || lag == 8, "round {round}: the starts are mixed, lag {lag}");
        }
    });
}

#[tokio::test(start_paused = true)]
async fn c14_a_notice_of_a_place_that_was_left_is_not_told_of_the_new_one() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let beyond = Position::new(PartitionId(0), Offset(100));
    consumer.seek(SeekPosition::Position(beyond)).await.unwrap();
    drop(tokio::time::timeout(Duration::ZERO, consumer.poll(1, SHORT)).await);
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    let (seen, _) = read_all(&mut consumer).await;
    assert_eq!(seen, (0..10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn c13_a_cursor_set_by_hand_from_before_a_truncation_concerns_its_partition_alone() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    append(&log, 1, 10..15).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read_all(&mut consumer).await;
    // As serde gives it back: without epochs.
    let kept = serde_json::from_str(&serde_json::to_string(consumer.position()).unwrap()).unwrap();
    faults.begin_again();
    append(&log, 0, 100..103).await;
    append(&log, 1, 103..110).await;
    read_all(&mut consumer).await;
    let committed = consumer.commit(&kept).await;
    let lag = log.lag("g").await.unwrap();
    assert!(committed.is_err());
    // Partition 1 has reached 5 again, so that its place can be stored.
    assert_eq!(lag.total(), 3 + 2, "{committed:?}");
}

#[tokio::test(start_paused = true)]
async fn c7_messages_of_foreign_producers_in_the_new_log_are_no_copies_of_those_in_the_old_one() {
    let (log, faults, _broker) = open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    for number in 0..3 {
        foreign(&faults, 0, number);
    }
    assert_eq!(read_all(&mut consumer).await.0, [0, 1, 2]);
    faults.begin_again();
    for number in 10..13 {
        foreign(&faults, 0, number);
    }
    let (seen, notices) = read_all(&mut consumer).await;
    assert_eq!(seen, [10, 11, 12], "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn l10_letters_about_messages_of_two_incarnations_are_letters_of_their_own() {
    let (log, faults, _broker) = open().await;
    let letters: Arc<MemoryLog<DeadLetter>> =
        Arc::new(event_log_memory::builder::<DeadLetter>().partitions(1).open().await.unwrap());
    for payload in ["garbage", "rubbish"] {
        faults.append_foreign(PartitionId(0), payload).unwrap();
        let options = ConsumerOptions::default().poison(PoisonPolicy::Park(letters.clone()));
        let mut consumer = log.consumer_with("g", options).await.unwrap();
        let (_, notices) = read_all(&mut consumer).await;
        assert!(notices.iter().any(|notice| matches!(notice, Notice::Parked { .. })), "{notices:?}");
        faults.begin_again();
    }
    let mut reader = letters.consumer("letters").await.unwrap();
    let (seen, notices) = drain(&mut reader).await;
    assert_eq!(seen.len(), 2, "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn c5_two_seeks_before_the_truncation_is_noticed_hide_nothing() {
    for seeks in 1..4 {
        let broker = MemoryBroker::new();
        let log = event_log_memory::builder().broker(&broker).partitions(1).open().await.unwrap();
        let faults = broker.faults("events").unwrap();
        log.append_acked(named(1)).await.unwrap();
        let mut consumer = log.consumer("g").await.unwrap();
        assert_eq!(drain(&mut consumer).await.0.len(), 1);
        faults.begin_again();
        for id in [2, 3, 1] {
            log.append_acked(named(id)).await.unwrap();
        }
        for _ in 0..seeks {
            consumer.seek(SeekPosition::Beginning).await.unwrap();
        }
        let (events, notices) = drain(&mut consumer).await;
        let ids: Vec<_> = events.iter().map(|event| event.id).collect();
        assert_eq!(ids, [2, 3, 1], "{seeks} seeks, {notices:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c13_a_cursor_from_before_a_seek_and_a_truncation_is_not_said_to_be_stored() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let mut old = consumer.poll(5, SHORT).await.unwrap().cursor().clone();
    old.remove(PartitionId(1));
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    assert_eq!(read_all(&mut consumer).await.0.len(), 10);
    faults.begin_again();
    append(&log, 0, 100..107).await;
    assert_eq!(read_all(&mut consumer).await.0.len(), 7);
    let here = consumer.position().clone();
    consumer.commit(&here).await.unwrap();
    // Nothing was committed while the old log was there.
    let committed = consumer.commit(&old).await;
    assert!(committed.is_err(), "Ok for a place of the log that is gone, which was never stored");
}

#[tokio::test(start_paused = true)]
async fn c5_a_seek_to_the_beginning_while_a_truncation_waits_to_be_told_hides_nothing() {
    let (_log, _faults, mut consumer) = half_aware().await;
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    let (events, notices) = drain(&mut consumer).await;
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids, [2, 3, 1, 4], "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn c14_a_seek_to_a_kept_offset_while_a_truncation_waits_to_be_told_hides_no_truncation() {
    let (_log, _faults, mut consumer) = half_aware().await;
    let kept = Position::new(PartitionId(0), Offset(1));
    consumer.seek(SeekPosition::Position(kept)).await.unwrap();
    let (events, notices) = drain(&mut consumer).await;
    let ids: Vec<_> = events.iter().map(|event| event.id).collect();
    let is_told = notices.iter().any(|notice| matches!(notice, Notice::Truncated { .. }));
    assert!(is_told, "the offset is of the log that is gone, and that is not told: {ids:?}, {notices:?}");
}

#[tokio::test(start_paused = true)]
async fn c14_a_seek_to_a_kept_offset_before_a_truncation_is_noticed_is_told() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..3).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(read_all(&mut consumer).await.0.len(), 3);
    faults.begin_again();
    append(&log, 0, 100..110).await;
    consumer.seek(SeekPosition::Position(Position::new(PartitionId(0), Offset(1)))).await.unwrap();
    let (seen, notices) = read_all(&mut consumer).await;
    assert_eq!(seen, (100..110).collect::<Vec<_>>(), "{notices:?}");
}

#[tokio::test(start_paused = true)]
async fn c13_what_was_committed_in_the_old_log_is_not_taken_for_the_place_in_the_new_one() {
    for to in [SeekPosition::Beginning, SeekPosition::End] {
        let (log, faults, _broker) = open().await;
        append(&log, 0, 0..10).await;
        let mut consumer = log.consumer("g").await.unwrap();
        assert_eq!(read_all(&mut consumer).await.0.len(), 10);
        let here = consumer.position().clone();
        consumer.commit(&here).await.unwrap();
        faults.begin_again();
        append(&log, 0, 100..110).await;
        consumer.seek(to.clone()).await.unwrap();
        let (seen, notices) = read_all(&mut consumer).await;
        let here = consumer.position().clone();
        let committed = consumer.commit(&here).await;
        let lag = log.lag("g").await.unwrap();
        assert!(
            committed.is_err() || lag.total() == 0,
            "{to:?}: {seen:?}, {notices:?}, Ok for {here}, and {lag:?}"
        );
    }
}
