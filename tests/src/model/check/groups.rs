//! Groups and their consumers: who owns what, what is delivered, and what is committed.

mod commit;
mod poll;

use std::collections::{BTreeMap, BTreeSet};

use event_log_core::{Cursor, Offset, PartitionId, Position, SeekPosition};

use super::lane::Lane;
use super::ledger::Ledger;
use super::reading::{names_strange_partition, resolve};
use super::{Verdict, Violation, ensure};
use crate::model::history::{Arming, History, Marks, Reading, What};
use crate::model::op::{GROUPS, Settings};

/// A group, as the broker should have it.
struct Group {
    /// The group's place, per partition; `None` while no member has started it.
    stored: Vec<Option<Offset>>,
    /// An attempt to open a consumer failed, and may have started the group.
    doubtful: bool,
    /// Consumers that are open.
    members: BTreeSet<usize>,
    /// Partitions that members have shown to have, since the membership last changed.
    claims: BTreeMap<usize, Vec<PartitionId>>,
    /// What any member was ever delivered.
    delivered: BTreeSet<Position>,
    /// Somebody passed over records on purpose.
    skipped: bool,
}

/// A consumer.
struct Reader {
    group: usize,
    /// It has been the only member ever since it was opened: nothing but its own calls moves it.
    solo: bool,
    /// How many of its next calls may meet the end of a connection that was cut: the first finds out, the
    /// second joins again.
    cut: u8,
    /// Where it starts in partitions that were never committed; `None` when nobody outside can know.
    start: Option<Cursor>,
    lanes: BTreeMap<PartitionId, Lane>,
    /// Partitions that went away with something delivered and not committed, and what was committed then.
    lost: BTreeMap<PartitionId, Option<Offset>>,
}

impl Reader {
    /// Lets go of the partitions that the consumer no longer shows.
    fn keep(&mut self, position: &Cursor) {
        for (partition, lane) in std::mem::take(&mut self.lanes) {
            if position.get(partition).is_some() {
                self.lanes.insert(partition, lane);
            } else if lane.uncommitted().is_some() {
                self.lost.insert(partition, lane.committed);
            }
        }
    }
}

struct Groups<'a> {
    settings: &'a Settings,
    ledger: &'a Ledger,
    groups: Vec<Group>,
    readers: BTreeMap<usize, Reader>,
    link_up: bool,
    /// Fetches may fail or return nothing.
    fetches_disturbed: bool,
    /// Fetches and commits that may fail, per partition, and how often they did.
    failing_fetches: BTreeMap<PartitionId, (usize, usize)>,
    failing_commits: BTreeMap<PartitionId, (usize, usize)>,
    /// Fetches that failed while a position was looked for, wherever.
    failed_lookups: usize,
    marks: Vec<(Offset, Offset)>,
}

pub(super) fn check(history: &History, ledger: &Ledger) -> Verdict {
    let partitions = history.settings.partitions as usize;
    let group = || Group {
        stored: vec![None; partitions],
        doubtful: false,
        members: BTreeSet::new(),
        claims: BTreeMap::new(),
        delivered: BTreeSet::new(),
        skipped: false,
    };
    let mut groups = Groups {
        settings: &history.settings,
        ledger,
        groups: (0..GROUPS).map(|_| group()).collect(),
        readers: BTreeMap::new(),
        link_up: true,
        fetches_disturbed: false,
        failing_fetches: BTreeMap::new(),
        failing_commits: BTreeMap::new(),
        failed_lookups: 0,
        marks: vec![Default::default(); partitions],
    };
    for observation in &history.observed {
        groups.see(&observation.what)?;
    }
    groups.check_coverage()
}

impl Groups<'_> {
    fn see(&mut self, what: &What) -> Verdict {
        match what {
            What::Link { up, cut } => self.link(*up, *cut),
            What::Armed(arming) => self.armed(*arming),
            What::Calm => self.fetches_disturbed = false,
            What::Joined { consumer, group, start, reading } => {
                return self.joined(*consumer, *group, start, reading);
            }
            What::Left { consumer } => self.left(*consumer),
            What::Polled { consumer, max, reading } => return self.polled(*consumer, *max, reading),
            What::Committed { consumer, up_to, reading, stored } => {
                return self.committed(*consumer, up_to, reading, stored.as_deref());
            }
            What::Sought { consumer, to, reading } => return self.sought(*consumer, to, reading),
            What::Deleted { group, done } => return self.deleted(*group, *done),
            What::Lag { group, partitions } => return self.lag(*group, partitions),
            What::Shared { group, partitions } => return self.shared(*group, partitions),
            What::Dry { consumer } => return self.dry(*consumer),
            _ => {}
        }
        Ok(())
    }

    fn link(&mut self, up: bool, cut: bool) {
        self.link_up = up;
        if cut {
            self.readers.values_mut().for_each(|reader| reader.cut = 2);
            self.groups.iter_mut().for_each(|group| group.claims.clear());
        }
    }

    fn armed(&mut self, arming: Arming) {
        match arming {
            Arming::EmptyFetches(_) => self.fetches_disturbed = true,
            Arming::FailFetches(partition, count) => {
                self.fetches_disturbed = true;
                self.failing_fetches.entry(partition).or_default().0 += count;
            }
            Arming::FailCommits(partition, count) => {
                self.failing_commits.entry(partition).or_default().0 += count;
            }
            Arming::Requests(_) | Arming::Slow => {}
        }
    }

    fn joined(&mut self, consumer: usize, group: usize, start: &SeekPosition, seen: &Reading<()>) -> Verdict {
        if let Err(unavailable) = seen.result {
            let excused = if unavailable { !self.link_up } else { self.lookup_may_fail(start) };
            ensure!(excused, "errors", "consumer {consumer} could not be opened");
            self.groups[group].doubtful |= self.groups[group].stored.contains(&None);
            if !unavailable {
                // It was a member for a moment, and the others felt it.
                self.membership_changed(group);
            }
            return Ok(());
        }
        let all: Vec<_> = (0..self.settings.partitions).map(PartitionId).collect();
        let complete = self.settings.retention.is_none();
        let resolved = self.steady(seen).and_then(|marks| resolve(start, &all, marks, self.ledger, complete));
        let solo = self.groups[group].members.is_empty();
        self.membership_changed(group);
        self.groups[group].members.insert(consumer);
        self.groups[group].skipped |= *start != SeekPosition::Beginning;
        let mut reader =
            Reader { group, solo, cut: 0, start: resolved, lanes: BTreeMap::new(), lost: BTreeMap::new() };
        for (partition, next) in seen.position.iter() {
            let at = partition.0 as usize;
            let shown = seen.committed.get(partition);
            ensure!(shown.is_some(), "one start", "the group has no place in partition {partition}");
            if self.groups[group].doubtful && self.groups[group].stored[at].is_none() {
                self.groups[group].stored[at] = shown;
            }
            let start = self.check_start(&reader, partition, next, seen)?;
            ensure!(start == next, "resumes", "at {partition}@{next} instead of {start}");
            // The first member determines where the group stands, for all that come.
            let committed = *self.groups[group].stored[at].get_or_insert(next);
            reader.lanes.insert(partition, Lane::new(next, Some(committed)));
        }
        let count = reader.lanes.len();
        ensure!(!solo || count == all.len(), "ownership", "the only member has {count} partitions");
        check_committed(&reader, &seen.committed)?;
        self.readers.insert(consumer, reader);
        Ok(())
    }

    /// Somebody new is in a group: whoever is there already is no longer by itself.
    fn membership_changed(&mut self, group: usize) {
        let group = &mut self.groups[group];
        group.claims.clear();
        for member in &group.members {
            if let Some(reader) = self.readers.get_mut(member) {
                reader.solo = false;
            }
        }
    }

    /// A partition that a consumer gets starts at the committed cursor, or where the consumer asked for when
    /// there is none. Returns where it began: by the time it shows itself, the consumer may have found out that
    /// something is missing there, and the batch that says so is yet to come.
    fn check_start<T>(
        &self,
        reader: &Reader,
        partition: PartitionId,
        next: Offset,
        seen: &Reading<T>,
    ) -> Result<Offset, Violation> {
        let at = partition.0 as usize;
        if let Some(committed) = self.groups[reader.group].stored[at] {
            let low = seen.after.as_ref().map_or(committed, |marks| marks[at].0);
            let resumed = self.settings.retention.is_some() && next == low && next > committed;
            ensure!(next == committed || resumed, "resumes", "at {partition}@{next} instead of {committed}");
            return Ok(committed);
        }
        let (Some(start), Some(before), Some(after)) = (&reader.start, &seen.before, &seen.after) else {
            return Ok(next);
        };
        let start = start.get(partition).unwrap_or(Offset::ZERO);
        let low = |marks: &[(Offset, Offset)]| start.max(marks[at].0);
        let fits = low(before) <= next && next <= low(after);
        ensure!(fits, "resumes", "starts at {partition}@{next} instead of {}", low(before));
        Ok(next)
    }

    fn left(&mut self, consumer: usize) {
        if let Some(reader) = self.readers.remove(&consumer) {
            let group = &mut self.groups[reader.group];
            group.members.remove(&consumer);
            group.claims.clear();
        }
    }

    fn sought(&mut self, consumer: usize, to: &SeekPosition, seen: &Reading<()>) -> Verdict {
        let Some(mut reader) = self.begin(consumer) else { return Ok(()) };
        let strange = names_strange_partition(to, self.settings.partitions);
        // Whether it has a strange partition is asked of the log, and not over the consumer's connection.
        let shaken = if strange { !self.link_up } else { self.reach(&mut reader) };
        match seen.result {
            Ok(()) => {
                ensure!(!strange, "errors", "consumer {consumer} sought {to:?}");
                self.groups[reader.group].skipped = true;
                self.move_lanes(&mut reader, to, seen)?;
            }
            Err(true) => {
                ensure!(shaken, "errors", "consumer {consumer} could not seek");
                self.sync(&mut reader, seen)?;
            }
            Err(false) => {
                let others = matches!(to, SeekPosition::Position(position)
                    if !reader.solo && seen.position.get(position.partition).is_none());
                // It is refused when the log has said so, and not before.
                let excused = if strange { !shaken } else { others || self.lookup_may_fail(to) };
                ensure!(excused, "errors", "consumer {consumer} could not seek to {to:?}");
                self.sync(&mut reader, seen)?;
            }
        }
        self.readers.insert(consumer, reader);
        Ok(())
    }

    /// Finding the last records means fetching, and that may fail as often as it was made to.
    fn lookup_may_fail(&mut self, to: &SeekPosition) -> bool {
        self.failed_lookups += 1;
        let (armed, met) = self.failing_fetches.values().fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
        matches!(to, SeekPosition::FromEnd(_)) && met + self.failed_lookups <= armed
    }

    fn move_lanes(&self, reader: &mut Reader, to: &SeekPosition, seen: &Reading<()>) -> Verdict {
        let partitions: Vec<_> = seen.position.iter().map(|(partition, _)| partition).collect();
        let complete = self.settings.retention.is_none();
        let target =
            self.steady(seen).and_then(|marks| resolve(to, &partitions, marks, self.ledger, complete));
        let stored = &self.groups[reader.group].stored;
        if !reader.solo {
            reader.keep(&seen.position);
        }
        for (partition, next) in seen.position.iter() {
            let solo = reader.solo;
            let lane = reader.lanes.entry(partition).or_insert_with(|| {
                let mut lane = Lane::new(next, stored[partition.0 as usize]);
                lane.unannounced = true;
                lane
            });
            match &target {
                Some(target) => match target.get(partition) {
                    Some(target) => {
                        ensure!(target == next, "seek", "{to:?}: {partition}@{next} instead of {target}");
                        lane.seek(next);
                    }
                    // Others may have had the partition in between.
                    None if lane.shown != next && !solo => {
                        *lane = Lane::new(next, stored[partition.0 as usize]);
                        lane.unannounced = true;
                    }
                    None => ensure!(lane.shown == next, "seek", "{to:?} moved partition {partition}"),
                },
                None => lane.seek(next),
            }
        }
        reader.lanes.values_mut().for_each(|lane| lane.doubtful |= !reader.solo);
        let count = reader.lanes.len();
        ensure!(
            count == partitions.len(),
            "ownership",
            "{count} partitions, but {} are shown",
            partitions.len()
        );
        Ok(())
    }

    fn deleted(&mut self, group: usize, done: Option<bool>) -> Verdict {
        let Some(done) = done else {
            ensure!(!self.link_up, "errors", "group {group} could not be deleted");
            return Ok(());
        };
        let group = &mut self.groups[group];
        let members = group.members.len();
        ensure!(done == (members == 0), "delete_group", "with {members} members: {done}");
        if done {
            group.stored.fill(None);
            group.doubtful = false;
        }
        Ok(())
    }

    fn lag(&mut self, group: usize, lag: &[(Option<Offset>, Offset, Offset, u64)]) -> Verdict {
        for (at, &(committed, low, high, offsets)) in lag.iter().enumerate() {
            let is_doubtful = self.groups[group].doubtful;
            let stored = self.groups[group].stored[at].or(committed.filter(|_| is_doubtful));
            ensure!(
                committed == stored,
                "commit",
                "group {group}, {at}: {committed:?} instead of {stored:?}"
            );
            let expected = high.0.saturating_sub(stored.unwrap_or_default().max(low).0);
            ensure!(offsets == expected, "lag", "group {group}, {at}: {offsets} instead of {expected}");
            let known = &mut self.marks[at];
            ensure!(known.0 <= low && known.1 <= high && low <= high, "watermarks", "{at}: {low} to {high}");
            *known = (low, high);
        }
        Ok(())
    }

    /// When nothing moves any more, the members have all partitions, each of them once.
    fn shared(&self, group: usize, partitions: &[Vec<PartitionId>]) -> Verdict {
        let mut owned: Vec<_> = partitions.concat();
        owned.sort_unstable();
        let all: Vec<_> = (0..self.settings.partitions).map(PartitionId).collect();
        ensure!(owned == all, "ownership", "group {group} shares its partitions like this: {partitions:?}");
        Ok(())
    }

    fn dry(&self, consumer: usize) -> Verdict {
        let Some(reader) = self.readers.get(&consumer) else { return Ok(()) };
        for (partition, lane) in &reader.lanes {
            let high = self.ledger.marks[partition.0 as usize].1;
            ensure!(
                lane.next == high,
                "nothing lost",
                "{partition} was read up to {}, not {high}",
                lane.next
            );
        }
        let complete = reader.lanes.len() == self.settings.partitions as usize;
        ensure!(complete, "ownership", "consumer {consumer} has {:?}", reader.lanes.keys());
        Ok(())
    }

    /// A group that never passed over anything on purpose was delivered everything that is still there.
    fn check_coverage(&self) -> Verdict {
        for (number, group) in self.groups.iter().enumerate().filter(|(_, group)| !group.skipped) {
            for &position in self.ledger.records.keys() {
                let low = self.ledger.marks[position.partition.0 as usize].0;
                let due = !self.ledger.is_copy(position) && position.offset >= low;
                ensure!(
                    !due || group.delivered.contains(&position),
                    "nothing lost",
                    "group {number} never saw {position}"
                );
            }
        }
        Ok(())
    }

    /// The watermarks during a call, when they stood still.
    fn steady<'s, T>(&self, seen: &'s Reading<T>) -> Option<&'s [(Offset, Offset)]> {
        match &seen.before {
            Some(before) if seen.before == seen.after => Some(before),
            _ => None,
        }
    }

    fn begin(&mut self, consumer: usize) -> Option<Reader> {
        self.readers.remove(&consumer)
    }

    /// A call that needs the broker. Returns whether it may fail for want of a connection.
    fn reach(&mut self, reader: &mut Reader) -> bool {
        let shaken = reader.cut > 0 || !self.link_up;
        if reader.cut > 0 {
            // Whoever joins again changes the membership.
            self.groups[reader.group].claims.clear();
            reader.cut = if self.link_up { reader.cut - 1 } else { 1 };
        }
        shaken
    }

    /// Brings the lanes up to date with what the consumer shows after a call that delivered nothing.
    fn sync<T>(&self, reader: &mut Reader, seen: &Reading<T>) -> Verdict {
        let position = &seen.position;
        if !reader.solo {
            reader.keep(position);
        }
        ensure!(
            reader.lanes.keys().copied().eq(position.iter().map(|(partition, _)| partition)) || !reader.solo,
            "ownership",
            "the only member has {position}, not {:?}",
            reader.lanes.keys()
        );
        for (partition, next) in position.iter() {
            match reader.lanes.get_mut(&partition) {
                Some(lane) if lane.shown == next => {}
                // Second copies were dropped, or something was found missing, and the batch that says so is yet
                // to come: `next` stays, so that what was passed over is accounted for then.
                Some(lane) if lane.shown < next && self.is_passable(partition, lane.next, next) => {
                    lane.shown = next;
                    let passed =
                        self.ledger.range(partition, lane.next..next).any(|(at, _)| self.ledger.is_copy(at));
                    if passed || lane.delivered.is_some() {
                        lane.delivered = Some(next);
                    }
                }
                // It was sent beyond the end, and the batch that says where it goes on is yet to come.
                Some(lane) if lane.sought && is_truncated(partition, lane.next, next, seen) => {
                    lane.truncate_untold(next);
                }
                lane => {
                    ensure!(!reader.solo, "position", "of {partition} moved to {next} by itself: {lane:?}");
                    let committed = self.groups[reader.group].stored[partition.0 as usize];
                    let start = self.check_start(reader, partition, next, seen)?;
                    let mut lane = Lane::new(start, committed);
                    (lane.shown, lane.unannounced) = (next, true);
                    reader.lanes.insert(partition, lane);
                }
            }
        }
        reader.lanes.values_mut().for_each(|lane| lane.doubtful |= !reader.solo);
        Ok(())
    }

    /// Whether a consumer may pass these offsets without delivering any of them.
    fn is_passable(&self, partition: PartitionId, from: Offset, to: Offset) -> bool {
        let gone = self.settings.retention.is_some();
        gone || self.ledger.range(partition, from..to).all(|(position, _)| self.ledger.is_copy(position))
    }
}

/// What a consumer says is committed, of the partitions that it has.
fn check_committed(reader: &Reader, committed: &Cursor) -> Verdict {
    if !reader.solo {
        return Ok(());
    }
    for (partition, lane) in &reader.lanes {
        let shown = committed.get(*partition);
        ensure!(
            shown == lane.committed,
            "commit",
            "{partition}: shown {shown:?} instead of {:?}",
            lane.committed
        );
    }
    Ok(())
}

/// Whether a consumer that stands beyond the end may go on at `to`, where the log begins.
fn is_truncated<T>(partition: PartitionId, from: Offset, to: Offset, seen: &Reading<T>) -> bool {
    let at = partition.0 as usize;
    let (Some(before), Some(after)) = (&seen.before, &seen.after) else { return false };
    from > before[at].1 && before[at].0 <= to && to <= after[at].0
}

/// Whether the log could be reached before and after a call.
const fn reachable(before: &Marks, after: &Marks) -> bool {
    before.is_some() && after.is_some()
}
