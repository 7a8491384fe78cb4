//! Attempts of an outside reader: seeks that follow one another, beyond the end too, and in a log that has begun again.

use std::time::Duration;

use crate::fixture::{SECOND, SHORT, append, open, read_all};
use event_log_core::{
    CommitErrorKind, Cursor, EventConsumer as _, EventLog as _, EventLogExt as _, Notice, Offset,
    PartitionId, Position, SeekPosition,
};

const MS: Duration = Duration::from_millis(1);

fn at(partition: u32, offset: u64) -> SeekPosition {
    SeekPosition::Position(Position::new(PartitionId(partition), Offset(offset)))
}

/// c5: "A consumer moves to … a position". The one before was beyond the end, by mistake, and was corrected at once.
#[tokio::test(start_paused = true)]
async fn c5_a_seek_that_corrects_one_beyond_the_end_moves_to_where_it_says() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(read_all(&mut consumer).await.0.len(), 10);
    consumer.seek(at(0, 100)).await.unwrap();
    consumer.seek(at(0, 7)).await.unwrap();
    assert_eq!(consumer.position().get(PartitionId(0)), Some(Offset(7)));
    let (seen, notices) = read_all(&mut consumer).await;
    assert_eq!(seen, [7, 8, 9], "{notices:?}");
}

/// The same with a cursor, as an application does that has kept one.
#[tokio::test(start_paused = true)]
async fn c14_a_seek_to_a_kept_cursor_after_one_beyond_the_end_is_not_said_to_be_truncated() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(7, SHORT).await.unwrap();
    let kept = batch.cursor().clone();
    consumer.commit(&kept).await.unwrap();
    consumer.seek(at(0, 100)).await.unwrap();
    consumer.seek(SeekPosition::Cursor(kept.clone())).await.unwrap();
    let (seen, notices) = read_all(&mut consumer).await;
    let is_truncated = notices.iter().any(|notice| matches!(notice, Notice::Truncated { .. }));
    assert!(!is_truncated, "nothing was truncated: {notices:?}; {seen:?}");
}

/// The same where nothing is said wrongly: seeks one after the other, of which only the last counts.
#[tokio::test(start_paused = true)]
async fn c5_of_two_seeks_the_last_counts() {
    let all = [
        (SeekPosition::Beginning, 0),
        (SeekPosition::End, 20),
        (SeekPosition::FromEnd(3), 17),
        (at(0, 5), 5),
        (at(0, 20), 20),
        (at(0, 21), 0),
        (at(0, u64::MAX), 0),
    ];
    let mut failures = Vec::new();
    for polled in [false, true] {
        for (first, _) in &all {
            for (second, begins) in &all {
                let (log, ..) = open().await;
                append(&log, 0, 0..20).await;
                let mut consumer = log.consumer("g").await.unwrap();
                if polled {
                    consumer.poll(3, SHORT).await.unwrap();
                }
                consumer.seek(first.clone()).await.unwrap();
                consumer.seek(second.clone()).await.unwrap();
                let (seen, notices) = read_all(&mut consumer).await;
                if seen != (*begins..20).collect::<Vec<_>>() {
                    failures.push(format!("{polled} {first:?}, {second:?}: {seen:?} {notices:?}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

/// c13: `Ok` means that every named place is stored: this one is, and "committing twice changes nothing".
#[tokio::test(start_paused = true)]
async fn c13_committing_again_after_a_seek_beyond_the_end_and_back() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SHORT).await.unwrap();
    consumer.commit(batch.cursor()).await.unwrap();
    consumer.seek(at(0, 100)).await.unwrap();
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    consumer.commit(batch.cursor()).await.unwrap();
    assert_eq!(read_all(&mut consumer).await.0.len(), 10);
    let again = consumer.commit(batch.cursor()).await;
    let lag = log.lag("g").await.unwrap();
    assert!(again.is_ok(), "{again:?}, although the group is there: {lag:?}");
}

/// c13: `Ok` of a place that is stored; with the notice of the place beyond the end told in between.
#[tokio::test(start_paused = true)]
async fn c13_a_stored_place_is_ok_after_a_seek_beyond_the_end_was_told() {
    let (log, ..) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let batch = consumer.poll(100, SHORT).await.unwrap();
    consumer.commit(batch.cursor()).await.unwrap();
    consumer.seek(at(0, 100)).await.unwrap();
    read_all(&mut consumer).await;
    let again = consumer.commit(batch.cursor()).await;
    assert!(again.is_ok(), "{again:?}: {:?}", log.lag("g").await.unwrap());
}

/// `EventConsumer::commit`: "The cursor of another consumer or another topic, and one beyond what was delivered, is a mistake of the
/// caller: then nothing is stored." Once a consumer was sent beyond the end, it is not taken for one any more.
#[tokio::test(start_paused = true)]
async fn c13_a_cursor_beyond_what_was_delivered_stores_nothing_also_after_a_seek_beyond_the_end() {
    for beyond in [false, true] {
        let (log, ..) = open().await;
        append(&log, 0, 0..10).await;
        append(&log, 1, 10..20).await;
        let mut consumer = log.consumer("g").await.unwrap();
        read_all(&mut consumer).await;
        if beyond {
            consumer.seek(at(0, u64::MAX)).await.unwrap();
            assert_eq!(read_all(&mut consumer).await.0.len(), 10);
        }
        let mixed: Cursor =
            [(PartitionId(0), Offset(5_000)), (PartitionId(1), Offset(3))].into_iter().collect();
        let committed = consumer.commit(&mixed).await;
        let lag = log.lag("g").await.unwrap();
        let place = lag.get(PartitionId(1)).unwrap().committed;
        assert_eq!(place, Some(Offset(0)), "sent beyond the end before: {beyond}; {committed:?}");
    }
}

/// `EventConsumer::commit`: "The stored place moves back only after the consumer has sought back." It was sent forwards, beyond the end,
/// and no poll has returned since.
#[tokio::test(start_paused = true)]
async fn c4_a_commit_moves_no_place_back_unless_the_consumer_has_sought_back() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    append(&log, 1, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    read_all(&mut consumer).await;
    let here = consumer.position().clone();
    consumer.commit(&here).await.unwrap();
    consumer.seek(at(0, 100)).await.unwrap();
    faults.slow_fetches(50 * MS);
    assert!(tokio::time::timeout(20 * MS, consumer.poll(1, SECOND)).await.is_err());
    let here = consumer.position().clone();
    let committed = consumer.commit(&here).await;
    let place = log.lag("g").await.unwrap().get(PartitionId(0)).unwrap().committed;
    assert_eq!(place, Some(Offset(10)), "{here} {committed:?}");
}

/// A notice of a place that was left by a later seek is not told of the new one: what `Truncated` says ("where it continues instead")
/// is not so.
#[tokio::test(start_paused = true)]
async fn c14_a_truncation_that_is_told_is_where_reading_continues() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..10).await;
    append(&log, 1, 0..500).await;
    let mut consumer = log.consumer("g").await.unwrap();
    // A fetch of each partition takes a while, so that the poll is dropped before it can return.
    consumer.seek(at(0, 100)).await.unwrap();
    faults.slow_fetches(50 * MS);
    let dropped = tokio::time::timeout(20 * MS, consumer.poll(1, SECOND)).await;
    assert!(dropped.is_err());
    faults.slow_fetches(Duration::ZERO);
    consumer.seek(at(0, 5)).await.unwrap();
    let (mut first, mut notices) = (None, Vec::new());
    for _ in 0..100 {
        let mut batch = consumer.poll(100, SHORT).await.unwrap();
        notices.append(&mut batch.notices);
        let of_0 =
            batch.records.iter().map(|record| record.position).find(|at| at.partition == PartitionId(0));
        if first.is_none() {
            first = of_0.map(|at| at.offset);
        }
    }
    for notice in &notices {
        if let Notice::Truncated { resumed_at, .. } = notice {
            assert_eq!(Some(*resumed_at), first, "{notices:?}, and the first record is {first:?}");
        }
    }
}

/// c13, and `CommitErrorKind::Superseded` "from before the partition was truncated: its offset means nothing any more". The consumer
/// has been answered that the log began again, and has returned from a poll since; what it commits then is of the log that is gone.
#[tokio::test(start_paused = true)]
async fn c13_a_commit_after_the_poll_that_met_a_truncation_hides_no_record_of_the_new_log() {
    let (log, faults, _broker) = open().await;
    append(&log, 0, 0..500).await;
    let mut consumer = log.consumer("g").await.unwrap();
    assert_eq!(consumer.poll(100, SHORT).await.unwrap().len(), 100);
    faults.begin_again();
    append(&log, 0, 1_000..2_000).await;
    // 28 are at hand, and the answer to the fetch for more says that the log began again.
    let batch = consumer.poll(100, SHORT).await.unwrap();
    let error = consumer.commit(batch.cursor()).await.unwrap_err();
    assert!(matches!(error.failures(), [(_, CommitErrorKind::Superseded)]), "{error:?}");
    // A crash.
    drop(consumer);
    let mut consumer = log.consumer("g").await.unwrap();
    let (seen, notices) = read_all(&mut consumer).await;
    assert_eq!(seen.len(), 1_000, "from {:?} on, {notices:?}", seen.first());
}

/// `Notice::Truncated`: "the partition ends before where this reader stood …: positions and cursors from before mean nothing any
/// more", and `SeekPosition` to a kept offset is told so, with one seek
/// (`c14_a_seek_to_a_kept_offset_before_a_truncation_is_noticed_is_told`). With another seek before it, too?
#[tokio::test(start_paused = true)]
async fn c14_a_kept_offset_of_a_log_that_is_gone_is_told_although_another_seek_was_before() {
    for first in [
        None,
        Some(SeekPosition::Beginning),
        Some(SeekPosition::End),
        Some(SeekPosition::FromEnd(1)),
        Some(at(0, 0)),
    ] {
        let (log, faults, _broker) = open().await;
        append(&log, 0, 0..10).await;
        let mut consumer = log.consumer("g").await.unwrap();
        assert_eq!(read_all(&mut consumer).await.0.len(), 10);
        let kept = Position::new(PartitionId(0), Offset(5));
        faults.begin_again();
        append(&log, 0, 100..120).await;
        if let Some(first) = first.clone() {
            consumer.seek(first).await.unwrap();
        }
        consumer.seek(SeekPosition::Position(kept)).await.unwrap();
        let (seen, notices) = read_all(&mut consumer).await;
        let is_told = notices.iter().any(|notice| matches!(notice, Notice::Truncated { .. }));
        assert!(
            is_told,
            "after {first:?}: the offset is of the log that is gone; {} records and {notices:?}",
            seen.len()
        );
    }
}

/// The same once the answer is there: the application has to know before it uses an offset that it has kept.
#[tokio::test(start_paused = true)]
async fn c14_a_log_that_is_gone_is_told_although_a_seek_found_its_place_in_the_new_one() {
    for to in [SeekPosition::Beginning, SeekPosition::End, SeekPosition::FromEnd(3)] {
        let (log, faults, _broker) = open().await;
        append(&log, 0, 0..10).await;
        let mut consumer = log.consumer("g").await.unwrap();
        assert_eq!(read_all(&mut consumer).await.0.len(), 10);
        faults.begin_again();
        append(&log, 0, 100..120).await;
        consumer.seek(to.clone()).await.unwrap();
        let sought = consumer.position().get(PartitionId(0)).unwrap();
        let (seen, notices) = read_all(&mut consumer).await;
        assert_eq!(seen, (100 + sought.0..120).collect::<Vec<_>>(), "{to:?}, {notices:?}");
        let mut told = notices.iter().filter(|notice| {
            matches!(notice, Notice::Truncated { partition: PartitionId(0), resumed_at, .. } if *resumed_at == sought)
        });
        assert!(told.next().is_some() && told.next().is_none(), "{to:?}, {notices:?}");
    }
}
