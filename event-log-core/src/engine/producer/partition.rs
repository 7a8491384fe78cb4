//! Events that wait to be sent: a line for each partition, so that the writer takes what goes out together without
//! looking at anything else, and all in the order in which they were accepted, where that matters.

use std::collections::VecDeque;
use std::task::Waker;

use tokio::time::Instant;

use super::entry::Entry;
use crate::position::PartitionId;

pub(super) struct Lines<E> {
    lines: Vec<VecDeque<Entry<E>>>,
    /// The sequence number of the first in each line, [`NONE`] in an empty one: the oldest of all is found without
    /// touching the lines.
    fronts: Vec<u64>,
    events: usize,
    bytes: usize,
}

/// Larger than any sequence number.
const NONE: u64 = u64::MAX;

impl<E> Lines<E> {
    pub(super) fn new(partitions: u32) -> Self {
        let lines = (0..partitions).map(|_| VecDeque::new()).collect();
        Self { lines, fronts: vec![NONE; partitions as usize], events: 0, bytes: 0 }
    }

    pub(super) const fn events(&self) -> usize {
        self.events
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty_of(&self, partition: PartitionId) -> bool {
        self.lines[partition.0 as usize].is_empty()
    }

    /// Appends an entry, which is newer than all others.
    pub(super) fn push(&mut self, entry: Entry<E>) {
        let at = entry.partition.0 as usize;
        self.fronts[at] = self.fronts[at].min(entry.sequence);
        self.events += 1;
        self.bytes += entry.bytes();
        self.lines[at].push_back(entry);
    }

    /// The sequence number of the oldest.
    pub(super) fn first_sequence(&self) -> Option<u64> {
        self.fronts.iter().copied().min().filter(|&first| first != NONE)
    }

    pub(super) fn pop_oldest(&mut self) -> Option<Entry<E>> {
        let first = self.first_sequence()?;
        let at = self.fronts.iter().position(|&front| front == first)?;
        let oldest = self.lines[at].pop_front()?;
        self.fronts[at] = self.lines[at].front().map_or(NONE, |entry| entry.sequence);
        self.events -= 1;
        self.bytes -= oldest.bytes();
        Some(oldest)
    }

    /// Takes from one line as many as fit into a request, at least one if there is one.
    pub(super) fn take(&mut self, partition: PartitionId, events: usize, bytes: usize) -> Vec<Entry<E>> {
        let at = partition.0 as usize;
        let mut left = bytes;
        let fits = |entry: &&Entry<E>| {
            let fits = entry.bytes() <= left;
            left = left.saturating_sub(entry.bytes());
            fits
        };
        let count = self.lines[at].iter().take(events).take_while(fits).count();
        self.take_front(at, count.max(1))
    }

    /// Takes those that were accepted at `horizon` or before, oldest first.
    pub(super) fn take_accepted_by(&mut self, horizon: Instant) -> Vec<Entry<E>> {
        let mut taken = Vec::new();
        for at in 0..self.lines.len() {
            let count = self.lines[at].partition_point(|entry| entry.accepted_at <= horizon);
            taken.append(&mut self.take_front(at, count));
        }
        taken.sort_unstable_by_key(|entry| entry.sequence);
        taken
    }

    /// Takes all, oldest first.
    pub(super) fn take_all(&mut self) -> Vec<Entry<E>> {
        let mut taken: Vec<_> = self.lines.iter_mut().flat_map(std::mem::take).collect();
        taken.sort_unstable_by_key(|entry| entry.sequence);
        (self.events, self.bytes) = (0, 0);
        self.fronts.fill(NONE);
        taken
    }

    /// When the oldest was accepted.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.lines.iter().filter_map(|line| line.front()).map(|entry| entry.accepted_at).min()
    }

    pub(super) fn mark_buffered(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.lines.iter_mut().flatten().filter_map(Entry::mark_buffered));
    }

    fn take_front(&mut self, at: usize, count: usize) -> Vec<Entry<E>> {
        let line = &mut self.lines[at];
        let count = count.min(line.len());
        let taken: Vec<_> = line.drain(..count).collect();
        self.fronts[at] = line.front().map_or(NONE, |entry| entry.sequence);
        self.events -= taken.len();
        self.bytes -= taken.iter().map(Entry::bytes).sum::<usize>();
        taken
    }
}
