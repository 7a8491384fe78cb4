//! What producers were promised.

use std::collections::{BTreeMap, HashMap};

use event_log_core::{EventId, Offset, PartitionId, Position};

use super::facts::{Event, Facts};
use super::{Figures, Notes, Rule};
use crate::chaos::history::{EventNumber, Fate, Stored};

pub(super) fn check(facts: &Facts<'_>, notes: &mut Notes, figures: &mut Figures) {
    for number in &facts.strange {
        notes.demand(false, Rule::OneOutcome, || format!("event {number} was offered twice, or never"));
    }
    for (&number, event) in &facts.events {
        check_outcome(facts, number, event, notes, figures);
    }
    check_origin(facts, notes, figures);
    check_key_order(facts, notes);
    check_call_order(facts, notes);
}

fn check_outcome(
    facts: &Facts<'_>,
    number: EventNumber,
    event: &Event<'_>,
    notes: &mut Notes,
    figures: &mut Figures,
) {
    let known = event.ended.len() + usize::from(event.abandoned);
    notes.demand(known > 0, Rule::Stuck, || format!("event {number} has no outcome"));
    notes.demand(known <= 1, Rule::OneOutcome, || format!("event {number} has {known} outcomes"));
    let is_there = !event.copies.is_empty();
    if event.abandoned {
        figures.abandoned.0 += 1;
        figures.abandoned.1 += u64::from(is_there);
    }
    let about_itself = |back: EventNumber| back == number;
    match event.ended.first().map(|(_, fate)| *fate) {
        Some(Fate::Committed { id, partition, offset }) => {
            figures.confirmed += 1;
            notes.demand(is_there, Rule::Confirmed, || format!("event {number} is lost"));
            let place = match offset {
                Some(offset) => Position::new(*partition, *offset),
                // The log did not say where; only that much can be asked.
                None => event.copies.first().copied().unwrap_or(Position::new(*partition, Offset::ZERO)),
            };
            let found = facts.log.get(&place);
            let fits = place.partition == *partition
                && found.is_some_and(|found| (found.1, found.2) == (*id, Some(number)));
            notes.demand(fits || !is_there, Rule::Place, || {
                format!("event {number} ({id}) is said to be at {place}, where the log has {found:?}")
            });
        }
        Some(Fate::NotAppended { why, back }) => {
            let count = match why.as_str() {
                why if why.starts_with("rejected") => &mut figures.rejected,
                why if why.starts_with("dropped") => &mut figures.dropped,
                _ => &mut figures.returned,
            };
            *count += 1;
            notes.demand(!is_there, Rule::NotAppended, || {
                format!("event {number} was not appended ({why}), and is at {:?}", event.copies)
            });
            notes.demand(about_itself(*back), Rule::OneOutcome, || {
                format!("event {number} came back as {back}")
            });
        }
        Some(Fate::Unknown { back, .. }) => {
            figures.unknown.0 += 1;
            figures.unknown.1 += u64::from(is_there);
            notes.demand(about_itself(*back), Rule::OneOutcome, || {
                format!("event {number} came back as {back}")
            });
        }
        None => {}
    }
}

/// Everything in the log was offered, has one id, and is in one partition, as its key is.
fn check_origin(facts: &Facts<'_>, notes: &mut Notes, figures: &mut Figures) {
    let mut ids: HashMap<EventId, Option<EventNumber>> = HashMap::new();
    let mut keys: HashMap<&str, PartitionId> = HashMap::new();
    figures.records = facts.log.len() as u64;
    for (position, &Stored(_, id, number)) in &facts.log {
        let event = number.and_then(|number| facts.events.get(&number));
        let Some(event) = event else {
            notes
                .demand(false, Rule::Origin, || format!("{position} holds {number:?}, which nobody offered"));
            continue;
        };
        let first = event.copies[0];
        figures.copies += u64::from(first != *position);
        let of_first = facts.log[&first].1;
        notes.demand(of_first == id && first.partition == position.partition, Rule::Origin, || {
            format!("{number:?} is at {first} as {of_first} and at {position} as {id}")
        });
        let known = *ids.entry(id).or_insert(number);
        notes.demand(known == number, Rule::Origin, || format!("{id} is both {known:?} and {number:?}"));
        let Some(key) = event.key else { continue };
        let home = *keys.entry(key).or_insert(position.partition);
        notes.demand(home == position.partition, Rule::Origin, || {
            format!("key {key:?} is in partition {home}, and at {position}")
        });
    }
}

/// What a handle was given of one key is in the log in that order, however each call ended.
fn check_key_order(facts: &Facts<'_>, notes: &mut Notes) {
    /// When an event was offered, where it is, and which one it is.
    type Place = (usize, Position, EventNumber);
    let mut keys: BTreeMap<(u64, &str), Vec<Place>> = BTreeMap::new();
    for (&number, event) in &facts.events {
        if let (Some(key), Some(&first)) = (event.key, event.copies.first()) {
            keys.entry((event.handle, key)).or_default().push((event.offered, first, number));
        }
    }
    for ((handle, key), mut events) in keys {
        events.sort_unstable();
        for pair in events.windows(2) {
            let ((_, before, earlier), (_, after, later)) = (pair[0], pair[1]);
            notes.demand(before < after, Rule::KeyOrder, || {
                format!(
                    "handle {handle}, key {key:?}: {earlier} is at {before}, {later}, offered later, at {after}"
                )
            });
        }
    }
}

/// What was confirmed before an event was offered is before it in the partition.
fn check_call_order(facts: &Facts<'_>, notes: &mut Notes) {
    enum Step {
        Offered(Position, EventNumber),
        Confirmed(Position),
    }
    let mut steps: Vec<(usize, Step)> = Vec::new();
    for (&number, event) in &facts.events {
        let Some(&first) = event.copies.first() else { continue };
        steps.push((event.offered, Step::Offered(first, number)));
        if let Some((at, Fate::Committed { partition, offset, .. })) = event.ended.first() {
            let place = offset.map_or(first, |offset| Position::new(*partition, offset));
            steps.push((*at, Step::Confirmed(place)));
        }
    }
    steps.sort_unstable_by_key(|(at, _)| *at);
    let mut confirmed: HashMap<PartitionId, Offset> = HashMap::new();
    for (_, step) in steps {
        match step {
            Step::Confirmed(Position { partition, offset, .. }) => {
                let last = confirmed.entry(partition).or_insert(offset);
                *last = offset.max(*last);
            }
            Step::Offered(first, number) => {
                let before = confirmed.get(&first.partition).copied();
                notes.demand(before.is_none_or(|before| before < first.offset), Rule::CallOrder, || {
                    format!(
                        "event {number} is at {first}, though {before:?} was confirmed before it was offered"
                    )
                });
            }
        }
    }
}
