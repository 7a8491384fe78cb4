//! What CONTRACT.md says of what was delivered, and of where the group stands.

use std::collections::BTreeSet;

use event_log_core::{Cursor, EventBatch, Notice, Offset, PartitionId, RawEvent, SeekPosition};
use tokio::time::Instant;

use super::Walk;
use super::nature::Kind;

/// What is known of one partition.
pub(crate) struct Book {
    /// What comes next: in which incarnation, where that is known, and where.
    expected: (Option<u64>, Option<u64>),
    /// The incarnation that was read last.
    read: u64,
    /// What was told to be missing.
    missing: Vec<(u64, u64)>,
    /// How often it was told to have begun again.
    told: u64,
    /// What was delivered of the incarnation that it is in now, as far as it was looked at.
    pub(super) incarnation: u64,
    delivered: BTreeSet<u64>,
    /// Everything before this was delivered, or is none of the caller's business.
    pub(super) done: u64,
    /// The farthest place that was delivered or sought, and the farthest that was stored.
    reached: u64,
    stored: u64,
    /// A fault of it would be true.
    pub(super) may_fail: bool,
    /// From when on its next event has waited, and in which epoch that is.
    pub(super) waits_since: Instant,
    pub(super) epoch: u64,
}

impl Book {
    /// The first record was read.
    pub(super) fn new() -> Self {
        Self {
            expected: (Some(0), Some(1)),
            read: 0,
            missing: Vec::new(),
            told: 0,
            incarnation: 0,
            delivered: BTreeSet::new(),
            done: 1,
            reached: 1,
            stored: 0,
            may_fail: false,
            waits_since: Instant::now(),
            epoch: 0,
        }
    }

    /// The log is in this incarnation, and was handled up to there by others.
    pub(super) fn is_in(&mut self, incarnation: u64, handled: u64) {
        if incarnation != self.incarnation {
            (self.incarnation, self.done) = (incarnation, 0);
            self.delivered.clear();
        }
        self.done = self.done.max(handled);
        while self.delivered.remove(&self.done) {
            self.done += 1;
        }
    }

    /// What is wrong with it that this record comes now.
    fn comes(&mut self, incarnation: u64, offset: u64) -> Option<String> {
        let (known, mut next) = self.expected;
        for &(from, to) in &self.missing {
            if Some(from) == next && from < offset {
                next = Some(to);
            }
        }
        let is_expected = match known {
            Some(known) => known == incarnation,
            None => incarnation > self.read,
        };
        let expected = std::mem::replace(&mut self.expected, (Some(incarnation), Some(offset + 1)));
        self.missing.retain(|&(from, _)| from > offset);
        self.read = incarnation;
        if incarnation == self.incarnation {
            if offset >= self.done {
                self.delivered.insert(offset);
            }
            self.reached = self.reached.max(offset + 1);
        }
        let is_right = is_expected && next.is_none_or(|next| next == offset);
        (!is_right).then(|| format!("{incarnation}:{offset} comes, and not {expected:?}, {:?}", self.missing))
    }

    fn moves(&mut self, to: u64) {
        self.expected = (Some(self.read), Some(to));
        self.missing.clear();
    }
}

impl Walk {
    /// Nothing is passed over, repeated or out of order within an epoch; and notices are true.
    pub(crate) fn took(&mut self, batch: &EventBatch<RawEvent>, most: usize) {
        if batch.len() > most {
            self.fail("c1: too many records");
        }
        for notice in &batch.notices {
            self.note(|| format!("    {notice:?}"));
            self.told(notice);
        }
        let mut newest = vec![None; self.books.len()];
        let mut oldest = None;
        for record in &batch.records {
            let text = &record.event.as_ref().unwrap().payload;
            let words: Vec<u64> =
                std::str::from_utf8(text).unwrap().split(' ').map(|word| word.parse().unwrap()).collect();
            let nth = record.position.partition.0 as usize;
            let (incarnation, offset) = (words[1], record.position.offset.0);
            if (words[0], words[2]) != (nth as u64, offset) {
                self.fail(&format!("{words:?} comes as {}", record.position));
            }
            let (now, handled) =
                self.server.change(|state| (state.parts[nth].incarnation, state.parts[nth].handled));
            self.books[nth].is_in(now, handled);
            if let Some(wrong) = self.books[nth].comes(incarnation, offset) {
                self.fail(&format!("partition {nth}: {wrong}"));
            }
            newest[nth] = Some(offset);
            oldest = oldest.into_iter().chain([record.timestamp]).min();
            self.books[nth].waits_since = Instant::now();
        }
        for (partition, next) in batch.cursor().iter() {
            let last = newest[partition.0 as usize];
            if last.is_some_and(|last| next.0 <= last) {
                self.fail(&format!("{last:?} of {partition} has come, and its cursor is {next}"));
            }
        }
        if let Some(oldest) = oldest {
            self.older_came(oldest);
            let shown = format!("{} records, {newest:?}, at {}", batch.len(), batch.cursor());
            self.note(|| shown);
            self.cursors.push_back(batch.cursor().clone());
            if self.cursors.len() > 5 {
                self.cursors.pop_front();
            }
        }
    }

    fn told(&mut self, notice: &Notice) {
        let kind = self.nature.kind;
        match notice {
            Notice::Revoked(_) | Notice::Assigned(_) if !matches!(kind, Kind::Shared | Kind::Forgetting) => {
                self.fail(&format!("it was never another one's: {notice:?}"));
            }
            Notice::Revoked(_) => {}
            Notice::Assigned(all) => {
                for partition in all {
                    let nth = partition.0 as usize;
                    if self.is_late {
                        (self.books[nth].expected, self.books[nth].missing) = ((Some(0), None), Vec::new());
                        continue;
                    }
                    let start = self.consumer.committed().get(*partition).unwrap_or_default();
                    let place = self.server.change(|state| state.parts[nth].place);
                    if place < Some(start) {
                        self.fail(&format!("c8: it begins at {start}, and the place is {place:?}"));
                    }
                    self.books[nth].moves(start.0);
                }
            }
            Notice::Truncated { partition, resumed_at, .. } => {
                let nth = partition.0 as usize;
                let begun = self.server.change(|state| state.parts[nth].incarnation);
                let book = &mut self.books[nth];
                book.told += 1;
                (book.expected, book.missing) = ((None, Some(resumed_at.0)), Vec::new());
                if book.told > begun {
                    self.fail(&format!("it has begun again {begun} times"));
                }
            }
            Notice::Missing { partition, from, resumed_at } => {
                let nth = partition.0 as usize;
                let low = self.server.change(|state| state.parts[nth].low);
                self.books[nth].missing.push((from.0, resumed_at.0));
                if low < resumed_at.0 || resumed_at <= from {
                    self.fail(&format!("c7: it begins at {low}"));
                }
                let book = &mut self.books[nth];
                book.is_in(0, resumed_at.0);
            }
            Notice::Fault { partition, .. } if self.books[partition.0 as usize].may_fail => {}
            other => self.fail(&format!("{other:?}")),
        }
    }

    pub(crate) fn sought(&mut self, to: &SeekPosition) {
        let position = self.consumer.position().clone();
        for (nth, book) in self.books.iter_mut().enumerate() {
            let partition = PartitionId(nth as u32);
            let is_meant = if let SeekPosition::Cursor(to) = to { to.get(partition).is_some() } else { true };
            let Some(next) = position.get(partition).filter(|_| is_meant) else { continue };
            book.moves(next.0);
            book.reached = book.reached.max(next.0);
            // What it goes past is none of its business any more, and what it goes back to comes again.
            book.is_in(0, next.0);
        }
        if self.chance.once_in(2) {
            self.cursors.clear();
        }
        // What was under way begins again.
        self.rested();
    }

    /// Where the group stands, and since which epoch.
    pub(crate) fn places(&self) -> Vec<(Option<Offset>, u64)> {
        self.server.change(|state| state.parts.iter().map(|part| (part.place, part.epoch)).collect())
    }

    /// c4: no place goes back, but behind a seek; and none is farther on than what was reached.
    pub(crate) fn check_places(&mut self, before: &[(Option<Offset>, u64)]) {
        if self.nature.kind == Kind::BeginningAgain {
            return;
        }
        for (nth, ((before, was), (after, is))) in before.iter().zip(self.places()).enumerate() {
            // In another epoch others may have moved it while this was on its way.
            if after < *before && *was == is && self.nature.kind != Kind::Seeking {
                self.fail(&format!("c4: the place of {nth} goes back from {before:?} to {after:?}"));
            }
            let handled = self.server.change(|state| state.parts[nth].handled);
            let book = &mut self.books[nth];
            let place = after.unwrap_or_default().0;
            book.stored = book.stored.max(place);
            // Offsets that no record has, or that are gone, are passed as if they were read.
            let gone = self.server.change(|state| state.parts[nth].low);
            if place > book.reached.max(handled).max(gone) {
                self.fail(&format!("c4: {after:?} of {nth} was never reached"));
            }
        }
    }

    /// c13: what is said to be stored is stored, or was.
    pub(crate) fn check_stored(&self, cursor: &Cursor) {
        for (partition, next) in cursor.iter() {
            let nth = partition.0 as usize;
            let place = self.server.change(|state| state.parts[nth].place.unwrap_or_default());
            let stored = match self.nature.kind {
                Kind::BeginningAgain => continue,
                Kind::Plain | Kind::Forgetting => place.0,
                Kind::Shared | Kind::Seeking => self.books[nth].stored.max(place.0),
            };
            if stored < next.0 {
                self.fail(&format!("c13: Ok, and the place of {partition} is {place} and not {next}"));
            }
        }
    }
}
