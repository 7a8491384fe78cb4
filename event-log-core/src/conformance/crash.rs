//! Clause l11: the backend is killed and opened again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;

use super::fixture::{
    Log, PATIENCE, Probe, append, assert_dry, assert_partition_order, fill, keys_of_two_partitions, numbers,
    open_with, partitions, read, reader, until_connected,
};
use super::{CaseResult, Durability, Fault, Harness, NotRun, Tear};
use crate::ext::EventLogExt;
use crate::position::{Offset, PartitionId, Position, SeekPosition};
use crate::receipt::AppendAck;
use crate::record::Record;

const ONLY: PartitionId = PartitionId(0);

/// The cases of a backend that claims no durability are not run.
fn claim(harness: &dyn Harness) -> Result<Durability, NotRun> {
    harness.capabilities().durable.ok_or_else(|| NotRun("no durability is claimed".to_owned()))
}

/// Everything that the log has, as a group reads it that was not there before.
async fn all_of(log: &Log, group: &str, count: usize) -> Vec<Record<Probe>> {
    let mut reader = reader(log, group).await;
    let records = read(&mut reader, count).await;
    assert_dry(&mut reader).await;
    assert_partition_order(&records);
    records
}

/// Asserts that each acknowledged event is where its acknowledgement says.
fn assert_acknowledged(acks: &BTreeMap<u64, AppendAck>, records: &[Record<Probe>]) {
    let there: BTreeMap<_, _> = records
        .iter()
        .map(|record| (record.event.as_ref().expect("a probe").number, (record.position, record.id)))
        .collect();
    for (number, ack) in acks {
        let (position, id) =
            there.get(number).unwrap_or_else(|| panic!("{number} was acknowledged and is lost"));
        assert_eq!(*id, ack.id, "{number} has another id");
        assert!(ack.position().is_none_or(|said| said == *position), "{number} is at {position}: {ack:?}");
    }
}

async fn append_all(log: &Log, numbers: std::ops::Range<u64>) -> BTreeMap<u64, AppendAck> {
    let mut acks = BTreeMap::new();
    for number in numbers {
        acks.insert(number, append(log, Probe::new(&format!("key-{}", number % 7), number)).await);
    }
    acks
}

async fn survives(harness: &dyn Harness, fault: Fault) -> CaseResult {
    let log = open_with(harness, &partitions(3)).await;
    let mut acks = append_all(&log, 0..30).await;
    harness.inject(fault).await?;
    // The handle that was there before reconnects by itself.
    acks.extend(append_all(&log, 30..45).await);
    let records = all_of(&log, "old", 45).await;
    assert_acknowledged(&acks, &records);
    let again = open_with(harness, &partitions(3)).await;
    acks.extend(append_all(&again, 45..60).await);
    assert_acknowledged(&acks, &all_of(&again, "new", 60).await);
    Ok(())
}

pub(super) async fn l11_what_was_acknowledged_survives_a_crash(harness: &dyn Harness) -> CaseResult {
    claim(harness)?;
    survives(harness, Fault::Crash).await
}

pub(super) async fn l11_what_was_acknowledged_survives_a_restart(harness: &dyn Harness) -> CaseResult {
    claim(harness)?;
    survives(harness, Fault::Restart).await
}

pub(super) async fn l11_a_power_failure_takes_no_more_than_is_claimed(harness: &dyn Harness) -> CaseResult {
    if claim(harness)? == Durability::Power {
        return survives(harness, Fault::PowerLoss).await;
    }
    let log = open_with(harness, &partitions(1)).await;
    append_all(&log, 0..30).await;
    harness.inject(Fault::PowerLoss).await?;
    let again = open_with(harness, &partitions(1)).await;
    append(&again, Probe::new("k", 30)).await;
    let high = again.watermarks().await.expect("the watermarks are known").high();
    let mut reader = reader(&again, "readers").await;
    let mut found = Vec::new();
    while reader.position().get(ONLY) < high.get(ONLY) {
        found.extend(numbers(&read(&mut reader, 1).await));
    }
    assert_eq!(found.pop(), Some(30), "new appends go on behind");
    let expected: Vec<_> = (0..found.len() as u64).collect();
    assert_eq!(found, expected, "what is left is the beginning of what was there");
    Ok(())
}

pub(super) async fn l11_what_was_not_acknowledged_is_there_whole_or_not_at_all(
    harness: &dyn Harness,
) -> CaseResult {
    claim(harness)?;
    let mut spec = partitions(2);
    spec.config.request_events = 5;
    let log = open_with(harness, &spec).await;
    let mut acks = append_all(&log, 0..10).await;
    let mut tickets = Vec::new();
    for round in 1..=4 {
        let padded = |number| Probe::new(&format!("key-{}", number % 5), number).padded(3_000);
        let submit = |number| (number, log.submit(padded(number)).expect("it is taken"));
        tickets.extend((round * 100..round * 100 + 20).map(submit));
        tokio::time::sleep(Duration::from_millis(round)).await;
        harness.inject(Fault::Crash).await?;
    }
    let (events, tickets): (Vec<_>, Vec<_>) = tickets.into_iter().unzip();
    let outcomes = tokio::time::timeout(4 * PATIENCE, join_all(tickets)).await.expect("the tickets resolve");
    for (number, outcome) in events.into_iter().zip(outcomes) {
        let ack = outcome.unwrap_or_else(|error| panic!("{number} was not appended: {error:?}"));
        acks.insert(number, ack);
    }
    let records = all_of(&log, "readers", acks.len()).await;
    assert_acknowledged(&acks, &records);
    let ids: BTreeSet<_> = records.iter().map(|record| record.id).collect();
    assert_eq!(ids.len(), records.len(), "an event is there twice");
    Ok(())
}

pub(super) async fn l11_a_torn_record_is_cut_off(harness: &dyn Harness) -> CaseResult {
    claim(harness)?;
    let log = open_with(harness, &partitions(1)).await;
    let mut acks = append_all(&log, 0..5).await;
    for (tear, number) in [(Tear::Short, 5), (Tear::Garbled, 6), (Tear::Short, 7)] {
        harness.inject(Fault::TornTail(ONLY, tear)).await?;
        let before = all_of(&log, &format!("before {number}"), acks.len()).await;
        assert_acknowledged(&acks, &before);
        acks.extend(append_all(&log, number..number + 1).await);
        // Torn again right away, behind the record that has just been appended.
        harness.inject(Fault::TornTail(ONLY, tear)).await?;
        let after = all_of(&log, &format!("after {number}"), acks.len()).await;
        assert_acknowledged(&acks, &after);
    }
    Ok(())
}

async fn places_survive(harness: &dyn Harness, fault: Fault) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let mut ahead = reader(&log, "ahead").await;
    read(&mut ahead, 8).await;
    let eight = ahead.position().clone();
    ahead.commit(&eight).await.expect("the commit succeeds");
    let mut back = reader(&log, "back").await;
    read(&mut back, 8).await;
    let of_back = back.position().clone();
    back.commit(&of_back).await.expect("the commit succeeds");
    back.seek(SeekPosition::Position(Position::new(ONLY, Offset::ZERO))).await.expect("the seek succeeds");
    read(&mut back, 3).await;
    let three = back.position().clone();
    back.commit(&three).await.expect("the commit succeeds");
    // Delivered, and not committed.
    read(&mut back, 2).await;
    harness.inject(fault).await?;
    drop((ahead, back));
    let log = open_with(harness, &partitions(1)).await;
    for (group, cursor) in [("ahead", eight), ("back", three)] {
        let stored =
            log.lag(group).await.expect("the lag is known").get(ONLY).expect("a partition").committed;
        assert_eq!(stored, cursor.get(ONLY), "{group}");
    }
    assert_eq!(numbers(&read(&mut reader(&log, "back").await, 7).await), (3..10).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn l11_groups_stand_where_their_last_commit_left_them(harness: &dyn Harness) -> CaseResult {
    claim(harness)?;
    places_survive(harness, Fault::Crash).await
}

pub(super) async fn l11_committed_places_survive_a_power_failure(harness: &dyn Harness) -> CaseResult {
    if claim(harness)? == Durability::Power {
        return places_survive(harness, Fault::PowerLoss).await;
    }
    let log = open_with(harness, &partitions(1)).await;
    fill(&log, 0..10).await;
    let mut member = reader(&log, "readers").await;
    read(&mut member, 8).await;
    let eight = member.position().clone();
    member.commit(&eight).await.expect("the commit succeeds");
    harness.inject(Fault::PowerLoss).await?;
    drop(member);
    let log = open_with(harness, &partitions(1)).await;
    let stored =
        log.lag("readers").await.expect("the lag is known").get(ONLY).expect("a partition").committed;
    assert!(stored <= eight.get(ONLY), "{stored:?} was never committed");
    Ok(())
}

pub(super) async fn l11_a_request_that_a_crash_left_unanswered_is_there_once(
    harness: &dyn Harness,
) -> CaseResult {
    claim(harness)?;
    let log = open_with(harness, &partitions(1)).await;
    append(&log, Probe::new("k", 0)).await;
    for number in 1..4 {
        harness.inject(Fault::LoseReplies(1)).await?;
        let ticket = log.submit(Probe::new("k", number)).expect("it is taken");
        until_connected(&log, false).await;
        harness.inject(Fault::Crash).await?;
        let ack = tokio::time::timeout(4 * PATIENCE, ticket).await.expect("it is found");
        let position = ack.expect("it is appended").position().expect("reading back has shown its position");
        assert_eq!(position.offset, Offset(number));
    }
    assert_eq!(numbers(&all_of(&log, "readers", 4).await), [0, 1, 2, 3]);
    let high = log.watermarks().await.expect("the watermarks are known").high();
    assert_eq!(high.get(ONLY), Some(Offset(4)), "each event is in the log once");
    Ok(())
}

pub(super) async fn l11_what_was_purged_stays_purged(harness: &dyn Harness) -> CaseResult {
    claim(harness)?;
    let log = open_with(harness, &partitions(1)).await;
    append_all(&log, 0..10).await;
    harness.inject(Fault::Purge).await?;
    for number in [10, 11] {
        append(&log, Probe::new("k", number)).await;
    }
    let before = log.watermarks().await.expect("the watermarks are known");
    harness.inject(Fault::Crash).await?;
    until_connected(&log, true).await;
    let log = open_with(harness, &partitions(1)).await;
    assert_eq!(log.watermarks().await.expect("the watermarks are known"), before);
    let ack = append(&log, Probe::new("k", 12)).await;
    assert!(
        ack.position().is_none_or(|position| Some(position.offset) >= before.high().get(ONLY)),
        "{ack:?}"
    );
    assert_eq!(numbers(&all_of(&log, "readers", 3).await), [10, 11, 12]);
    Ok(())
}

pub(super) async fn l11_a_consumer_goes_on_after_a_crash(harness: &dyn Harness) -> CaseResult {
    claim(harness)?;
    let log = open_with(harness, &partitions(2)).await;
    fill(&log, 0..20).await;
    let mut only = reader(&log, "readers").await;
    let mut seen = numbers(&read(&mut only, 12).await);
    harness.inject(Fault::Crash).await?;
    fill(&log, 20..30).await;
    // What it had read and not committed may come again; nothing is passed over.
    let rest = async {
        while !(0..30).all(|number| seen.contains(&number)) {
            match only.poll(100, PATIENCE).await {
                Ok(batch) => seen.extend(numbers(&batch)),
                Err(error) => assert!(error.is_retryable(), "{error:?}"),
            }
        }
    };
    tokio::time::timeout(4 * PATIENCE, rest).await.expect("all records come");
    let position = only.position().clone();
    only.commit(&position).await.expect("the commit succeeds");
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 0);
    Ok(())
}

pub(super) async fn l11_a_deleted_group_stays_deleted(harness: &dyn Harness) -> CaseResult {
    claim(harness)?;
    let log = open_with(harness, &partitions(1)).await;
    append(&log, Probe::new("k", 0)).await;
    for group in ["kept", "deleted"] {
        let mut member = reader(&log, group).await;
        read(&mut member, 1).await;
        let position = member.position().clone();
        member.commit(&position).await.expect("the commit succeeds");
        member.leave().await.expect("it leaves");
    }
    log.delete_group("deleted").await.expect("it has no members");
    harness.inject(Fault::Crash).await?;
    let log = open_with(harness, &partitions(1)).await;
    let stored =
        async |group| log.lag(group).await.expect("the lag is known").get(ONLY).expect("one").committed;
    assert!(stored("deleted").await.is_none(), "the group is back");
    assert!(stored("kept").await.is_some(), "another group is gone with it");
    assert_eq!(numbers(&read(&mut reader(&log, "deleted").await, 1).await), [0]);
    Ok(())
}

pub(super) async fn l11_offsets_go_on_behind_what_was_there(harness: &dyn Harness) -> CaseResult {
    claim(harness)?;
    let keys = keys_of_two_partitions();
    let log = open_with(harness, &partitions(2)).await;
    let mut last = BTreeMap::<PartitionId, Offset>::new();
    for round in 0..4 {
        for number in 0..5 {
            // The second partition grows in every other round only.
            let key = &keys[usize::from(round % 2 == 1 && number % 2 == 1)];
            let ack = append(&log, Probe::new(key, round * 10 + number)).await;
            if let Some(Position { partition, offset }) = ack.position() {
                let before = last.insert(partition, offset);
                assert!(before < Some(offset), "{offset} of {partition} comes after {before:?}");
            }
        }
        harness.inject(Fault::Crash).await?;
        until_connected(&log, true).await;
    }
    let events = (100..103).map(|number| Probe::new(&keys[0], number)).collect::<Vec<_>>();
    log.append_all(&mut events.into_iter()).await.expect("they are appended");
    assert_eq!(all_of(&log, "readers", 23).await.len(), 23);
    Ok(())
}
