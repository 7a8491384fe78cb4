//! Clause c4: what a commit stores, and what it leaves alone.

use super::fixture::{
    Log, PATIENCE, Probe, append, assert_dry, numbers, open, open_with, partitions, poll, read, reader,
};
use super::{CaseResult, Fault, Harness};
use crate::error::{CommitErrorKind, Error};
use crate::position::{Cursor, Offset, PartitionId, Position, SeekPosition};

const ONLY: PartitionId = PartitionId(0);

async fn ten_events(harness: &dyn Harness) -> Log {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    log
}

async fn stored(log: &Log) -> Option<Offset> {
    log.lag("readers").await.expect("the lag is known").get(ONLY).expect("there is one partition").committed
}

pub(super) async fn c4_commit_stores_only_what_was_delivered(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness).await;
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 4).await;
    let delivered = reader.position().clone();
    let mut beyond = delivered.clone();
    beyond.set(ONLY, Offset(delivered.get(ONLY).expect("a position").0 + 3));
    let error = reader.commit(&beyond).await.expect_err("it was not delivered");
    assert!(matches!(error.failures(), [(ONLY, CommitErrorKind::BeyondDelivered { .. })]), "{error:?}");
    assert!(!error.is_retryable() && !error.may_have_taken_effect());
    assert_eq!(stored(&log).await.unwrap_or_default(), Offset::ZERO, "nothing but the start is stored");
    reader.commit(&delivered).await.expect("the commit succeeds");
    assert_eq!(stored(&log).await, delivered.get(ONLY));
    Ok(())
}

pub(super) async fn c4_commit_is_inclusive_of_the_last_named_record(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness).await;
    let mut first = reader(&log, "readers").await;
    let records = read(&mut first, 6).await;
    // A cursor into the middle of what was delivered: the caller's argument counts.
    let mut cursor = Cursor::new();
    cursor.advance_past(records[3].position);
    first.commit(&cursor).await.expect("the commit succeeds");
    assert_eq!(first.committed(), &cursor);
    drop(first);
    let mut second = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut second, 6).await), (4..10).collect::<Vec<_>>());
    assert_dry(&mut second).await;
    Ok(())
}

pub(super) async fn c4_committing_again_changes_nothing(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness).await;
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 5).await;
    let position = reader.position().clone();
    for _ in 0..3 {
        reader.commit(&position).await.expect("the commit succeeds");
        assert_eq!(stored(&log).await, position.get(ONLY));
    }
    Ok(())
}

pub(super) async fn c4_an_older_cursor_changes_nothing(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness).await;
    let mut reader = reader(&log, "readers").await;
    let older = poll(&mut reader, 3, PATIENCE).await.cursor().clone();
    let newer = poll(&mut reader, 3, PATIENCE).await.cursor().clone();
    reader.commit(&newer).await.expect("the commit succeeds");
    reader.commit(&older).await.expect("an older cursor is no error");
    assert_eq!(stored(&log).await, newer.get(ONLY), "the older cursor moved it back");
    assert_eq!(reader.committed(), &newer);
    Ok(())
}

pub(super) async fn c4_only_a_seek_back_lets_a_commit_go_back(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness).await;
    let mut reader = reader(&log, "readers").await;
    let records = read(&mut reader, 8).await;
    let position = reader.position().clone();
    reader.commit(&position).await.expect("the commit succeeds");
    reader.seek(SeekPosition::Position(records[2].position)).await.expect("the seek succeeds");
    assert_eq!(stored(&log).await, position.get(ONLY), "seeking alone stores nothing");
    assert_eq!(numbers(&read(&mut reader, 2).await), [2, 3]);
    let back = reader.position().clone();
    reader.commit(&back).await.expect("the commit succeeds");
    assert_eq!(stored(&log).await, back.get(ONLY), "after seeking back the commit goes back");
    Ok(())
}

pub(super) async fn c4_an_untouched_partition_is_not_committed(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(4)).await;
    let placed = append(&log, Probe::new("k", 1)).await;
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 1).await;
    let position = reader.position().clone();
    assert_eq!(position.len(), 4, "a single member has every partition");
    reader.commit(&position).await.expect("the commit succeeds");
    for (partition, lag) in log.lag("readers").await.expect("the lag is known").iter() {
        // The start of the group, which may be stored, is 0.
        let moved = lag.committed > Some(Offset::ZERO);
        assert_eq!(moved, partition == placed.partition, "{partition}: {lag:?}");
    }
    let moved = reader.committed().iter().filter(|(_, next)| *next > Offset::ZERO);
    assert_eq!(moved.count(), 1);
    Ok(())
}

pub(super) async fn c4_a_partial_failure_says_what_is_stored(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(3)).await;
    for number in 0..30 {
        append(&log, Probe::new(&format!("key-{number}"), number)).await;
    }
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 30).await;
    let position = reader.position().clone();
    harness.inject(Fault::FailCommits(PartitionId(1), 1)).await?;
    let error = reader.commit(&position).await.expect_err("one partition cannot be stored");
    assert!(matches!(error.failures(), [(PartitionId(1), CommitErrorKind::Failed(_))]), "{error:?}");
    assert!(error.is_retryable() && error.may_have_taken_effect());
    assert_eq!(error.stored().len(), 2, "{error:?}");
    let lag = log.lag("readers").await.expect("the lag is known");
    for (partition, lag) in lag.iter() {
        let is_stored = lag.committed > Some(Offset::ZERO);
        assert_eq!(is_stored, error.stored().get(partition).is_some(), "what it says is stored is stored");
    }
    reader.commit(&position).await.expect("trying again succeeds");
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 0);
    Ok(())
}

pub(super) async fn c4_uncommitted_records_come_back(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness).await;
    let mut first = reader(&log, "readers").await;
    read(&mut first, 3).await;
    let position = first.position().clone();
    first.commit(&position).await.expect("the commit succeeds");
    read(&mut first, 4).await;
    // It dies, and so does its process.
    drop((first, log));
    let log = open_with(harness, &partitions(1)).await;
    let mut second = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut second, 7).await), (3..10).collect::<Vec<_>>());
    assert_dry(&mut second).await;
    Ok(())
}

pub(super) async fn c4_a_deleted_group_is_new_again(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness).await;
    let mut first = reader(&log, "readers").await;
    read(&mut first, 3).await;
    let position = first.position().clone();
    first.commit(&position).await.expect("the commit succeeds");
    let refused = log.delete_group("readers").await.expect_err("it has a member");
    assert!(matches!(refused, Error::InvalidArgument { name: "group", .. }), "{refused:?}");
    assert_eq!(stored(&log).await, position.get(ONLY), "a refused deletion deletes nothing");
    first.leave().await.expect("it leaves");
    log.delete_group("readers").await.expect("it has no members");
    log.delete_group("never there").await.expect("deleting what is not there changes nothing");
    assert_eq!(stored(&log).await, None);
    assert_eq!(numbers(&read(&mut reader(&log, "readers").await, 10).await), (0..10).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn c4_nothing_is_committed_for_the_application(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let placed = append(&log, Probe::new("k", 1)).await;
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 1).await;
    assert_dry(&mut reader).await;
    reader.seek(SeekPosition::End).await.expect("the seek succeeds");
    assert_dry(&mut reader).await;
    if let Some(Position { partition, .. }) = placed.position() {
        let lag = log.lag("readers").await.expect("the lag is known");
        let committed = lag.get(partition).expect("a partition").committed;
        assert_eq!(committed.unwrap_or_default(), Offset::ZERO, "polling and seeking commit nothing");
    }
    reader.seek(SeekPosition::Beginning).await.expect("the seek succeeds");
    read(&mut reader, 1).await;
    reader.leave().await.expect("it leaves");
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 1);
    Ok(())
}
