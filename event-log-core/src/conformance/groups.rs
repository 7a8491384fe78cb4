//! Clause c8: who gets what when a group has several members.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{
    Log, PATIENCE, Probe, Reader, append, assert_dry, numbers, open, open_with, partitions, poll, read,
    reader,
};
use super::{CaseResult, Harness};
use crate::error::CommitErrorKind;
use crate::position::Offset;
use crate::record::Notice;

async fn fill(log: &Log, numbers: std::ops::Range<u64>) {
    for number in numbers {
        append(log, Probe::new(&format!("key-{number}"), number)).await;
    }
}

/// Polls the members in turn until all of them are dry. Returns what each has read.
async fn read_in_turn<const N: usize>(members: [&mut Reader; N]) -> [Vec<u64>; N] {
    let mut seen = [const { Vec::new() }; N];
    let mut dry = 0;
    let mut members = members;
    while dry < 2 * N {
        for (member, seen) in members.iter_mut().zip(&mut seen) {
            let batch = poll(member, 10, Duration::from_millis(100)).await;
            dry = if batch.is_empty() { dry + 1 } else { 0 };
            seen.extend(numbers(&batch));
        }
    }
    seen
}

/// Polls both until each has some of the partitions and they have all of them together.
async fn until_shared(one: &mut Reader, two: &mut Reader, partitions: usize) {
    let sharing = async {
        while one.position().len() + two.position().len() != partitions || one.position().is_empty() {
            poll(one, 1, Duration::from_millis(20)).await;
            poll(two, 1, Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(4 * PATIENCE, sharing).await.expect("the members come to share the partitions");
}

pub(super) async fn c8_groups_are_independent(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let mut one = reader(&log, "one").await;
    let mut two = reader(&log, "two").await;
    assert_eq!(numbers(&read(&mut one, 10).await), (0..10).collect::<Vec<_>>());
    let seen = one.position().clone();
    one.commit(&seen).await.expect("the commit succeeds");
    assert_eq!(numbers(&read(&mut two, 10).await), (0..10).collect::<Vec<_>>());
    let theirs = two.committed().iter().filter(|(_, next)| *next > Offset::ZERO);
    assert_eq!(theirs.count(), 0, "the other group's commit is not ours");
    drop(two);
    let mut two = reader(&log, "two").await;
    assert_eq!(numbers(&read(&mut two, 10).await), (0..10).collect::<Vec<_>>());
    assert_eq!((one.group(), two.group()), ("one", "two"));
    Ok(())
}

pub(super) async fn c8_a_single_member_has_every_partition(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(5)).await;
    let mut only = reader(&log, "readers").await;
    assert_eq!(only.position().len(), 5);
    fill(&log, 0..50).await;
    assert_eq!(read(&mut only, 50).await.len(), 50);
    assert_dry(&mut only).await;
    Ok(())
}

pub(super) async fn c8_members_share_the_partitions(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(4)).await;
    let mut one = reader(&log, "readers").await;
    let mut two = reader(&log, "readers").await;
    until_shared(&mut one, &mut two, 4).await;
    fill(&log, 0..80).await;
    let [first, second] = read_in_turn([&mut one, &mut two]).await;
    assert!(!first.is_empty() && !second.is_empty(), "both have something to do");
    let mut all = [first, second].concat();
    all.sort_unstable();
    assert_eq!(all, (0..80).collect::<Vec<_>>(), "each record goes to one member");
    Ok(())
}

pub(super) async fn c8_a_leaving_member_hands_over(harness: &dyn Harness) -> CaseResult {
    for dies in [false, true] {
        let log = open_with(harness, &partitions(4)).await;
        let group = if dies { "dying" } else { "leaving" };
        let mut one = reader(&log, group).await;
        let mut two = reader(&log, group).await;
        until_shared(&mut one, &mut two, 4).await;
        let before = log.watermarks().await.expect("the watermarks are known").high();
        fill(&log, 0..40).await;
        // What came before this round is none of its business.
        let skip = crate::position::SeekPosition::Cursor(before);
        one.seek(skip.clone()).await.expect("the seek succeeds");
        two.seek(skip).await.expect("the seek succeeds");
        let [first, second] = read_in_turn([&mut one, &mut two]).await;
        assert_eq!(first.len() + second.len(), 40);
        let position = one.position().clone();
        one.commit(&position).await.expect("the commit succeeds");
        // The second has committed nothing: all that it has read goes to the first.
        if dies {
            drop(two);
        } else {
            two.leave().await.expect("it leaves");
        }
        let mut again = BTreeSet::new();
        let takeover = async {
            while !second.iter().all(|number| again.contains(number)) {
                again.extend(numbers(&poll(&mut one, 100, Duration::from_millis(100)).await));
            }
        };
        tokio::time::timeout(4 * PATIENCE, takeover).await.expect("the uncommitted records come");
        assert!(first.iter().all(|number| !again.contains(number)), "what was committed does not come back");
    }
    Ok(())
}

pub(super) async fn c8_a_revoked_partition_cannot_be_committed(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(4)).await;
    fill(&log, 0..40).await;
    let mut one = reader(&log, "readers").await;
    read(&mut one, 40).await;
    let everything = one.position().clone();
    let mut two = reader(&log, "readers").await;
    let mut notices = Vec::new();
    let sharing = async {
        while two.position().len() != 2 || one.position().len() != 2 {
            notices.extend(poll(&mut one, 1, Duration::from_millis(20)).await.notices);
            poll(&mut two, 1, Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(4 * PATIENCE, sharing).await.expect("the members come to share the partitions");
    let revoked: BTreeSet<_> = notices
        .iter()
        .flat_map(|notice| if let Notice::Revoked(partitions) = notice { partitions.as_slice() } else { &[] })
        .copied()
        .collect();
    assert_eq!(revoked.len(), 2, "the first is told what it has lost: {notices:?}");
    let error = one.commit(&everything).await.expect_err("two of the partitions belong to the other member");
    let failed: BTreeSet<_> = error
        .failures()
        .iter()
        .map(|(partition, failure)| {
            assert!(matches!(failure, CommitErrorKind::Revoked), "{failure:?}");
            *partition
        })
        .collect();
    assert_eq!(failed, revoked, "{error:?}");
    assert_eq!(error.stored().len(), 2, "what is still its own is stored: {error:?}");
    Ok(())
}
