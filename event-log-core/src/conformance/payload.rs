//! Clauses a18, l8 and l10: what is appended can be read, whatever its size, and by its own id.

use std::collections::BTreeSet;
use std::time::Duration;

use super::fixture::{
    PATIENCE, Probe, append, assert_dry, fill, numbers, open, open_with, partitions, poll, read, reader,
    state_of, until_connected,
};
use super::{CaseResult, Defect, Fault, Harness, Spec};
use crate::config::Overflow;
use crate::error::{Error, SubmitErrorKind};
use crate::limits;
use crate::position::{Offset, PartitionId, Position, SeekPosition};
use crate::record::Notice;

/// A probe whose encoding has just so many bytes.
fn sized(number: u64, bytes: usize) -> Probe {
    let bare = serde_json::to_vec(&Probe::new("k", number)).expect("a probe is encoded").len();
    Probe::new("k", number).padded(bytes - bare)
}

pub(super) async fn a18_a_large_event_is_read_back(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let fetch = limits::FETCH_BYTES;
    let sizes = [1_000, 70_000, fetch - 1, fetch + 1, limits::MAX_EVENT_BYTES];
    let mut events: Vec<_> = sizes.into_iter().zip(0..).map(|(bytes, number)| sized(number, bytes)).collect();
    events.push(Probe::new("k", sizes.len() as u64));
    for event in &events {
        append(&log, event.clone()).await;
    }
    let mut reader = reader(&log, "readers").await;
    for (record, event) in read(&mut reader, events.len()).await.iter().zip(&events) {
        let probe = record.event.as_ref().expect("a probe");
        assert_eq!((probe.number, probe.padding.len()), (event.number, event.padding.len()));
        assert!(*probe == *event, "event {} has other bytes", event.number);
    }
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn a18_awkward_events_are_read_as_they_were(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(3)).await;
    let awkward = ["", "\0", "\"\\/", "\u{7f}\u{80}\u{2028}", "\u{10ffff}", "ключ 🗝", "line\r\n\tbreak"];
    let events: Vec<_> = awkward
        .iter()
        .zip([0, 1, u64::from(u32::MAX), 1 << 53, (1 << 53) + 1, i64::MAX as u64, u64::MAX])
        .map(|(text, number)| Probe { padding: (*text).to_owned(), ..Probe::new(text, number) })
        .collect();
    for event in &events {
        append(&log, event.clone()).await;
    }
    let mut reader = reader(&log, "readers").await;
    let records = read(&mut reader, events.len()).await;
    for event in events {
        let found = records.iter().filter(|record| record.event.as_ref().is_ok_and(|probe| *probe == event));
        assert_eq!(found.count(), 1, "{event:?} is not among {records:?}");
    }
    Ok(())
}

pub(super) async fn a18_headers_are_read_as_they_were(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let longest = ["n".repeat(limits::HEADER_NAME_BYTES), "v".repeat(limits::HEADER_VALUE_BYTES)];
    let events = [
        Probe::new("k", 0),
        Probe::new("k", 1).with_header("traceparent", b"00-4bf9-00f0-01"),
        Probe::new("k", 2).with_header("binary", &[0, 255, 10, 128]).with_header("second", b"2"),
        Probe::new("k", 3).with_header(&longest[0], longest[1].as_bytes()),
        Probe::new("k", 4),
    ];
    for event in &events {
        append(&log, event.clone()).await;
    }
    for (record, event) in read(&mut reader(&log, "readers").await, events.len()).await.iter().zip(&events) {
        let sorted = |headers: &crate::headers::Headers| -> Vec<_> {
            let mut entries: Vec<_> =
                headers.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect();
            entries.sort();
            entries
        };
        assert_eq!(sorted(&record.headers), sorted(&event.headers), "event {}", event.number);
    }
    Ok(())
}

pub(super) async fn l8_extreme_numbers_of_a_caller_are_taken(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    fill(&log, 0..10).await;
    let mut reader = reader(&log, "readers").await;
    let all = tokio::time::timeout(PATIENCE, async {
        let mut all = Vec::new();
        while all.len() < 10 {
            all.extend(numbers(&poll(&mut reader, usize::MAX, Duration::MAX).await));
        }
        all
    });
    assert_eq!(all.await.expect("the records come").len(), 10);
    let none = reader.poll(0, Duration::ZERO).await.expect_err("none was asked for");
    assert!(matches!(none, Error::InvalidArgument { name: "max_count", .. }), "{none:?}");
    reader.seek(SeekPosition::FromEnd(0)).await.expect("the seek succeeds");
    assert_dry(&mut reader).await;
    let unknown = Position::new(PartitionId(u32::MAX), Offset(u64::MAX));
    assert!(reader.seek(SeekPosition::Position(unknown)).await.is_err(), "there is no such partition");
    assert_eq!(log.append_batch(Vec::new()).await.expect("nothing is appended").len(), 0);
    log.close(Duration::MAX).await.expect("nothing is left");
    Ok(())
}

pub(super) async fn l8_a_batch_of_one_large_and_many_small_events(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let small = (1..2_000).map(|number| Probe::new("k", number));
    let batch: Vec<_> = std::iter::once(sized(0, limits::MAX_EVENT_BYTES / 8)).chain(small).collect();
    for receipt in log.append_batch(batch).await.expect("the batch is taken") {
        receipt.acked().await.expect("the event is appended");
    }
    let records = read(&mut reader(&log, "readers").await, 2_000).await;
    assert_eq!(numbers(&records), (0..2_000).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn l10_ids_are_unique_over_handles(harness: &dyn Harness) -> CaseResult {
    let (one, two) = (open(harness).await, open(harness).await);
    let mut ids = BTreeSet::new();
    for number in 0..20 {
        let log = if number % 2 == 0 { &one } else { &two };
        assert!(ids.insert(append(log, Probe::new("k", number)).await.id), "an id is used twice");
    }
    let mut reader = reader(&one, "readers").await;
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let batch = poll(&mut reader, 20, PATIENCE).await;
        let copy = batch.notices.iter().find(|notice| matches!(notice, Notice::Duplicate { .. }));
        assert!(copy.is_none(), "an event counts as the copy of another: {copy:?}");
        assert!(!batch.is_empty(), "only {seen:?} came");
        seen.extend(numbers(&batch));
    }
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn a18_a_number_that_json_has_not_is_refused(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let unreadable = Probe::new("k", 1).with_defect(Defect::NotANumber);
    let refused = log.submit(unreadable.clone()).expect_err("it would be read as something else");
    assert!(matches!(refused.kind, SubmitErrorKind::Encode(_)), "{refused:?}");
    assert_eq!(refused.event, unreadable, "the event comes back");
    assert!(
        log.append_batch(vec![Probe::new("k", 2), unreadable]).await.is_err(),
        "a batch is taken whole or not"
    );
    append(&log, Probe::new("k", 3)).await;
    let mut reader = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 1).await), [3]);
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn l8_a_batch_beyond_the_buffer_is_refused(harness: &dyn Harness) -> CaseResult {
    for overflow in [Overflow::Reject, Overflow::DropOldest] {
        let mut spec = partitions(1);
        (spec.config.buffer_events, spec.config.overflow) = (10, overflow);
        let log = open_with(harness, &spec).await;
        harness.inject(Fault::Disconnect).await?;
        until_connected(&log, false).await;
        let before = log.submit(Probe::new("k", 0)).expect("it is buffered");
        let batch = (1..101).map(|number| Probe::new("k", number)).collect();
        let refused = log.append_batch(batch).await;
        assert!(refused.is_err(), "a batch of 100 fits no buffer for 10 ({overflow:?})");
        let state = state_of(&log);
        assert_eq!((state.buffered, state.dropped), (1, 0), "what others have buffered stays ({overflow:?})");
        harness.inject(Fault::Reconnect).await?;
        before.await.expect("it is appended");
    }
    Ok(())
}

pub(super) async fn l10_ids_are_unique_with_one_seed(harness: &dyn Harness) -> CaseResult {
    let spec = Spec { seed: Some(7), ..partitions(1) };
    let (one, two) = (open_with(harness, &spec).await, open_with(harness, &spec).await);
    let mut ids = BTreeSet::new();
    for (log, number) in [&one, &two, &one, &two].into_iter().zip(0..) {
        assert!(ids.insert(append(log, Probe::new("k", number)).await.id), "an id is used twice");
    }
    assert_eq!(numbers(&read(&mut reader(&one, "readers").await, 4).await), [0, 1, 2, 3]);
    Ok(())
}

pub(super) async fn a3_a_gap_behind_the_last_record_is_passed(harness: &dyn Harness) -> CaseResult {
    let only = PartitionId(0);
    let log = open_with(harness, &partitions(1)).await;
    for number in 0..5 {
        append(&log, Probe::new("k", number)).await;
    }
    harness.inject(Fault::TrailingGap(only, 3)).await?;
    let mut reader = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 5).await), [0, 1, 2, 3, 4]);
    assert_dry(&mut reader).await;
    assert_eq!(reader.position().get(only), Some(Offset(8)), "the reader has passed the gap");
    let position = reader.position().clone();
    reader.commit(&position).await.expect("the commit succeeds");
    assert_eq!(log.lag("readers").await.expect("the lag is known").total(), 0, "nothing is left to read");
    append(&log, Probe::new("k", 5)).await;
    assert_eq!(numbers(&read(&mut reader, 1).await), [5]);
    Ok(())
}
