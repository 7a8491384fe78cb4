//! What a commit says, and where the group stands: epochs that have ended, places behind the end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod matrix;

use event_log_core::{
    EventConsumer as _, EventLog as _, EventLogExt as _, Offset, PartitionId, Position, SeekPosition,
};
use matrix::{SECOND, append, open, read_all};

fn at(partition: u32, offset: u64) -> SeekPosition {
    SeekPosition::Position(Position::new(PartitionId(partition), Offset(offset)))
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
    assert_eq!(log.lag("g").await.unwrap().get(PartitionId(0)).unwrap().committed, Some(Offset(0)));
    // A worker that was late.
    let committed = consumer.commit(early.cursor()).await;
    let place = log.lag("g").await.unwrap().get(PartitionId(0)).unwrap().committed;
    assert!(committed.is_err() || place >= Some(Offset(8)), "{committed:?}, and the group is at {place:?}");
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
    let committed = consumer.commit(all.cursor()).await;
    let place = log.lag("g").await.unwrap().get(PartitionId(0)).unwrap().committed;
    assert!(committed.is_err() || place >= Some(Offset(10)), "{committed:?}, and the group is at {place:?}");
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
    let batch = first.poll(1, SECOND).await.unwrap();
    println!("{batch:?}");
    assert_eq!(first.committed().get(PartitionId(1)), Some(Offset(2)));
    let committed = first.commit(early.cursor()).await;
    let place = log.lag("g").await.unwrap().get(PartitionId(1)).unwrap().committed;
    assert!(committed.is_err() || place >= Some(Offset(8)), "{committed:?}, and the group is at {place:?}");
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
    let committed = consumer.commit(early.cursor()).await;
    let place = log.lag("g").await.unwrap().get(PartitionId(0)).unwrap().committed;
    assert!(committed.is_err() || place >= Some(Offset(8)), "{committed:?}, and the group is at {place:?}");
}

/// Without a seek: the group's place went back by the log's doing (it began again), unnoticed by old cursors.
#[tokio::test(start_paused = true)]
async fn c13_a_revoked_cursor_when_the_partition_is_away() {
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
    let committed = first.commit(early.cursor()).await;
    let place = log.lag("g").await.unwrap().get(PartitionId(1)).unwrap().committed;
    println!("away: {committed:?}, {place:?}");
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
    let place = log.lag("g").await.unwrap().get(PartitionId(0)).unwrap().committed;
    append(&log, 0, 10..200).await;
    let mut next = log.consumer("g").await.unwrap();
    let (numbers, notices) = read_all(&mut next).await;
    assert!(
        committed.is_err() || !notices.is_empty() || numbers.first() == Some(&0),
        "{committed:?}, the place is {place:?}; the first is {:?}, and the notices are {notices:?}",
        numbers.first()
    );
    let _ = SECOND;
}
