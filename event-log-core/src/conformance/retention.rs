//! Clause c7: what was to be read is gone, or the log is another than it was.

use std::time::Duration;

use super::fixture::{
    PATIENCE, Probe, Reader, append, assert_dry, fill, keys_of_two_partitions, numbers, open_with,
    partitions, poll, read, reader,
};
use super::{CaseResult, Fault, Harness, Spec};
use crate::error::Error;
use crate::position::{Cursor, Offset, PartitionId};
use crate::record::{Notice, Record};

/// Reads until everything is there, with the notices.
async fn read_all(reader: &mut Reader, count: usize) -> (Vec<Record<Probe>>, Vec<Notice>) {
    let (mut records, mut notices) = (Vec::new(), Vec::new());
    while records.len() < count {
        let batch = poll(reader, 100, PATIENCE).await;
        let is_news = !batch.is_empty() || !batch.notices.is_empty();
        assert!(is_news, "only {} of {count} records came: {notices:?}", records.len());
        notices.extend(batch.notices);
        records.extend(batch.records);
    }
    (records, notices)
}

fn missing(notices: &[Notice]) -> usize {
    notices
        .iter()
        .filter(|notice| matches!(notice, Notice::Missing { from, resumed_at, .. } if from < resumed_at))
        .count()
}

pub(super) async fn c7_retention_is_reported_not_hidden(harness: &dyn Harness) -> CaseResult {
    let spec = Spec { retain_records: Some(10), ..partitions(1) };
    if !harness.capabilities().retain_records {
        let refused = harness.open(&spec).await.err();
        assert!(matches!(refused, Some(Error::Unsupported(_))), "{refused:?}");
        return Ok(());
    }
    let log = open_with(harness, &spec).await;
    fill(&log, 0..5).await;
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 2).await;
    let position = reader.position().clone();
    reader.commit(&position).await.expect("the commit succeeds");
    drop(reader);
    fill(&log, 5..30).await;
    let marks =
        log.watermarks().await.expect("the watermarks are known").get(PartitionId(0)).expect("a partition");
    assert_eq!(marks.high.0 - marks.low.0, 10, "{marks:?}");
    let mut again = super::fixture::reader(&log, "readers").await;
    let (records, notices) = read_all(&mut again, 10).await;
    assert_eq!(numbers(&records), (20..30).collect::<Vec<_>>(), "it resumes at the low watermark");
    assert_eq!(missing(&notices), 1, "the batch says what is missing: {notices:?}");
    Ok(())
}

pub(super) async fn c7_retention_by_age(harness: &dyn Harness) -> CaseResult {
    let spec = Spec { retain_for: Some(Duration::from_secs(60)), ..partitions(1) };
    if !harness.capabilities().retain_for {
        let refused = harness.open(&spec).await.err();
        assert!(matches!(refused, Some(Error::Unsupported(_))), "{refused:?}");
        return Ok(());
    }
    if !harness.virtual_time() {
        return Err(super::NotRun("a minute of real time".to_owned()));
    }
    let log = open_with(harness, &spec).await;
    fill(&log, 0..3).await;
    tokio::time::advance(Duration::from_secs(61)).await;
    fill(&log, 3..5).await;
    assert_eq!(numbers(&read(&mut reader(&log, "readers").await, 2).await), [3, 4]);
    tokio::time::advance(Duration::from_secs(61)).await;
    let marks =
        log.watermarks().await.expect("the watermarks are known").get(PartitionId(0)).expect("a partition");
    assert_eq!(marks.low, marks.high, "records grow old without anybody appending");
    Ok(())
}

pub(super) async fn c7_a_purge_is_reported(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let mut reader = reader(&log, "readers").await;
    fill(&log, 0..3).await;
    read(&mut reader, 3).await;
    fill(&log, 3..6).await;
    harness.inject(Fault::Purge).await?;
    fill(&log, 6..8).await;
    let (records, notices) = read_all(&mut reader, 2).await;
    assert_eq!(numbers(&records), [6, 7]);
    assert_eq!(missing(&notices) + truncated(&notices), 1, "{notices:?}");
    Ok(())
}

fn truncated(notices: &[Notice]) -> usize {
    notices.iter().filter(|notice| matches!(notice, Notice::Truncated { .. })).count()
}

pub(super) async fn c7_a_log_that_begins_again_is_read_from_there(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let mut reader = reader(&log, "readers").await;
    fill(&log, 0..5).await;
    read(&mut reader, 5).await;
    harness.inject(Fault::BeginAgain).await?;
    // The offsets of these are behind the reader.
    fill(&log, 5..8).await;
    let (records, notices) = read_all(&mut reader, 3).await;
    assert_eq!(numbers(&records), [5, 6, 7], "nothing of the new beginning is passed over");
    assert_eq!(records[0].position.offset, Offset(0), "{records:?}");
    assert_eq!(truncated(&notices), 1, "the batch says so, once: {notices:?}");
    // And on: with more than there was before.
    fill(&log, 8..20).await;
    assert_eq!(numbers(&read(&mut reader, 12).await), (8..20).collect::<Vec<_>>());
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn c7_a_log_that_has_grown_again_is_noticed(harness: &dyn Harness) -> CaseResult {
    for after in [5, 9] {
        let log = open_with(harness, &partitions(2)).await;
        let mut reader = reader(&log, &format!("reader-{after}")).await;
        let [busy, quiet] = keys_of_two_partitions();
        let fill = async |numbers: std::ops::Range<u64>| {
            for number in numbers {
                append(&log, Probe::new(&busy, number)).await;
            }
        };
        append(&log, Probe::new(&quiet, 99)).await;
        fill(0..5).await;
        let before = read(&mut reader, 6).await;
        assert_eq!(before.len(), 6);
        harness.inject(Fault::BeginAgain).await?;
        // By its offsets alone it looks as if nothing had happened, or a little had been appended.
        fill(100..100 + after).await;
        let (records, notices) = read_all(&mut reader, after as usize).await;
        assert_eq!(numbers(&records), (100..100 + after).collect::<Vec<_>>(), "{notices:?}");
        assert!(truncated(&notices) >= 1, "{notices:?}");
        assert_dry(&mut reader).await;
        drop(reader);
        harness.inject(Fault::BeginAgain).await?;
    }
    Ok(())
}

pub(super) async fn c7_a_purged_reader_commits_and_resumes(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let mut first = reader(&log, "readers").await;
    fill(&log, 0..5).await;
    read(&mut first, 5).await;
    let before = first.position().clone();
    first.commit(&before).await.expect("the commit succeeds");
    harness.inject(Fault::BeginAgain).await?;
    fill(&log, 5..9).await;
    let (records, _) = read_all(&mut first, 2).await;
    assert_eq!(numbers(&records)[..2], [5, 6]);
    let cursor: Cursor = [(PartitionId(0), records[1].position.offset.next())].into_iter().collect();
    first.commit(&cursor).await.expect("the commit succeeds, although its offset is lower than the last one");
    drop(first);
    let mut second = super::fixture::reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut second, 2).await), [7, 8]);
    assert_dry(&mut second).await;
    Ok(())
}

/// Whoever takes a group over looks at what was read before it; there, what has come since the log began again is no copy.
pub(super) async fn c7_a_log_that_begins_again_under_a_newcomer_is_read(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let mut first = reader(&log, "readers").await;
    fill(&log, 0..10).await;
    read(&mut first, 10).await;
    let end = first.position().clone();
    first.commit(&end).await.expect("the commit succeeds");
    first.leave().await.expect("it leaves");
    let mut second = reader(&log, "readers").await;
    harness.inject(Fault::BeginAgain).await?;
    fill(&log, 10..13).await;
    let (records, notices) = read_all(&mut second, 3).await;
    assert_eq!(numbers(&records), [10, 11, 12], "{notices:?}");
    assert_eq!(truncated(&notices), 1, "{notices:?}");
    assert_dry(&mut second).await;
    Ok(())
}

/// What was read ahead before the cut is delivered before it, or not at all: nothing old comes behind something new.
pub(super) async fn c7_whoever_is_far_behind_gets_nothing_old_after_a_cut(
    harness: &dyn Harness,
) -> CaseResult {
    const OLD: u64 = 2_000;
    const ALL: u64 = 4_500;
    let log = open_with(harness, &partitions(1)).await;
    let mut far_behind = reader(&log, "readers").await;
    fill(&log, 0..OLD).await;
    // Several times, so that it is seen to read on; with nothing left over, so that it asks each time.
    let (mut records, mut notices) = (read(&mut far_behind, 128).await, Vec::new());
    records.extend(read(&mut far_behind, 128).await);
    harness.inject(Fault::BeginAgain).await?;
    // It ends behind whatever was asked for before.
    fill(&log, OLD..ALL).await;
    while numbers(&records).last() != Some(&(ALL - 1)) {
        let (more, told) = read_all(&mut far_behind, 1).await;
        records.extend(more);
        notices.extend(told);
    }
    let numbers = numbers(&records);
    let cut = numbers.iter().position(|&number| number >= OLD).expect("the new ones were read");
    let (old, new) = numbers.split_at(cut);
    assert!(old.iter().copied().eq(0..cut as u64), "{old:?}");
    assert!(new.iter().copied().eq(OLD..ALL), "{new:?}");
    assert_eq!(truncated(&notices), 1, "{notices:?}");
    assert_dry(&mut far_behind).await;
    Ok(())
}
