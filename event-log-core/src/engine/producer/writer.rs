//! The one task that sends: it takes requests from the queue, sends them, and has the queue complete them.
//!
//! Requests to one partition follow one another; those to different partitions are in flight together, as far as there
//! are connections for them. When a connection is lost the queue keeps what is unresolved, and [recovery](super::recovery)
//! finds out, before anything is sent again, what of it has arrived.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::attempts;
use super::connections::Connections;
use super::recovery::recover;
use super::shared::Shared;
use crate::contain::report;
use crate::engine::transport::{Message, ProducerConnection, SendError, Transport};
use crate::error::Error;
use crate::position::{Offset, PartitionId};
use crate::watermark::Watermarks;

pub(in crate::engine) struct Writer<E, T: Transport> {
    shared: Arc<Shared<E>>,
    transport: Arc<T>,
    /// Attempts to connect since a request was answered for the last time, or there was none to answer. A log that takes
    /// connections and loses every request is asked ever more rarely too.
    failed_attempts: u32,
    /// When the watermarks were asked for the last time.
    marked_at: Instant,
}

/// A log that is asked over a network is asked where it ends at most this often, when the writer was idle before; and, as
/// some partitions may be idle while others are not, at least every minute that something is sent in.
const MARK_INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_MARK_INTERVAL: Duration = Duration::from_secs(60);

/// A question for the watermarks that is on its way.
struct Mark {
    answer: Pin<Box<dyn Future<Output = Result<Watermarks, Error>> + Send>>,
    /// What is sent must be behind what the answer says: nothing is taken before it is there.
    comes_first: bool,
}

/// A request that was sent, with everything that comes back.
struct Sent<S> {
    connection: S,
    partition: PartitionId,
    result: Result<Option<Offset>, SendError>,
}

/// Sends a request over a connection, and has both until it is answered.
async fn send<S: ProducerConnection>(
    mut connection: S,
    partition: PartitionId,
    messages: Arc<[Message]>,
) -> Sent<S> {
    let result = connection.send(partition, &messages).await;
    Sent { connection, partition, result }
}

impl<E: Send + 'static, T: Transport> Writer<E, T> {
    pub(in crate::engine) fn new(shared: Arc<Shared<E>>, transport: Arc<T>) -> Self {
        Self { shared, transport, failed_attempts: 0, marked_at: Instant::now() }
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
            let Some(connection) = connected else { return };
            match recover(&self.shared, &*self.transport, &connection).await {
                Ok(()) => {
                    self.marked_at = Instant::now();
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
    fn lost(&self, error: Error) {
        let source = &error as &dyn std::error::Error;
        report(|| tracing::warn!(error = source, "the connection to the log was lost"));
        self.shared.away(error);
    }

    /// A new connection; `None` when the log is closing and there is nothing left to send.
    async fn reconnect(&mut self) -> Option<T::Producer> {
        let (shared, transport) = (Arc::clone(&self.shared), Arc::clone(&self.transport));
        let mut attempts = attempts::Attempts::new(&shared, self.failed_attempts);
        let connection = {
            let connect = pin!(attempts.connect(&*transport));
            let finished = pin!(shared.finished());
            match futures::future::select(connect, finished).await {
                Either::Left((connection, _)) => connection,
                Either::Right(_) => return None,
            }
        };
        // Until a request is answered over it, this one counts as well.
        self.failed_attempts = attempts.failed.saturating_add(1);
        Some(connection)
    }

    /// Sends all there is, as it comes. Returns true when the log is closing and nothing is left, false when the connection
    /// is lost.
    async fn drain(&mut self, connection: T::Producer) -> bool {
        let mut connections = Connections::new(Arc::clone(&self.transport), connection);
        let mut under_way = FuturesUnordered::new();
        let mut mark = None;
        let error = loop {
            // Answers may be there at once, for as long as there is something to send.
            tokio::task::coop::consume_budget().await;
            if mark.is_none() && self.shared.is_ready() {
                mark = self.due_mark();
            }
            let may_take = mark.as_ref().is_none_or(|mark: &Mark| !mark.comes_first);
            while may_take && connections.has_idle() {
                let Some((partition, messages)) = self.shared.take() else { break };
                let connection = connections.take();
                under_way.extend(connection.map(|connection| send(connection, partition, messages)));
            }
            if may_take && under_way.is_empty() {
                // Nothing is left to send: what was to be sent again is answered, or there was nothing.
                self.failed_attempts = 0;
            }
            if connections.may_widen() && self.shared.is_ready() {
                connections.widen();
            }
            if under_way.is_empty() && self.shared.is_finished() {
                return true;
            }
            tokio::select! {
                biased;
                Some(sent) = under_way.next() => match self.complete(sent) {
                    Ok(connection) => {
                        self.failed_attempts = 0;
                        connections.give_back(connection);
                    }
                    Err(error) => break error,
                },
                answer = answer_of(&mut mark) => match answer {
                    Ok(watermarks) => {
                        mark = None;
                        self.marked_at = Instant::now();
                        self.shared.ends_at(&watermarks);
                    }
                    Err(error) => break error,
                },
                () = self.shared.work(), if may_take && (connections.has_idle() || connections.may_widen()) => {}
                changed = connections.changed() => if let Err(error) = changed {
                    break error;
                },
            }
        };
        self.lost(error);
        // What the others have sent is answered all the same.
        while let Some(sent) = under_way.next().await {
            drop(self.complete(sent));
        }
        false
    }

    /// Asks where the partitions end, if what is known of that is so old that reading back from there could take long.
    fn due_mark(&self) -> Option<Mark> {
        let age = self.marked_at.elapsed();
        let is_cheap = !self.transport.properties().reads_ahead;
        let comes_first = self.shared.take_was_fast() && (is_cheap || age >= MARK_INTERVAL);
        let is_due = comes_first || age >= LONGEST_MARK_INTERVAL;
        let transport = Arc::clone(&self.transport);
        is_due.then(|| Mark { answer: Box::pin(async move { transport.watermarks().await }), comes_first })
    }

    /// Has the queue complete what was sent. The connection, unless it is lost.
    fn complete(&self, sent: Sent<T::Producer>) -> Result<T::Producer, Error> {
        let Sent { connection, partition, result } = sent;
        self.shared.complete(partition, result).map(|()| connection)
    }
}

/// Completes with the answer, if there is a question. Cancel safe.
async fn answer_of(mark: &mut Option<Mark>) -> Result<Watermarks, Error> {
    match mark {
        Some(mark) => mark.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

impl<E, T: Transport> Drop for Writer<E, T> {
    /// Resolves every ticket, also when the task is dropped by a runtime that shuts down.
    fn drop(&mut self) {
        self.shared.end();
    }
}
