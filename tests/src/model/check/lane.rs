//! The model of one partition of one consumer: what comes next, and what a commit may store.

use std::collections::{BTreeMap, HashMap};

use event_log_core::{EventId, Offset, PartitionId, Position};

use super::ledger::Ledger;
use super::{Verdict, ensure};

/// Where a consumer is in a partition, as the documentation of `EventConsumer` says.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    /// The next offset to be accounted for by a batch.
    pub(super) next: Offset,
    /// The position that the consumer shows: further on, when it has passed over something that the next batch
    /// will tell of.
    pub(super) shown: Offset,
    /// Where delivery began when the consumer got the partition or last sought.
    since: Offset,
    /// One past what was delivered since the consumer got the partition or last sought.
    pub(super) delivered: Option<Offset>,
    /// What the consumer knows to be stored.
    pub(super) committed: Option<Offset>,
    /// It has sought behind that, so that a commit may go back.
    pub(super) rewound: bool,
    /// It has sought at all.
    pub(super) sought: bool,
    /// Where each id was first delivered.
    first: HashMap<EventId, Offset>,
    /// Truncations that the consumer has followed in a call that could not say so yet: from, resumed at.
    untold: Vec<(Offset, Offset)>,
    /// What is known to be gone: from, resumed at.
    pub(super) missing: Vec<(Offset, Offset)>,
    /// The consumer got it in a call that could not say so yet.
    pub(super) unannounced: bool,
    /// A call since the last batch may have brought it, which nobody outside can see.
    pub(super) doubtful: bool,
}

/// What a commit means for a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Store {
    Nothing,
    Advance,
    Beyond,
}

impl Lane {
    pub(super) fn new(next: Offset, committed: Option<Offset>) -> Self {
        Self { next, shown: next, since: next, committed, ..Self::default() }
    }

    pub(super) fn seek(&mut self, next: Offset) {
        (self.next, self.shown, self.since) = (next, next, next);
        self.delivered = None;
        self.sought = true;
        self.missing.clear();
        self.rewound = self.committed.is_some_and(|committed| next < committed);
    }

    /// What committing up to `asked` does.
    pub(super) fn store(&self, asked: Offset) -> Store {
        match self.committed {
            _ if asked > self.shown => Store::Beyond,
            Some(committed) if asked == committed => Store::Nothing,
            // Back only to where a seek went back, or to what was delivered since.
            Some(committed) if asked < committed && !(self.rewound && asked >= self.since) => Store::Nothing,
            _ => Store::Advance,
        }
    }

    /// What was delivered and not committed, which others will read again when the partition goes to them.
    pub(super) fn uncommitted(&self) -> Option<Offset> {
        self.delivered.filter(|_| self.delivered > self.committed)
    }

    /// The lane that a consumer has if it got the partition in a call that nobody could see, and then made the
    /// same seek.
    pub(super) fn renewed(&self, committed: Option<Offset>) -> Self {
        let rewound = self.sought && committed.is_some_and(|committed| self.next < committed);
        let mut lane = Self::new(self.next, committed);
        (lane.sought, lane.rewound) = (self.sought, rewound);
        lane.missing.clone_from(&self.missing);
        lane.untold.clone_from(&self.untold);
        lane
    }

    /// The consumer was sent beyond the end, and goes on where the log begins.
    pub(super) fn truncate(&mut self, to: Offset) {
        self.seek(to);
        // It was sent forwards: the group's place does not go back.
        self.rewound = false;
        // What is read again is wanted, and all of it is seen again.
        self.first.clear();
    }

    /// As [`truncate`](Self::truncate), of which the next batch will tell.
    pub(super) fn truncate_untold(&mut self, to: Offset) {
        self.untold.push((self.next, to));
        self.truncate(to);
    }

    /// A batch says that reading went on elsewhere. False when there is no reason for that.
    pub(super) fn told_truncated(&mut self, from: Offset, to: Offset) -> bool {
        if let Some(at) = self.untold.iter().position(|&known| known == (from, to)) {
            self.untold.remove(at);
            return true;
        }
        let is_due = self.sought && self.next == from;
        if is_due {
            self.truncate(to);
        }
        is_due
    }

    pub(super) fn stored(&mut self, next: Offset) {
        self.committed = Some(next);
        self.rewound = false;
    }

    /// Checks what a poll brought of this partition, and moves on to `position`: every record of the log from
    /// here to there was delivered, or dropped as a second copy, or is gone.
    pub(super) fn advance(&mut self, brought: &Brought<'_>, position: Offset, ledger: &Ledger) -> Verdict {
        let Brought { partition, records, copies, may_forget } = *brought;
        let mut reached = self.next;
        for (&offset, &id) in records {
            ensure!(
                offset >= reached,
                "no repeat",
                "{partition}@{offset} was delivered again ({reached} was next)"
            );
            let first =
                *self.first.entry(id).and_modify(|first| *first = (*first).min(offset)).or_insert(offset);
            ensure!(
                first == offset,
                "no second delivery",
                "{id} was delivered from {partition}@{first} and again from {offset}"
            );
            // What was before the beginning is known too. After a seek, what is read again is wanted.
            let copy = !self.sought && !may_forget && ledger.is_copy(Position::new(partition, offset));
            ensure!(!copy, "no second delivery", "{partition}@{offset} is a second copy");
            reached = offset.next();
        }
        for (&copy, &(first, id)) in copies {
            ensure!(
                first.partition == partition && first.offset < copy,
                "no gap",
                "{partition}@{copy} was dropped as a copy of {first}, which is not before it"
            );
            let same = ledger.id_at(first).is_none_or(|known| known == id)
                && ledger.id_at(Position::new(partition, copy)).is_none_or(|known| known == id);
            ensure!(same, "no gap", "{partition}@{copy} was dropped as a copy of {first}, which it is not");
            // Delivered here, or before: a consumer knows what was read by whoever had the partition before it.
            let delivered = self.first.get(&id).is_some_and(|known| *known < copy);
            let before = first.offset < self.since && ledger.id_at(first) == Some(id);
            ensure!(
                delivered || before,
                "no gap",
                "{partition}@{copy} was dropped, but {id} was never delivered here, or before"
            );
        }
        for (expected, _) in ledger.range(partition, self.next..position) {
            let offset = expected.offset;
            let came = records.contains_key(&offset) || copies.contains_key(&offset);
            ensure!(came || self.is_missing(offset), "no gap", "{expected} was passed over");
        }
        // A notice may be of a call before a seek: it is true, and of no consequence here.
        let passed = copies.keys().filter(|copy| (self.next..position).contains(copy));
        let last = records.keys().chain(passed).max().map(|last| last.next());
        let resumed = self.missing.iter().any(|&(_, to)| to == position);
        let reached = last.unwrap_or(self.next).max(self.next);
        ensure!(
            position == reached || (resumed && position > reached),
            "position",
            "of partition {partition} is {position} instead of {reached}"
        );
        if last.is_some() || self.delivered.is_some() {
            self.delivered = Some(position);
        }
        (self.next, self.shown) = (position, position);
        Ok(())
    }

    fn is_missing(&self, offset: Offset) -> bool {
        self.missing.iter().any(|&(from, to)| from <= offset && offset < to)
    }
}

/// What a poll brought of one partition.
#[derive(Debug)]
pub(super) struct Brought<'a> {
    pub(super) partition: PartitionId,
    pub(super) records: &'a BTreeMap<Offset, EventId>,
    /// Second copies that were dropped: where the first one is, and the id.
    pub(super) copies: &'a BTreeMap<Offset, (Position, EventId)>,
    /// First copies may be gone, so that second ones cannot be told.
    pub(super) may_forget: bool,
}
