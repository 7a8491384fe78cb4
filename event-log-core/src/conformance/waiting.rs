//! Clauses a16, a17 and a19: what waits for a log that is slow or away, and what is said meanwhile.

use std::time::Duration;

use super::fixture::{
    Log, PATIENCE, Probe, append, assert_dry, numbers, open_with, partitions, read, reader, state_of,
    until_connected, until_state,
};
use super::{CaseResult, Fault, Harness, NotRun, Spec};
use crate::error::AppendErrorKind;
use crate::position::PartitionId;
use crate::state::Connection;
use crate::ticket::Ticket;

pub(super) async fn a16_what_waits_in_the_buffer_expires(harness: &dyn Harness) -> CaseResult {
    let expiry = Duration::from_millis(500);
    let mut spec = partitions(1);
    spec.config.expiry = Some(expiry);
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::Disconnect).await?;
    // What is sent before that is known may have arrived.
    until_connected(&log, false).await;
    let start = tokio::time::Instant::now();
    let first = log.submit(Probe::new("k", 1)).expect("it is buffered");
    let second = log.submit(Probe::new("k", 2)).expect("it is buffered");
    for (ticket, number) in [(first, 1), (second, 2)] {
        let error =
            tokio::time::timeout(PATIENCE, ticket).await.expect("it expires").expect_err("it was not sent");
        assert!(matches!(error.kind(), AppendErrorKind::Expired(_)), "{error:?}");
        assert_eq!(error.into_event().number, number);
        assert!(start.elapsed() >= expiry, "it expired after {:?}", start.elapsed());
    }
    harness.inject(Fault::Reconnect).await?;
    // Else the third might expire too before the next attempt.
    until_connected(&log, true).await;
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

pub(super) async fn a16_what_comes_while_the_log_is_away_expires(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(1);
    spec.config.expiry = Some(Duration::from_millis(500));
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::Disconnect).await?;
    // Away with nothing buffered, and for so long that no attempt is near.
    until_state(&log, |state| matches!(state.connection, Connection::Reconnecting { attempt: 3.., .. }))
        .await;
    let ticket = log.submit(Probe::new("k", 1)).expect("it is buffered");
    let within = Duration::from_secs(2);
    let error =
        tokio::time::timeout(within, ticket).await.expect("it expires soon").expect_err("it was not sent");
    assert!(matches!(error.kind(), AppendErrorKind::Expired(_)), "{error:?}");
    harness.inject(Fault::Reconnect).await?;
    Ok(())
}

pub(super) async fn a16_what_waits_behind_a_slow_log_expires(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(1);
    (spec.config.expiry, spec.config.request_events) = (Some(Duration::from_millis(500)), 1);
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::SlowAppends(Duration::from_secs(3))).await?;
    let mut tickets: Vec<_> =
        (0..5).map(|number| log.submit(Probe::new("k", number)).expect("it is taken")).collect();
    let waiting = tickets.split_off(1);
    let start = tokio::time::Instant::now();
    for ticket in waiting {
        let error =
            tokio::time::timeout(PATIENCE, ticket).await.expect("it expires").expect_err("it was not sent");
        assert!(matches!(error.kind(), AppendErrorKind::Expired(_)), "{error:?}");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "it took {:?}", start.elapsed());
    for ticket in tickets {
        ticket.await.expect("what is in flight ends as its request does");
    }
    harness.inject(Fault::SlowAppends(Duration::ZERO)).await?;
    Ok(())
}

pub(super) async fn a16_what_expires_does_not_keep_the_log_away(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(1);
    spec.config.expiry = Some(Duration::from_millis(400));
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    harness.inject(Fault::SlowConnects(Duration::from_millis(300))).await?;
    harness.inject(Fault::Reconnect).await?;
    // An event expires every 100 ms, in the middle of each attempt to connect.
    let producer = std::sync::Arc::clone(&log);
    let producing = async move {
        for number in 0.. {
            drop(producer.submit(Probe::new("k", number)));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = producing => {}
        connected = tokio::time::timeout(PATIENCE, until_connected(&log, true)) => {
            connected.expect("the log comes back");
        }
    }
    harness.inject(Fault::SlowConnects(Duration::ZERO)).await?;
    Ok(())
}

pub(super) async fn a17_retention_leaves_no_outcome_unknown(harness: &dyn Harness) -> CaseResult {
    if !harness.capabilities().retain_records {
        return Ok(());
    }
    let log = open_with(harness, &Spec { retain_records: Some(50), ..partitions(1) }).await;
    for number in 0..100 {
        append(&log, Probe::new("k", number)).await;
    }
    harness.inject(Fault::LoseRequests(1)).await?;
    let lost = log.submit(Probe::new("k", 100)).expect("it is taken");
    lost.await.expect("what retention has removed was acknowledged before");
    harness.inject(Fault::LoseReplies(1)).await?;
    let found = log.submit(Probe::new("k", 101)).expect("it is taken");
    found.await.expect("what retention has removed was acknowledged before");
    assert_eq!(state_of(&log).recovered.unknown, 0);
    Ok(())
}

/// A log whose next attempt to connect is far away, with an event in its buffer.
async fn between_attempts(harness: &dyn Harness) -> Result<(Log, Ticket<Probe>), NotRun> {
    let mut spec = partitions(1);
    (spec.config.reconnect.initial, spec.config.reconnect.max) = (4 * PATIENCE, 4 * PATIENCE);
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let ticket = log.submit(Probe::new("k", 1)).expect("it is buffered");
    harness.inject(Fault::Reconnect).await?;
    Ok((log, ticket))
}

pub(super) async fn a19_close_attempts_at_once(harness: &dyn Harness) -> CaseResult {
    let (log, ticket) = between_attempts(harness).await?;
    log.close(Duration::from_secs(5)).await.expect("the log can be reached");
    ticket.await.expect("it is appended");
    Ok(())
}

pub(super) async fn a19_flush_attempts_at_once(harness: &dyn Harness) -> CaseResult {
    let (log, ticket) = between_attempts(harness).await?;
    let flushed = tokio::time::timeout(Duration::from_secs(5), log.flush()).await;
    flushed.expect("the log can be reached").expect("the log is open");
    ticket.await.expect("it is appended");
    Ok(())
}
