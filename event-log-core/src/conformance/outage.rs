//! Clauses a2 and a4–a8 through a lost connection: buffering, dropping, recovering.

use std::time::Duration;

use futures::FutureExt;
use futures::future::join_all;

use super::fixture::{
    Log, PATIENCE, Probe, Reader, append, assert_dry, numbers, numbers_by_key, open, open_with, partitions,
    poll, read, reader, state_of, until_connected, until_state,
};
use super::{CaseResult, Fault, Harness, Spec};
use crate::config::Overflow;
use crate::error::{AppendErrorKind, SubmitErrorKind};
use crate::event::EventId;
use crate::ext::EventLogExt;
use crate::position::{Offset, PartitionId};
use crate::record::Notice;
use crate::state::Connection;
use crate::ticket::Ticket;

/// A log that holds this many events while it is away.
fn holding(events: usize, overflow: Overflow) -> Spec {
    let mut spec = partitions(2);
    (spec.config.buffer_events, spec.config.overflow) = (events, overflow);
    spec
}

fn submit(log: &Log, numbers: std::ops::Range<u64>) -> Vec<Ticket<Probe>> {
    numbers.map(|number| log.submit(Probe::new("k", number)).expect("it is taken")).collect()
}

async fn all_committed(tickets: Vec<Ticket<Probe>>) {
    for outcome in tokio::time::timeout(4 * PATIENCE, join_all(tickets)).await.expect("the tickets resolve") {
        outcome.expect("the event is appended");
    }
}

async fn assert_log_is(reader: &mut Reader, expected: impl IntoIterator<Item = u64>) {
    let expected: Vec<_> = expected.into_iter().collect();
    assert_eq!(numbers(&read(reader, expected.len()).await), expected);
    assert_dry(reader).await;
}

pub(super) async fn a2_order_survives_a_reconnection(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(3)).await;
    let mut tickets = Vec::new();
    let mut number = 0;
    let mut submit = |tickets: &mut Vec<_>| {
        for _ in 0..25 {
            tickets
                .push(log.submit(Probe::new(&format!("key-{}", number % 4), number)).expect("it is taken"));
            number += 1;
        }
    };
    for _ in 0..3 {
        submit(&mut tickets);
        harness.inject(Fault::LoseReplies(1)).await?;
        submit(&mut tickets);
        harness.inject(Fault::Disconnect).await?;
        submit(&mut tickets);
        harness.inject(Fault::Reconnect).await?;
        submit(&mut tickets);
        until_connected(&log, true).await;
        submit(&mut tickets);
    }
    let count = tickets.len();
    all_committed(tickets).await;
    let mut reader = reader(&log, "readers").await;
    let records = read(&mut reader, count).await;
    assert_dry(&mut reader).await;
    for (key, numbers) in numbers_by_key(&records) {
        assert!(numbers.is_sorted(), "{key:?} came as {numbers:?}");
    }
    Ok(())
}

pub(super) async fn a4_an_expired_event_comes_back(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(1);
    spec.config.expiry = Some(Duration::from_millis(500));
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let ticket = log.submit(Probe::new("k", 1)).expect("it is buffered");
    let error =
        tokio::time::timeout(PATIENCE, ticket).await.expect("it expires").expect_err("it was not sent");
    assert!(matches!(error.kind(), AppendErrorKind::Expired(_)) && !error.may_have_taken_effect());
    harness.inject(Fault::Reconnect).await?;
    until_connected(&log, true).await;
    append(&log, Probe::new("k", 2)).await;
    assert_log_is(&mut reader(&log, "readers").await, [2]).await;
    Ok(())
}

pub(super) async fn a5_a_full_buffer_drops_exactly_the_oldest(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &holding(10, Overflow::DropOldest)).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let mut tickets = submit(&log, 0..25);
    let kept = tickets.split_off(15);
    for (ticket, number) in tickets.into_iter().zip(0..) {
        let error = ticket.await.expect_err("it was dropped");
        assert!(matches!(error.kind(), AppendErrorKind::Dropped), "{error:?}");
        assert_eq!(error.into_event().number, number, "its own event comes back");
    }
    harness.inject(Fault::Reconnect).await?;
    all_committed(kept).await;
    assert_log_is(&mut reader(&log, "readers").await, 15..25).await;
    Ok(())
}

pub(super) async fn a5_drops_are_counted_in_the_state(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &holding(4, Overflow::DropOldest)).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let _tickets = submit(&log, 0..10);
    let state = state_of(&log);
    assert_eq!((state.buffered, state.dropped), (4, 6));
    harness.inject(Fault::Reconnect).await?;
    log.flush().await.expect("the log is open");
    let state = state_of(&log);
    assert_eq!((state.buffered, state.dropped), (0, 6));
    Ok(())
}

pub(super) async fn a5_the_byte_bound_counts(harness: &dyn Harness) -> CaseResult {
    let mut spec = holding(1_000, Overflow::DropOldest);
    (spec.config.buffer_bytes, spec.config.max_event_bytes) = (10_000, 5_000);
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let large = |number| log.submit(Probe::new("k", number).padded(4_000)).expect("it is buffered");
    let (first, second, third) = (large(1), large(2), large(3));
    let error = first.await.expect_err("three of them do not fit into 10,000 bytes");
    assert!(matches!(error.kind(), AppendErrorKind::Dropped), "{error:?}");
    harness.inject(Fault::Reconnect).await?;
    all_committed(vec![second, third]).await;
    assert_log_is(&mut reader(&log, "readers").await, [2, 3]).await;
    Ok(())
}

pub(super) async fn a5_a_full_buffer_can_reject(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &holding(3, Overflow::Reject)).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let tickets = submit(&log, 0..3);
    let rejected = log.submit(Probe::new("k", 3)).expect_err("the buffer is full");
    assert!(matches!(rejected.kind, SubmitErrorKind::Full) && rejected.is_retryable());
    assert_eq!(rejected.event.number, 3);
    let error = log.append(Probe::new("k", 4)).await.expect_err("the buffer is full");
    assert!(matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Full)));
    harness.inject(Fault::Reconnect).await?;
    all_committed(tickets).await;
    assert_log_is(&mut reader(&log, "readers").await, 0..3).await;
    Ok(())
}

pub(super) async fn a5_a_full_buffer_can_block_until_a_deadline(harness: &dyn Harness) -> CaseResult {
    let deadline = Duration::from_millis(200);
    let log = open_with(harness, &holding(2, Overflow::Block { deadline })).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let mut tickets = submit(&log, 0..2);
    assert!(log.submit(Probe::new("k", 2)).is_err(), "submit never waits");
    let start = tokio::time::Instant::now();
    let error = log.append(Probe::new("k", 3)).await.expect_err("no space came");
    assert!(start.elapsed() >= deadline, "it waited only {:?}", start.elapsed());
    assert!(matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Full)));
    assert_eq!(error.into_event().number, 3);
    harness.inject(Fault::Reconnect).await?;
    until_connected(&log, true).await;
    all_committed(std::mem::take(&mut tickets)).await;
    append(&log, Probe::new("k", 4)).await;
    assert_log_is(&mut reader(&log, "readers").await, [0, 1, 4]).await;
    Ok(())
}

pub(super) async fn a6_nothing_blocks_while_the_log_is_away(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let receipt = log.append(Probe::new("k", 1)).now_or_never().expect("it returns at once");
    let receipt = receipt.expect("the event is buffered");
    assert!(receipt.is_buffered());
    assert_eq!(receipt.position(), None, "no position is invented");
    let ticket = log.submit(Probe::new("k", 2)).expect("the event is buffered");
    let batch = log.append_batch(vec![Probe::new("k", 3)]).now_or_never().expect("it returns at once");
    assert!(batch.expect("the batch is buffered")[0].is_buffered());
    harness.inject(Fault::Reconnect).await?;
    receipt.acked().await.expect("the first event is appended");
    ticket.await.expect("the second event is appended");
    assert_log_is(&mut reader(&log, "readers").await, 1..4).await;
    Ok(())
}

pub(super) async fn a6_an_append_under_way_learns_that_it_is_buffered(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    harness.inject(Fault::SlowAppends(Duration::from_millis(100))).await?;
    let mut under_way = log.append(Probe::new("k", 1)).boxed();
    assert!(under_way.as_mut().now_or_never().is_none(), "the append is under way");
    harness.inject(Fault::Disconnect).await?;
    let receipt =
        tokio::time::timeout(PATIENCE, under_way).await.expect("it does not wait for the reconnection");
    let receipt = receipt.expect("the event is not lost");
    harness.inject(Fault::SlowAppends(Duration::ZERO)).await?;
    harness.inject(Fault::Reconnect).await?;
    receipt.acked().await.expect("the event is appended");
    assert_log_is(&mut reader(&log, "readers").await, [1]).await;
    Ok(())
}

pub(super) async fn a7_the_buffer_drains_in_order(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(1);
    spec.config.request_events = 7;
    let log = open_with(harness, &spec).await;
    let mut tickets = submit(&log, 0..5);
    harness.inject(Fault::Disconnect).await?;
    tickets.extend(submit(&log, 5..20));
    until_connected(&log, false).await;
    tickets.extend(submit(&log, 20..60));
    harness.inject(Fault::SlowAppends(Duration::from_millis(10))).await?;
    harness.inject(Fault::Reconnect).await?;
    until_connected(&log, true).await;
    // The drain takes a while, and these queue behind it.
    tickets.extend(submit(&log, 60..100));
    all_committed(tickets).await;
    assert_log_is(&mut reader(&log, "readers").await, 0..100).await;
    Ok(())
}

pub(super) async fn a7_a_failure_half_way_through_a_drain_loses_nothing(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(1);
    spec.config.request_events = 5;
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::Disconnect).await?;
    let tickets = submit(&log, 0..50);
    harness.inject(Fault::LoseReplies(2)).await?;
    harness.inject(Fault::LoseRequests(2)).await?;
    harness.inject(Fault::Reconnect).await?;
    all_committed(tickets).await;
    assert_log_is(&mut reader(&log, "readers").await, 0..50).await;
    Ok(())
}

pub(super) async fn a7_reconnecting_is_visible_in_the_state(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    assert_eq!(state_of(&log).connection, Connection::Connected);
    harness.inject(Fault::Disconnect).await?;
    until_state(&log, |state| matches!(state.connection, Connection::Reconnecting { attempt: 2.., .. }))
        .await;
    harness.inject(Fault::Reconnect).await?;
    until_connected(&log, true).await;
    Ok(())
}

pub(super) async fn a7_recovery_is_counted(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    append(&log, Probe::new("k", 0)).await;
    let before = state_of(&log);
    assert_eq!((before.reconnects, before.recovered), Default::default());
    harness.inject(Fault::LoseReplies(1)).await?;
    all_committed(submit(&log, 1..2)).await;
    harness.inject(Fault::LoseRequests(1)).await?;
    all_committed(submit(&log, 2..3)).await;
    let state = state_of(&log);
    let (found, sent_again) = (state.recovered.found, state.recovered.sent_again);
    assert_eq!((found, sent_again, state.recovered.unknown), (1, 1, 0), "{state:?}");
    assert_eq!(state.reconnects, 2, "{state:?}");
    Ok(())
}

pub(super) async fn a8_a_lost_reply_makes_no_second_copy(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    append(&log, Probe::new("k", 0)).await;
    harness.inject(Fault::LoseReplies(1)).await?;
    let tickets = submit(&log, 1..11);
    all_committed(tickets).await;
    append(&log, Probe::new("k", 11)).await;
    assert_log_is(&mut reader(&log, "readers").await, 0..12).await;
    // In the log itself, not only in what a consumer lets through.
    let watermarks = log.watermarks().await.expect("the watermarks are known");
    let high: u64 = watermarks.iter().map(|(_, marks)| marks.high.0).sum();
    assert_eq!(high, 12, "12 events without a gap end at 12: {watermarks:?}");
    Ok(())
}

pub(super) async fn a8_a_lost_request_is_sent_again(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    harness.inject(Fault::LoseRequests(2)).await?;
    all_committed(submit(&log, 0..10)).await;
    assert_log_is(&mut reader(&log, "readers").await, 0..10).await;
    Ok(())
}

pub(super) async fn a8_a_late_request_is_delivered_once(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    harness.inject(Fault::HoldRequests(1)).await?;
    let ticket = log.submit(Probe::new("k", 1)).expect("it is taken");
    let committed = ticket.await.expect("it is sent again");
    harness.inject(Fault::DeliverHeld).await?;
    append(&log, Probe::new("k", 2)).await;
    let mut reader = reader(&log, "readers").await;
    let mut notices = Vec::new();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let batch = poll(&mut reader, 10, PATIENCE).await;
        assert!(!batch.is_empty(), "only {seen:?} came");
        seen.extend(numbers(&batch));
        notices.extend(batch.notices);
    }
    assert_eq!(seen, [1, 2], "the second copy is not delivered");
    let copies =
        notices.iter().filter(|notice| matches!(notice, Notice::Duplicate { id, .. } if *id == committed.id));
    assert_eq!(copies.count(), 1, "the second copy is counted: {notices:?}");
    Ok(())
}

pub(super) async fn a8_whoever_takes_over_knows_a_second_copy(harness: &dyn Harness) -> CaseResult {
    /// So many that nobody reads them in one answer, and fewer than are remembered.
    const BEFORE: u64 = 300;
    const ALL: u64 = 801;
    let log = open_with(harness, &partitions(1)).await;
    let fill = async |numbers: std::ops::Range<u64>| {
        let events = numbers.map(|number| Probe::new("k", number)).collect::<Vec<_>>();
        log.append_all(&mut events.into_iter()).await.expect("they are appended");
    };
    fill(0..BEFORE).await;
    harness.inject(Fault::HoldRequests(1)).await?;
    let ticket = log.submit(Probe::new("k", BEFORE)).expect("it is taken");
    let committed = ticket.await.expect("it is sent again");
    fill(BEFORE + 1..ALL).await;
    let mut first = reader(&log, "readers").await;
    assert_log_is(&mut first, 0..ALL).await;
    let end = first.position().clone();
    first.commit(&end).await.expect("it is stored");
    first.leave().await.expect("it leaves");
    harness.inject(Fault::DeliverHeld).await?;
    append(&log, Probe::new("k", ALL)).await;
    // What the group has passed counts as seen, for a member that never saw it too.
    let mut second = reader(&log, "readers").await;
    let (mut seen, mut copies) = (Vec::new(), 0);
    while seen.is_empty() {
        let batch = poll(&mut second, 10, PATIENCE).await;
        assert!(!batch.is_empty() || !batch.notices.is_empty(), "nothing came");
        seen.extend(numbers(&batch));
        let is_copy =
            |notice: &&Notice| matches!(notice, Notice::Duplicate { id, .. } if *id == committed.id);
        copies += batch.notices.iter().filter(is_copy).count();
    }
    assert_eq!((seen, copies), (vec![ALL], 1));
    Ok(())
}

pub(super) async fn a8_a_log_that_began_again_leaves_the_outcome_unknown(
    harness: &dyn Harness,
) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..5 {
        append(&log, Probe::new("k", number)).await;
    }
    harness.inject(Fault::LoseReplies(1)).await?;
    let ticket = log.submit(Probe::new("k", 5)).expect("it is taken");
    until_connected(&log, false).await;
    harness.inject(Fault::BeginAgain).await?;
    let error = ticket.await.expect_err("it was appended and removed, and nobody can say so any more");
    assert!(error.may_have_taken_effect(), "{error:?}");
    assert_eq!(error.into_event().number, 5);
    // Recovery has found its feet in the new offsets.
    harness.inject(Fault::LoseReplies(1)).await?;
    let after = log.submit(Probe::new("k", 6)).expect("it is taken").await.expect("it is appended");
    assert_eq!(after.position().map(|position| position.offset), Some(Offset(0)), "{after:?}");
    assert_log_is(&mut reader(&log, "readers").await, [6]).await;
    Ok(())
}

pub(super) async fn a8_a_log_that_has_grown_again_is_not_taken_for_the_old_one(
    harness: &dyn Harness,
) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..5 {
        append(&log, Probe::new("k", number)).await;
    }
    harness.inject(Fault::BeginAgain).await?;
    // Arrives at offset 0, which is before where this producer expects it.
    harness.inject(Fault::LoseReplies(1)).await?;
    let ticket = log.submit(Probe::new("k", 5)).expect("it is taken");
    until_connected(&log, false).await;
    // Meanwhile others append more than there was before.
    for _ in 0..9 {
        harness.inject(Fault::AppendForeign(PartitionId(0), "foreign"[..].into())).await?;
    }
    let committed = ticket.await.expect("it is found where it is");
    assert_eq!(committed.position().map(|position| position.offset), Some(Offset(0)), "{committed:?}");
    let watermarks = log.watermarks().await.expect("the watermarks are known");
    assert_eq!(watermarks.get(PartitionId(0)).map(|marks| marks.high), Some(Offset(10)), "and is there once");
    Ok(())
}

pub(super) async fn a8_an_event_keeps_its_id(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    harness.inject(Fault::LoseRequests(1)).await?;
    let made = log.submit(Probe::new("k", 1)).expect("it is taken").await.expect("it is appended");
    assert_eq!(made.id.as_uuid().get_version_num(), 7, "{} is a UUIDv7", made.id);
    harness.inject(Fault::LoseReplies(1)).await?;
    let own = log.submit(Probe::new("k", 2).with_id(42)).expect("it is taken").await.expect("it is appended");
    assert_eq!(own.id, EventId::from_u128(42));
    let records = read(&mut reader(&log, "readers").await, 2).await;
    assert_eq!([records[0].id, records[1].id], [made.id, own.id], "the log has the ids of the receipts");
    Ok(())
}
