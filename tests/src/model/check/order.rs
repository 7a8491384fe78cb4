//! Order: per key as the calls were made, and in time.

use std::collections::{BTreeMap, HashMap};

use event_log_core::{Offset, PartitionId, Position};

use super::ledger::Ledger;
use super::{Offered, Verdict, ensure};
use crate::model::history::{Fate, History, What};

pub(super) fn check(history: &History, events: &[Offered<'_>], ledger: &Ledger) -> Verdict {
    // Where requests arrive late and retention removes first copies, second ones are all that is to be seen.
    if history.settings.retention.is_none() || ledger.delivered_late == 0 {
        check_keys(events, ledger)?;
    }
    check_time(history, events)
}

/// The events of one key that went through one handle are in the log in the order of their calls.
fn check_keys(events: &[Offered<'_>], ledger: &Ledger) -> Verdict {
    let mut last: HashMap<(usize, &str), (usize, Position)> = HashMap::new();
    for (number, event) in events.iter().enumerate() {
        let (Some((key, _)), Some(position)) = (event.key, place(number, event, ledger)) else { continue };
        if let Some((before, earlier)) = last.insert((event.handle, key), (number, position)) {
            ensure!(
                earlier < position,
                "order per key",
                "{key}: event {before} is at {earlier}, event {number} at {position}"
            );
        }
    }
    Ok(())
}

/// Where the event took its place in the order. What was given up for unknown and arrived long afterwards has
/// none, and nobody can say of an abandoned event whether it was given up.
fn place(number: usize, event: &Offered<'_>, ledger: &Ledger) -> Option<Position> {
    match event.resolved {
        Some((_, Fate::Committed { position, .. })) => Some(*position),
        Some((_, Fate::Unknown { id, .. })) if ledger.delivered_late == 0 => ledger.first.get(id).copied(),
        None if ledger.delivered_late == 0 => ledger.events.get(&(number as u64)).copied(),
        _ => None,
    }
}

/// What was known to be committed before another event was offered comes before it in their partition.
fn check_time(history: &History, events: &[Offered<'_>]) -> Verdict {
    let mut known: BTreeMap<PartitionId, Offset> = BTreeMap::new();
    let mut before: Vec<BTreeMap<PartitionId, Offset>> = Vec::with_capacity(events.len());
    for seen in &history.observed {
        match &seen.what {
            What::Called { .. } => before.push(known.clone()),
            What::Resolved { event, fate: Fate::Committed { position, .. } } => {
                let floor = before.get(*event).and_then(|before| before.get(&position.partition));
                ensure!(
                    floor.is_none_or(|floor| *floor < position.offset),
                    "order in time",
                    "event {event} is at {position}, although {floor:?} was there before it was offered"
                );
                let latest = known.entry(position.partition).or_default();
                *latest = (*latest).max(position.offset);
            }
            _ => {}
        }
    }
    Ok(())
}
