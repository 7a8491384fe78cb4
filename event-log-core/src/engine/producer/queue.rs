//! What is between producers and the writer, and the only owner of events that wait.
//!
//! The **queue** holds accepted events, those of each partition first in, first out: its bounds are the log's memory.
//! The **waiters** hold the events of `append` calls that wait for space in the queue; they are not
//! accepted yet, and each is a caller that stands still, so that it needs no bound of its own. First in, first out, too.
//!
//! Everything here is synchronous and under one lock that is held for a few instructions.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::effects::Effects;
use super::entry::Entry;
use super::moment::{Moment, Moments};
use super::partition::{PartitionQueue, Taken};
use super::recovery::{Lost, ReadBack, Unresolved};
use crate::config::{Overflow, ProducerConfig};
use crate::engine::transport::SendError;
use crate::error::{AppendErrorKind, Error, SubmitErrorKind};
use crate::limits;
use crate::position::{Offset, PartitionId};
use crate::state::Recovered;
use crate::watermark::Watermarks;

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
    /// They are taken all the same: others of their batch are in the log already.
    Exceed,
}

/// What became of events that were offered.
pub(in crate::engine) enum Admission<E> {
    /// In the queue. `buffered` when the log is away, so that no caller should wait for the outcome.
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
    /// When it began to wait.
    since: Instant,
    entries: Vec<Entry<E>>,
    /// Dropped when the events are let in, which is the signal.
    left: oneshot::Sender<()>,
}

pub(in crate::engine) struct Queue<E> {
    partitions: Vec<PartitionQueue<E>>,
    moments: Moments,
    /// Where the partitions end is not asked before this: the log did not say so in time, and what is known has to do for a while.
    ask_at: Option<Instant>,
    /// Events that wait to be taken, in all partitions, and their bytes.
    waiting: usize,
    waiting_bytes: usize,
    /// Partitions with something for the writer, and nothing in flight: each once, in turn.
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

/// How many events there are.
#[derive(Clone, Copy)]
pub(in crate::engine) struct Counts {
    pub(in crate::engine) version: u64,
    pub(in crate::engine) buffered: usize,
    pub(in crate::engine) dropped: u64,
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
            moments: Moments::default(),
            ask_at: None,
            partitions: (0..partitions).map(|_| PartitionQueue::default()).collect(),
            waiting: 0,
            waiting_bytes: 0,
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
        let mut effects = std::mem::take(&mut self.effects);
        effects.is_closing = self.phase == Phase::Closing;
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

    /// What is published of the queue, later counts with a higher version.
    pub(in crate::engine) fn counts(&mut self) -> Counts {
        self.version += 1;
        Counts { version: self.version, buffered: self.buffered(), dropped: self.dropped }
    }

    /// Accepted and not resolved.
    pub(in crate::engine) fn buffered(&self) -> usize {
        self.waiting + self.partitions.iter().map(PartitionQueue::taken).sum::<usize>()
    }

    /// How many events have been accepted so far: the mark that [`settled`](Self::settled) has to reach for
    /// a flush.
    pub(in crate::engine) const fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many events from the beginning on are resolved, without exception.
    pub(in crate::engine) fn settled(&self) -> u64 {
        let partitions = self.partitions.iter().filter_map(PartitionQueue::first_sequence);
        partitions.chain(self.resolving.iter().copied()).min().unwrap_or(self.accepted)
    }

    /// Nothing queued, in flight or waiting for space: an event may pass the queue by.
    pub(in crate::engine) fn is_idle(&self) -> bool {
        let is_closing = || self.partitions.iter().any(PartitionQueue::is_closing);
        self.phase == Phase::Connected && self.buffered() == 0 && self.waiters.is_empty() && !is_closing()
    }

    /// Offers events that belong together: all are taken, or none. One alone is an array, which costs no allocation.
    pub(in crate::engine) fn offer<G>(&mut self, entries: G, when_full: WhenFull) -> Admission<E>
    where
        G: AsRef<[Entry<E>]> + IntoIterator<Item = Entry<E>> + Into<Vec<Entry<E>>>,
    {
        match self.phase {
            Phase::Connected | Phase::Away | Phase::Closing if when_full == WhenFull::Exceed => {
                self.push(entries);
                if self.phase == Phase::Away && self.overflow == Overflow::DropOldest {
                    self.drop_oldest();
                }
                return Admission::Queued { buffered: self.phase == Phase::Away };
            }
            Phase::Closing | Phase::Closed => {
                return Admission::Rejected(entries.into(), SubmitErrorKind::Closed);
            }
            // Not even an empty buffer has space for it.
            Phase::Away if !self.can_hold(entries.as_ref()) => {
                return Admission::Rejected(entries.into(), SubmitErrorKind::Full);
            }
            Phase::Away if self.overflow == Overflow::DropOldest => {
                self.push(entries);
                self.drop_oldest();
                return Admission::Queued { buffered: true };
            }
            Phase::Connected | Phase::Away => {}
        }
        // No event overtakes those that wait already; one whose caller has dropped its future does not wait.
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
        let since = Instant::now();
        self.waiters.push_back(Waiter { number, since, entries: entries.into(), left: sender });
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

    /// Puts the next request in flight, of a partition that has none there.
    pub(in crate::engine) fn take(&mut self, events: usize, bytes: usize) -> Option<(PartitionId, Taken)> {
        let may_ask = self.ask_at.is_none_or(|at| at <= Instant::now());
        while let Some(partition) = self.ready.pop_front() {
            let queue = &mut self.partitions[partition.0 as usize];
            queue.is_ready = false;
            // They may have been dropped, or have expired.
            let Some((taken, events, bytes)) = queue.take(events, bytes, may_ask) else { continue };
            self.left(events, bytes);
            return Some((partition, taken));
        }
        None
    }

    /// The request in flight is sent now.
    pub(super) fn begin(&mut self, partition: PartitionId) {
        self.partitions[partition.0 as usize].begin();
    }

    /// So many do not wait any more.
    fn left(&mut self, events: usize, bytes: usize) {
        self.waiting -= events;
        self.waiting_bytes -= bytes;
        self.admit_waiting();
    }

    /// Takes the answer to the request in flight. An error says that the connection is lost.
    pub(in crate::engine) fn complete(
        &mut self,
        partition: PartitionId,
        result: Result<Option<Offset>, SendError>,
    ) -> Result<(), Error> {
        let now = self.moments.now();
        let queue = &mut self.partitions[partition.0 as usize];
        let completed = queue.complete(result, now, &mut self.effects);
        // What is in flight does not expire; what came back may, and is older than all that waits.
        self.effects.may_expire_sooner |= queue.is_to_resend();
        self.check_ready(partition);
        completed
    }

    /// Takes what reading back has shown of a request.
    pub(super) fn recovered(&mut self, (partition, number): Lost, seen: ReadBack) -> Recovered {
        let recovered = self.partitions[partition.0 as usize].recovered(number, seen, &mut self.effects);
        self.check_ready(partition);
        recovered
    }

    /// Whether a request has to be read back, and has not expired.
    pub(super) fn is_unresolved(&self, (partition, number): Lost) -> bool {
        self.partitions[partition.0 as usize].is_unresolved(number)
    }

    /// What has to be read back of a partition.
    pub(super) fn unresolved(&self, partition: PartitionId) -> Option<Unresolved> {
        self.partitions[partition.0 as usize].unresolved(partition)
    }

    /// The request in flight is not waited for any longer.
    pub(super) fn give_up_in_flight(&mut self, partition: PartitionId) {
        self.partitions[partition.0 as usize].give_up_in_flight();
        self.effects.may_expire_sooner = true;
        self.check_ready(partition);
    }

    /// Whether the connection of a request that had no answer is to be closed before anything else.
    pub(super) fn is_closing(&self, partition: PartitionId) -> bool {
        self.partitions[partition.0 as usize].is_closing()
    }

    /// The connection is closed over which a request had no answer.
    pub(super) fn closed(&mut self, partition: PartitionId) {
        let now = self.moments.now();
        self.partitions[partition.0 as usize].closed(now);
        self.check_ready(partition);
    }

    /// Events have passed the queue by: nothing is known of where the partitions end.
    pub(in crate::engine) fn forget_marks(&mut self) {
        let now = self.moments.now();
        self.partitions.iter_mut().for_each(|queue| queue.forget_mark(now));
    }

    /// This moment.
    pub(super) fn moment(&mut self) -> Moment {
        self.moments.now()
    }

    /// The partitions ended there when it was asked.
    pub(super) fn marked(&mut self, watermarks: &Watermarks, asked_at: Moment) {
        for ((_, marks), queue) in watermarks.iter().zip(&mut self.partitions) {
            queue.ends_at(marks.high, asked_at);
        }
    }

    /// The log does not say where they end.
    pub(super) fn unmarked(&mut self) {
        self.ask_at = Some(Instant::now() + limits::MARK_INTERVAL);
    }

    /// Of how many partitions there is something to take.
    pub(in crate::engine) fn ready(&self) -> usize {
        self.ready.len()
    }

    fn check_ready(&mut self, partition: PartitionId) {
        let queue = &mut self.partitions[partition.0 as usize];
        if !queue.is_ready && queue.has_next() {
            queue.is_ready = true;
            self.ready.push_back(partition);
        }
    }

    /// The log went away: all who wait for an outcome learn that the event is buffered, and the
    /// overflow policy decides about those who wait for space.
    pub(in crate::engine) fn away(&mut self) {
        let wakers = &mut self.effects.wakers;
        self.partitions.iter_mut().for_each(|queue| queue.mark_taken_buffered(wakers));
        if self.phase != Phase::Away {
            self.partitions.iter_mut().for_each(|queue| queue.mark_waiting_buffered(wakers));
        }
        if self.phase != Phase::Connected {
            return;
        }
        self.phase = Phase::Away;
        // A batch that can never fit is not let in to be dropped, and no other waits behind it.
        let (fit, large) = std::mem::take(&mut self.waiters)
            .into_iter()
            .partition::<VecDeque<_>, _>(|waiting| self.can_hold(&waiting.entries));
        self.reject_waiters(large, &SubmitErrorKind::Full);
        match self.overflow {
            Overflow::DropOldest => {
                for waiting in fit {
                    self.admit(waiting);
                }
                self.drop_oldest();
            }
            Overflow::Reject => self.reject_waiters(fit, &SubmitErrorKind::Full),
            // They go on waiting, each until its own deadline.
            Overflow::Block { .. } => {
                self.waiters = fit;
                self.admit_waiting();
            }
        }
    }

    /// There is a new connection. Returns what has to be read back over it.
    pub(super) fn connected(&mut self) -> Vec<Unresolved> {
        if self.phase == Phase::Away {
            self.phase = Phase::Connected;
        }
        (0..).map(PartitionId).zip(&self.partitions).filter_map(|(id, queue)| queue.unresolved(id)).collect()
    }

    /// Accepts nothing more. What waits for space is rejected.
    pub(in crate::engine) fn close(&mut self) {
        if self.phase == Phase::Closed {
            return;
        }
        self.phase = Phase::Closing;
        let waiters = std::mem::take(&mut self.waiters);
        self.reject_waiters(waiters, &SubmitErrorKind::Closed);
    }

    fn reject_waiters(&mut self, waiters: VecDeque<Waiter<E>>, reason: &SubmitErrorKind) {
        for waiting in waiters {
            let failed = |entry| (entry, AppendErrorKind::Rejected(reason.clone()));
            self.effects.failed.extend(waiting.entries.into_iter().map(failed));
            self.effects.released.push(waiting.left);
        }
    }

    /// Ends it: what is not resolved comes back, oldest first, each with why it fails. It counts as not
    /// [settled](Self::settled) until [`resolved`](Self::resolved) is called with the first sequence number.
    pub(in crate::engine) fn end(&mut self) -> Vec<(Entry<E>, AppendErrorKind)> {
        self.close();
        self.phase = Phase::Closed;
        self.ready.clear();
        (self.waiting, self.waiting_bytes) = (0, 0);
        let mut unresolved = Vec::new();
        for queue in &mut self.partitions {
            unresolved.extend(queue.end(&mut self.effects));
        }
        unresolved.sort_unstable_by_key(|(entry, _)| entry.sequence);
        self.resolving.extend(unresolved.first().map(|(entry, _)| entry.sequence));
        unresolved
    }

    /// When the oldest event that is not in flight was accepted.
    pub(in crate::engine) fn oldest(&self) -> Option<Instant> {
        self.partitions.iter().filter_map(PartitionQueue::oldest).min()
    }

    /// Fails the events that were accepted at `horizon` or before, unless they are in flight.
    pub(in crate::engine) fn expire(&mut self, horizon: Instant, expiry: Duration) {
        let known = self.effects.failed.len();
        let (mut events, mut bytes) = (0, 0);
        for partition in (0..).map(PartitionId).take(self.partitions.len()) {
            let queue = &mut self.partitions[partition.0 as usize];
            let expired = queue.expire(horizon, expiry, &mut self.effects);
            (events, bytes) = (events + expired.0, bytes + expired.1);
            // What is behind a request that was being read back has nothing to wait for, if that has expired.
            self.check_ready(partition);
        }
        self.effects.failed[known..].sort_unstable_by_key(|(entry, _)| entry.sequence);
        self.left(events, bytes);
    }

    /// Whether there is space when the queue is empty. There is for one event, whatever headers it has.
    fn can_hold(&self, entries: &[Entry<E>]) -> bool {
        entries.len() <= self.max_events && (entries.len() == 1 || bytes_of(entries) <= self.max_bytes)
    }

    fn has_space_for(&self, entries: &[Entry<E>]) -> bool {
        // While connected, a batch that is larger than the whole queue has an empty one to itself: it holds no more than its
        // caller has made already.
        if self.waiting == 0 {
            return self.phase == Phase::Connected || self.can_hold(entries);
        }
        let events = self.waiting.saturating_add(entries.len());
        events <= self.max_events && self.waiting_bytes.saturating_add(bytes_of(entries)) <= self.max_bytes
    }

    fn push(&mut self, entries: impl IntoIterator<Item = Entry<E>>) {
        for mut entry in entries {
            entry.sequence = self.accepted;
            self.accepted += 1;
            let partition = entry.partition;
            if self.phase == Phase::Away {
                self.effects.wakers.extend(entry.mark_buffered());
            }
            self.effects.may_expire_sooner |= self.waiting == 0;
            self.waiting += 1;
            self.waiting_bytes += entry.bytes();
            self.partitions[partition.0 as usize].push(entry);
            self.check_ready(partition);
        }
    }

    /// Lets in from the front whatever fits. An `append` that was dropped while it waited for space takes its
    /// events with it, so that no other waits behind it.
    fn admit_waiting(&mut self) {
        self.reject_overdue();
        while let Some(waiting) = self.waiters.front() {
            if !waiting.is_cancelled() && !self.has_space_for(&waiting.entries) {
                return;
            }
            if let Some(waiting) = self.waiters.pop_front() {
                self.admit(waiting);
            }
        }
    }

    /// Rejects those that have waited until their deadline, also where their callers do not look.
    fn reject_overdue(&mut self) {
        let Overflow::Block { deadline } = self.overflow else { return };
        if self.waiters.is_empty() {
            return;
        }
        let now = Instant::now();
        let overdue = self.waiters.partition_point(|waiting| now.duration_since(waiting.since) >= deadline);
        let overdue = self.waiters.drain(..overdue).collect();
        self.reject_waiters(overdue, &SubmitErrorKind::Full);
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
        while self.waiting > self.max_events || self.waiting > 1 && self.waiting_bytes > self.max_bytes {
            let first = |queue: &&mut PartitionQueue<E>| queue.first_waiting().unwrap_or(u64::MAX);
            let oldest = self.partitions.iter_mut().min_by_key(first);
            let Some(entry) = oldest.and_then(PartitionQueue::pop_waiting) else { return };
            self.waiting -= 1;
            self.waiting_bytes -= entry.bytes();
            self.dropped += 1;
            self.effects.dropped += 1;
            self.effects.failed.push((entry, AppendErrorKind::Dropped));
        }
    }
}

fn bytes_of<E>(entries: &[Entry<E>]) -> usize {
    entries.iter().fold(0, |bytes, entry| bytes.saturating_add(entry.bytes()))
}
