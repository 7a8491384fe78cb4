//! A full buffer: drops exactly the oldest, refuses only when it is full, and never grows beyond its bound.

use event_log_core::{Connection, Overflow};

use super::{Offered, Verdict, ensure};
use crate::model::history::{Call, Fate, History, Reject, What};

pub(super) fn check(history: &History, events: &[Offered<'_>]) -> Verdict {
    for (number, event) in events.iter().enumerate() {
        match event.resolved {
            Some((at, Fate::Dropped { .. })) => {
                check_room_was_needed(history, events, number, at)?;
                check_oldest(history, events, number, at)?;
            }
            Some((_, Fate::Rejected { why: Reject::Full, .. })) => check_full(history, events, number)?,
            _ => {}
        }
    }
    check_bound(history, events)
}

/// An event is dropped when it is the oldest and the buffer has as many newer ones as it holds.
fn check_room_was_needed(history: &History, events: &[Offered<'_>], dropped: usize, at: usize) -> Verdict {
    let newer = events[dropped + 1..]
        .iter()
        .filter(|event| event.handle == events[dropped].handle && event.called < at && !event.is_rejected());
    let (newer, buffer) = (newer.count(), history.settings.buffer);
    ensure!(newer >= buffer, "drops the oldest", "event {dropped} was dropped for {newer} newer of {buffer}");
    Ok(())
}

/// When an event is dropped, no older one of the same outage is left: nothing leaves the queue meanwhile but by
/// being dropped (or by expiring).
fn check_oldest(history: &History, events: &[Offered<'_>], dropped: usize, at: usize) -> Verdict {
    let event = &events[dropped];
    let Some(outage) = outage_of(&history.observed[event.called].what) else { return Ok(()) };
    let state_after = history.observed[at..].iter().find_map(|seen| connection(&seen.what));
    let states = history.observed[event.called..at].iter().filter_map(|seen| connection(&seen.what));
    let same = |connection: &Connection| since(connection) == Some(outage);
    if !states.chain(state_after).all(|connection| same(&connection)) {
        return Ok(());
    }
    for (number, older) in events[..dropped].iter().enumerate() {
        let buffered = older.handle == event.handle
            && older.abandoned.is_none()
            && outage_of(&history.observed[older.called].what) == Some(outage);
        let left =
            matches!(older.resolved, Some((end, Fate::Dropped { .. } | Fate::Expired { .. })) if end <= at);
        let left_together = matches!(older.resolved, Some((_, Fate::Dropped { .. })));
        ensure!(
            !buffered || older.is_rejected() || left || left_together,
            "drops the oldest",
            "event {dropped} was dropped before event {number}"
        );
    }
    Ok(())
}

/// Only a full queue refuses; and one that drops the oldest does not refuse while the log is away.
fn check_full(history: &History, events: &[Offered<'_>], refused: usize) -> Verdict {
    let event = &events[refused];
    let What::Called { buffered, company, connection, .. } = &history.observed[event.called].what else {
        return Ok(());
    };
    let batch =
        events.iter().filter(|other| other.call == event.call && matches!(event.call, Call::Batch(_)));
    let size = batch.count().max(1);
    let buffer = history.settings.buffer;
    let full = buffered + size > buffer || *company;
    ensure!(full, "refuses only when full", "event {refused}: {buffered} of {buffer}, and {size} new");
    // A batch that the empty queue could not hold is refused in any case.
    let makes_room = history.settings.overflow == Overflow::DropOldest && since(connection).is_some();
    let makes_room = makes_room && size <= buffer;
    ensure!(!makes_room, "refuses only when full", "event {refused} was refused while away");
    Ok(())
}

/// Of the events that came during an outage, no more are waiting than the buffer holds.
fn check_bound(history: &History, events: &[Offered<'_>]) -> Verdict {
    if history.settings.overflow != Overflow::DropOldest {
        return Ok(());
    }
    for (at, seen) in history.observed.iter().enumerate() {
        let Some(outage) = connection(&seen.what).and_then(|connection| since(&connection)) else { continue };
        let waiting = events.iter().filter(|event| {
            event.is_open_at(at) && outage_of(&history.observed[event.called].what) == Some(outage)
        });
        let (waiting, buffer) = (waiting.count(), history.settings.buffer);
        ensure!(waiting <= buffer, "bounded", "{waiting} events wait in a buffer of {buffer}");
    }
    Ok(())
}

fn since(connection: &Connection) -> Option<u64> {
    match connection {
        Connection::Reconnecting { since, .. } => Some(since.0),
        _ => None,
    }
}

/// Which outage an event was offered in; outages differ by when they began.
fn outage_of(called: &What) -> Option<u64> {
    match called {
        What::Called { connection, .. } => since(connection),
        _ => None,
    }
}

fn connection(what: &What) -> Option<Connection> {
    match what {
        What::State { connection, .. } => Some(connection.clone()),
        _ => None,
    }
}
