//! The one task that sends: it takes events from the queue, sends those of a partition that wait as one request, and
//! keeps hold of each until its outcome is certain.
//!
//! What the writer has taken of a partition is its **flow**: requests in the order in which they are to be sent, one of
//! them under way at a time. Those of different partitions are under way together, as far as there are connections for
//! them, and wait for nobody but themselves. A request leaves its flow when its events are resolved. When a connection is
//! lost the flows stay, and [recovery] finds out, before anything is sent again, what of them has arrived.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::attempts;
use super::connections::Connections;
use super::entry::unknown;
use super::flow::Flow;
use super::request::{Request, Sent, send};
use super::shared::Shared;
use crate::engine::transport::{Message, Transport};
use crate::error::{AppendErrorKind, Error};
use crate::log::CloseError;
use crate::position::PartitionId;

pub(in crate::engine) struct Writer<E, T: Transport> {
    pub(super) shared: Arc<Shared<E>>,
    pub(super) transport: Arc<T>,
    /// By partition.
    pub(super) flows: Vec<Flow<E>>,
    /// Partitions of which a request is left over from before, and none is under way.
    again: VecDeque<PartitionId>,
    /// Attempts to connect since a connection was of use for the last time.
    failed_attempts: u32,
    /// When the watermarks were asked for the last time.
    pub(super) marked_at: Instant,
}

/// A log that is asked over a network is asked where it ends at most this often, when the writer was idle before; and, as
/// some partitions may be idle while others are not, at least every minute that something is sent in.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_MARK_INTERVAL: Duration = Duration::from_secs(60);

impl<E: Send + 'static, T: Transport> Writer<E, T> {
    pub(in crate::engine) fn new(shared: Arc<Shared<E>>, transport: Arc<T>) -> Self {
        let flows = (0..transport.properties().partitions).map(|_| Flow::default()).collect();
        Self {
            shared,
            transport,
            flows,
            again: VecDeque::new(),
            failed_attempts: 0,
            marked_at: Instant::now(),
        }
    }

    /// Sends until the log is closed and everything is sent, or the deadline of closing has passed. Ending,
    /// in whatever way, resolves every ticket: see the `Drop` below.
    pub(in crate::engine) async fn run(mut self, connection: Option<T::Producer>) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            biased;
            () = self.serve(connection) => {}
            () = shared.expiring() => {}
            () = shared.closing_deadline() => {}
        }
    }

    async fn serve(&mut self, mut connection: Option<T::Producer>) {
        loop {
            let connected = match connection.take() {
                Some(connection) => Some(connection),
                None => self.reconnect().await,
            };
            let Some(mut connection) = connected else { return };
            match self.recover(&mut connection).await {
                Ok(()) => {
                    self.failed_attempts = 0;
                    self.shared.connected();
                    if self.drain(connection).await {
                        return;
                    }
                }
                Err(error) => self.lost(error),
            }
        }
    }

    /// The connection is of no use any more: that is told before anything else is waited for.
    fn lost(&mut self, error: Error) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the connection to the log was lost");
        self.shared.away(error);
        self.flows.iter_mut().for_each(Flow::tell_buffered);
    }

    /// A new connection; `None` when the log is closing and there is nothing left to send.
    async fn reconnect(&mut self) -> Option<T::Producer> {
        let (shared, transport) = (Arc::clone(&self.shared), Arc::clone(&self.transport));
        let mut attempts = attempts::Attempts::new(&shared, self.failed_attempts);
        let connection = {
            // An attempt goes on whatever else happens meanwhile.
            let connect = pin!(attempts.connect(&*transport));
            let finished = pin!(shared.finished());
            let mut both = pin!(futures::future::select(connect, finished));
            loop {
                self.expire();
                let expiry = self.next_expiry();
                tokio::select! {
                    biased;
                    either = &mut both => match either {
                        Either::Left((connection, _)) => break connection,
                        Either::Right(_) => return None,
                    },
                    () = sleep_until(expiry) => {}
                }
            }
        };
        // Until it has been of use, this one counts as well.
        self.failed_attempts = attempts.failed.saturating_add(1);
        Some(connection)
    }

    /// Sends all there is, as it comes. Returns true when the log is closing and nothing is left, false when the connection
    /// is lost.
    async fn drain(&mut self, connection: T::Producer) -> bool {
        let mut connections = Connections::new(Arc::clone(&self.transport), connection);
        let mut under_way = FuturesUnordered::new();
        self.again = self.partitions().filter(|&partition| !self.flow(partition).is_empty()).collect();
        loop {
            if self.has_next() && self.is_mark_due() {
                if let Err(error) = self.mark().await {
                    self.lost(error);
                    while let Some(sent) = under_way.next().await {
                        drop(self.answered(sent));
                    }
                    return false;
                }
            }
            while connections.has_idle() {
                let Some((partition, messages)) = self.next() else { break };
                under_way.extend(connections.take().map(|connection| send(connection, partition, messages)));
            }
            if connections.may_widen() && self.has_next() {
                connections.widen();
            }
            if under_way.is_empty() && self.shared.is_finished() {
                return true;
            }
            tokio::select! {
                biased;
                Some(sent) = under_way.next() => match self.answered(sent) {
                    Ok(connection) => connections.give_back(connection),
                    Err(error) => {
                        self.lost(error);
                        // What the others have sent is answered all the same.
                        while let Some(sent) = under_way.next().await {
                            drop(self.answered(sent));
                        }
                        return false;
                    }
                },
                () = self.shared.work(), if connections.has_idle() || connections.may_widen() => {}
                changed = connections.changed() => if let Err(error) = changed {
                    self.lost(error);
                    return false;
                },
            }
        }
    }

    /// Whether what is known of the ends of the partitions is so old that reading back from there could take long.
    fn is_mark_due(&mut self) -> bool {
        let age = self.marked_at.elapsed();
        let is_cheap = !self.transport.properties().reads_ahead;
        let was_idle = self.shared.take_was_fast();
        was_idle && (is_cheap || age >= MARK_INTERVAL) || age >= LONGEST_MARK_INTERVAL
    }

    /// Asks where the partitions end: what is sent from now on is behind that.
    async fn mark(&mut self) -> Result<(), Error> {
        let watermarks = self.transport.watermarks().await?;
        self.marked_at = Instant::now();
        for (partition, marks) in watermarks.iter() {
            if let Some(flow) = self.flows.get_mut(partition.0 as usize).filter(|flow| flow.is_empty()) {
                flow.begins_at(marks.high);
            }
        }
        Ok(())
    }

    /// The next request, which is under way from now on.
    fn next(&mut self) -> Option<(PartitionId, Vec<Message>)> {
        let partition = match self.again.pop_front() {
            Some(partition) => partition,
            None => {
                let request = Request::new(self.shared.take());
                let partition = request.partition()?;
                self.flow(partition).requests.push_back(request);
                partition
            }
        };
        let messages = self.flow(partition).requests.front_mut()?.start();
        Some((partition, messages))
    }

    fn has_next(&self) -> bool {
        !self.again.is_empty() || self.shared.is_ready()
    }

    /// Takes the answer to a request. The connection, unless it is lost.
    fn answered(&mut self, sent: Sent<T::Producer>) -> Result<T::Producer, Error> {
        let Sent { connection, partition, messages, result } = sent;
        let flow = self.flow(partition);
        let answered = flow.answered(messages, result);
        let is_left_over = !flow.is_empty();
        self.hold(partition);
        if is_left_over {
            self.again.push_back(partition);
        }
        answered.map(|()| connection)
    }

    pub(super) fn flow(&mut self, partition: PartitionId) -> &mut Flow<E> {
        &mut self.flows[partition.0 as usize]
    }

    /// Tells the queue what there is still of a partition.
    pub(super) fn hold(&mut self, partition: PartitionId) {
        let (events, from) = self.flow(partition).held();
        self.shared.hold(partition, events, from);
    }

    /// When the next event of a request that is left over expires.
    fn next_expiry(&self) -> Option<Instant> {
        let oldest = self.flows.iter().filter_map(Flow::oldest).min();
        oldest?.checked_add(self.shared.config.expiry?)
    }

    /// Hands back what is left over and has waited too long: as unknown what was sent, as expired what was not.
    fn expire(&mut self) {
        let Some(expiry) = self.shared.config.expiry else { return };
        let now = Instant::now();
        for partition in self.partitions() {
            let flow = self.flow(partition);
            if flow.oldest().is_some_and(|oldest| now.duration_since(oldest) >= expiry) {
                flow.expire(now, expiry);
                self.hold(partition);
            }
        }
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionId> + use<E, T> {
        (0..self.transport.properties().partitions).map(PartitionId)
    }
}

impl<E, T: Transport> Drop for Writer<E, T> {
    /// Resolves every ticket, also when the task is dropped by a runtime that shuts down.
    fn drop(&mut self) {
        let mut entries: Vec<_> = self.flows.iter_mut().flat_map(Flow::take_all).collect();
        entries.sort_unstable_by_key(|(entry, _)| entry.sequence);
        let mut leftover = CloseError::default();
        for (entry, sent) in entries {
            leftover.fail(entry, if sent { unknown() } else { AppendErrorKind::Closed });
        }
        self.shared.end(leftover);
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
