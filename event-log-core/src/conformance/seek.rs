//! Clause c5: every way to seek.

use std::time::Duration;

use super::fixture::{
    Log, Probe, Reader, append, assert_dry, fill, numbers, open_with, partitions, read, reader,
};
use super::{CaseResult, Fault, Harness};
use crate::error::Error;
use crate::position::{Cursor, Offset, PartitionId, Position, SeekPosition, Timestamp};

/// Ten events over this many partitions, apart in time.
async fn ten_events(harness: &dyn Harness, count: u32) -> Log {
    let log = open_with(harness, &partitions(count)).await;
    for number in 0..10 {
        append(&log, Probe::new(&format!("key-{number}"), number)).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    log
}

async fn seek(reader: &mut Reader, to: SeekPosition) {
    reader.seek(to).await.expect("the seek succeeds");
}

/// Asserts that just these are left to read, in this order.
async fn assert_left(reader: &mut Reader, expected: std::ops::Range<u64>) {
    let expected: Vec<_> = expected.collect();
    assert_eq!(numbers(&read(reader, expected.len()).await), expected);
    assert_dry(reader).await;
}

pub(super) async fn c5_seek_to_the_beginning_reads_everything_again(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness, 3).await;
    let mut reader = reader(&log, "readers").await;
    assert_left(&mut reader, 0..10).await;
    seek(&mut reader, SeekPosition::Beginning).await;
    assert_left(&mut reader, 0..10).await;
    Ok(())
}

pub(super) async fn c5_seek_to_the_end_reads_only_what_follows(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness, 3).await;
    let mut reader = reader(&log, "readers").await;
    seek(&mut reader, SeekPosition::End).await;
    assert_dry(&mut reader).await;
    append(&log, Probe::new("k", 10)).await;
    assert_left(&mut reader, 10..11).await;
    Ok(())
}

pub(super) async fn c5_seek_to_the_end_of_a_log_that_began_again(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness, 1).await;
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 10).await;
    harness.inject(Fault::BeginAgain).await?;
    for number in 10..14 {
        append(&log, Probe::new("k", number)).await;
    }
    seek(&mut reader, SeekPosition::End).await;
    for number in 14..16 {
        append(&log, Probe::new("k", number)).await;
    }
    assert_left(&mut reader, 14..16).await;
    seek(&mut reader, SeekPosition::Beginning).await;
    assert_left(&mut reader, 10..16).await;
    Ok(())
}

pub(super) async fn c5_seek_to_a_position(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    for number in 0..20 {
        append(&log, Probe::new(&format!("key-{number}"), number)).await;
    }
    let mut reader = reader(&log, "readers").await;
    let records = read(&mut reader, 20).await;
    let target = records[6].position;
    seek(&mut reader, SeekPosition::Position(target)).await;
    let again: Vec<_> = records
        .iter()
        .map(|record| record.position)
        .filter(|position| position.partition == target.partition && position.offset >= target.offset)
        .collect();
    let read: Vec<_> = read(&mut reader, again.len()).await.iter().map(|record| record.position).collect();
    assert_eq!(read, again, "that partition from there on, and the other one stays");
    assert_dry(&mut reader).await;
    Ok(())
}

/// What was read ahead of the old place is none of the new one.
pub(super) async fn c5_seek_away_from_a_backlog(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    fill(&log, 0..2_000).await;
    let mut reader = reader(&log, "readers").await;
    for to in [0, 1_500, 250, 1_000] {
        let start = Position::new(PartitionId(0), Offset(to));
        seek(&mut reader, SeekPosition::Position(start)).await;
        // Several polls with nothing left over, so that it reads on.
        for part in 0..3 {
            let from = to + part * 128;
            let expected: Vec<_> = (from..from + 128).collect();
            assert_eq!(numbers(&read(&mut reader, 128).await), expected);
        }
    }
    Ok(())
}

pub(super) async fn c5_seek_to_a_cursor(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness, 3).await;
    let mut first = reader(&log, "first").await;
    read(&mut first, 4).await;
    // As an application would keep it, outside the log.
    let kept = serde_json::to_string(first.position()).expect("a cursor can be written");
    let cursor: Cursor = serde_json::from_str(&kept).expect("a cursor can be read");
    let mut second = reader(&log, "second").await;
    seek(&mut second, SeekPosition::Cursor(cursor)).await;
    assert_left(&mut second, 4..10).await;
    Ok(())
}

pub(super) async fn c5_seek_to_a_timestamp(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness, 3).await;
    let mut reader = reader(&log, "readers").await;
    let records = read(&mut reader, 10).await;
    let to = SeekPosition::Timestamp(records[4].timestamp);
    if !harness.capabilities().seek_timestamp {
        let refused = reader.seek(to).await.expect_err("it is not supported");
        assert!(matches!(refused, Error::Unsupported(_)), "{refused:?}");
        return Ok(());
    }
    seek(&mut reader, to).await;
    assert_left(&mut reader, 4..10).await;
    seek(&mut reader, SeekPosition::Timestamp(Timestamp(0))).await;
    assert_left(&mut reader, 0..10).await;
    seek(&mut reader, SeekPosition::Timestamp(Timestamp(records[9].timestamp.0 + 1))).await;
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn c5_seek_from_the_end(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness, 3).await;
    let mut reader = reader(&log, "readers").await;
    for (count, from) in [(3, 7), (0, 10), (10, 0), (1, 9), (1_000, 0)] {
        seek(&mut reader, SeekPosition::FromEnd(count)).await;
        assert_left(&mut reader, from..10).await;
    }
    let refused =
        reader.seek(SeekPosition::FromEnd(usize::MAX)).await.expect_err("nobody looks back that far");
    assert!(matches!(refused, Error::InvalidArgument { .. }), "{refused:?}");
    Ok(())
}

pub(super) async fn c5_seek_from_the_end_counts_records_and_not_offsets(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        harness.inject(Fault::SkipOffsets(PartitionId(0), 50)).await?;
        append(&log, Probe::new("k", number)).await;
    }
    let mut reader = reader(&log, "readers").await;
    seek(&mut reader, SeekPosition::FromEnd(4)).await;
    assert_left(&mut reader, 6..10).await;
    Ok(())
}

pub(super) async fn c5_seek_to_an_unknown_partition_is_refused(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness, 3).await;
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 4).await;
    let before = reader.position().clone();
    let nowhere = Position::new(PartitionId(3), Offset(0));
    let cursor = [(PartitionId(0), Offset(0)), (PartitionId(77), Offset(0))].into_iter().collect();
    for to in [SeekPosition::Position(nowhere), SeekPosition::Cursor(cursor)] {
        let refused = reader.seek(to).await.expect_err("there is no such partition");
        assert!(matches!(refused, Error::InvalidArgument { .. }), "{refused:?}");
        assert_eq!(reader.position(), &before, "it stays where it was");
    }
    assert_left(&mut reader, 4..10).await;
    Ok(())
}

pub(super) async fn c5_seek_moves_no_committed_cursor(harness: &dyn Harness) -> CaseResult {
    let log = ten_events(harness, 1).await;
    let mut first = reader(&log, "readers").await;
    read(&mut first, 5).await;
    let position = first.position().clone();
    first.commit(&position).await.expect("the commit succeeds");
    seek(&mut first, SeekPosition::Beginning).await;
    seek(&mut first, SeekPosition::End).await;
    assert_eq!(first.committed(), &position);
    drop(first);
    assert_left(&mut reader(&log, "readers").await, 5..10).await;
    Ok(())
}
