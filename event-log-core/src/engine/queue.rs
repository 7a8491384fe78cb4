//! The one FIFO between producers and the writer, and the only owner of events that wait.
//!
//! Two lines, both first in, first out. The **queue** holds accepted events: its bounds are the log's memory.
//! The **waiting room** holds the events of `append` calls that wait for space in the queue; they are not
//! accepted yet, and each is a caller that stands still, so that it needs no bound of its own.
//!
//! Everything here is synchronous and under one lock that is held for a few instructions.

use std::collections::VecDeque;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::entry::Entry;
use crate::config::{Overflow, ProducerConfig};
use crate::error::{AppendFailure, RejectReason};
use crate::log::Leftover;

/// Whether the log is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Connected,
    Away,
    /// Nothing is accepted any more; what is queued is still sent.
    Closing,
    Closed,
}

/// How `submit` and `append` differ at a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenFull {
    Reject,
    Wait,
}

/// What became of events that were offered.
pub(super) enum Admission<E> {
    /// In the queue. `buffered` when the log is away, so that nobody should wait for the outcome.
    Queued {
        buffered: bool,
    },
    /// In the waiting room, under this number; `left` completes when it has left the room.
    Waiting {
        number: u64,
        left: oneshot::Receiver<()>,
    },
    Rejected(Vec<Entry<E>>, RejectReason),
}

struct Waiting<E> {
    number: u64,
    entries: Vec<Entry<E>>,
    /// Dropped when the events leave the room, which is the signal.
    _left: oneshot::Sender<()>,
}

pub(super) struct Queue<E> {
    fifo: VecDeque<Entry<E>>,
    bytes: usize,
    room: VecDeque<Waiting<E>>,
    next_number: u64,
    phase: Phase,
    /// Accepted in all; also the sequence number of the next one.
    accepted: u64,
    /// What the writer has taken and not resolved yet: how many, and the sequence number of the first.
    in_flight: usize,
    in_flight_from: u64,
    dropped: u64,
    max_events: usize,
    max_bytes: usize,
    overflow: Overflow,
}

impl<E> Waiting<E> {
    /// Whether the `append` was dropped.
    fn is_cancelled(&self) -> bool {
        self.entries.iter().all(Entry::is_orphaned)
    }
}

impl<E> Queue<E> {
    pub(super) fn new(config: &ProducerConfig, phase: Phase) -> Self {
        Self {
            fifo: VecDeque::new(),
            bytes: 0,
            room: VecDeque::new(),
            next_number: 0,
            phase,
            accepted: 0,
            in_flight: 0,
            in_flight_from: 0,
            dropped: 0,
            max_events: config.buffer_events,
            max_bytes: config.buffer_bytes,
            overflow: config.overflow,
        }
    }

    pub(super) const fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Accepted and not resolved.
    pub(super) fn buffered(&self) -> usize {
        self.fifo.len() + self.in_flight
    }

    /// How many events have been accepted so far: the mark that [`settled`](Self::settled) has to reach for
    /// a flush.
    pub(super) const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many events from the beginning on are resolved, without exception.
    pub(super) fn settled(&self) -> u64 {
        if self.in_flight > 0 {
            return self.in_flight_from;
        }
        self.fifo.front().map_or(self.accepted, |entry| entry.sequence)
    }

    /// Nothing queued, nothing in flight, nobody waiting: an event may pass the queue by.
    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Connected && self.buffered() == 0 && self.room.is_empty()
    }

    /// Offers events that belong together: all are taken, or none. One alone is an array, which costs no allocation.
    pub(super) fn offer<G>(&mut self, entries: G, when_full: WhenFull) -> Admission<E>
    where
        G: AsRef<[Entry<E>]> + IntoIterator<Item = Entry<E>> + Into<Vec<Entry<E>>>,
    {
        match self.phase {
            Phase::Closing | Phase::Closed => {
                return Admission::Rejected(entries.into(), RejectReason::Closed);
            }
            Phase::Away if self.overflow == Overflow::DropOldest => {
                self.push(entries);
                self.drop_oldest();
                return Admission::Queued { buffered: true };
            }
            Phase::Connected | Phase::Away => {}
        }
        // Nobody overtakes those who wait already, but whoever has gone away is not waiting.
        self.admit_waiting();
        if self.room.is_empty() && self.has_space_for(entries.as_ref()) {
            self.push(entries);
            return Admission::Queued { buffered: self.phase == Phase::Away };
        }
        let rejects = self.phase == Phase::Away && self.overflow == Overflow::Reject;
        if when_full == WhenFull::Reject || rejects {
            return Admission::Rejected(entries.into(), RejectReason::Full);
        }
        let number = self.next_number;
        self.next_number += 1;
        let (sender, left) = oneshot::channel();
        self.room.push_back(Waiting { number, entries: entries.into(), _left: sender });
        Admission::Waiting { number, left }
    }

    /// Takes back what still waits for space under this number; `None` when it has left the room.
    pub(super) fn give_up_waiting(&mut self, number: u64) -> Option<Vec<Entry<E>>> {
        let at = self.room.binary_search_by_key(&number, |waiting| waiting.number).ok()?;
        let given_up = self.room.remove(at).map(|waiting| waiting.entries);
        // It may have been what the others had to wait behind.
        self.admit_waiting();
        given_up
    }

    /// Takes the next events from the front, as many as fit. What was taken before is resolved by now.
    pub(super) fn take(&mut self, mut fits: impl FnMut(&Entry<E>) -> bool) -> Vec<Entry<E>> {
        let count = self.fifo.iter().take_while(|entry| fits(entry)).count();
        let taken: Vec<_> = self.fifo.drain(..count).collect();
        self.bytes -= taken.iter().map(Entry::bytes).sum::<usize>();
        self.in_flight = taken.len();
        self.in_flight_from = taken.first().map_or(self.accepted, |entry| entry.sequence);
        self.admit_waiting();
        taken
    }

    /// The writer has resolved all that it took.
    pub(super) fn resolved(&mut self) {
        self.in_flight = 0;
    }

    /// The log went away: everybody who waits for an outcome learns that the event is buffered, and the
    /// overflow policy decides about those who wait for space.
    pub(super) fn away(&mut self) {
        if self.phase != Phase::Connected {
            return;
        }
        self.phase = Phase::Away;
        self.fifo.iter_mut().for_each(Entry::tell_buffered);
        match self.overflow {
            Overflow::DropOldest => {
                for waiting in std::mem::take(&mut self.room) {
                    self.admit(waiting);
                }
                self.drop_oldest();
            }
            Overflow::Reject => {
                for entry in std::mem::take(&mut self.room).into_iter().flat_map(|waiting| waiting.entries) {
                    let _ = entry.fail(AppendFailure::Rejected(RejectReason::Full));
                }
            }
            // They go on waiting, each until its own deadline.
            Overflow::Block { .. } => {}
        }
    }

    pub(super) fn connected(&mut self) {
        if self.phase == Phase::Away {
            self.phase = Phase::Connected;
        }
    }

    /// Accepts nothing more. Those who wait for space are turned away.
    pub(super) fn close(&mut self) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closing;
        for entry in std::mem::take(&mut self.room).into_iter().flat_map(|waiting| waiting.entries) {
            let _ = entry.fail(AppendFailure::Rejected(RejectReason::Closed));
        }
    }

    /// Ends it: what is still queued is not appended, what the writer could not resolve is for it to say.
    pub(super) fn end(&mut self, leftover: &mut Leftover<E>) {
        self.close();
        self.phase = Phase::Closed;
        self.bytes = 0;
        self.in_flight = 0;
        for entry in std::mem::take(&mut self.fifo) {
            leftover.fail(entry, AppendFailure::Closed);
        }
    }

    /// When the oldest event was accepted.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.fifo.front().map(|entry| entry.accepted_at)
    }

    /// Takes the events from the front that were accepted at `horizon` or before.
    pub(super) fn take_accepted_by(&mut self, horizon: Instant) -> Vec<Entry<E>> {
        let count = self.fifo.partition_point(|entry| entry.accepted_at <= horizon);
        let taken: Vec<_> = self.fifo.drain(..count).collect();
        self.bytes -= taken.iter().map(Entry::bytes).sum::<usize>();
        self.admit_waiting();
        taken
    }

    fn has_space_for(&self, entries: &[Entry<E>]) -> bool {
        let bytes: usize = entries.iter().map(Entry::bytes).sum();
        let fits = self.fifo.len() + entries.len() <= self.max_events && self.bytes + bytes <= self.max_bytes;
        // A batch that is larger than the whole queue would never fit: it gets an empty one to itself.
        fits || self.fifo.is_empty()
    }

    fn push(&mut self, entries: impl IntoIterator<Item = Entry<E>>) {
        for mut entry in entries {
            entry.sequence = self.accepted;
            self.accepted += 1;
            self.bytes += entry.bytes();
            self.fifo.push_back(entry);
        }
    }

    /// Lets in from the front whatever fits. An `append` that was dropped while it waited for space takes its
    /// events with it, so that nobody waits behind it.
    fn admit_waiting(&mut self) {
        while let Some(waiting) = self.room.front() {
            if !waiting.is_cancelled() && !self.has_space_for(&waiting.entries) {
                return;
            }
            if let Some(waiting) = self.room.pop_front() {
                self.admit(waiting);
            }
        }
    }

    fn admit(&mut self, mut waiting: Waiting<E>) {
        if waiting.is_cancelled() {
            return;
        }
        if self.phase == Phase::Away {
            waiting.entries.iter_mut().for_each(Entry::tell_buffered);
        }
        self.push(waiting.entries);
    }

    fn drop_oldest(&mut self) {
        while self.fifo.len() > self.max_events || self.bytes > self.max_bytes {
            let Some(entry) = self.fifo.pop_front() else {
                return;
            };
            self.bytes -= entry.bytes();
            self.dropped += 1;
            let _ = entry.fail(AppendFailure::Dropped);
        }
    }
}
