//! What the handles and the writer of one log have in common, and who may change what.
//!
//! * The **queue** is changed by all of them, under its lock.
//! * The **state** is published by what changed the queue, after it has released the lock.
//! * `fast_path` is set by the writer when it finds the queue idle, and cleared by each caller that queues something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::closing::Leftover;
use super::effects::Effects;
use super::entry::{Entry, NOT_ACCEPTED};
use super::moment::Moment;
use super::partition::Taken;
use super::queue::{Admission, Counts, Phase, Queue, WhenFull};
use super::recovery::{Lost, ReadBack, Unresolved};
use super::warn::DropWarning;
use crate::config::ProducerConfig;
use crate::contain::contain;
use crate::engine::clock::{Chance, Clock};
use crate::engine::transport::SendError;
use crate::error::Error;
use crate::log::CloseError;
use crate::position::{Offset, PartitionId, Timestamp};
use crate::state::{Connection, LogState, Recovered, StateReceiver, StateSender};
use crate::waking::contain_wakes;
use crate::watermark::Watermarks;

pub(in crate::engine) struct Shared<E> {
    pub(in crate::engine) config: ProducerConfig,
    pub(in crate::engine) clock: Arc<dyn Clock>,
    pub(in crate::engine) chance: Chance,
    pub(super) queue: Mutex<Queue<E>>,
    /// Events may pass the queue by, because nothing is in it that they could overtake.
    pub(super) fast_path: AtomicBool,
    pub(super) state: StateSender,
    /// Asking where the partitions end takes no time.
    marks_are_cheap: bool,
    /// The first event waits in the queue, so that there is one that may expire.
    begins_to_wait: Notify,
    /// The next attempt to connect is to be made at once.
    pub(super) hurry: Notify,
    /// Calls of `flush` that wait.
    flushing: AtomicUsize,
    /// There is something to take, or the log is closing.
    pub(super) work: Notify,
    /// How many events are resolved, from the first on without exception.
    pub(super) settled: watch::Sender<u64>,
    /// When to stop sending; `None` while the log is open.
    pub(super) closing: watch::Sender<Option<Instant>>,
    /// Set once the writer has ended and every ticket is resolved.
    pub(super) ended: watch::Sender<bool>,
    /// What could not be sent while closing, until a `close` takes it.
    pub(super) leftover: Mutex<Leftover<E>>,
    warning: DropWarning,
}

/// A call of `flush` that waits.
struct Flushing<'a>(&'a AtomicUsize);

impl<'a> Flushing<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<E> Shared<E> {
    pub(in crate::engine) fn new(
        config: ProducerConfig,
        partitions: u32,
        clock: Arc<dyn Clock>,
        seed: u64,
        connection: Connection,
        marks_are_cheap: bool,
    ) -> Self {
        let connected = connection == Connection::Connected;
        let phase = if connected { Phase::Connected } else { Phase::Away };
        let queue = Mutex::new(Queue::new(&config, partitions, phase));
        let state = LogState { connection, ..LogState::default() };
        Self {
            config,
            clock,
            chance: Chance::new(seed),
            queue,
            fast_path: AtomicBool::new(connected),
            state: StateSender::new(state),
            marks_are_cheap,
            begins_to_wait: Notify::new(),
            hurry: Notify::new(),
            flushing: AtomicUsize::new(0),
            work: Notify::new(),
            settled: watch::Sender::new(0),
            closing: watch::Sender::new(None),
            ended: watch::Sender::new(false),
            leftover: Mutex::new(Leftover {
                error: CloseError::default(),
                is_claimed: false,
                is_given_up: false,
            }),
            warning: DropWarning::default(),
        }
    }

    /// Whether an event may be appended without the queue.
    ///
    /// A caller that reads `true` has no event of its own in the queue, nor has any caller whose call returned
    /// before this one began: had there been one, `fast_path` would have been cleared before that call returned,
    /// and is only set again once the queue has been emptied into the log.
    pub(in crate::engine) fn has_fast_path(&self) -> bool {
        self.fast_path.load(Ordering::Acquire)
    }

    pub(in crate::engine) fn state(&self) -> StateReceiver {
        // Nothing is published as long as there is no receiver: first it is one, then it is told what it missed.
        let mut receiver = self.state.subscribe();
        let counts = self.queue.lock().counts();
        self.publish_counts(Some(counts));
        receiver.mark_seen();
        receiver
    }

    pub(in crate::engine) fn offer<G>(&self, entries: G, when_full: WhenFull) -> Admission<E>
    where
        G: AsRef<[Entry<E>]> + IntoIterator<Item = Entry<E>> + Into<Vec<Entry<E>>>,
    {
        self.with_work(|queue| {
            // A log in this process may have taken events beside the queue.
            if self.fast_path.swap(false, Ordering::AcqRel) && self.marks_are_cheap {
                queue.forget_marks();
            }
            queue.offer(entries, when_full)
        })
    }

    pub(in crate::engine) fn give_up_waiting(&self, number: u64) -> Option<Vec<Entry<E>>> {
        // Others may come in for it.
        self.with_work(|queue| queue.give_up_waiting(number))
    }

    /// Completes when there may be something to take.
    pub(in crate::engine) async fn work(&self) {
        self.work.notified().await;
    }

    /// Puts the next request in flight.
    pub(in crate::engine) fn take(&self) -> Option<(PartitionId, Taken)> {
        self.with_queue(|queue| {
            let taken = queue.take(self.config.request_events, self.config.request_bytes);
            if taken.is_none() && queue.is_idle() {
                self.fast_path.store(true, Ordering::Release);
            }
            taken
        })
    }

    /// Of how many partitions there is something to take.
    pub(in crate::engine) fn ready(&self) -> usize {
        self.queue.lock().ready()
    }

    /// Takes the answer to a request. An error says that the connection is lost.
    pub(in crate::engine) fn complete(
        &self,
        partition: PartitionId,
        result: Result<Option<Offset>, SendError>,
    ) -> Result<(), Error> {
        self.with_queue(|queue| queue.complete(partition, result))
    }

    /// Whether a request has to be read back.
    pub(super) fn is_unresolved(&self, lost: Lost) -> bool {
        self.queue.lock().is_unresolved(lost)
    }

    /// What has to be read back of a partition.
    pub(super) fn unresolved(&self, partition: PartitionId) -> Option<Unresolved> {
        self.queue.lock().unresolved(partition)
    }

    /// The request in flight is not waited for any longer.
    pub(super) fn give_up_in_flight(&self, partition: PartitionId) {
        self.with_work(|queue| queue.give_up_in_flight(partition));
    }

    /// Whether the connection of a request that had no answer is to be closed before anything else.
    pub(super) fn is_closing(&self, partition: PartitionId) -> bool {
        self.queue.lock().is_closing(partition)
    }

    /// The connection is closed over which a request had no answer.
    pub(super) fn closed(&self, partition: PartitionId) {
        self.with_work(|queue| queue.closed(partition));
    }

    /// The request in flight is sent now.
    pub(super) fn begin(&self, partition: PartitionId) {
        self.queue.lock().begin(partition);
    }

    /// This moment.
    pub(super) fn moment(&self) -> Moment {
        self.queue.lock().moment()
    }

    /// The partitions ended there when it was asked.
    pub(super) fn marked(&self, watermarks: &Watermarks, asked_at: Moment) {
        self.queue.lock().marked(watermarks, asked_at);
    }

    /// The log does not say where the partitions end.
    pub(super) fn unmarked(&self) {
        self.queue.lock().unmarked();
    }

    /// Nothing will be accepted any more, and nothing is left.
    pub(in crate::engine) fn is_finished(&self) -> bool {
        let queue = self.queue.lock();
        queue.phase() == Phase::Closing && queue.buffered() == 0
    }

    /// There is a new connection. Returns what has to be read back over it.
    pub(super) fn connected(&self) -> Vec<Unresolved> {
        let publish = || {
            self.state.modify(|state| {
                if matches!(state.connection, Connection::Reconnecting { .. }) {
                    state.reconnects += 1;
                    state.connection = Connection::Connected;
                }
            });
        };
        let change = |queue: &mut Queue<E>| {
            if queue.phase() == Phase::Away {
                // What an attempt under way was asked to hurry for is done.
                let _ = self.hurry.notified().now_or_never();
            }
            queue.connected()
        };
        let unresolved = self.with_queue_and(change, publish);
        self.work.notify_one();
        unresolved
    }

    /// The connection is lost, or of no use. It is published before anything is buffered, so that the reason is known
    /// when an event turns out to be.
    pub(in crate::engine) fn away(&self, error: Error) {
        let now = self.clock.now();
        let error = Some(Arc::new(error));
        self.state.modify(|state| match &mut state.connection {
            Connection::Connected => {
                state.connection = Connection::Reconnecting {
                    since: now,
                    attempt: 0,
                    next_attempt: None,
                    last_error: error,
                };
            }
            Connection::Reconnecting { attempt, last_error, .. } => {
                *attempt = attempt.saturating_add(1);
                *last_error = error;
            }
            Connection::Closed => {}
        });
        self.with_queue(|queue| {
            self.fast_path.store(false, Ordering::Release);
            queue.away();
        });
    }

    /// Takes what reading back has shown of a request, and counts it.
    pub(super) fn recovered(&self, lost: Lost, seen: ReadBack) {
        let one = self.with_work(|queue| queue.recovered(lost, seen));
        if one != Recovered::default() {
            self.state.modify(|state| {
                state.recovered.found += one.found;
                state.recovered.sent_again += one.sent_again;
                state.recovered.unknown += one.unknown;
            });
        }
    }

    /// When the next attempt to connect begins, `None` while one is under way.
    pub(in crate::engine) fn next_attempt(&self, next: Option<Timestamp>) {
        self.state.modify(|state| {
            if let Connection::Reconnecting { next_attempt, .. } = &mut state.connection {
                *next_attempt = next;
            }
        });
    }

    pub(in crate::engine) fn attempt_failed(&self, error: Error, next: Timestamp) {
        let error = Some(Arc::new(error));
        self.state.modify(|state| {
            if let Connection::Reconnecting { attempt, next_attempt, last_error, .. } = &mut state.connection
            {
                *attempt = attempt.saturating_add(1);
                (*next_attempt, *last_error) = (Some(next), error);
            }
        });
    }

    /// When the next event expires, if events do.
    pub(in crate::engine) fn next_expiry(&self) -> Option<Instant> {
        self.queue.lock().oldest()?.checked_add(self.config.expiry?)
    }

    /// Hands back what has waited for too long by now.
    pub(super) fn expire(&self) {
        let horizon =
            self.config.expiry.and_then(|expiry| Some((Instant::now().checked_sub(expiry)?, expiry)));
        if let Some((horizon, expiry)) = horizon {
            self.with_work(|queue| queue.expire(horizon, expiry));
        }
    }

    /// Completes when an event expires that was accepted then.
    pub(super) async fn expired(&self, accepted_at: Option<Instant>) {
        let at = accepted_at.zip(self.config.expiry).and_then(|(at, expiry)| at.checked_add(expiry));
        sleep_until(at).await;
    }

    /// Hands back events that have waited in the queue for too long, whatever the state of the connection. It never ends.
    pub(in crate::engine) async fn expiring(&self) {
        if self.config.expiry.is_none() {
            return std::future::pending().await;
        }
        loop {
            self.expire();
            let next = self.next_expiry();
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.begins_to_wait.notified() => {}
            }
        }
    }

    /// Waits until everything that was accepted before the call is resolved.
    pub(in crate::engine) async fn flush(&self) {
        let mut settled = self.settled.subscribe();
        let _flushing = Flushing::new(&self.flushing);
        let mark = self.with_queue(|queue| {
            if queue.phase() == Phase::Away {
                self.hurry.notify_one();
            }
            queue.accepted()
        });
        // The sender lives as long as `self`.
        let _ = contain_wakes(settled.wait_for(|&settled| settled >= mark)).await;
    }

    /// Whether a call waits for what is accepted to be resolved.
    pub(super) fn is_awaited(&self) -> bool {
        self.flushing.load(Ordering::Acquire) > 0 || self.closing_at().is_some()
    }

    /// Completes when the next attempt to connect is to be made before its time.
    pub(in crate::engine) async fn hurry(&self) {
        self.hurry.notified().await;
    }

    /// How many events are accepted and not resolved.
    pub(in crate::engine) fn buffered(&self) -> usize {
        self.queue.lock().buffered()
    }

    pub(in crate::engine) fn is_closed(&self) -> bool {
        matches!(self.queue.lock().phase(), Phase::Closing | Phase::Closed)
    }

    /// Changes the queue, and wakes the writer if that gave it something to do. An event of a partition that it is busy
    /// with, or knows of, does not.
    fn with_work<T>(&self, change: impl FnOnce(&mut Queue<E>) -> T) -> T {
        let (result, is_work) = self.with_queue(|queue| {
            let known = queue.ready();
            let result = change(queue);
            (result, queue.ready() > known)
        });
        if is_work {
            self.work.notify_one();
        }
        result
    }

    pub(super) fn with_queue<T>(&self, change: impl FnOnce(&mut Queue<E>) -> T) -> T {
        self.with_queue_and(change, || ())
    }

    /// Changes the queue. Everything that follows from the change is done once the lock has been released, in this order:
    /// the state is published, events are resolved, `settled` is published. The latter two are only worth it
    /// while there are receivers; a new one sees to it that it missed nothing.
    pub(super) fn with_queue_and<T>(
        &self,
        change: impl FnOnce(&mut Queue<E>) -> T,
        publish: impl FnOnce(),
    ) -> T {
        let mut queue = self.queue.lock();
        let result = change(&mut queue);
        let (effects, first) = queue.take_effects();
        let counts = (!self.state.is_idle()).then(|| queue.counts());
        let settled = self.settled_of(&queue);
        let dropped = queue.dropped();
        drop(queue);
        publish();
        self.publish_counts(counts);
        if effects.may_expire_sooner && self.config.expiry.is_some() {
            self.begins_to_wait.notify_one();
        }
        self.carry_out(effects, dropped);
        let settled = match first {
            Some(first) => {
                let mut queue = self.queue.lock();
                queue.resolved(first);
                self.settled_of(&queue)
            }
            None => settled,
        };
        self.publish_settled(settled);
        result
    }

    fn carry_out(&self, effects: Effects<E>, dropped_total: u64) {
        let Effects {
            acked, found, failed, wakers, messages, released, cancelled, dropped, is_closing, ..
        } = effects;
        if let Some((entries, base)) = acked {
            for (entry, nth) in entries.into_iter().zip(0..) {
                contain(|| entry.commit(base.map(|base| Offset(base.0.saturating_add(nth)))));
            }
        }
        found.into_iter().for_each(|(entry, offset)| contain(|| entry.commit(Some(offset))));
        if is_closing && !failed.is_empty() {
            let mut left = CloseError::default();
            for (entry, failure) in failed {
                // An event that waited for space goes back to its caller.
                let is_accepted = entry.sequence != NOT_ACCEPTED;
                contain(|| if is_accepted { left.fail(entry, failure) } else { entry.fail(failure) });
            }
            self.leave_over(left);
        } else {
            for (entry, failure) in failed {
                contain(|| entry.fail(failure));
            }
        }
        messages.into_iter().for_each(|messages| contain(|| drop(messages)));
        wakers.into_iter().for_each(|waker| contain(|| waker.wake()));
        released.into_iter().for_each(|left| contain(|| drop(left)));
        cancelled.into_iter().for_each(|entry| contain(|| entry.discard()));
        if dropped > 0 {
            self.warning.dropped(dropped, dropped_total);
        }
    }

    fn settled_of(&self, queue: &Queue<E>) -> Option<u64> {
        (self.settled.receiver_count() > 0).then(|| queue.settled())
    }

    fn publish_settled(&self, settled: Option<u64>) {
        if let Some(settled) = settled {
            self.settled.send_if_modified(|known| {
                let is_news = settled > *known;
                *known = settled.max(*known);
                is_news
            });
        }
    }

    fn publish_counts(&self, counts: Option<Counts>) {
        if let Some(Counts { version, buffered, dropped }) = counts {
            let change = |state: &mut LogState| (state.buffered, state.dropped) = (buffered, dropped);
            self.state.modify_version(Some(version), change);
        }
    }
}

pub(super) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
