//! Cursors that name a partition which came to the log after this handle was opened.

use std::sync::Arc;

use event_log_core::engine::TransportLog;
use event_log_core::{
    CommitErrorKind, Cursor, EventConsumer, EventLogExt as _, Offset, PartitionId, RawEvent, SeekPosition,
};

use crate::reading_ahead::{MS, Reach, SECOND, Server, read};

const NEW: PartitionId = PartitionId(2);

fn places(server: &Server) -> Vec<Option<Offset>> {
    server.change(|state| state.parts.iter().map(|part| part.place).collect())
}

/// What an application has kept: it says nothing of who read it.
fn kept(cursor: &Cursor) -> Cursor {
    serde_json::from_slice(&serde_json::to_vec(cursor).unwrap()).unwrap()
}

fn failures(error: &event_log_core::CommitError) -> Vec<(PartitionId, &'static str)> {
    let kind = |kind: &CommitErrorKind| match kind {
        CommitErrorKind::Foreign => "foreign",
        CommitErrorKind::Revoked => "revoked",
        CommitErrorKind::Failed(error) if error.is_retryable() => "failed for now",
        _ => "something else",
    };
    error.failures().iter().map(|(partition, of)| (*partition, kind(of))).collect()
}

/// A consumer of a log of two partitions, of which its handle knows, and whether it has the third one that came.
async fn with_a_third(
    is_its_own: bool,
) -> (Arc<Server>, TransportLog<RawEvent, Reach>, Box<dyn EventConsumer<RawEvent>>) {
    let server = Server::new(2);
    server.change(|state| state.partitions_said = Some(2));
    let log = server.open().await;
    let mut consumer = log.consumer("g").await.unwrap();
    let _ = consumer.poll(1, 10 * MS).await.unwrap();
    server.change(|state| {
        state.grow();
        if is_its_own {
            state.rebalance();
        }
    });
    for number in 1..=30 {
        server.append((number % 3) as usize, number);
    }
    (server, log, consumer)
}

/// c4, c13: "`Ok` means that every named place is stored": of a partition that this member has, known to its handle or not.
#[tokio::test(start_paused = true)]
async fn c13_the_cursor_of_a_batch_with_a_partition_that_came_later_is_stored() {
    let (server, _log, mut consumer) = with_a_third(true).await;
    let cursor = read(&mut *consumer, 30).await;
    consumer.commit(&cursor).await.unwrap();
    assert_eq!(places(&server), [Some(Offset(10)); 3]);
    consumer.commit(&kept(&cursor)).await.unwrap();
}

/// c5: what can be committed can be sought.
#[tokio::test(start_paused = true)]
async fn c5_the_cursor_of_a_batch_with_a_partition_that_came_later_can_be_sought() {
    let (_server, _log, mut consumer) = with_a_third(true).await;
    let cursor = read(&mut *consumer, 30).await;
    consumer.seek(SeekPosition::Beginning).await.unwrap();
    consumer.seek(SeekPosition::Cursor(cursor.clone())).await.unwrap();
    assert_eq!(*consumer.position(), cursor);
}

/// c13: a partition that has gone from this member is one that it knows.
#[tokio::test(start_paused = true)]
async fn c13_a_partition_that_came_later_and_went_again_concerns_itself_alone() {
    let (server, _log, mut consumer) = with_a_third(true).await;
    let cursor = read(&mut *consumer, 30).await;
    server.change(|state| (state.parts[2].owner, state.generation) = (None, state.generation + 1));
    let _ = consumer.poll(1, 10 * MS).await.unwrap();
    for cursor in [&cursor, &kept(&cursor)] {
        let error = consumer.commit(cursor).await.expect_err("it is another member's");
        assert_eq!(failures(&error), [(NEW, "revoked")]);
    }
    assert_eq!(places(&server), [Some(Offset(10)), Some(Offset(10)), Some(Offset(0))]);
}

/// c13: a cursor that another member has written down, whose handle is newer: it names a partition that this member has never
/// had, of the same log.
#[tokio::test(start_paused = true)]
async fn c13_a_partition_that_came_later_to_another_member_concerns_itself_alone() {
    let (server, _log, mut consumer) = with_a_third(false).await;
    let mut cursor = kept(&read(&mut *consumer, 20).await);
    cursor.set(NEW, Offset(10));
    let error = consumer.commit(&cursor).await.expect_err("it is another member's");
    assert_eq!(failures(&error), [(NEW, "revoked")]);
    assert_eq!(error.stored().len(), 2);
    assert_eq!(places(&server), [Some(Offset(10)), Some(Offset(10)), Some(Offset(0))]);
    // A seek does not move where this member is not.
    consumer.seek(SeekPosition::Cursor(cursor)).await.unwrap();
}

/// c13: "the cursor of another consumer or topic is an error", and nothing of it is stored. Whether it is one has to be asked.
#[tokio::test(start_paused = true)]
async fn c13_a_partition_that_the_log_does_not_have_is_of_another_topic() {
    let (server, _log, mut consumer) = with_a_third(false).await;
    let mut cursor = read(&mut *consumer, 20).await;
    cursor.set(PartitionId(3), Offset(10));
    let start = places(&server);
    server.change(|state| state.marks_fail = true);
    let error = consumer.commit(&cursor).await.expect_err("it may be of another topic");
    assert_eq!(failures(&error), [0, 1, 3].map(|partition| (PartitionId(partition), "failed for now")));
    server.change(|state| state.marks_fail = false);
    let error = consumer.commit(&cursor).await.expect_err("it is of another topic");
    assert_eq!(failures(&error), [(PartitionId(3), "foreign")]);
    assert_eq!(places(&server), start);
    assert!(consumer.seek(SeekPosition::Cursor(cursor)).await.is_err());
    assert!(consumer.poll(10, SECOND).await.is_ok());
}
