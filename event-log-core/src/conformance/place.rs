//! Clauses c8 and c12–c14: where a group stands, and who may move it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{
    Log, PATIENCE, Probe, Reader, append, assert_dry, fill, keys_of_two_partitions, numbers, open_with,
    partitions, poll, read, reader, reader_with,
};
use super::{CaseResult, Fault, Harness};
use crate::consumer::ConsumerOptions;
use crate::error::Error;
use crate::position::{Cursor, Offset, PartitionId, Position, SeekPosition};
use crate::record::Notice;

const ONLY: PartitionId = PartitionId(0);

async fn stored(log: &Log, group: &str, partition: PartitionId) -> Option<Offset> {
    log.lag(group).await.expect("the lag is known").get(partition).expect("a partition").committed
}

/// Polls until this member has just so many partitions, and returns what came meanwhile.
async fn until_it_has(member: &mut Reader, partitions: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    let taking = async {
        while member.position().len() != partitions {
            seen.extend(numbers(&poll(member, 1, Duration::from_millis(20)).await));
        }
    };
    tokio::time::timeout(4 * PATIENCE, taking).await.expect("the partitions come");
    seen
}

/// Two members that have a partition each, and which one the first has kept.
async fn two_members(log: &Log, one: &mut Reader) -> (Reader, PartitionId) {
    let mut two = reader(log, "readers").await;
    let sharing = async {
        while one.position().len() != 1 || two.position().len() != 1 {
            poll(one, 1, Duration::from_millis(20)).await;
            poll(&mut two, 1, Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(4 * PATIENCE, sharing).await.expect("the members come to share the partitions");
    let kept = one.position().iter().next().expect("it has one").0;
    (two, kept)
}

/// A log of two partitions with so many events in each, and a key of each: their numbers begin at 0 and at 100.
async fn two_partitions(harness: &dyn Harness, each: u64) -> (Log, [String; 2]) {
    let keys = keys_of_two_partitions();
    let log = open_with(harness, &partitions(2)).await;
    for number in 0..each {
        append(&log, Probe::new(&keys[0], number)).await;
        append(&log, Probe::new(&keys[1], 100 + number)).await;
    }
    (log, keys)
}

pub(super) async fn c8_a_partition_that_was_away_goes_on_at_the_groups_place(
    harness: &dyn Harness,
) -> CaseResult {
    let (log, _) = two_partitions(harness, 30).await;
    let mut one = reader(&log, "readers").await;
    // So that it has read a part of each, and committed a part of that.
    let mut seen = Vec::new();
    while one.position().iter().any(|(_, next)| next < Offset(10)) {
        seen.extend(numbers(&poll(&mut one, 1, PATIENCE).await));
    }
    let early = one.position().clone();
    one.commit(&early).await.expect("the commit succeeds");
    let (mut two, kept) = two_members(&log, &mut one).await;
    let lost = PartitionId(1 - kept.0);
    // The other member reads the rest of what it was given, commits it, and leaves.
    let rest = async {
        while two.position().get(lost) < Some(Offset(30)) {
            poll(&mut two, 10, PATIENCE).await;
        }
    };
    tokio::time::timeout(4 * PATIENCE, rest).await.expect("it reads the rest");
    let position = two.position().clone();
    two.commit(&position).await.expect("the commit succeeds");
    assert_eq!(stored(&log, "readers", lost).await, Some(Offset(30)));
    two.leave().await.expect("it leaves");
    let again = until_it_has(&mut one, 2).await;
    let first = lost.0 * 100;
    let of_lost = |number: &u64| (u64::from(first)..u64::from(first) + 100).contains(number);
    assert!(!again.iter().any(of_lost), "what the other has committed comes again: {again:?}");
    assert_eq!(one.position().get(lost), Some(Offset(30)), "it goes on at the group's place");
    // Whatever is said of a cursor from before, the place does not go back.
    let _ = one.commit(&early).await;
    let position = one.position().clone();
    let _ = one.commit(&position).await;
    assert_eq!(stored(&log, "readers", lost).await, Some(Offset(30)), "the group's place went back");
    Ok(())
}

pub(super) async fn c8_a_member_that_looked_away_moves_no_place_back(harness: &dyn Harness) -> CaseResult {
    let (log, _) = two_partitions(harness, 30).await;
    let mut one = reader(&log, "readers").await;
    while one.position().iter().any(|(_, next)| next < Offset(10)) {
        poll(&mut one, 1, PATIENCE).await;
    }
    let read_by_one = one.position().clone();
    // The other takes a partition, reads it, commits and leaves while the first does not poll. Where a member has to agree,
    // it does so once.
    let mut two = reader(&log, "readers").await;
    for _ in 0..20 {
        poll(&mut two, 1, Duration::from_millis(200)).await;
        if !two.position().is_empty() {
            break;
        }
    }
    while two.position().is_empty() {
        poll(&mut one, 1, Duration::from_millis(20)).await;
        poll(&mut two, 1, Duration::from_millis(200)).await;
    }
    let (taken, _) = two.position().iter().next().expect("it has one");
    while two.position().get(taken) < Some(Offset(30)) {
        poll(&mut two, 10, PATIENCE).await;
    }
    let position = two.position().clone();
    two.commit(&position).await.expect("the commit succeeds");
    assert_eq!(stored(&log, "readers", taken).await, Some(Offset(30)));
    two.leave().await.expect("it leaves");
    // What the first has read is less, and comes from before the other had the partition.
    let _ = one.commit(&read_by_one).await;
    assert_eq!(stored(&log, "readers", taken).await, Some(Offset(30)), "the group's place went back");
    until_it_has(&mut one, 2).await;
    let _ = one.commit(&read_by_one).await;
    assert_eq!(stored(&log, "readers", taken).await, Some(Offset(30)), "the group's place went back");
    Ok(())
}

pub(super) async fn c8_a_leave_wakes_the_other_member(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    let mut one = reader(&log, "readers").await;
    let (two, kept) = two_members(&log, &mut one).await;
    let key = &keys_of_two_partitions()[1 - kept.0 as usize];
    append(&log, Probe::new(key, 7)).await;
    // The first waits for a record, and only the other's partition has one.
    let waiting = async {
        let mut seen = Vec::new();
        while seen.is_empty() {
            seen = numbers(&poll(&mut one, 10, 4 * PATIENCE).await);
        }
        seen
    };
    let leaving = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        two.leave().await.expect("it leaves");
        tokio::time::Instant::now()
    };
    let both = tokio::time::timeout(3 * PATIENCE, async { tokio::join!(waiting, leaving) });
    let (seen, left) = both.await.expect("the leave wakes the member that waits");
    assert_eq!(seen, [7]);
    assert!(left.elapsed() < PATIENCE, "it took {:?} until the record came", left.elapsed());
    Ok(())
}

pub(super) async fn c8_names_that_look_alike_are_different_groups(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..20 {
        append(&log, Probe::new("k", number)).await;
    }
    let names = [
        "a", "A", "a ", " a", "a.b", "a/b", "a\\b", "a:b", "a b", "a_b", "a-b", "a%2Fb", "..", ".", "ä",
        "a\u{308}", "a\nb",
    ];
    for (name, commits) in names.iter().zip(1..) {
        let mut member = reader(&log, name).await;
        read(&mut member, commits).await;
        let position = member.position().clone();
        member.commit(&position).await.expect("the commit succeeds");
        member.leave().await.expect("it leaves");
    }
    for (name, commits) in names.iter().zip(1..) {
        assert_eq!(stored(&log, name, ONLY).await, Some(Offset(commits)), "{name:?}");
    }
    log.delete_group(names[0]).await.expect("it has no members");
    for (name, commits) in names.iter().zip(1..).skip(1) {
        assert_eq!(stored(&log, name, ONLY).await, Some(Offset(commits)), "{name:?} is gone with another");
    }
    Ok(())
}

pub(super) async fn c12_a_group_that_has_committed_ignores_another_start(
    harness: &dyn Harness,
) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    fill(&log, 0..20).await;
    let mut first = reader(&log, "readers").await;
    let mut done = Cursor::new();
    let mut seen = BTreeSet::new();
    for record in read(&mut first, 20).await {
        let number = record.event.expect("a probe").number;
        if number < 12 {
            done.advance_past(record.position);
            seen.insert(number);
        }
    }
    assert_eq!(done.len(), 2, "both partitions have some of them");
    first.commit(&done).await.expect("the commit succeeds");
    first.leave().await.expect("it leaves");
    fill(&log, 20..30).await;
    let mut second = reader_with(&log, "readers", ConsumerOptions::starting_at(SeekPosition::End)).await;
    seen.extend(numbers(&read(&mut second, 18).await));
    assert_eq!(seen.len(), 30, "the start position was used for a group that has a place");
    Ok(())
}

pub(super) async fn c13_ok_means_that_it_is_stored(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(3)).await;
    fill(&log, 0..60).await;
    let mut reader = reader(&log, "readers").await;
    for count in [1, 7, 20, 32] {
        let records = read(&mut reader, count).await;
        let mut named = Cursor::new();
        records.iter().for_each(|record| named.advance_past(record.position));
        reader.commit(&named).await.expect("the commit succeeds");
        for (partition, next) in named.iter() {
            assert_eq!(stored(&log, "readers", partition).await, Some(next), "{partition}");
            assert_eq!(reader.committed().get(partition), Some(next), "{partition}");
        }
    }
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 0);
    Ok(())
}

pub(super) async fn c14_a_committed_place_beyond_the_end_is_told(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let mut first = reader(&log, "readers").await;
    read(&mut first, 10).await;
    let mut notices = Vec::new();
    harness.inject(Fault::BeginAgain).await?;
    for number in 10..13 {
        append(&log, Probe::new("k", number)).await;
    }
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let batch = poll(&mut first, 10, PATIENCE).await;
        assert!(!batch.is_empty() || !batch.notices.is_empty(), "only {seen:?} came");
        seen.extend(numbers(&batch));
        notices.extend(batch.notices);
    }
    assert_eq!(seen, [10, 11, 12]);
    let told = notices.iter().any(|notice| matches!(notice, Notice::Truncated { partition: ONLY, .. }));
    assert!(told, "reading goes on elsewhere, and that is not told: {notices:?}");
    assert_dry(&mut first).await;
    Ok(())
}

fn at_the_end() -> ConsumerOptions {
    ConsumerOptions::starting_at(SeekPosition::End)
}

pub(super) async fn c12_the_start_is_the_groups_place(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(3)).await;
    fill(&log, 0..30).await;
    let high = log.watermarks().await.expect("the watermarks are known").high();
    let first = reader_with(&log, "readers", at_the_end()).await;
    for (partition, end) in high.iter() {
        assert_eq!(stored(&log, "readers", partition).await, Some(end), "{partition} has no place");
    }
    assert_eq!(first.committed(), &high);
    let beginning = reader(&log, "others").await;
    assert!(beginning.committed().iter().all(|(_, next)| next == Offset::ZERO));
    assert_eq!(beginning.committed().len(), 3, "the beginning is a place too");
    Ok(())
}

pub(super) async fn c12_a_start_at_the_end_survives_a_restart(harness: &dyn Harness) -> CaseResult {
    let keys = keys_of_two_partitions();
    let log = open_with(harness, &partitions(2)).await;
    append(&log, Probe::new(&keys[0], 0)).await;
    let mut first = reader_with(&log, "readers", at_the_end()).await;
    append(&log, Probe::new(&keys[0], 1)).await;
    let batch = poll(&mut first, 10, PATIENCE).await;
    assert_eq!(numbers(&batch), [1]);
    first.commit(batch.cursor()).await.expect("the commit succeeds");
    first.leave().await.expect("it leaves");
    // The first event ever of the other partition comes while no member is there.
    append(&log, Probe::new(&keys[1], 2)).await;
    let mut second = reader_with(&log, "readers", at_the_end()).await;
    assert_eq!(numbers(&read(&mut second, 1).await), [2]);
    assert_dry(&mut second).await;
    Ok(())
}

pub(super) async fn c12_a_start_at_the_end_holds_for_later_members(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    fill(&log, 0..10).await;
    let mut one = reader_with(&log, "readers", at_the_end()).await;
    fill(&log, 10..30).await;
    let mut two = reader_with(&log, "readers", at_the_end()).await;
    let mut seen = BTreeSet::new();
    let reading = async {
        while seen.len() < 20 {
            seen.extend(numbers(&poll(&mut one, 5, Duration::from_millis(50)).await));
            seen.extend(numbers(&poll(&mut two, 5, Duration::from_millis(50)).await));
        }
    };
    let all = tokio::time::timeout(PATIENCE, reading).await;
    assert!(all.is_ok(), "only {seen:?} came of what was appended behind the group's start");
    assert_eq!(seen, (10..30).collect());
    Ok(())
}

pub(super) async fn c12_a_death_before_the_first_commit_loses_nothing(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    fill(&log, 0..10).await;
    let mut first = reader_with(&log, "readers", at_the_end()).await;
    fill(&log, 10..20).await;
    read(&mut first, 10).await;
    drop(first);
    let mut second = reader_with(&log, "readers", at_the_end()).await;
    let seen: BTreeSet<_> = numbers(&read(&mut second, 10).await).into_iter().collect();
    assert_eq!(seen, (10..20).collect());
    Ok(())
}

pub(super) async fn c13_a_place_that_was_sought_is_stored(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 2).await;
    for to in [7, 3] {
        reader
            .seek(SeekPosition::Position(Position::new(ONLY, Offset(to))))
            .await
            .expect("the seek succeeds");
        let position = reader.position().clone();
        reader.commit(&position).await.expect("the commit succeeds");
        assert_eq!(stored(&log, "readers", ONLY).await, Some(Offset(to)), "Ok means that it is stored");
    }
    Ok(())
}

pub(super) async fn c13_a_seek_concerns_its_partition_alone(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    fill(&log, 0..40).await;
    let mut reader = reader(&log, "readers").await;
    read(&mut reader, 40).await;
    let before = reader.position().clone();
    reader.seek(SeekPosition::Position(Position::new(ONLY, Offset(1)))).await.expect("the seek succeeds");
    let committed = reader.commit(&before).await;
    let other = PartitionId(1);
    assert_eq!(stored(&log, "readers", other).await, before.get(other), "the other partition is stored");
    match committed {
        Ok(()) => assert_eq!(stored(&log, "readers", ONLY).await, before.get(ONLY)),
        Err(error) => assert!(error.failures().iter().all(|(partition, _)| *partition == ONLY), "{error:?}"),
    }
    Ok(())
}

pub(super) async fn c13_a_cursor_of_another_consumer_is_an_error(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let (mut one, mut two) = (reader(&log, "one").await, reader(&log, "two").await);
    let of_one = poll(&mut one, 3, PATIENCE).await;
    read(&mut two, 8).await;
    two.commit(of_one.cursor()).await.expect_err("it is the cursor of another consumer");
    assert_eq!(stored(&log, "two", ONLY).await.unwrap_or_default(), Offset::ZERO, "nothing is stored");
    let unknown: Cursor = [(PartitionId(99), Offset(1))].into_iter().collect();
    let error = two.commit(&unknown).await.expect_err("there is no such partition");
    assert!(matches!(error.failures(), [(PartitionId(99), _)]), "{error:?}");
    Ok(())
}

pub(super) async fn c13_a_partition_that_came_back_is_committed(harness: &dyn Harness) -> CaseResult {
    let (log, keys) = two_partitions(harness, 10).await;
    let mut one = reader(&log, "readers").await;
    read(&mut one, 20).await;
    let (mut two, kept) = two_members(&log, &mut one).await;
    let lost = PartitionId(1 - kept.0);
    while two.position().get(lost) < Some(Offset(10)) {
        poll(&mut two, 10, PATIENCE).await;
    }
    let position = two.position().clone();
    two.commit(&position).await.expect("the commit succeeds");
    two.leave().await.expect("it leaves");
    until_it_has(&mut one, 2).await;
    append(&log, Probe::new(&keys[kept.0 as usize], 200)).await;
    let batch = poll(&mut one, 10, PATIENCE).await;
    assert_eq!(numbers(&batch), [200]);
    one.commit(batch.cursor()).await.expect("both partitions are its own, and at the group's place");
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 0);
    Ok(())
}

/// Reads behind a move beyond the end, which must have been an error, or is told by the next poll.
async fn assert_told(reader: &mut Reader, moved: Result<(), Error>) {
    match moved {
        Err(error) => assert!(!error.is_retryable(), "{error:?}"),
        Ok(()) => {
            let batch = tokio::time::timeout(PATIENCE, reader.poll(10, Duration::from_secs(5))).await;
            let batch = batch.expect("a notice ends a poll").expect("the poll succeeds");
            assert!(
                batch.notices.iter().any(|notice| matches!(notice, Notice::Truncated { .. })),
                "reading goes on elsewhere, and that is not told: {batch:?}"
            );
        }
    }
}

pub(super) async fn c14_a_seek_beyond_the_end_is_not_silent(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let beyond: Cursor = [(ONLY, Offset(100))].into_iter().collect();
    for to in [SeekPosition::Cursor(beyond.clone()), SeekPosition::Position(Position::new(ONLY, Offset(100)))]
    {
        let mut reader = reader(&log, "readers").await;
        let moved = reader.seek(to).await;
        assert_told(&mut reader, moved).await;
    }
    // The end itself is not beyond it.
    let mut reader = reader(&log, "readers").await;
    reader.seek(SeekPosition::Position(Position::new(ONLY, Offset(10)))).await.expect("it is the end");
    append(&log, Probe::new("k", 10)).await;
    assert_eq!(numbers(&read(&mut reader, 1).await), [10]);
    Ok(())
}

pub(super) async fn c14_a_start_beyond_the_end_is_not_silent(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let beyond: Cursor = [(ONLY, Offset(100))].into_iter().collect();
    let options = ConsumerOptions::starting_at(SeekPosition::Cursor(beyond));
    match log.consumer_with("readers", options).await {
        Err(error) => assert!(!error.is_retryable(), "{error:?}"),
        Ok(mut reader) => assert_told(&mut reader, Ok(())).await,
    }
    Ok(())
}
