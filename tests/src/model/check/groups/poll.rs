//! Polling: what has to come, in which order, from whom.

use std::collections::{BTreeMap, BTreeSet};

use event_log_core::{Cursor, EventId, Offset, PartitionId, Position};

use super::super::lane::{Brought, Lane};
use super::super::{Verdict, Violation, ensure};
use super::{Groups, Reader, check_committed, reachable};
use crate::model::history::{Batch, Marks, Noticed, Reading, Seen};

/// Offsets from which reading went on elsewhere, and where.
type Ranges<'a> = &'a [(Offset, Offset)];

/// A batch, sorted out.
#[derive(Default)]
struct Sorted {
    records: BTreeMap<PartitionId, BTreeMap<Offset, EventId>>,
    copies: BTreeMap<PartitionId, BTreeMap<Offset, (Position, EventId)>>,
    assigned: BTreeSet<PartitionId>,
    missing: Vec<(PartitionId, Offset, Offset)>,
    truncated: Vec<(PartitionId, Offset, Offset)>,
}

impl Groups<'_> {
    pub(super) fn polled(&mut self, consumer: usize, max: usize, seen: &Reading<Option<Batch>>) -> Verdict {
        let Some(mut reader) = self.begin(consumer) else { return Ok(()) };
        let shaken = self.reach(&mut reader);
        match &seen.result {
            Err(unavailable) => {
                ensure!(*unavailable && shaken, "errors", "consumer {consumer} could not poll");
                self.sync(&mut reader, seen)?;
            }
            Ok(None) => {
                self.sync(&mut reader, seen)?;
                self.check_prompt(consumer, shaken, seen)?;
            }
            Ok(Some((records, notices, cursor))) => {
                check_batch(max, records)?;
                ensure!(
                    *cursor == seen.position,
                    "position",
                    "the batch ends at {cursor}, not {}",
                    seen.position
                );
                let sorted = self.sort(&reader, records, notices, seen)?;
                self.advance(&mut reader, &sorted, shaken, seen)?;
                // A batch that only has notices has got on, and the next one goes on from there.
                if records.is_empty() && notices.is_empty() {
                    self.check_prompt(consumer, shaken, seen)?;
                }
                if !shaken {
                    self.claim(consumer, &reader, &seen.position)?;
                }
            }
        }
        check_committed(&reader, &seen.committed)?;
        self.readers.insert(consumer, reader);
        Ok(())
    }

    fn sort(
        &mut self,
        reader: &Reader,
        records: &[Seen],
        notices: &[Noticed],
        seen: &Reading<Option<Batch>>,
    ) -> Result<Sorted, Violation> {
        let mut sorted = Sorted::default();
        for Seen { position, id, .. } in records {
            let lane = sorted.records.entry(position.partition).or_default();
            let last = lane.last_key_value().map(|(&last, _)| last);
            ensure!(last < Some(position.offset), "offset order", "{position} came after {last:?}");
            lane.insert(position.offset, *id);
        }
        for notice in notices {
            match notice {
                Noticed::Missing(partition, from, to) => {
                    let high = seen.after.as_ref().map_or(*to, |marks| marks[partition.0 as usize].1);
                    let possible = self.settings.retention.is_some() && from < to && *to <= high;
                    ensure!(possible, "missing", "{partition}: {from} to {to} cannot be");
                    sorted.missing.push((*partition, *from, *to));
                }
                Noticed::Truncated(partition, from, to) => {
                    let at = partition.0 as usize;
                    let high = seen.before.as_ref().map_or(Offset::ZERO, |marks| marks[at].1);
                    let low = seen.after.as_ref().map_or(*to, |marks| marks[at].0);
                    // Of a dropped poll the notice comes late: the log may have grown since.
                    let possible = to < from && *to <= low.max(high);
                    ensure!(possible, "truncated", "{partition}: {from} to {to} cannot be");
                    sorted.truncated.push((*partition, *from, *to));
                }
                Noticed::Fault(partition) => {
                    let (armed, met) = self.failing_fetches.entry(*partition).or_default();
                    *met += 1;
                    ensure!(met <= armed, "faults", "{met} of partition {partition}, but {armed} were made");
                }
                Noticed::Duplicate(position, first, id) => {
                    let copies = sorted.copies.entry(position.partition).or_default();
                    copies.insert(position.offset, (*first, *id));
                }
                Noticed::Assigned(partitions) | Noticed::Revoked(partitions) => {
                    ensure!(!reader.solo, "ownership", "the only member was told: {notice:?}");
                    if matches!(notice, Noticed::Assigned(_)) {
                        sorted.assigned.extend(partitions);
                        // What was told before is of the time before.
                        sorted.copies.retain(|partition, _| !partitions.contains(partition));
                        sorted.missing.retain(|(partition, ..)| !partitions.contains(partition));
                    }
                }
                Noticed::Odd(what) => ensure!(false, "notices", "there was no reason for {what}"),
            }
        }
        Ok(sorted)
    }

    /// Every partition goes on where it was; or, if it has just come, at the committed cursor.
    fn advance(
        &mut self,
        reader: &mut Reader,
        sorted: &Sorted,
        shaken: bool,
        seen: &Reading<Option<Batch>>,
    ) -> Verdict {
        let position = &seen.position;
        if !reader.solo {
            reader.keep(position);
        }
        let strange = sorted.records.keys().find(|partition| position.get(**partition).is_none());
        ensure!(strange.is_none(), "ownership", "a record came of partition {strange:?}: {position}");
        for (partition, next) in position.iter() {
            let (no_records, no_copies) = (BTreeMap::new(), BTreeMap::new());
            let brought = Brought {
                partition,
                records: sorted.records.get(&partition).unwrap_or(&no_records),
                copies: sorted.copies.get(&partition).unwrap_or(&no_copies),
                may_forget: self.settings.retention.is_some(),
            };
            let missing = sorted.missing.iter().filter(|(of, ..)| *of == partition);
            let missing: Vec<_> = missing.map(|&(_, from, to)| (from, to)).collect();
            let truncated = sorted.truncated.iter().filter(|(of, ..)| *of == partition);
            let truncated: Vec<_> = truncated.map(|&(_, from, to)| (from, to)).collect();
            let lane = if sorted.assigned.contains(&partition) {
                self.gained(reader, &brought, (&missing, &truncated), next, seen)?
            } else {
                let Some(mut lane) = reader.lanes.remove(&partition) else {
                    let detail = format!("partition {partition} came without a notice");
                    return Err(Violation { rule: "ownership", detail });
                };
                ensure!(!lane.unannounced, "ownership", "partition {partition} came without a notice");
                lane.doubtful = false;
                lane.missing.extend(missing);
                for (from, to) in truncated {
                    let is_due = lane.told_truncated(from, to) || !reader.solo;
                    ensure!(is_due, "truncated", "{partition}: nothing led from {from} to {to}: {lane:?}");
                }
                lane.advance(&brought, next, self.ledger)?;
                lane
            };
            let group = &mut self.groups[reader.group];
            // Who was cut off may still deliver what it had fetched before others took over.
            let floor = group.stored[partition.0 as usize].filter(|_| !lane.sought && !shaken);
            let again = brought.records.keys().find(|offset| floor.is_some_and(|floor| **offset < floor));
            ensure!(again.is_none(), "committed is done", "{partition}@{again:?} came again: {floor:?}");
            let delivered = brought.records.keys().map(|&offset| Position::new(partition, offset));
            group.delivered.extend(delivered);
            reader.lanes.insert(partition, lane);
        }
        let count = position.len();
        ensure!(reader.lanes.len() == count, "ownership", "the only member shows {position}");
        Ok(())
    }

    /// A partition that came with or before this batch.
    fn gained(
        &self,
        reader: &mut Reader,
        brought: &Brought<'_>,
        (missing, truncated): (Ranges<'_>, Ranges<'_>),
        next: Offset,
        seen: &Reading<Option<Batch>>,
    ) -> Result<Lane, Violation> {
        let partition = brought.partition;
        let committed = self.groups[reader.group].stored[partition.0 as usize];
        // An earlier call may have got it already, and a seek may have moved it since.
        let before = reader.lanes.remove(&partition);
        if let Some(lane) = before.filter(|lane| lane.unannounced || lane.doubtful) {
            let mut lane = lane.renewed(committed);
            lane.missing.extend_from_slice(missing);
            for &(from, to) in truncated {
                lane.told_truncated(from, to);
            }
            if lane.advance(brought, next, self.ledger).is_ok() {
                return Ok(lane);
            }
        }
        // Where it began is not shown; it must fit what came, and then be the right place.
        let came = brought.records.keys().chain(brought.copies.keys()).min().copied();
        let start = match committed {
            Some(committed) => committed,
            None => {
                let first = came.unwrap_or(next);
                // It was the low watermark of some moment during the call, if that was behind the start.
                let floor = reader.start.as_ref().map(|start| start.get(partition).unwrap_or(Offset::ZERO));
                let low = |marks: &Marks| marks.as_ref().map_or(first, |marks| marks[partition.0 as usize].0);
                let (earliest, latest) = (low(&seen.before), low(&seen.after));
                floor.map_or(first, |floor| first.clamp(floor.max(earliest), floor.max(latest)))
            }
        };
        let mut lane = Lane::new(start, committed);
        lane.missing.extend_from_slice(missing);
        lane.advance(brought, next, self.ledger).or_else(|violation| {
            // Offsets between the start and the first record may be a gap, or have been removed.
            let gap = came.is_none() && committed.is_none() && self.settings.retention.is_some();
            if gap { Ok(()) } else { Err(violation) }
        })?;
        (lane.next, lane.shown) = (next, next);
        Ok(lane)
    }

    /// When nothing disturbs, a poll that comes back empty has left nothing behind.
    fn check_prompt(&self, consumer: usize, shaken: bool, seen: &Reading<Option<Batch>>) -> Verdict {
        if shaken || self.fetches_disturbed || !reachable(&seen.before, &seen.after) {
            return Ok(());
        }
        let (Some(before), Some(after)) = (&seen.before, &seen.after) else { return Ok(()) };
        for (partition, next) in seen.position.iter() {
            let (high, low) = (before[partition.0 as usize].1, after[partition.0 as usize].0);
            let left = self.ledger.range(partition, next.max(low)..high).next();
            let left = left.map(|(position, _)| position);
            ensure!(left.is_none(), "polls find what is there", "consumer {consumer} did not get {left:?}");
        }
        Ok(())
    }

    /// As long as the membership stays, nobody else has what this consumer shows.
    fn claim(&mut self, consumer: usize, reader: &Reader, position: &Cursor) -> Verdict {
        let group = &mut self.groups[reader.group];
        let mine: Vec<_> = position.iter().map(|(partition, _)| partition).collect();
        for (other, theirs) in group.claims.iter().filter(|(other, _)| **other != consumer) {
            let both = mine.iter().find(|partition| theirs.contains(partition));
            ensure!(both.is_none(), "ownership", "{consumer} and {other} both have partition {both:?}");
        }
        group.claims.insert(consumer, mine);
        Ok(())
    }
}

/// What holds of a batch by itself: no more than was asked for, oldest first.
fn check_batch(max: usize, records: &[Seen]) -> Verdict {
    ensure!(records.len() <= max, "poll", "{} records came, {max} were asked for", records.len());
    for pair in records.windows(2) {
        let sorted = pair[0].timestamp <= pair[1].timestamp;
        ensure!(sorted, "merged by time", "{} came before {}", pair[0].position, pair[1].position);
    }
    Ok(())
}
