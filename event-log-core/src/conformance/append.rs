//! Clauses a1–a4 and a9–a15: what an append promises while the log is there.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;
use serde::Serialize;
use tokio::time::Instant;

use super::fixture::{
    Log, PATIENCE, Probe, append, assert_dry, assert_partition_order, numbers, numbers_by_key, open,
    open_with, partitions, read, reader, state_of, until_connected,
};
use super::{CaseResult, Defect, Fault, Harness, Spec};
use crate::error::{AppendErrorKind, SubmitError, SubmitErrorKind};
use crate::event::Partitionable;
use crate::ext::EventLogExt;
use crate::log::EventLog;
use crate::partitioner::partition_of;
use crate::position::{Offset, PartitionId};
use crate::ticket::Ticket;

pub(super) async fn a1_positions_are_the_logs_own(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let other = open(harness).await;
    let mut reader = reader(&log, "readers").await;
    for number in 0..50 {
        // A handle that counted offsets by itself would not know of the other one.
        let handle = if number % 3 == 0 { &other } else { &log };
        let committed = append(handle, Probe::new(&format!("key-{}", number % 7), number)).await;
        let record = read(&mut reader, 1).await.remove(0);
        assert_eq!(numbers([&record]), [number]);
        assert_eq!(record.id, committed.id, "the record carries the id of the receipt");
        assert_eq!(record.position.partition, committed.partition);
        if let Some(position) = committed.position() {
            assert_eq!(record.position, position, "the receipt says where the record is");
        }
    }
    Ok(())
}

pub(super) async fn a2_events_of_a_key_keep_their_order(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let mut number = 0;
    let mut next = |key: &str| {
        number += 1;
        Probe::new(key, number)
    };
    for round in 0..20 {
        let key = format!("key-{}", round % 3);
        let first = log.submit(next(&key)).expect("it is taken");
        let second = log.submit(next(&key)).expect("it is taken");
        let batch = vec![next(&key), next("key-0"), next(&key)];
        log.append_batch(batch).await.expect("the batch is appended");
        append(&log, next(&key)).await;
        first.await.expect("it is appended");
        second.await.expect("it is appended");
    }
    let records = read(&mut reader(&log, "readers").await, 120).await;
    for (key, numbers) in numbers_by_key(&records) {
        assert!(numbers.is_sorted(), "{key:?} came as {numbers:?}");
    }
    assert_partition_order(&records);
    Ok(())
}

pub(super) async fn a2_a_completed_append_precedes_a_later_one(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let other = open_with(harness, &partitions(1)).await;
    for number in 0..40 {
        let handle = if number % 2 == 0 { &log } else { &other };
        append(handle, Probe::new(&format!("key-{}", number % 5), number)).await;
    }
    let records = read(&mut reader(&log, "readers").await, 40).await;
    assert_eq!(numbers(&records), (0..40).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn a3_offsets_may_have_gaps(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    append(&log, Probe::new("k", 1)).await;
    harness.inject(Fault::SkipOffsets(PartitionId(0), 1_000)).await?;
    let after = append(&log, Probe::new("k", 2)).await;
    assert!(after.offset.is_none_or(|offset| offset >= Offset(1_001)), "the gap is there: {after:?}");
    append(&log, Probe::new("k", 3)).await;
    let mut first = reader(&log, "readers").await;
    let records = read(&mut first, 2).await;
    assert_eq!(numbers(&records), [1, 2]);
    let seen = first.position().clone();
    first.commit(&seen).await.expect("a commit across a gap succeeds");
    drop(first);
    let mut second = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut second, 1).await), [3], "resuming behind a gap misses nothing");
    assert_dry(&mut second).await;
    let seen = second.position().clone();
    second.commit(&seen).await.expect("the commit succeeds");
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 0);
    Ok(())
}

pub(super) async fn a4_every_append_has_one_outcome(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(2);
    spec.config.buffer_events = 16;
    let log = open_with(harness, &spec).await;
    let mut tickets: Vec<(u64, Ticket<Probe>)> = Vec::new();
    let mut number = 0;
    let mut submit = |tickets: &mut Vec<_>, count| {
        for _ in 0..count {
            if let Ok(ticket) = log.submit(Probe::new(&format!("key-{}", number % 3), number)) {
                tickets.push((number, ticket));
            }
            number += 1;
        }
    };
    for _ in 0..3 {
        submit(&mut tickets, 5);
        harness.inject(Fault::LoseReplies(1)).await?;
        submit(&mut tickets, 5);
        harness.inject(Fault::Disconnect).await?;
        until_connected(&log, false).await;
        // More than the buffer holds: some are dropped.
        submit(&mut tickets, 30);
        harness.inject(Fault::Reconnect).await?;
        log.flush().await.expect("the log is open");
    }
    let (mut committed, mut absent) = (BTreeMap::new(), BTreeSet::new());
    for (number, ticket) in tickets {
        match tokio::time::timeout(PATIENCE, ticket).await.expect("no ticket is left pending") {
            Ok(place) => _ = committed.insert(number, place),
            Err(error) => {
                assert!(!error.may_have_taken_effect(), "nothing was left unknown: {error}");
                assert_eq!(error.event().number, number, "it is the event itself that comes back");
                absent.insert(number);
            }
        }
    }
    assert!(!absent.is_empty(), "the buffer was overflown");
    let mut reader = reader(&log, "readers").await;
    let records = read(&mut reader, committed.len()).await;
    assert_dry(&mut reader).await;
    for record in &records {
        let number = numbers([record])[0];
        let place =
            committed.remove(&number).unwrap_or_else(|| panic!("{number} is there twice, or should not be"));
        assert_eq!(place.id, record.id);
        assert!(place.position().is_none_or(|position| position == record.position));
    }
    Ok(())
}

pub(super) async fn a4_tickets_resolve_when_the_log_is_dropped(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    harness.inject(Fault::Disconnect).await?;
    let tickets: Vec<_> =
        (0..10).map(|number| log.submit(Probe::new("k", number)).expect("it is buffered")).collect();
    drop(log);
    for (ticket, number) in tickets.into_iter().zip(0..) {
        let outcome = tokio::time::timeout(PATIENCE, ticket).await.expect("the ticket is resolved");
        assert_eq!(outcome.expect_err("nothing was sent").into_event().number, number);
    }
    Ok(())
}

pub(super) async fn a9_a_lone_append_does_not_wait_for_company(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    append(&log, Probe::new("k", 0)).await;
    let start = Instant::now();
    for number in 1..20 {
        append(&log, Probe::new("k", number)).await;
    }
    let each = start.elapsed() / 19;
    assert!(each < Duration::from_millis(50), "a lone append took {each:?}");
    Ok(())
}

pub(super) async fn a9_waiting_appends_travel_together(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(4)).await;
    harness.inject(Fault::SlowAppends(Duration::from_millis(20))).await?;
    let start = Instant::now();
    let appends = (0..1_000).map(|number| append(&log, Probe::new(&format!("key-{}", number % 50), number)));
    join_all(appends).await;
    let took = start.elapsed();
    assert!(
        took < Duration::from_secs(2),
        "1,000 appends at 20 ms a request took {took:?}: they travel alone"
    );
    harness.inject(Fault::SlowAppends(Duration::ZERO)).await?;
    assert_eq!(read(&mut reader(&log, "readers").await, 1_000).await.len(), 1_000);
    Ok(())
}

pub(super) async fn a10_a_slow_log_pushes_back(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(1);
    (spec.config.buffer_events, spec.config.request_events) = (8, 4);
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::SlowAppends(Duration::from_millis(20))).await?;
    let (mut taken, mut refused) = (Vec::new(), 0);
    for number in 0..50 {
        match log.submit(Probe::new("k", number)) {
            Ok(ticket) => taken.push(ticket),
            Err(SubmitError { event, kind: SubmitErrorKind::Full }) => {
                assert_eq!(event.number, number);
                refused += 1;
            }
            Err(other) => panic!("{other:?}"),
        }
    }
    assert!(refused > 0, "50 events went into a queue for 8");
    let buffered = state_of(&log).buffered;
    assert!(buffered <= 12, "{buffered} events are held: 8 queued and 4 in flight are the bound");
    let count = taken.len();
    // Appending waits instead, in order, and succeeds.
    join_all((100..130).map(|number| append(&log, Probe::new("k", number)))).await;
    join_all(taken).await.into_iter().for_each(|outcome| _ = outcome.expect("what was taken is appended"));
    let records = read(&mut reader(&log, "readers").await, count + 30).await;
    assert_eq!(numbers(&records[count..]), (100..130).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn a11_an_oversized_event_comes_back(harness: &dyn Harness) -> CaseResult {
    let mut spec = Spec::default();
    spec.config.max_event_bytes = 1_000;
    let log = open_with(harness, &spec).await;
    let rejected = log.submit(Probe::new("k", 1).padded(2_000)).expect_err("it is too large");
    assert_eq!(rejected.event, Probe::new("k", 1).padded(2_000), "the event comes back as it was");
    assert!(!rejected.is_retryable() && !rejected.may_have_taken_effect());
    let SubmitErrorKind::TooLarge { bytes, limit } = rejected.kind else { panic!("{rejected:?}") };
    assert!(bytes > 2_000 && limit == 1_000);
    let error = log.append(Probe::new("k", 2).padded(2_000)).await.expect_err("it is too large");
    assert!(matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::TooLarge { .. })));
    append(&log, Probe::new("k", 3).padded(500)).await;
    let mut reader = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 1).await), [3], "only what was accepted is there");
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn a11_an_unencodable_event_comes_back(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let event = Probe::new("k", 1).with_defect(Defect::Unencodable);
    let rejected = log.submit(event.clone()).expect_err("it cannot be encoded");
    assert!(matches!(rejected.kind, SubmitErrorKind::Encode(_)));
    assert!(std::error::Error::source(&rejected).is_some(), "what the codec said is kept");
    assert_eq!(rejected.event, event);
    append(&log, Probe::new("k", 2)).await;
    let mut reader = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 1).await), [2]);
    Ok(())
}

pub(super) async fn a11_a_batch_is_taken_whole_or_not_at_all(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let mut batch: Vec<_> = (0..5).map(|number| Probe::new(&format!("key-{number}"), number)).collect();
    batch[3] = batch[3].clone().with_defect(Defect::Unencodable);
    let error = log.append_batch(batch).await.expect_err("one event cannot be encoded");
    assert_eq!(error.failures().count(), 5, "every event comes back");
    for (at, outcome) in error.into_outcomes().into_iter().enumerate() {
        let error = outcome.expect_err("none is appended");
        assert_eq!(error.event().number, at as u64);
        let AppendErrorKind::Rejected(reason) = error.kind() else { panic!("{error:?}") };
        assert_eq!(matches!(reason, SubmitErrorKind::Encode(_)), at == 3, "{reason}");
    }
    append(&log, Probe::new("k", 9)).await;
    let mut reader = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 1).await), [9], "nothing of the batch is there");
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn a11_any_key_is_legal(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    let keys = [
        String::new(),
        "x".repeat(255),
        "y".repeat(256),
        "z".repeat(1_000),
        "größe \u{1f980}".into(),
        "a\0b".into(),
    ];
    for number in 0..30 {
        append(&log, Probe::new(&keys[number as usize % keys.len()], number)).await;
    }
    let records = read(&mut reader(&log, "readers").await, 30).await;
    let by_key = numbers_by_key(&records);
    assert_eq!(by_key.len(), keys.len());
    for (key, numbers) in by_key {
        assert_eq!(numbers.len(), 5);
        assert!(numbers.is_sorted(), "{key:?} came as {numbers:?}");
    }
    Ok(())
}

pub(super) async fn a12_keyless_events_are_spread(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(4)).await;
    let mut used = BTreeSet::new();
    for number in 0..200 {
        used.insert(append(&log, Probe::keyless(number)).await.partition);
    }
    assert_eq!(used.len(), 4, "200 events without a key went to {used:?}");
    let mut seen = numbers(&read(&mut reader(&log, "readers").await, 200).await);
    seen.sort_unstable();
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn a13_keys_go_where_the_partitioner_says(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(5)).await;
    let events: Vec<_> = (0..60).map(|number| Probe::new(&format!("key-{number}"), number)).collect();
    log.append_batch(events).await.expect("the batch is appended");
    append(&log, Probe::new("key-0", 60)).await;
    for record in read(&mut reader(&log, "readers").await, 61).await {
        let key = record.key().expect("a key").to_owned();
        assert_eq!(record.position.partition, partition_of(&key, 5), "{key}");
    }
    Ok(())
}

pub(super) async fn a14_a_dropped_append_leaves_the_log_usable(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(1);
    (spec.config.buffer_events, spec.config.request_events) = (2, 1);
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::SlowAppends(Duration::from_millis(20))).await?;
    drop(log.append(Probe::new("k", 1)));
    let mut taken = Vec::new();
    while let Ok(ticket) = log.submit(Probe::new("k", 2)) {
        taken.push(ticket);
    }
    // It waits for space when it is dropped: it will certainly not be appended.
    assert!(log.append(Probe::new("k", 3)).now_or_never().is_none());
    let appended = taken.len();
    join_all(taken).await.into_iter().for_each(|outcome| _ = outcome.expect("it is appended"));
    // It is queued when it is dropped: it will be appended.
    assert!(log.append(Probe::new("k", 4)).now_or_never().is_none());
    append(&log, Probe::new("k", 5)).await;
    let mut reader = reader(&log, "readers").await;
    let records = read(&mut reader, appended + 2).await;
    assert_dry(&mut reader).await;
    let numbers = numbers(&records);
    assert!(numbers[..appended].iter().all(|&number| number == 2), "{numbers:?}");
    assert_eq!(numbers[appended..], [4, 5]);
    Ok(())
}

pub(super) async fn a15_appending_asks_nothing_of_decoding(harness: &dyn Harness) -> CaseResult {
    /// Compiles only because `E` need not be `DeserializeOwned`.
    async fn append_only<E>(log: &dyn EventLog<E>, event: E)
    where
        E: Partitionable + Serialize + Send + 'static,
    {
        log.append_acked(event).await.expect("the event is appended");
        assert_eq!(log.lag("unknown").await.expect("the lag is known").total(), 1);
    }
    let log: Log = open(harness).await;
    append_only(&*log, Probe::new("k", 1)).await;
    Ok(())
}
