//! Attempts of an outside reader to break the consuming side, which it withstood.

use std::sync::Arc;
use std::time::Duration;

use crate::fixture::{SECOND, SHORT, append, event, open, read_all};
use event_log_core::{
    CommitErrorKind, ConsumerOptions, Cursor, DeadLetter, Error, EventConsumer, EventLog as _,
    EventLogExt as _, Notice, Offset, PartitionId, PoisonPolicy, Position, ProducerConfig, SeekPosition,
};
use event_log_memory::{MemoryBroker, MemoryLog};

async fn drain<E: Send + 'static>(consumer: &mut Box<dyn EventConsumer<E>>) -> (Vec<E>, Vec<Notice>) {
    let (mut events, mut notices) = (Vec::new(), Vec::new());
    loop {
        let mut batch = consumer.poll(100, SHORT).await.unwrap();
        if batch.is_empty() && batch.notices.is_empty() {
            return (events, notices);
        }
        notices.append(&mut batch.notices);
        events.extend(batch.into_events());
    }
}

#[tokio::test(start_paused = true)]
async fn c13_cursors_set_by_hand() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    consumer.poll(100, SHORT).await.unwrap();
    let at = |offset| [(PartitionId(0), Offset(offset))].into_iter().collect::<Cursor>();
    consumer.commit(&at(7)).await.unwrap();
    consumer.commit(&at(3)).await.unwrap();
    assert_eq!(log.lag("g").await.unwrap().total(), 3);
    assert!(consumer.commit(&at(11)).await.is_err());
    assert!(consumer.commit(&at(u64::MAX)).await.is_err());
    consumer.seek(SeekPosition::Cursor(at(2))).await.unwrap();
    let here = consumer.position().clone();
    consumer.commit(&here).await.unwrap();
    assert_eq!(log.lag("g").await.unwrap().total(), 8);
    // Forward again, and back to where a failed commit was to go.
    consumer.seek(SeekPosition::End).await.unwrap();
    let here = consumer.position().clone();
    consumer.commit(&here).await.unwrap();
    assert_eq!(log.lag("g").await.unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn c14_the_greatest_offset_is_told_and_reading_goes_on() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    append(&log, 1, 10..12).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let to = Position::new(PartitionId(0), Offset(u64::MAX));
    consumer.seek(SeekPosition::Position(to)).await.unwrap();
    let here = consumer.position().clone();
    // It would pass over whatever comes until then.
    assert!(consumer.commit(&here).await.is_err());
    assert!(log.lag("g").await.is_ok());
    let mut again = consumer;
    let (seen, notices) = read_all(&mut again).await;
    assert_eq!(seen, (0..12).collect::<Vec<_>>(), "{notices:?}");
    assert!(notices.iter().any(|notice| matches!(notice, Notice::Truncated { .. })));
    let here = again.position().clone();
    again.commit(&here).await.unwrap();
    assert_eq!(log.lag("g").await.unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn c1_one_record_at_a_time_through_duplicates() {
    let (log, faults, _broker) = open().await;
    faults.hold_requests(3);
    for number in 0..3 {
        log.append_acked(event(0, number)).await.unwrap();
    }
    assert!(faults.deliver_held_requests() >= 3);
    log.append_acked(event(0, 3)).await.unwrap();
    let mut consumer = log.consumer("g").await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..10 {
        let batch = consumer.poll(1, Duration::ZERO).await.unwrap();
        assert!(batch.len() <= 1);
        consumer.commit(batch.cursor()).await.unwrap();
        seen.extend(batch.into_events().map(|event| event.number));
    }
    assert_eq!(seen, [0, 1, 2, 3]);
    assert_eq!(log.lag("g").await.unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn c5_a_seek_while_a_letter_is_under_way_or_waits() {
    let (log, faults, _broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 0, [1]).await;
    let elsewhere = MemoryBroker::new();
    let letters = event_log_memory::builder::<DeadLetter>().broker(&elsewhere).partitions(1);
    let letters: Arc<MemoryLog<DeadLetter>> = Arc::new(letters.open().await.unwrap());
    let away = elsewhere.faults("events").unwrap();
    away.disconnect();
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(letters.clone()));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let stuck = consumer.poll(10, SHORT).await.unwrap();
    assert!(stuck.is_empty());
    let past = Position::new(PartitionId(0), Offset(1));
    consumer.seek(SeekPosition::Position(past)).await.unwrap();
    assert_eq!(read_all(&mut consumer).await.0, [1]);
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    consumer.poll(10, SHORT).await.unwrap();
    faults.begin_again();
    append(&log, 0, [2]).await;
    away.reconnect();
    tokio::time::sleep(60 * SECOND).await;
    let (seen, notices) = read_all(&mut consumer).await;
    // What was fetched before the truncation is delivered first.
    assert_eq!(seen, [1, 2], "{notices:?}");
    let mut reader = letters.consumer("letters").await.unwrap();
    assert_eq!(drain(&mut reader).await.0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn c6_a_dead_letter_log_that_is_the_same_topic_stops_nothing() {
    let (log, faults, broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 0, [1]).await;
    append(&log, 1, [2]).await;
    let letters =
        event_log_memory::builder::<DeadLetter>().broker(&broker).partitions(2).open().await.unwrap();
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(Arc::new(letters)));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    let mut seen = Vec::new();
    for _ in 0..20 {
        let batch =
            tokio::time::timeout(10 * SECOND, consumer.poll(100, SHORT)).await.expect("it ends").unwrap();
        seen.extend(batch.into_events().map(|event| event.number));
    }
    seen.sort_unstable();
    assert_eq!(seen, [1, 2]);
}

#[tokio::test(start_paused = true)]
async fn c8_two_members_of_one_handle_through_an_interruption_and_a_truncation() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    append(&log, 1, 10..20).await;
    let mut one = log.consumer("g").await.unwrap();
    let mut two = log.consumer("g").await.unwrap();
    let first = one.poll(3, SHORT).await.unwrap();
    two.poll(3, SHORT).await.unwrap();
    faults.interrupt();
    faults.begin_again();
    append(&log, 0, 100..103).await;
    append(&log, 1, 103..106).await;
    let mut seen = Vec::new();
    for _ in 0..6 {
        for consumer in [&mut one, &mut two] {
            let batch = consumer.poll(10, SHORT).await.unwrap();
            let cursor = batch.cursor().clone();
            seen.extend(batch.into_events().map(|event| event.number));
            // What was at hand when the truncation was met is of the log that is gone, and so is its place.
            if let Err(error) = consumer.commit(&cursor).await {
                let failures = error.failures().iter();
                let mut others = failures.filter(|(_, kind)| !matches!(kind, CommitErrorKind::Superseded));
                assert!(others.next().is_none(), "{error:?}");
            }
        }
    }
    seen.sort_unstable();
    seen.dedup();
    seen.retain(|number| *number >= 100);
    assert_eq!(seen, (100..106).collect::<Vec<_>>());
    assert!(one.commit(first.cursor()).await.is_err());
    assert_eq!(log.lag("g").await.unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn c9_polls_that_are_dropped_while_letters_are_slow_lose_nothing() {
    let (log, faults, _broker) = open().await;
    for number in 0..20 {
        append(&log, 0, [number]).await;
        faults.append_foreign(PartitionId(0), "garbage").unwrap();
        append(&log, 1, [100 + number]).await;
    }
    let elsewhere = MemoryBroker::new();
    let mut config = ProducerConfig::default();
    config.expiry = Some(Duration::from_millis(400));
    let letters = event_log_memory::builder::<DeadLetter>().broker(&elsewhere).partitions(1).config(config);
    let letters: Arc<MemoryLog<DeadLetter>> = Arc::new(letters.open().await.unwrap());
    elsewhere.faults("events").unwrap().slow_appends(Duration::from_millis(35));
    let options = ConsumerOptions::default().poison(PoisonPolicy::Park(letters.clone()));
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    faults.slow_fetches(Duration::from_millis(15));
    let (mut seen, mut parked) = (Vec::new(), 0);
    for round in 0..2_000_u64 {
        let patience = Duration::from_millis(round % 23);
        if let Ok(Ok(batch)) = tokio::time::timeout(patience, consumer.poll(3, SECOND)).await {
            parked += batch.notices.iter().filter(|notice| matches!(notice, Notice::Parked { .. })).count();
            if round % 3 == 0 {
                drop(tokio::time::timeout(Duration::ZERO, consumer.commit(batch.cursor())).await);
            }
            seen.extend(batch.into_events().map(|event| event.number));
        }
        if round % 97 == 0 {
            faults.interrupt();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).chain(100..120).collect::<Vec<_>>());
    assert_eq!(parked, 20);
    let mut reader = letters.consumer("letters").await.unwrap();
    assert_eq!(drain(&mut reader).await.0.len(), 20);
}

#[tokio::test(start_paused = true)]
async fn c4_a_commit_that_fails_by_half_says_so_and_can_be_repeated() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..5).await;
    append(&log, 1, 5..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SHORT).await.unwrap();
    faults.fail_commits(PartitionId(0), 1);
    let error = consumer.commit(batch.cursor()).await.unwrap_err();
    assert_eq!(error.failures().len(), 1);
    assert_eq!(log.lag("g").await.unwrap().total(), 5);
    faults.disconnect();
    assert!(consumer.commit(batch.cursor()).await.is_err());
    faults.reconnect();
    consumer.commit(batch.cursor()).await.unwrap();
    assert_eq!(log.lag("g").await.unwrap().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn c11_a_partition_that_fails_for_long_hides_nothing_that_comes_to_another() {
    let (log, faults, _broker) = open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    append(&log, 0, [0]).await;
    faults.fail_fetches(PartitionId(0), 1_000);
    for number in 1..20 {
        append(&log, 1, [number]).await;
        let start = tokio::time::Instant::now();
        while consumer.poll(10, SECOND).await.unwrap().is_empty() {}
        assert!(start.elapsed() < SECOND, "{:?}", start.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn c6_halt_delivers_the_others_and_goes_on_behind_a_seek() {
    let (log, faults, _broker) = open().await;
    faults.append_foreign(PartitionId(0), "garbage").unwrap();
    append(&log, 0, [1]).await;
    append(&log, 1, [2]).await;
    let options = ConsumerOptions::default().poison(PoisonPolicy::Halt);
    let mut consumer = log.consumer_with("g", options).await.unwrap();
    assert_eq!(consumer.poll(10, SHORT).await.unwrap().len(), 1);
    for number in 3..6 {
        let Err(Error::Poisoned { position, .. }) = consumer.poll(10, SHORT).await else {
            panic!("it halts")
        };
        assert_eq!(position, Position::new(PartitionId(0), Offset(0)));
        append(&log, 1, [number]).await;
        assert_eq!(consumer.poll(10, SHORT).await.unwrap().len(), 1);
    }
    faults.interrupt();
    assert!(matches!(consumer.poll(10, SHORT).await, Err(Error::Poisoned { .. })));
    let past = Position::new(PartitionId(0), Offset(1));
    consumer.seek(SeekPosition::Position(past)).await.unwrap();
    assert_eq!(read_all(&mut consumer).await.0, [1]);
}

#[tokio::test(start_paused = true)]
async fn c7_a_truncation_at_any_moment_of_a_look_back_hides_nothing() {
    for after in (0..200).step_by(10) {
        let (log, faults, _broker) = open().await;
        append(&log, 0, 0..3_000).await;
        let mut first = log.consumer("g").await.unwrap();
        first.seek(SeekPosition::End).await.unwrap();
        let here = first.position().clone();
        first.commit(&here).await.unwrap();
        drop(first);
        append(&log, 0, 3_000..3_010).await;
        let mut consumer = log.consumer("g").await.unwrap();
        faults.slow_fetches(Duration::from_millis(40));
        drop(tokio::time::timeout(Duration::from_millis(after), consumer.poll(1, SECOND)).await);
        faults.begin_again();
        append(&log, 0, 5_000..5_020).await;
        if after % 20 == 0 {
            faults.interrupt();
        }
        let (mut seen, mut notices) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            if let Ok(mut batch) = consumer.poll(100, SECOND).await {
                notices.append(&mut batch.notices);
                seen.extend(batch.into_events().map(|event| event.number));
            }
        }
        seen.retain(|number| *number >= 5_000);
        assert_eq!(seen, (5_000..5_020).collect::<Vec<_>>(), "after {after} ms, {notices:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn c5_from_end_over_gaps_and_through_a_purge() {
    let (log, faults, _broker) = open().await;
    for number in 0..10 {
        faults.skip_offsets(PartitionId(0), 1 << (3 * number));
        append(&log, 0, [number]).await;
    }
    faults.trailing_gap(PartitionId(0), 1 << 40);
    let mut consumer = log.consumer("g").await.unwrap();
    for count in [0, 1, 3, 10, 50] {
        consumer.seek(SeekPosition::FromEnd(count)).await.unwrap();
        let expected: Vec<_> = (10_u64.saturating_sub(count as u64)..10).collect();
        assert_eq!(read_all(&mut consumer).await.0, expected, "{count}");
    }
    assert!(consumer.seek(SeekPosition::FromEnd(usize::MAX)).await.is_err());
    faults.purge();
    consumer.seek(SeekPosition::FromEnd(3)).await.unwrap();
    append(&log, 0, [77]).await;
    assert_eq!(read_all(&mut consumer).await.0, [77]);
}

#[tokio::test(start_paused = true)]
async fn c8_a_member_that_leaves_while_it_is_cut_off_hides_nothing() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..5).await;
    append(&log, 1, 5..10).await;
    let mut one = log.consumer("g").await.unwrap();
    let mut two = log.consumer("g").await.unwrap();
    one.poll(100, SHORT).await.unwrap();
    two.poll(100, SHORT).await.unwrap();
    faults.disconnect();
    assert!(one.leave().await.is_err());
    faults.reconnect();
    let mut seen = read_all(&mut two).await.0;
    let here = two.position().clone();
    two.commit(&here).await.unwrap();
    seen.dedup();
    assert!((0..5).all(|number| seen.contains(&number)), "{seen:?}");
    assert_eq!(log.lag("g").await.unwrap().total(), 0);
}
