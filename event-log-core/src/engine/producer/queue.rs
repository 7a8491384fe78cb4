//! What is between producers and the writer, and the only owner of events that wait.
//!
//! The **queue** holds accepted events, those of each partition first in, first out: its bounds are the log's memory.
//! The **waiters** hold the events of `append` calls that wait for space in the queue; they are not
//! accepted yet, and each is a caller that stands still, so that it needs no bound of its own. First in, first out, too.
//!
//! Everything here is synchronous and under one lock that is held for a few instructions.

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::entry::{Entry, NOT_ACCEPTED};
use super::partition::Lines;
use crate::config::{Overflow, ProducerConfig};
use crate::error::{AppendErrorKind, SubmitErrorKind};
use crate::position::PartitionId;

/// Whether the log is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum Phase {
    Connected,
    Away,
    /// Nothing is accepted any more; what is queued is still sent.
    Closing,
    Closed,
}

/// How `submit` and `append` differ at a full queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum WhenFull {
    Reject,
    Wait,
}

/// What became of events that were offered.
pub(in crate::engine) enum Admission<E> {
    /// In the queue. `buffered` when the log is away, so that nobody should wait for the outcome.
    Queued {
        buffered: bool,
    },
    /// In the list of waiters, under this number; `left` completes when it is let in or failed.
    Waiting {
        number: u64,
        left: oneshot::Receiver<()>,
    },
    Rejected(Vec<Entry<E>>, SubmitErrorKind),
}

struct Waiter<E> {
    number: u64,
    entries: Vec<Entry<E>>,
    /// Dropped when the events are let in, which is the signal.
    left: oneshot::Sender<()>,
}

pub(in crate::engine) struct Queue<E> {
    lines: Lines<E>,
    /// By partition: what the writer has taken and not resolved yet.
    held: Vec<Held>,
    /// How many that are in all.
    in_flight: usize,
    /// Partitions with something for the writer, which holds nothing of them: each once, in turn.
    ready: VecDeque<PartitionId>,
    waiters: VecDeque<Waiter<E>>,
    next_number: u64,
    phase: Phase,
    /// Accepted in all; also the sequence number of the next one.
    accepted: u64,
    dropped: u64,
    /// What the change under way has decided. It is carried out when the lock has been released.
    effects: Effects<E>,
    /// The first sequence number of each set of effects that is being carried out.
    resolving: Vec<u64>,
    version: u64,
    max_events: usize,
    max_bytes: usize,
    overflow: Overflow,
}

/// What is done after the lock has been released: all of it runs code of the application or of its executor.
pub(in crate::engine) struct Effects<E> {
    pub(in crate::engine) failed: Vec<(Entry<E>, AppendErrorKind)>,
    /// Of events that are in the reconnect buffer now.
    pub(in crate::engine) wakers: Vec<Waker>,
    /// Dropping one wakes the `append` that waited for space.
    pub(in crate::engine) released: Vec<oneshot::Sender<()>>,
    /// Events of calls that were dropped while they waited.
    pub(in crate::engine) cancelled: Vec<Entry<E>>,
    /// How many of those that failed were dropped by the overflow policy.
    pub(in crate::engine) dropped: u64,
}

impl<E> Default for Effects<E> {
    fn default() -> Self {
        let (failed, cancelled) = (Vec::new(), Vec::new());
        Self { failed, wakers: Vec::new(), released: Vec::new(), cancelled, dropped: 0 }
    }
}

impl<E> Effects<E> {
    /// Of the accepted events among them.
    pub(in crate::engine) fn first_sequence(&self) -> Option<u64> {
        let sequences = self.failed.iter().map(|(entry, _)| entry.sequence);
        sequences.filter(|&sequence| sequence != NOT_ACCEPTED).min()
    }
}

/// How many events there are.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Counts {
    pub(in crate::engine) version: u64,
    pub(in crate::engine) buffered: usize,
    pub(in crate::engine) dropped: u64,
}

/// What the writer has of a partition.
#[derive(Clone, Copy, Default)]
struct Held {
    events: usize,
    /// The sequence number of the first.
    from: u64,
    /// The partition is in `ready`.
    is_ready: bool,
}

impl<E> Waiter<E> {
    /// Whether the `append` was dropped.
    fn is_cancelled(&self) -> bool {
        self.entries.iter().all(Entry::is_orphaned)
    }
}

impl<E> Queue<E> {
    pub(in crate::engine) fn new(config: &ProducerConfig, partitions: u32, phase: Phase) -> Self {
        Self {
            lines: Lines::new(partitions),
            held: vec![Held::default(); partitions as usize],
            in_flight: 0,
            ready: VecDeque::new(),
            waiters: VecDeque::new(),
            next_number: 0,
            phase,
            accepted: 0,
            dropped: 0,
            effects: Effects::default(),
            resolving: Vec::new(),
            version: 0,
            max_events: config.buffer_events,
            max_bytes: config.buffer_bytes,
            overflow: config.overflow,
        }
    }

    pub(in crate::engine) const fn phase(&self) -> Phase {
        self.phase
    }

    pub(in crate::engine) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// What changes have decided since this was asked for the last time. If events end with it, they count as not
    /// [settled](Self::settled) until [`resolved`](Self::resolved) is called with the number.
    pub(in crate::engine) fn take_effects(&mut self) -> (Effects<E>, Option<u64>) {
        let effects = std::mem::take(&mut self.effects);
        let first = effects.first_sequence();
        self.resolving.extend(first);
        (effects, first)
    }

    /// The effects that begin with this number have been carried out.
    pub(in crate::engine) fn resolved(&mut self, first: u64) {
        if let Some(at) = self.resolving.iter().position(|&resolving| resolving == first) {
            self.resolving.swap_remove(at);
        }
    }

    /// Nothing waits to be taken.
    pub(in crate::engine) fn is_empty(&self) -> bool {
        self.lines.events() == 0
    }

    /// What is published of the queue, later counts with a higher version.
    pub(in crate::engine) fn counts(&mut self) -> Counts {
        self.version += 1;
        Counts { version: self.version, buffered: self.buffered(), dropped: self.dropped }
    }

    /// Accepted and not resolved.
    pub(in crate::engine) fn buffered(&self) -> usize {
        self.lines.events() + self.in_flight
    }

    /// How many events have been accepted so far: the mark that [`settled`](Self::settled) has to reach for
    /// a flush.
    pub(in crate::engine) const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many events from the beginning on are resolved, without exception.
    pub(in crate::engine) fn settled(&self) -> u64 {
        let held = self.held.iter().filter(|held| held.events > 0).map(|held| held.from);
        let unresolved = held.chain(self.lines.first_sequence()).chain(self.resolving.iter().copied());
        unresolved.min().unwrap_or(self.accepted)
    }

    /// Nothing queued, nothing in flight, nobody waiting: an event may pass the queue by.
    pub(in crate::engine) fn is_idle(&self) -> bool {
        self.phase == Phase::Connected && self.buffered() == 0 && self.waiters.is_empty()
    }

    /// Offers events that belong together: all are taken, or none. One alone is an array, which costs no allocation.
    pub(in crate::engine) fn offer<G>(&mut self, entries: G, when_full: WhenFull) -> Admission<E>
    where
        G: AsRef<[Entry<E>]> + IntoIterator<Item = Entry<E>> + Into<Vec<Entry<E>>>,
    {
        match self.phase {
            Phase::Closing | Phase::Closed => {
                return Admission::Rejected(entries.into(), SubmitErrorKind::Closed);
            }
            // Not even an empty queue has space for it.
            _ if !self.can_hold(entries.as_ref()) => {
                return Admission::Rejected(entries.into(), SubmitErrorKind::Full);
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
        if self.waiters.is_empty() && self.has_space_for(entries.as_ref()) {
            self.push(entries);
            return Admission::Queued { buffered: self.phase == Phase::Away };
        }
        let rejects = self.phase == Phase::Away && self.overflow == Overflow::Reject;
        if when_full == WhenFull::Reject || rejects {
            return Admission::Rejected(entries.into(), SubmitErrorKind::Full);
        }
        let number = self.next_number;
        self.next_number += 1;
        let (sender, left) = oneshot::channel();
        self.waiters.push_back(Waiter { number, entries: entries.into(), left: sender });
        Admission::Waiting { number, left }
    }

    /// Takes back what still waits for space under this number; `None` when it is let in or failed.
    pub(in crate::engine) fn give_up_waiting(&mut self, number: u64) -> Option<Vec<Entry<E>>> {
        let at = self.waiters.binary_search_by_key(&number, |waiting| waiting.number).ok()?;
        let given_up = self.waiters.remove(at).map(|waiting| {
            self.effects.released.push(waiting.left);
            waiting.entries
        });
        // It may have been what the others had to wait behind.
        self.admit_waiting();
        given_up
    }

    /// Takes the next events of a partition of which the writer holds nothing, as many as fit into a request.
    pub(in crate::engine) fn take(&mut self, events: usize, bytes: usize) -> Vec<Entry<E>> {
        while let Some(partition) = self.ready.pop_front() {
            let taken = self.lines.take(partition, events, bytes);
            let held = &mut self.held[partition.0 as usize];
            held.is_ready = false;
            // They may have been dropped, or have expired.
            let Some(first) = taken.first() else { continue };
            (held.events, held.from) = (taken.len(), first.sequence);
            self.in_flight += taken.len();
            self.admit_waiting();
            return taken;
        }
        Vec::new()
    }

    /// Of how many partitions there is something to take.
    pub(in crate::engine) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// The writer holds so many of a partition, of which this is the sequence number of the first.
    pub(in crate::engine) fn hold(&mut self, partition: PartitionId, events: usize, from: u64) {
        let held = &mut self.held[partition.0 as usize];
        self.in_flight = self.in_flight - held.events + events;
        (held.events, held.from) = (events, from);
        self.check_ready(partition);
    }

    fn check_ready(&mut self, partition: PartitionId) {
        let held = &mut self.held[partition.0 as usize];
        if held.events == 0 && !held.is_ready && !self.lines.is_empty_of(partition) {
            held.is_ready = true;
            self.ready.push_back(partition);
        }
    }

    /// The log went away: everybody who waits for an outcome learns that the event is buffered, and the
    /// overflow policy decides about those who wait for space.
    pub(in crate::engine) fn away(&mut self) {
        if self.phase != Phase::Connected {
            return;
        }
        self.phase = Phase::Away;
        self.lines.mark_buffered(&mut self.effects.wakers);
        match self.overflow {
            Overflow::DropOldest => {
                for waiting in std::mem::take(&mut self.waiters) {
                    self.admit(waiting);
                }
                self.drop_oldest();
            }
            Overflow::Reject => {
                self.turn_away(&SubmitErrorKind::Full);
            }
            // They go on waiting, each until its own deadline.
            Overflow::Block { .. } => {}
        }
    }

    pub(in crate::engine) fn connected(&mut self) {
        if self.phase == Phase::Away {
            self.phase = Phase::Connected;
        }
    }

    /// Accepts nothing more. Those who wait for space are turned away.
    pub(in crate::engine) fn close(&mut self) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closing;
        self.turn_away(&SubmitErrorKind::Closed);
    }

    fn turn_away(&mut self, reason: &SubmitErrorKind) {
        for waiting in std::mem::take(&mut self.waiters) {
            let failed = |entry| (entry, AppendErrorKind::Rejected(reason.clone()));
            self.effects.failed.extend(waiting.entries.into_iter().map(failed));
            self.effects.released.push(waiting.left);
        }
    }

    /// Ends it: what is still queued is not appended, what the writer could not resolve is for it to say.
    pub(in crate::engine) fn end(&mut self) -> Vec<Entry<E>> {
        self.close();
        self.phase = Phase::Closed;
        self.held.fill(Held::default());
        self.in_flight = 0;
        self.ready.clear();
        let unsent = self.lines.take_all();
        self.resolving.extend(unsent.first().map(|entry| entry.sequence));
        unsent
    }

    /// When the oldest event was accepted.
    pub(in crate::engine) fn oldest(&self) -> Option<Instant> {
        self.lines.oldest()
    }

    /// Hands back the events that were accepted at `horizon` or before.
    pub(in crate::engine) fn expire(&mut self, horizon: Instant, expiry: Duration) {
        let expired = self.lines.take_accepted_by(horizon);
        self.effects
            .failed
            .extend(expired.into_iter().map(|entry| (entry, AppendErrorKind::Expired(expiry))));
        self.admit_waiting();
    }

    /// Whether there is space when the queue is empty.
    fn can_hold(&self, entries: &[Entry<E>]) -> bool {
        entries.len() <= self.max_events && bytes_of(entries) <= self.max_bytes
    }

    fn has_space_for(&self, entries: &[Entry<E>]) -> bool {
        let events = self.lines.events().saturating_add(entries.len());
        events <= self.max_events && self.lines.bytes().saturating_add(bytes_of(entries)) <= self.max_bytes
    }

    fn push(&mut self, entries: impl IntoIterator<Item = Entry<E>>) {
        for mut entry in entries {
            entry.sequence = self.accepted;
            self.accepted += 1;
            let partition = entry.partition;
            if self.phase == Phase::Away {
                self.effects.wakers.extend(entry.mark_buffered());
            }
            self.lines.push(entry);
            self.check_ready(partition);
        }
    }

    /// Lets in from the front whatever fits. An `append` that was dropped while it waited for space takes its
    /// events with it, so that nobody waits behind it.
    fn admit_waiting(&mut self) {
        while let Some(waiting) = self.waiters.front() {
            if !waiting.is_cancelled() && !self.has_space_for(&waiting.entries) {
                return;
            }
            if let Some(waiting) = self.waiters.pop_front() {
                self.admit(waiting);
            }
        }
    }

    fn admit(&mut self, mut waiting: Waiter<E>) {
        self.effects.released.push(waiting.left);
        if waiting.entries.iter().all(Entry::is_orphaned) {
            self.effects.cancelled.extend(waiting.entries);
            return;
        }
        let now = Instant::now();
        waiting.entries.iter_mut().for_each(|entry| entry.accepted_at = now);
        self.push(waiting.entries);
    }

    fn drop_oldest(&mut self) {
        while self.lines.events() > self.max_events || self.lines.bytes() > self.max_bytes {
            let Some(entry) = self.lines.pop_oldest() else { return };
            self.dropped += 1;
            self.effects.dropped += 1;
            self.effects.failed.push((entry, AppendErrorKind::Dropped));
        }
    }
}

fn bytes_of<E>(entries: &[Entry<E>]) -> usize {
    entries.iter().fold(0, |bytes, entry| bytes.saturating_add(entry.bytes()))
}
