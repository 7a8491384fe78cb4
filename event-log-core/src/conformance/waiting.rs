//! Clauses a16, a17 and a19: what waits for a log that is slow or away, and what is said meanwhile.

use std::time::Duration;

use super::fixture::{
    PATIENCE, Probe, append, assert_dry, numbers, open_with, partitions, read, reader, state_of,
    until_connected, until_state,
};
use super::{CaseResult, Fault, Harness};
use crate::error::AppendErrorKind;
use crate::position::PartitionId;
use crate::state::Connection;

pub(super) async fn a16_what_waits_in_the_buffer_expires(harness: &dyn Harness) -> CaseResult {
    let expiry = Duration::from_millis(500);
    let mut spec = partitions(1);
    spec.config.expiry = Some(expiry);
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::Disconnect).await?;
    let start = tokio::time::Instant::now();
    let first = log.submit(Probe::new("k", 1)).expect("it is buffered");
    until_connected(&log, false).await;
    let second = log.submit(Probe::new("k", 2)).expect("it is buffered");
    for (ticket, number) in [(first, 1), (second, 2)] {
        let error =
            tokio::time::timeout(PATIENCE, ticket).await.expect("it expires").expect_err("it was not sent");
        assert!(matches!(error.kind(), AppendErrorKind::Expired(_)), "{error:?}");
        assert_eq!(error.into_event().number, number);
        assert!(start.elapsed() >= expiry, "it expired after {:?}", start.elapsed());
    }
    harness.inject(Fault::Reconnect).await?;
    append(&log, Probe::new("k", 3)).await;
    let mut reader = reader(&log, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 1).await), [3]);
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn a17_what_others_have_appended_is_read_past(harness: &dyn Harness) -> CaseResult {
    let idle = open_with(harness, &partitions(1)).await;
    append(&idle, Probe::new("k", 0)).await;
    for _ in 0..300 {
        harness.inject(Fault::AppendForeign(PartitionId(0), "foreign"[..].into())).await?;
    }
    harness.inject(Fault::LoseReplies(1)).await?;
    let ticket = idle.submit(Probe::new("k", 1)).expect("it is taken");
    let found = tokio::time::timeout(PATIENCE, ticket).await.expect("it is found").expect("it is appended");
    let position = found.position().expect("reading back has shown its position");
    assert_eq!(position.offset.0, 301, "behind what the others have appended");
    assert_eq!(state_of(&idle).recovered.found, 1);
    Ok(())
}

pub(super) async fn a19_the_state_says_since_when_and_how_often(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    append(&log, Probe::new("k", 0)).await;
    harness.inject(Fault::Disconnect).await?;
    let away = until_state(&log, |state| matches!(state.connection, Connection::Reconnecting { .. })).await;
    let Connection::Reconnecting { since, .. } = away.connection else { panic!("{away:?}") };
    let later =
        until_state(&log, |state| matches!(state.connection, Connection::Reconnecting { attempt: 3.., .. }));
    let later = later.await;
    let Connection::Reconnecting { since: still, .. } = later.connection else { panic!("{later:?}") };
    assert_eq!(since, still, "an attempt that fails begins no new outage");
    harness.inject(Fault::Reconnect).await?;
    until_connected(&log, true).await;
    Ok(())
}
