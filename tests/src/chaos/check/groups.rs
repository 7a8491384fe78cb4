//! What groups were promised.
//!
//! A member has a partition from when it is told so ([`Came::Assigned`]), or from the beginning, which is no news, until it
//! is told that it has not. How it begins there is judged by what its group had committed when it cannot yet have had the
//! partition: at the end of the poll before, or when it was about to join. What others commit from then on does not bind
//! it, since two members may believe to have a partition while a group is being shared out anew; what it commits itself
//! does.

use std::collections::{BTreeMap, HashMap, HashSet};

use event_log_core::{Offset, PartitionId, limits};

use super::facts::Facts;
use super::{Figures, Notes, Rule};
use crate::chaos::history::{Came, Delivered, History, Saw};

/// What is known of a group's committed cursor.
#[derive(Clone, Default)]
struct Cursors {
    /// At least this is stored.
    certain: BTreeMap<PartitionId, Offset>,
    /// At most this was ever asked to be.
    asked: BTreeMap<PartitionId, Offset>,
}

#[derive(Default)]
struct Group {
    cursors: Cursors,
    delivered: HashSet<(PartitionId, Offset)>,
    is_dry: bool,
}

struct Consumer<'a> {
    group: &'a str,
    /// What was certain when it was about to join.
    at_first: BTreeMap<PartitionId, Offset>,
    /// What was certain when its last poll had ended.
    certain: BTreeMap<PartitionId, Offset>,
    lanes: HashMap<PartitionId, Lane>,
}

/// A partition that a consumer has.
struct Lane {
    last: Option<Offset>,
    /// Whatever is before this is done.
    done: Offset,
}

struct Judge<'a, 'b> {
    facts: &'b Facts<'a>,
    notes: &'b mut Notes,
    figures: &'b mut Figures,
    groups: BTreeMap<&'a str, Group>,
    consumers: HashMap<u64, Consumer<'a>>,
}

pub(super) fn check<'a>(history: &'a History, facts: &Facts<'a>, notes: &mut Notes, figures: &mut Figures) {
    let mut judge = Judge { facts, notes, figures, groups: BTreeMap::new(), consumers: HashMap::new() };
    for entry in &history.entries {
        judge.step(&entry.saw);
    }
    for (name, group) in &judge.groups {
        judge
            .notes
            .demand(group.is_dry, Rule::Undelivered, || format!("group {name} did not come to the end"));
    }
}

impl<'a> Judge<'a, '_> {
    fn step(&mut self, saw: &'a Saw) {
        match saw {
            Saw::Joining { consumer, group } => {
                let certain = self.groups.entry(group).or_default().cursors.certain.clone();
                let (at_first, lanes) = (certain.clone(), HashMap::new());
                self.consumers.insert(*consumer, Consumer { group, at_first, certain, lanes });
            }
            Saw::Polled { consumer, records, told } => {
                for came in told {
                    self.told(*consumer, came);
                }
                for record in records {
                    self.delivered(*consumer, record);
                }
                if let Some(reader) = self.consumers.get_mut(consumer) {
                    reader.certain.clone_from(&self.groups[reader.group].cursors.certain);
                }
            }
            Saw::Committing { consumer, up_to } => {
                let Some(reader) = self.consumers.get(consumer) else { return };
                let Some(group) = self.groups.get_mut(reader.group) else { return };
                for (partition, next) in up_to.iter() {
                    raise(&mut group.cursors.asked, partition, next);
                }
            }
            Saw::Committed { consumer, stored } => {
                let Some(reader) = self.consumers.get_mut(consumer) else { return };
                let Some(group) = self.groups.get_mut(reader.group) else { return };
                for (partition, next) in stored.iter() {
                    raise(&mut group.cursors.certain, partition, next);
                    if let Some(lane) = reader.lanes.get_mut(&partition) {
                        lane.done = lane.done.max(next);
                    }
                }
            }
            Saw::Failed { consumer, call, retryable } => {
                self.notes.demand(*retryable, Rule::Reason, || format!("consumer {consumer}: {call}"));
            }
            Saw::Dry { consumer } => self.dry(*consumer),
            _ => {}
        }
    }

    fn told(&mut self, consumer: u64, came: &Came) {
        let Some(reader) = self.consumers.get_mut(&consumer) else { return };
        match came {
            // It begins anew, also if it had the partition before.
            Came::Assigned(partitions) => {
                for &partition in partitions {
                    let done = reader.certain.get(&partition).copied().unwrap_or_default();
                    reader.lanes.insert(partition, Lane { last: None, done });
                }
            }
            Came::Revoked(partitions) => {
                for partition in partitions {
                    reader.lanes.remove(partition);
                }
            }
            Came::Duplicate { position, first } => {
                let copies = self.facts.distance_to_first(*position).is_some() && first < position;
                self.notes.demand(copies, Rule::Copy, || {
                    format!("consumer {consumer} kept {position} back for {first}, and it is no second copy")
                });
            }
            Came::Fault(_) => {}
            Came::Odd(what) => {
                self.notes.demand(false, Rule::Reason, || format!("consumer {consumer}: {what}"));
            }
        }
    }

    fn delivered(&mut self, consumer: u64, record: &Delivered) {
        let (position, partition, offset) = (record.position(), record.0, record.1);
        let Some(reader) = self.consumers.get_mut(&consumer) else { return };
        let Some(group) = self.groups.get_mut(reader.group) else { return };
        let who = || format!("group {}, consumer {consumer}, {position}", reader.group);
        self.figures.delivered += 1;
        self.figures.delivered_again += u64::from(!group.delivered.insert((partition, offset)));

        let found = self.facts.log.get(&position);
        let same = found.is_some_and(|found| (found.1, found.2) == (record.2, record.3));
        self.notes
            .demand(same, Rule::Delivered, || format!("{}: the log has {found:?}, not {record:?}", who()));
        if let Some(distance) = self.facts.distance_to_first(position) {
            // Beyond its window nobody promises anything (a8); it is counted.
            let is_late = distance > limits::DEDUP_WINDOW_RECORDS;
            self.figures.copies_beyond += u64::from(is_late);
            self.notes.demand(is_late, Rule::Copy, || {
                format!("{}: it is a second copy, {distance} records behind the first", who())
            });
        }

        let at_first = &reader.at_first;
        let lane = reader.lanes.entry(partition).or_insert_with(|| {
            let done = at_first.get(&partition).copied().unwrap_or_default();
            Lane { last: None, done }
        });
        let (last, done) = (lane.last.replace(offset), lane.done);
        self.notes.demand(done <= offset, Rule::CommittedAgain, || {
            format!("{}: it is committed up to {done}", who())
        });
        self.notes.demand(last.is_none_or(|last| last < offset), Rule::ReadOrder, || {
            format!("{}: it comes after {last:?}", who())
        });
        // Everything that was never asked to be committed has to come.
        let asked = group.cursors.asked.get(&partition).copied().unwrap_or_default();
        let from = last.map_or(asked, Offset::next);
        let skipped = self.facts.firsts_between(partition, from, offset);
        self.notes.demand(skipped.is_empty(), Rule::Skipped, || {
            format!("{}: after {last:?} (asked to commit: {asked}), {skipped:?} is missing", who())
        });
    }

    /// A consumer that had the group to itself has read all there is.
    fn dry(&mut self, consumer: u64) {
        let Some(reader) = self.consumers.get(&consumer) else { return };
        let Some(group) = self.groups.get_mut(reader.group) else { return };
        group.is_dry = true;
        for (&partition, firsts) in &self.facts.firsts {
            let last = reader.lanes.get(&partition).and_then(|lane| lane.last);
            let asked = group.cursors.asked.get(&partition).copied().unwrap_or_default();
            let from = last.map_or(asked, Offset::next);
            let left = self.facts.firsts_between(partition, from, Offset(u64::MAX));
            self.notes.demand(left.is_empty(), Rule::Skipped, || {
                format!("group {}, partition {partition}: {left:?} did not come at the end", reader.group)
            });
            for &offset in firsts {
                self.notes.demand(group.delivered.contains(&(partition, offset)), Rule::Undelivered, || {
                    format!("group {} never got partition {partition}, offset {offset}", reader.group)
                });
            }
        }
    }
}

fn raise(cursor: &mut BTreeMap<PartitionId, Offset>, partition: PartitionId, next: Offset) {
    let known = cursor.entry(partition).or_insert(next);
    *known = next.max(*known);
}
