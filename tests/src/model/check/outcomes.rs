//! Every append ends once, and honestly: what is said to be in the log is there, what is said not to be is not,
//! and each way to end has a reason.

use std::collections::{HashMap, HashSet};

use event_log_core::{Connection, EventId, Overflow};

use super::ledger::Ledger;
use super::{Offered, Verdict, ensure};
use crate::model::history::{Arming, Call, Fate, History, Reject, What};

pub(super) fn check(history: &History, events: &[Offered<'_>], ledger: &Ledger) -> Verdict {
    let mut ids = HashMap::new();
    for (number, event) in events.iter().enumerate() {
        let Some((at, fate)) = event.resolved else { continue };
        check_truth(number, event, fate, ledger)?;
        check_reason(history, event, at, fate)?;
        if let Some(id) = id_of(fate) {
            let other = ids.insert(id, number);
            ensure!(other.is_none(), "unique ids", "events {other:?} and {number} are both {id}");
        }
    }
    check_batches(events)?;
    check_course(history, events)?;
    check_ends(history, events, ledger)
}

fn id_of(fate: &Fate) -> Option<EventId> {
    match fate {
        Fate::Committed { id, .. }
        | Fate::Dropped { id, .. }
        | Fate::Closed { id, .. }
        | Fate::Expired { id, .. }
        | Fate::Unknown { id, .. } => Some(*id),
        Fate::Rejected { .. } | Fate::Odd(_) => None,
    }
}

/// What the outcome says of the log is so, and the event came back.
fn check_truth(number: usize, event: &Offered<'_>, fate: &Fate, ledger: &Ledger) -> Verdict {
    let back = match fate {
        Fate::Committed { id, position } => {
            let home = event.key.as_ref().is_none_or(|(_, home)| *home == position.partition);
            ensure!(home, "one partition", "event {number} was committed at {position}");
            // A receipt that named a second copy would name a record that consumers drop. There are two excuses:
            // the first copy came while a slow append, which the producer had every reason to send, was under
            // way; or it was gone again before the producer could look.
            let first = ledger.first.get(id).copied();
            let late = ledger.may_miss_first && ledger.delivered_late > 0 && first < Some(*position);
            let there = first == Some(*position) || late;
            ensure!(there, "true positions", "{number}: {position}, but it is at {first:?}");
            return Ok(());
        }
        Fate::Unknown { back, .. } => back,
        Fate::Rejected { back, .. }
        | Fate::Dropped { back, .. }
        | Fate::Closed { back, .. }
        | Fate::Expired { back, .. } => {
            let found = id_of(fate).and_then(|id| ledger.first.get(&id));
            let found = found.or_else(|| ledger.events.get(&(number as u64)));
            ensure!(found.is_none(), "not appended", "event {number} ({fate:?}) is at {found:?}");
            back
        }
        Fate::Odd(what) => {
            ensure!(false, "outcomes", "event {number} ended like this: {what}");
            return Ok(());
        }
    };
    ensure!(*back == number as u64, "handed back", "event {back} came back for event {number}");
    Ok(())
}

/// The outcome had a reason.
fn check_reason(history: &History, event: &Offered<'_>, at: usize, fate: &Fate) -> Verdict {
    let settings = &history.settings;
    let past = &history.observed[..at];
    let ended =
        past.iter().any(|seen| matches!(seen.what, What::Ended { handle, .. } if handle == event.handle));
    let waited = history.observed[at].at.0.saturating_sub(history.observed[event.called].at.0);
    match fate {
        Fate::Dropped { .. } => {
            ensure!(settings.overflow == Overflow::DropOldest, "reasons", "dropped under another policy");
        }
        Fate::Closed { .. } | Fate::Rejected { why: Reject::Closed, .. } => {
            ensure!(ended, "reasons", "closed, but the handle is open");
        }
        Fate::Expired { .. } => {
            let expired = settings.expiry.is_some_and(|expiry| u128::from(waited) >= expiry.as_micros());
            ensure!(expired, "reasons", "expired after {waited} µs");
        }
        Fate::Unknown { .. } => {
            let given_up = ended || settings.expiry.is_some() || settings.retention.is_some();
            ensure!(given_up, "reasons", "unknown, though it could be learnt");
            let disturbed = past.iter().any(|seen| {
                matches!(
                    seen.what,
                    What::Link { cut: true, .. } | What::Armed(Arming::Requests(_) | Arming::Slow)
                )
            });
            ensure!(disturbed, "reasons", "unknown, though nothing got lost");
        }
        Fate::Rejected { why: Reject::Encode, .. } => {
            ensure!(
                !event.encodable,
                "reasons",
                "an event that can be encoded was refused as if it could not"
            );
        }
        Fate::Rejected { why: Reject::Batch, .. } => {
            ensure!(matches!(event.call, Call::Batch(_)), "reasons", "there was no batch");
        }
        Fate::Committed { .. } => ensure!(event.encodable, "reasons", "what cannot be encoded was committed"),
        Fate::Rejected { why: Reject::Full, .. } | Fate::Odd(_) => {}
    }
    Ok(())
}

/// A batch is taken whole or not at all, and one that holds an unencodable event is not.
fn check_batches(events: &[Offered<'_>]) -> Verdict {
    let mut batches: HashMap<usize, Vec<&Offered<'_>>> = HashMap::new();
    for (number, event) in events.iter().enumerate() {
        let batch = match event.call {
            Call::Batch(first) => first,
            Call::Submit | Call::Append => number,
        };
        batches.entry(batch).or_default().push(event);
    }
    for (first, batch) in batches {
        if batch.iter().any(|event| event.abandoned.is_some()) {
            continue;
        }
        let rejected = batch.iter().filter(|event| event.is_rejected()).count();
        ensure!(
            rejected == 0 || rejected == batch.len(),
            "whole batches",
            "batch {first}: {rejected} rejected"
        );
        let spoilt = batch.iter().any(|event| !event.encodable);
        ensure!(!spoilt || rejected > 0, "reasons", "batch {first} was taken with an unencodable event");
        let encode = |event: &&&Offered<'_>| {
            matches!(event.resolved, Some((_, Fate::Rejected { why: Reject::Encode, .. })))
        };
        ensure!(!spoilt || batch.iter().any(|event| encode(&event)), "reasons", "batch {first}: no offender");
    }
    Ok(())
}

/// Along the way: what the state says, what a flush promises, and that nothing waits while the log is away.
fn check_course(history: &History, events: &[Offered<'_>]) -> Verdict {
    let mut accepted = HashSet::new();
    let mut last_buffered = 0;
    for (at, seen) in history.observed.iter().enumerate() {
        let open = || events.iter().enumerate().filter(move |(_, event)| event.is_open_at(at));
        match &seen.what {
            What::Accepted { event } => {
                ensure!(accepted.insert(*event), "one outcome", "event {event} was accepted twice");
                let turned_away = events.get(*event).is_some_and(Offered::is_rejected);
                ensure!(!turned_away, "one outcome", "event {event} was accepted, then rejected");
            }
            What::Flushed { tickets } => {
                let waiting = open().map(|(number, _)| number).find(|number| tickets.contains(number));
                ensure!(waiting.is_none(), "flush", "event {waiting:?} is not resolved");
            }
            What::State { handle, buffered, dropped, .. } => {
                last_buffered = *buffered;
                let old = open().find(|(_, event)| event.handle < *handle).map(|(number, _)| number);
                ensure!(old.is_none(), "one outcome", "event {old:?} outlived its handle");
                let waiting = open()
                    .filter(|(number, event)| event.handle == *handle && accepted.contains(number))
                    .count();
                ensure!(waiting <= *buffered, "state", "{waiting} wait, but the state says {buffered}");
                check_dropped(events, at, *handle, *dropped)?;
                let hanging = open().find(|(number, event)| {
                    !accepted.contains(number)
                        && matches!(history.settings.overflow, Overflow::DropOldest | Overflow::Reject)
                        && is_away(&history.observed[event.called].what)
                });
                let hanging = hanging.map(|(number, _)| number);
                ensure!(hanging.is_none(), "never waits while away", "event {hanging:?} hangs");
            }
            _ => {}
        }
    }
    ensure!(last_buffered == 0, "state", "{last_buffered} are buffered at the end");
    Ok(())
}

fn is_away(called: &What) -> bool {
    matches!(called, What::Called { connection: Connection::Reconnecting { .. }, .. })
}

/// Dropped events are counted: those that were seen, and perhaps some that nobody waited for.
fn check_dropped(events: &[Offered<'_>], at: usize, handle: usize, dropped: u64) -> Verdict {
    let of_handle = || events.iter().filter(|event| event.handle == handle);
    let seen = of_handle()
        .filter(|event| matches!(event.resolved, Some((end, Fate::Dropped { .. })) if end <= at))
        .count() as u64;
    let orphans = of_handle().filter(|event| event.abandoned.is_some_and(|end| end <= at)).count() as u64;
    let counted = seen <= dropped && dropped <= seen + orphans;
    ensure!(
        counted,
        "state",
        "{seen} events were dropped (and up to {orphans} more), the state says {dropped}"
    );
    Ok(())
}

/// What `close` returned.
fn check_ends(history: &History, events: &[Offered<'_>], ledger: &Ledger) -> Verdict {
    for (at, seen) in history.observed.iter().enumerate() {
        let What::Ended { handle, leftover: Some((not_appended, unknown, returned)) } = &seen.what else {
            continue;
        };
        let of_handle = events.iter().filter(|event| event.handle == *handle);
        let (mut closed, mut others) = (0, 0);
        for (end, fate) in of_handle.filter_map(|event| event.resolved) {
            let is_closed = end > at && matches!(fate, Fate::Closed { .. });
            closed += usize::from(is_closed);
            // Whatever else has failed may have done so while the log was closing.
            let has_failed = !matches!(fate, Fate::Committed { .. } | Fate::Rejected { .. });
            others += usize::from(has_failed && !is_closed);
        }
        let fits = closed <= *returned && *returned <= closed + others;
        ensure!(fits, "leftover", "{returned} by ticket, but {closed} closed and {others} others had failed");
        let there = not_appended.iter().find(|id| ledger.first.contains_key(id));
        ensure!(there.is_none(), "not appended", "{there:?} was left over, and is in the log");
        let orphans =
            events.iter().filter(|event| event.handle == *handle && event.abandoned.is_some()).count();
        let left = not_appended.len() + unknown.len();
        ensure!(left <= orphans, "leftover", "{left} events, though only {orphans} had no ticket");
    }
    Ok(())
}
