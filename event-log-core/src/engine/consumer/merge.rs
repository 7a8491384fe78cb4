//! Merging the readers into a batch: synchronous, over what they have at hand.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Consumer;
use super::partition::{Hold, PartitionReader};
use super::poison::{self, Taken};
use crate::contain::contain;
use crate::engine::transport::Transport;
use crate::error::Error;
use crate::limits;
use crate::position::Timestamp;
use crate::record::{Notice, Record};

/// What a merge has taken out of the readers.
pub(super) struct Merged<E> {
    pub(super) records: Vec<Record<E>>,
    pub(super) notices: Vec<Notice>,
    /// Why a partition goes no further, if its consumer is to halt.
    pub(super) halted: Option<Error>,
    /// A reader has work now that it had not before.
    pub(super) has_begun_work: bool,
}

impl<E> Default for Merged<E> {
    fn default() -> Self {
        Self { records: Vec::new(), notices: Vec::new(), halted: None, has_begun_work: false }
    }
}

impl<E> Merged<E> {
    /// What counts against the number of records that a poll asks for: a record that was passed over has cost as much.
    fn len(&self) -> usize {
        self.records.len() + self.notices.len()
    }

    /// Adds what came of a head. It breaks a run where the reader cannot go on.
    #[inline]
    fn add(&mut self, taken: Taken) -> ControlFlow<()> {
        match taken {
            Taken::Record => {}
            Taken::Notice(notice) => self.notices.push(notice),
            Taken::Nothing => return ControlFlow::Break(()),
            Taken::Held => {
                self.has_begun_work = true;
                return ControlFlow::Break(());
            }
            Taken::Halted(error) => {
                // Of several the first is told, and the others are met again.
                match &self.halted {
                    None => self.halted = Some(error),
                    Some(_) => contain(|| drop(error)),
                }
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }
}

impl<E, T> Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    /// Takes up to `max_count` records from the readers, oldest first. Returns early where the order would become a guess,
    /// because a reader has run dry although its partition has more. A record that cannot be passed yet sets its partition
    /// aside and keeps no other waiting.
    pub(super) fn merge(&mut self, max_count: usize, now: Instant) -> Merged<E> {
        let mut merged = Merged::default();
        self.heads.clear();
        for (at, reader) in self.readers.iter_mut().enumerate() {
            if matches!(reader.hold, Hold::Halted) {
                reader.hold = Hold::None;
            }
            reader.note_waiting(self.turns);
            self.heads.extend(Head::of(reader, at));
        }
        let buffered: usize = self.readers.iter().map(PartitionReader::buffered).sum();
        merged.records.reserve(max_count.min(buffered));
        while merged.len() < max_count {
            let Some((head, run_until)) = next_run(&self.heads, self.readers.len(), self.turns) else {
                break;
            };
            let at = self.heads[head].reader;
            let reader = &mut self.readers[at];
            // A turn counts for itself too, so that no two are equal.
            self.turns += 1;
            reader.take_turn(self.turns);
            let before = merged.len();
            // Longer than one record although others may be as old: turns are cheaper than records.
            let most = max_count.min(merged.len() + limits::TURN_RECORDS);
            let (codec, policy, from) = (&*self.codec, &self.options.poison, &self.letter_from);
            let run = || {
                while merged.len() < most && reader.head().is_some_and(|head| head.timestamp <= run_until) {
                    let taken = poison::take(reader, codec, policy, from, &mut merged.records);
                    if !matches!(taken, Taken::Record) && merged.add(taken).is_break() {
                        break;
                    }
                }
            };
            // Around the run, and not around each record, which would be moved once more to leave it.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
                // The record that the codec panicked at is still the head: it would panic at it for ever.
                let error = poison::panicked(panic);
                let taken = poison::poisoned(reader, error, policy, from, &mut merged.records);
                let _ = merged.add(taken);
            }
            let taken = merged.len() - before;
            self.turns += taken as u64;
            match Head::of(reader, at) {
                Some(next) => self.heads[head] = next,
                None => drop(self.heads.swap_remove(head)),
            }
            if (reader.has_run_dry() || reader.may_be_older(now)) && merged.len() > 0 {
                break;
            }
        }
        merged
    }
}

/// What decides whose turn it is, of a reader that has a head: side by side, because all are looked at for each turn, and
/// readers are far apart.
pub(super) struct Head {
    timestamp: Timestamp,
    last_turn: u64,
    waits_since: u64,
    reader: usize,
}

impl Head {
    fn of(reader: &PartitionReader, at: usize) -> Option<Self> {
        let (timestamp, last_turn) = (reader.head()?.timestamp, reader.last_turn());
        Some(Self { timestamp, last_turn, waits_since: reader.waits_since().unwrap_or(u64::MAX), reader: at })
    }
}

/// The oldest head, and until which time its reader may deliver before another one is older. Of heads that are equally old it
/// is the one whose reader had its last turn the longest ago; and one that has waited for [`limits::STARVATION_RECORDS`] of
/// others comes first, however new its record claims to be: of several, the one that has waited longest.
fn next_run(heads: &[Head], readers: usize, turns: u64) -> Option<(usize, Timestamp)> {
    // With many partitions each has to wait for a turn of all the others.
    let patience = limits::STARVATION_RECORDS.max((readers * limits::TURN_RECORDS) as u64);
    let (mut oldest, mut second, mut longest) = (0, Timestamp(u64::MAX), 0);
    let first = heads.first()?;
    let (mut key, mut since) = ((first.timestamp, first.last_turn), first.waits_since);
    for (at, head) in heads.iter().enumerate().skip(1) {
        if head.waits_since < since {
            (longest, since) = (at, head.waits_since);
        }
        let next = (head.timestamp, head.last_turn);
        if next < key {
            second = key.0;
            (oldest, key) = (at, next);
        } else {
            second = second.min(next.0);
        }
    }
    if turns.saturating_sub(since) > patience {
        return Some((longest, Timestamp(u64::MAX)));
    }
    Some((oldest, second))
}
