//! What a history says, put in order.

use std::collections::{BTreeMap, HashMap};

use event_log_core::{Offset, PartitionId, Position};

use crate::chaos::history::{EventNumber, Fate, History, Saw, Stored};

/// An event that was offered. Places in the history are indices of its entries.
pub(super) struct Event<'a> {
    pub(super) key: Option<&'a str>,
    pub(super) handle: u64,
    pub(super) offered: usize,
    /// The outcomes that were learnt, of which there should be one.
    pub(super) ended: Vec<(usize, &'a Fate)>,
    pub(super) abandoned: bool,
    /// Where it is in the log, in order.
    pub(super) copies: Vec<Position>,
}

#[derive(Default)]
pub(super) struct Facts<'a> {
    pub(super) events: BTreeMap<EventNumber, Event<'a>>,
    pub(super) log: BTreeMap<Position, Stored>,
    /// The offsets of a partition, without those of second copies.
    pub(super) firsts: HashMap<PartitionId, Vec<Offset>>,
    /// Events that were offered more than once, and outcomes of events that were not.
    pub(super) strange: Vec<EventNumber>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut facts = Self::default();
        for (at, entry) in history.entries.iter().enumerate() {
            match &entry.saw {
                Saw::Offered { event, handle, key } => {
                    let (key, handle) = (key.as_deref(), *handle);
                    let (ended, copies) = (Vec::new(), Vec::new());
                    let new = Event { key, handle, offered: at, ended, abandoned: false, copies };
                    if facts.events.insert(*event, new).is_some() {
                        facts.strange.push(*event);
                    }
                }
                Saw::Ended { event, fate } => match facts.events.get_mut(event) {
                    Some(known) => known.ended.push((at, fate)),
                    None => facts.strange.push(*event),
                },
                Saw::Abandoned { event } => match facts.events.get_mut(event) {
                    Some(known) => known.abandoned = true,
                    None => facts.strange.push(*event),
                },
                Saw::Holds { partition, records } => facts.hold(*partition, records),
                _ => {}
            }
        }
        facts
    }

    fn hold(&mut self, partition: PartitionId, records: &[Stored]) {
        for &stored in records {
            let position = Position::new(partition, stored.0);
            self.log.insert(position, stored);
            let event = stored.2.and_then(|number| self.events.get_mut(&number));
            let is_first = event.is_none_or(|event| {
                event.copies.push(position);
                event.copies.len() == 1
            });
            if is_first {
                self.firsts.entry(partition).or_default().push(stored.0);
            }
        }
    }

    /// The records of a partition from one offset to before another, without second copies.
    pub(super) fn firsts_between(&self, partition: PartitionId, from: Offset, to: Offset) -> &[Offset] {
        let firsts = self.firsts.get(&partition).map_or(&[][..], Vec::as_slice);
        let start = firsts.partition_point(|&offset| offset < from);
        let end = firsts.partition_point(|&offset| offset < to);
        &firsts[start..end.max(start)]
    }

    /// How many records lie between this and the first copy of its event, if it is not the first.
    pub(super) fn distance_to_first(&self, position: Position) -> Option<usize> {
        let event = self.log.get(&position).and_then(|stored| self.events.get(&stored.2?))?;
        let first = *event.copies.first().filter(|&&first| first < position)?;
        Some(self.log.range(first..position).count())
    }
}
