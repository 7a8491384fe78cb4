//! Clauses l1–l6: opening, closing, errors, secrets and bounds.

use std::time::Duration;

use futures::future::join_all;

use super::fixture::{
    PATIENCE, Probe, append, assert_dry, numbers, open, open_with, partitions, read, reader, state_of,
    until_connected,
};
use super::{CaseResult, Fault, Harness, Spec};
use crate::error::{AppendErrorKind, Error, SubmitErrorKind};
use crate::ticket::Ticket;

pub(super) async fn l1_opening_again_finds_the_same_log(harness: &dyn Harness) -> CaseResult {
    let first = open(harness).await;
    append(&first, Probe::new("k", 1)).await;
    let second = open(harness).await;
    append(&second, Probe::new("k", 2)).await;
    let mut reader = reader(&first, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 2).await), [1, 2]);
    Ok(())
}

pub(super) async fn l1_opening_at_once_from_many_sides_is_safe(harness: &dyn Harness) -> CaseResult {
    let spec = partitions(3);
    let logs = join_all((0..8).map(|_| harness.open(&spec))).await;
    for (log, number) in logs.into_iter().zip(0..) {
        let log = log.expect("every one of them opens");
        append(&log, Probe::new("k", number)).await;
    }
    let log = open_with(harness, &spec).await;
    assert_eq!(log.watermarks().await.expect("the watermarks are known").partitions(), 3);
    assert_eq!(numbers(&read(&mut reader(&log, "readers").await, 8).await), (0..8).collect::<Vec<_>>());
    Ok(())
}

fn mismatch(result: Result<super::fixture::Log, Error>) -> &'static str {
    match result.err() {
        Some(error @ Error::TopologyMismatch { property, .. }) => {
            assert!(!error.is_retryable() && !error.may_have_taken_effect());
            property
        }
        Some(other) => panic!("{other:?}"),
        None => panic!("the log was opened with another topology"),
    }
}

pub(super) async fn l1_another_partition_count_is_a_mismatch(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(3)).await;
    assert_eq!(mismatch(harness.open(&partitions(4)).await), "partitions");
    append(&log, Probe::new("k", 1)).await;
    Ok(())
}

pub(super) async fn l1_another_retention_is_a_mismatch(harness: &dyn Harness) -> CaseResult {
    let retaining = Spec { retain_records: Some(100), ..partitions(1) };
    if !harness.capabilities().retain_records {
        let refused = harness.open(&retaining).await.err();
        assert!(matches!(refused, Some(Error::Unsupported(_))), "{refused:?}");
        return Ok(());
    }
    let _log = open_with(harness, &retaining).await;
    assert_eq!(mismatch(harness.open(&partitions(1)).await), "retention");
    Ok(())
}

pub(super) async fn l2_errors_answer_both_questions(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    let refused = log.lag("").await.expect_err("a group has a name");
    assert!(matches!(refused, Error::InvalidArgument { name: "group", .. }), "{refused:?}");
    assert!(!refused.is_retryable() && !refused.may_have_taken_effect());
    let overlong = "g".repeat(crate::limits::GROUP_NAME_BYTES + 1);
    assert!(log.consumer_with(&overlong, Default::default()).await.is_err(), "the name is too long");
    harness.inject(Fault::Disconnect).await?;
    let away = log.watermarks().await.expect_err("the log is away");
    assert!(matches!(away, Error::Unavailable(_)), "{away:?}");
    assert!(away.is_retryable() && !away.may_have_taken_effect());
    assert!(std::error::Error::source(&away).is_some(), "the cause is kept");
    harness.inject(Fault::Reconnect).await?;
    Ok(())
}

pub(super) async fn l3_flush_waits_for_every_ticket(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(2)).await;
    harness.inject(Fault::SlowAppends(Duration::from_millis(20))).await?;
    let submit =
        |number| log.submit(Probe::new(&format!("key-{}", number % 5), number)).expect("it is taken");
    let tickets: Vec<_> = (0..50).map(submit).collect();
    log.flush().await.expect("the log is open");
    for ticket in tickets {
        ticket.try_outcome().expect("it is resolved already").expect("it is appended");
    }
    Ok(())
}

pub(super) async fn l3_close_drains(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    harness.inject(Fault::SlowAppends(Duration::from_millis(10))).await?;
    let tickets: Vec<_> =
        (0..20).map(|number| log.submit(Probe::new("k", number)).expect("it is taken")).collect();
    log.close(PATIENCE).await.expect("there is time enough");
    join_all(tickets).await.into_iter().for_each(|outcome| _ = outcome.expect("it was sent before closing"));
    harness.inject(Fault::SlowAppends(Duration::ZERO)).await?;
    let again = open_with(harness, &partitions(1)).await;
    assert_eq!(numbers(&read(&mut reader(&again, "readers").await, 20).await), (0..20).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn l3_close_returns_what_it_could_not_send(harness: &dyn Harness) -> CaseResult {
    let log = open_with(harness, &partitions(1)).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let mut held: Vec<Ticket<Probe>> = Vec::new();
    for number in 0..10 {
        let ticket = log.submit(Probe::new("k", number)).expect("it is buffered");
        if number % 2 == 0 {
            held.push(ticket);
        }
    }
    let leftover = log.close(Duration::from_millis(50)).await.expect_err("nothing could be sent");
    assert_eq!((leftover.len(), leftover.returned_by_ticket), (10, 5), "{leftover:?}");
    let mut back: Vec<_> = leftover.not_appended.into_iter().map(|(_, event)| event.number).collect();
    for ticket in held {
        let error = ticket.await.expect_err("it was not sent");
        assert!(matches!(error.kind(), AppendErrorKind::Closed), "{error:?}");
        back.push(error.into_event().number);
    }
    back.sort_unstable();
    assert_eq!(back, (0..10).collect::<Vec<_>>(), "each event comes back once");
    harness.inject(Fault::Reconnect).await?;
    let again = open_with(harness, &partitions(1)).await;
    assert_dry(&mut reader(&again, "readers").await).await;
    Ok(())
}

pub(super) async fn l3_nothing_is_accepted_after_close(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    append(&log, Probe::new("k", 1)).await;
    log.close(PATIENCE).await.expect("nothing is left");
    assert!(state_of(&log).is_closed());
    let rejected = log.submit(Probe::new("k", 2)).expect_err("the log is closed");
    assert!(matches!(rejected.kind, SubmitErrorKind::Closed) && !rejected.is_retryable());
    let error = log.append(Probe::new("k", 3)).await.expect_err("the log is closed");
    assert!(matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Closed)));
    assert!(log.append_batch(vec![Probe::new("k", 4)]).await.is_err(), "the log is closed");
    let again = open(harness).await;
    let mut reader = reader(&again, "readers").await;
    assert_eq!(numbers(&read(&mut reader, 1).await), [1]);
    assert_dry(&mut reader).await;
    Ok(())
}

pub(super) async fn l3_closing_twice_is_fine(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    append(&log, Probe::new("k", 1)).await;
    let (first, second) = tokio::join!(log.close(PATIENCE), log.close(PATIENCE));
    assert!(first.is_ok() && second.is_ok());
    log.close(Duration::ZERO).await.expect("it is closed already");
    Ok(())
}

pub(super) async fn l4_committed_events_survive_their_handles(harness: &dyn Harness) -> CaseResult {
    let log = open(harness).await;
    for number in 0..10 {
        append(&log, Probe::new("k", number)).await;
    }
    let mut first = reader(&log, "readers").await;
    read(&mut first, 4).await;
    let seen = first.position().clone();
    first.commit(&seen).await.expect("the commit succeeds");
    drop(first);
    drop(log);
    let again = open(harness).await;
    assert_eq!(numbers(&read(&mut reader(&again, "others").await, 10).await), (0..10).collect::<Vec<_>>());
    assert_eq!(numbers(&read(&mut reader(&again, "readers").await, 6).await), (4..10).collect::<Vec<_>>());
    Ok(())
}

pub(super) async fn l5_debug_output_shows_no_events(harness: &dyn Harness) -> CaseResult {
    const SECRET: &str = "hunter2-hunter2";
    let secret = |number| Probe { padding: SECRET.to_owned(), ..Probe::new("k", number) };
    let mut spec = partitions(1);
    spec.config.buffer_events = 1;
    let log = open_with(harness, &spec).await;
    let mut shown = Vec::new();
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let receipt = log.append(secret(1)).await.expect("it is buffered");
    shown.push(format!("{receipt:?}"));
    let error = log.append(secret(2)).await.expect("it is buffered");
    drop(error);
    let dropped = receipt.acked().await.expect_err("it was dropped for the other");
    shown.push(format!("{dropped} {dropped:?}"));
    let leftover = log.close(Duration::ZERO).await.expect_err("it could not be sent");
    shown.push(format!("{leftover} {leftover:?}"));
    let rejected = log.submit(secret(3)).expect_err("the log is closed");
    shown.push(format!("{rejected} {rejected:?}"));
    let batch = log.append_batch(vec![secret(4)]).await.expect_err("the log is closed");
    shown.push(format!("{batch} {batch:?}"));
    assert!(!shown.iter().any(|shown| shown.contains(SECRET)), "{shown:?}");
    harness.inject(Fault::Reconnect).await?;
    Ok(())
}

pub(super) async fn l6_the_buffer_is_bounded(harness: &dyn Harness) -> CaseResult {
    let mut spec = partitions(1);
    spec.config.buffer_events = 100;
    let log = open_with(harness, &spec).await;
    harness.inject(Fault::Disconnect).await?;
    until_connected(&log, false).await;
    let most = (0..5_000).map(|number| {
        drop(log.submit(Probe::new("k", number)).expect("the oldest makes room"));
        state_of(&log).buffered
    });
    let most = most.max().unwrap_or_default();
    assert!(most <= 100, "{most} events were held: nothing is in flight while the log is away");
    assert_eq!(state_of(&log).buffered, 100, "it is full");
    harness.inject(Fault::Reconnect).await?;
    Ok(())
}
