//! What a commit says, and where the group stands: epochs that have ended, places behind the end.

use crate::fixture::{Event, SECOND, append, open, read_all};
use event_log_core::{
    Cursor, EventConsumer, EventLog as _, EventLogExt as _, Offset, PartitionId, Position, SeekPosition,
};
use event_log_memory::MemoryLog;

fn at(partition: u32, offset: u64) -> SeekPosition {
    SeekPosition::Position(Position::new(PartitionId(partition), Offset(offset)))
}

async fn place(log: &MemoryLog<Event>, partition: u32) -> Option<Offset> {
    log.lag("g").await.unwrap().get(PartitionId(partition)).unwrap().committed
}

/// `Ok` means that the place is stored, or that the group is farther already.
async fn commit_is_true(
    consumer: &mut dyn EventConsumer<Event>,
    log: &MemoryLog<Event>,
    partition: u32,
    cursor: &Cursor,
) {
    let committed = consumer.commit(cursor).await;
    let stands = place(log, partition).await;
    assert!(
        committed.is_err() || stands >= cursor.get(PartitionId(partition)),
        "{committed:?} of {cursor}, and the group stands at {stands:?}"
    );
}

/// "`Ok` means that each is stored, or that the group is farther already."
#[tokio::test(start_paused = true)]
async fn c13_ok_of_a_cursor_from_before_a_seek_back_that_was_committed() {
    let (log, _, _) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let early = consumer.poll(8, SECOND).await.unwrap();
    let late = consumer.poll(2, SECOND).await.unwrap();
    assert_eq!((early.len(), late.len()), (8, 2));
    consumer.commit(late.cursor()).await.unwrap();
    // The application decides to have all of it again, and says so to the group.
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    let beginning = consumer.position().clone();
    consumer.commit(&beginning).await.unwrap();
    assert_eq!(place(&log, 0).await, Some(Offset(0)));
    // A worker that was late.
    commit_is_true(&mut consumer, &log, 0, early.cursor()).await;
}

/// The same with the very cursor that was stored once.
#[tokio::test(start_paused = true)]
async fn c13_ok_of_the_cursor_that_was_stored_before_the_group_went_back() {
    let (log, _, _) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let all = consumer.poll(10, SECOND).await.unwrap();
    consumer.commit(all.cursor()).await.unwrap();
    consumer.seek(at(0, 3)).await.unwrap();
    let back = consumer.position().clone();
    consumer.commit(&back).await.unwrap();
    commit_is_true(&mut consumer, &log, 0, all.cursor()).await;
}

/// A partition goes to another member, which goes back on purpose, and comes again.
#[tokio::test(start_paused = true)]
async fn c13_ok_of_a_cursor_from_before_another_member_went_back() {
    let (log, _, _) = open().await;
    append(&log, 1, 0..10).await;
    let mut first = log.consumer("g").await.unwrap();
    let early = first.poll(8, SECOND).await.unwrap();
    let late = first.poll(2, SECOND).await.unwrap();
    first.commit(late.cursor()).await.unwrap();
    // Partition 1 goes to the second member.
    let mut second = log.consumer("g").await.unwrap();
    drop(first.poll(1, SECOND).await);
    second.seek(at(1, 2)).await.unwrap();
    let back = second.position().clone();
    second.commit(&back).await.unwrap();
    second.leave().await.unwrap();
    first.poll(1, SECOND).await.unwrap();
    assert_eq!(first.committed().get(PartitionId(1)), Some(Offset(2)));
    commit_is_true(&mut first, &log, 1, early.cursor()).await;
}

/// A group that was deleted while its member was cut off, and started anew.
#[tokio::test(start_paused = true)]
async fn c13_ok_of_a_cursor_from_before_the_group_was_deleted() {
    let (log, faults, _) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    let early = consumer.poll(8, SECOND).await.unwrap();
    let late = consumer.poll(2, SECOND).await.unwrap();
    consumer.commit(late.cursor()).await.unwrap();
    faults.interrupt();
    log.delete_group("g").await.unwrap();
    let mut again = 0;
    while again < 10 {
        again += consumer.poll(100, SECOND).await.unwrap().len();
    }
    commit_is_true(&mut consumer, &log, 0, early.cursor()).await;
}

/// The partition has gone to another member, which goes back on purpose. The cursor was stored before it went, which is what
/// `Ok` says; where the other member has gone, it stays.
#[tokio::test(start_paused = true)]
async fn c13_an_old_cursor_of_a_partition_that_went_away_moves_no_other_member() {
    let (log, _, _) = open().await;
    append(&log, 1, 0..10).await;
    let mut first = log.consumer("g").await.unwrap();
    let early = first.poll(8, SECOND).await.unwrap();
    let late = first.poll(2, SECOND).await.unwrap();
    first.commit(late.cursor()).await.unwrap();
    let mut second = log.consumer("g").await.unwrap();
    drop(first.poll(1, SECOND).await);
    second.seek(at(1, 2)).await.unwrap();
    let back = second.position().clone();
    second.commit(&back).await.unwrap();
    first.commit(early.cursor()).await.unwrap();
    assert_eq!(place(&log, 1).await, Some(Offset(2)));
}

/// c14: "a seek, a start or a cursor beyond the high watermark is an error, or a notice that says where reading goes on".
#[tokio::test(start_paused = true)]
async fn c14_a_place_beyond_the_end_that_is_committed_is_an_error_or_a_notice() {
    let (log, _, _) = open().await;
    append(&log, 0, 0..10).await;
    let mut consumer = log.consumer("g").await.unwrap();
    // An offset that the application has kept, from a log that was purged since.
    consumer.seek(SeekPosition::Position(Position::new(PartitionId(0), Offset(99)))).await.unwrap();
    let at = consumer.position().clone();
    let committed = consumer.commit(&at).await;
    drop(consumer);
    let place = place(&log, 0).await;
    append(&log, 0, 10..200).await;
    let mut next = log.consumer("g").await.unwrap();
    let (numbers, notices) = read_all(&mut next).await;
    assert!(
        committed.is_err() || !notices.is_empty() || numbers.first() == Some(&0),
        "{committed:?}, the place is {place:?}; the first is {:?}, and the notices are {notices:?}",
        numbers.first()
    );
}
