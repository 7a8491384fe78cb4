//! Which partition loses the connection of its consumer, and what becomes of the others meanwhile.
//!
//! A lost connection takes all fetches with it and does not say which of them has lost it. They are all made again at once:
//! most losses have nothing to do with a partition. Until they are answered they are **suspects**, and when the connection is
//! lost again, half as many of them are in flight at a time, those first that have gone without an answer for longest. The one
//! that is in flight alone has lost it: it waits longer each time, and is the first to be blamed from then on. What is answered
//! is no suspect any more. This is group testing: one of n partitions is found in log n losses.
//!
//! Suspects that need long must not hold up the others either. After some patience the next ones go beside them, and patience
//! doubles when that has lost the connection.

use std::time::Duration;

use tokio::time::Instant;

use super::partition::PartitionReader;
use crate::engine::backoff::doubled;
use crate::limits;

/// How often in a row something has lost the connection.
#[derive(Clone, Copy, Default)]
pub(super) struct Losses(u32);

impl Losses {
    pub(super) const fn count(self) -> u32 {
        self.0
    }

    /// One more: when it may be made again, if not at once. Those that take longer have to be answered meanwhile, so that it is
    /// later each time.
    pub(super) fn add(&mut self, now: Instant) -> Option<Instant> {
        let before = self.0;
        self.0 = self.0.saturating_add(1);
        (before > 0).then(|| now + doubled(limits::READER_RETRY, limits::READER_LOST_RETRY_MAX, before))
    }
}

/// How suspects are made again.
pub(super) struct Blame {
    /// Some readers are suspects, or were when it was looked at last.
    is_open: bool,
    /// How many suspects are in flight at a time.
    at_once: usize,
    /// For how long one counts among them.
    patience: Duration,
}

impl Default for Blame {
    fn default() -> Self {
        Self { is_open: false, at_once: usize::MAX, patience: limits::SUSPECT_PATIENCE }
    }
}

impl Blame {
    /// The connection is lost, with all that is in flight.
    pub(super) fn lost(&mut self, readers: &mut [PartitionReader], now: Instant) {
        let in_flight = || readers.iter().filter(|reader| reader.fetch().is_in_flight());
        let (count, tried) =
            (in_flight().count(), in_flight().filter(|reader| reader.fetch().is_suspect()).count());
        let is_known = in_flight().any(|reader| reader.fetch().has_lost());
        if !is_known && count > 1 && tried > 0 {
            if tried == 1 {
                self.patience = limits::SUSPECT_PATIENCE_MAX.min(self.patience * 2);
            }
            self.at_once = (self.at_once.min(tried) / 2).max(1);
        }
        self.is_open |= count > 0;
        for reader in readers {
            let is_guilty = if is_known { reader.fetch().has_lost() } else { count == 1 };
            reader.disconnected(is_guilty, !is_known, now);
        }
    }

    /// How many suspects there are.
    pub(super) fn suspects(&self, readers: &[PartitionReader]) -> usize {
        if self.is_open { readers.iter().filter(|reader| reader.fetch().is_suspect()).count() } else { 0 }
    }

    /// How many suspects may begin now that there are fewer of them than there were before: each that was answered makes it more.
    pub(super) fn turns(&mut self, readers: &[PartitionReader], before: usize, now: Instant) -> usize {
        if !self.is_open {
            return 0;
        }
        let suspects = self.suspects(readers);
        if suspects == 0 {
            *self = Self::default();
            return 0;
        }
        for _ in suspects..before {
            self.at_once = self.at_once.saturating_mul(2);
        }
        let patience = self.patience;
        let counts =
            |reader: &&PartitionReader| reader.fetch().on_trial_since().is_some_and(|at| now < at + patience);
        self.at_once.saturating_sub(readers.iter().filter(counts).count())
    }

    /// When the next suspects go beside those that are in flight.
    pub(super) fn alarm(&self, readers: &[PartitionReader], now: Instant) -> Option<Instant> {
        if !self.is_open || !readers.iter().any(|reader| reader.fetch().waits_for_turn()) {
            return None;
        }
        let ends =
            readers.iter().filter_map(|reader| reader.fetch().on_trial_since()).map(|at| at + self.patience);
        ends.filter(|&end| now < end).min()
    }
}

/// Who waits for a turn, those first that have gone without an answer for longest.
pub(super) fn in_turn(readers: &[PartitionReader]) -> Vec<usize> {
    let mut waiting: Vec<_> = (0..readers.len()).filter(|&at| readers[at].fetch().waits_for_turn()).collect();
    waiting.sort_by_key(|&at| readers[at].fetch().answered_at());
    waiting
}
