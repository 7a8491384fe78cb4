//! Attack: places beyond the end, committed before anything was polled.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod matrix;

use event_log_core::{
    EventConsumer as _, EventLog as _, EventLogExt as _, Offset, PartitionId, Position, SeekPosition,
};
use matrix::{SECOND, append, open, read_all};

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
