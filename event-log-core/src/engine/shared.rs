//! What the handles, the writer and the supervisor of one log have in common, and who may change what.
//!
//! * The **queue** is changed by everybody, under its lock.
//! * The **state** is published by whoever changed the queue, while it still holds the lock.
//! * `direct` is set by the writer when it finds the queue idle, and cleared by whoever queues something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::clock::{Chance, Clock};
use super::entry::Entry;
use super::queue::{Admission, Phase, Queue, WhenFull};
use super::warn::DropWarning;
use crate::config::ProducerConfig;
use crate::error::AppendErrorKind;
use crate::log::CloseError;
use crate::position::PartitionId;
use crate::state::{Connection, LogState, Recovered};

pub(super) struct Shared<E> {
    pub(super) config: ProducerConfig,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) chance: Chance,
    queue: Mutex<Queue<E>>,
    /// Events may pass the queue by, because nothing is in it that they could overtake.
    direct: AtomicBool,
    state: watch::Sender<LogState>,
    /// There is something to take, or the log is closing.
    work: Notify,
    /// How many events are resolved, from the first on without exception.
    settled: watch::Sender<u64>,
    /// When to stop sending; `None` while the log is open.
    closing: watch::Sender<Option<Instant>>,
    /// Set once the writer has ended and every ticket is resolved.
    ended: watch::Sender<bool>,
    /// What the writer could not send, until the first `close` takes it.
    leftover: Mutex<Option<CloseError<E>>>,
    warning: DropWarning,
}

impl<E> Shared<E> {
    pub(super) fn new(
        config: ProducerConfig,
        partitions: u32,
        clock: Arc<dyn Clock>,
        seed: u64,
        connection: Connection,
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
            direct: AtomicBool::new(connected),
            state: watch::Sender::new(state),
            work: Notify::new(),
            settled: watch::Sender::new(0),
            closing: watch::Sender::new(None),
            ended: watch::Sender::new(false),
            leftover: Mutex::new(None),
            warning: DropWarning::default(),
        }
    }

    /// Whether an event may be appended without the queue.
    ///
    /// A caller that reads `true` has no event of its own in the queue, nor has anybody whose call returned
    /// before this one began: had there been one, `direct` would have been cleared before that call returned,
    /// and is only set again once the queue has been emptied into the log.
    pub(super) fn is_direct(&self) -> bool {
        self.direct.load(Ordering::Acquire)
    }

    pub(super) fn state(&self) -> watch::Receiver<LogState> {
        let queue = self.queue.lock();
        if self.state.receiver_count() == 0 {
            // Nobody was told as long as nobody listened. With others it is up to date, and must not be written: the caller
            // may be looking at it.
            self.publish_state(&queue);
        }
        self.state.subscribe()
    }

    pub(super) fn offer<G>(&self, entries: G, when_full: WhenFull) -> Admission<E>
    where
        G: AsRef<[Entry<E>]> + IntoIterator<Item = Entry<E>> + Into<Vec<Entry<E>>>,
    {
        self.with_work(|queue| {
            self.direct.store(false, Ordering::Release);
            queue.offer(entries, when_full)
        })
    }

    pub(super) fn give_up_waiting(&self, number: u64) -> Option<Vec<Entry<E>>> {
        // Others may come in for it.
        self.with_work(|queue| queue.give_up_waiting(number))
    }

    /// Completes when there may be something to take.
    pub(super) async fn work(&self) {
        self.work.notified().await;
    }

    /// The next events of a partition of which the writer holds nothing: those that go out together.
    pub(super) fn take(&self) -> Vec<Entry<E>> {
        self.with_queue(|queue| {
            let taken = queue.take(self.config.request_events, self.config.request_bytes);
            if taken.is_empty() && queue.is_idle() {
                self.direct.store(true, Ordering::Release);
            }
            taken
        })
    }

    /// Whether there is something to take.
    pub(super) fn is_ready(&self) -> bool {
        self.queue.lock().ready() > 0
    }

    /// The writer holds so many events of a partition, of which this is the sequence number of the first.
    pub(super) fn hold(&self, partition: PartitionId, events: usize, from: u64) {
        self.with_queue(|queue| queue.hold(partition, events, from));
    }

    /// Nothing will be accepted any more, and nothing is left.
    pub(super) fn is_finished(&self) -> bool {
        let queue = self.queue.lock();
        queue.phase() == Phase::Closing && queue.buffered() == 0
    }

    pub(super) fn connected(&self) {
        self.with_queue(|queue| {
            queue.connected();
            self.state.send_modify(|state| {
                if matches!(state.connection, Connection::Reconnecting { .. }) {
                    state.reconnects += 1;
                    state.connection = Connection::Connected;
                }
            });
        });
        self.work.notify_one();
    }

    /// Published before anybody is told, so that whoever learns that an event is buffered sees why.
    pub(super) fn away(&self) {
        let since = self.clock.now();
        self.with_queue(|queue| {
            self.direct.store(false, Ordering::Release);
            self.state.send_modify(|state| {
                if state.is_connected() {
                    state.connection = Connection::Reconnecting { since, attempt: 0 };
                }
            });
            queue.away();
        });
    }

    /// Counts what reading back has shown.
    pub(super) fn recovered(&self, one: Recovered) {
        if one != Recovered::default() {
            self.state.send_modify(|state| {
                state.recovered.found += one.found;
                state.recovered.sent_again += one.sent_again;
                state.recovered.unknown += one.unknown;
            });
        }
    }

    pub(super) fn attempt_failed(&self) {
        self.state.send_modify(|state| {
            if let Connection::Reconnecting { attempt, .. } = &mut state.connection {
                *attempt = attempt.saturating_add(1);
            }
        });
    }

    /// When the next event expires, if events do.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.queue.lock().oldest()?.checked_add(self.config.expiry?)
    }

    /// Hands back the queued events that have waited too long.
    pub(super) fn expire(&self) {
        let Some(expiry) = self.config.expiry else { return };
        let Some(horizon) = Instant::now().checked_sub(expiry) else {
            return;
        };
        self.with_queue(|queue| {
            for entry in queue.take_accepted_by(horizon) {
                entry.fail(AppendErrorKind::Expired(expiry));
            }
        });
    }

    /// Waits until everything that was accepted before the call is resolved.
    pub(super) async fn flush(&self) {
        let mut settled = self.settled.subscribe();
        let mark = self.with_queue(|queue| queue.accepted());
        // The sender lives as long as `self`.
        let _ = settled.wait_for(|&settled| settled >= mark).await;
    }

    /// Accepts nothing more, and has the writer stop at `deadline`. A second call changes nothing.
    pub(super) fn close(&self, deadline: Instant) {
        self.with_queue(|queue| {
            self.direct.store(false, Ordering::Release);
            queue.close();
        });
        self.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            closing.get_or_insert(deadline);
            first
        });
        self.work.notify_one();
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// Completes when the log is closing.
    pub(super) async fn closing(&self) {
        let _ = self.closing.subscribe().wait_for(Option::is_some).await;
    }

    /// Completes when the log is closing and its deadline has passed.
    pub(super) async fn closing_deadline(&self) {
        self.closing().await;
        let deadline = *self.closing.borrow();
        tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)).await;
    }

    /// Ends the log, with what the writer has in its hands and could not resolve.
    pub(super) fn end(&self, mut leftover: CloseError<E>) {
        self.with_queue(|queue| {
            self.direct.store(false, Ordering::Release);
            queue.end(&mut leftover);
            self.state.send_modify(|state| state.connection = Connection::Closed);
        });
        *self.leftover.lock() = Some(leftover);
        self.ended.send_replace(true);
    }

    /// Waits until the writer has ended; the first who asks gets what was left over.
    pub(super) async fn ended(&self) -> CloseError<E> {
        let _ = self.ended.subscribe().wait_for(|&ended| ended).await;
        self.leftover.lock().take().unwrap_or_default()
    }

    pub(super) fn is_closed(&self) -> bool {
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

    /// Changes the queue and tells those who listen what changed: that costs more than the change, and most of the time
    /// nobody does. Whoever begins to listen sees to it that nothing was missed, under the same lock.
    fn with_queue<T>(&self, change: impl FnOnce(&mut Queue<E>) -> T) -> T {
        let mut queue = self.queue.lock();
        let result = change(&mut queue);
        let (evicted, dropped) = (queue.take_evicted(), queue.dropped());
        if self.state.receiver_count() > 0 {
            self.publish_state(&queue);
        }
        if self.settled.receiver_count() > 0 {
            let settled = queue.settled();
            self.settled.send_if_modified(|known| std::mem::replace(known, settled) != settled);
        }
        drop(queue);
        if !evicted.is_empty() {
            self.warning.dropped(evicted.len() as u64, dropped);
            evicted.into_iter().for_each(|entry| entry.fail(AppendErrorKind::Dropped));
        }
        result
    }

    fn publish_state(&self, queue: &Queue<E>) {
        let (buffered, dropped) = (queue.buffered(), queue.dropped());
        self.state.send_if_modified(|state| {
            let changed = (state.buffered, state.dropped) != (buffered, dropped);
            (state.buffered, state.dropped) = (buffered, dropped);
            changed
        });
    }
}
