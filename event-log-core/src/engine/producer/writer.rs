//! The one task that sends: it takes requests from the queue, sends them, and has the queue complete them.
//!
//! Requests to one partition follow one another; those to different partitions are in flight together, as far as there
//! are connections for them. When a connection is lost the queue keeps what is unresolved, and [recovery](super::recovery)
//! finds out, before anything is sent again, what of it has arrived.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use futures::StreamExt;
use futures::future::Either;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use super::attempts;
use super::connections::Connections;
use super::recovery::Readings;
use super::shared::{Shared, sleep_until};
use crate::contain::report;
use crate::engine::transport::{
    FetchRequest, FetchResponse, Message, ProducerConnection, SendError, Transport,
};
use crate::error::Error;
use crate::limits;
use crate::position::{Offset, PartitionId};
use crate::watermark::Watermarks;

pub(in crate::engine) struct Writer<E, T: Transport> {
    shared: Arc<Shared<E>>,
    transport: Arc<T>,
    /// Attempts to connect since a request was answered for the last time, or a connection has lasted. A log that takes
    /// connections and loses every request is asked ever more rarely too.
    failed_attempts: u32,
    readings: Readings,
}

/// What a connection is needed for.
enum Work {
    Send(PartitionId, Arc<[Message]>),
    Read(FetchRequest),
}

/// A question for the watermarks that is on its way. It has no answer if that would be too late.
type Mark = Pin<Box<dyn Future<Output = Result<Option<Watermarks>, Error>> + Send>>;

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

/// A fetch that reads back, with everything that comes back.
struct Fetched<S> {
    connection: S,
    partition: PartitionId,
    result: Result<FetchResponse, Error>,
}

async fn fetch<S: ProducerConnection>(connection: S, request: FetchRequest) -> Fetched<S> {
    let result = connection.fetch(request).await;
    Fetched { connection, partition: request.partition, result }
}

impl<E: Send + 'static, T: Transport> Writer<E, T> {
    pub(in crate::engine) fn new(shared: Arc<Shared<E>>, transport: Arc<T>) -> Self {
        Self { shared, transport, failed_attempts: 0, readings: Readings::default() }
    }

    /// Sends until the log is closed and everything is sent, or the deadline of closing has passed. Ending,
    /// in whatever way, resolves every ticket: see the `Drop` below.
    pub(in crate::engine) async fn run(mut self, connection: Option<T::Producer>) {
        let shared = Arc::clone(&self.shared);
        // What has a deadline comes first: sending uses up the budget of its task, and timers need some too.
        tokio::select! {
            biased;
            () = shared.closing_deadline() => {}
            () = shared.expiring() => {}
            () = self.serve(connection) => {}
        }
    }

    async fn serve(&mut self, mut connection: Option<T::Producer>) {
        loop {
            let connected = match connection.take() {
                Some(connection) => Some(connection),
                None => self.reconnect().await,
            };
            let Some(connection) = connected else { return };
            let since = Instant::now();
            match self.transport.watermarks().await {
                Ok(watermarks) => {
                    let unresolved = self.shared.connected(&watermarks);
                    for (partition, seen) in self.readings.begin(unresolved, &watermarks) {
                        self.shared.recovered(partition, seen);
                    }
                    if self.drain(connection).await {
                        return;
                    }
                }
                Err(error) => self.lost(error),
            }
            if since.elapsed() >= self.shared.config.reconnect.max {
                // It has lasted: that it is lost now is another outage.
                self.failed_attempts = 0;
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

    /// Sends all there is, as it comes, and reads back what has to be. Returns true when the log is closing and nothing is
    /// left, false when the connection is lost.
    async fn drain(&mut self, connection: T::Producer) -> bool {
        let mut connections = Connections::new(Arc::clone(&self.transport), connection);
        let mut sending = FuturesUnordered::new();
        let mut fetching = FuturesUnordered::new();
        let mut mark = None;
        // Where there is one connection for both, they take turns. A fetch that has failed may fail again, and take the
        // connection with it: others go first.
        let mut reads_next = !self.readings.have_failed();
        let error = loop {
            // Answers may be there at once, for as long as there is something to send.
            tokio::task::coop::consume_budget().await;
            while connections.has_idle() {
                let Some(work) = self.next_work(reads_next) else { break };
                let Some(connection) = connections.take() else { break };
                reads_next = matches!(work, Work::Send(..));
                match work {
                    Work::Send(partition, messages) => sending.push(send(connection, partition, messages)),
                    Work::Read(request) => fetching.push(fetch(connection, request)),
                }
            }
            if mark.is_none() && self.shared.begin_mark() {
                mark = Some(self.mark());
            }
            let reading_due = self.readings.next_due(Instant::now());
            if connections.may_widen() && (self.shared.is_ready() || reading_due.is_some()) {
                connections.widen();
            }
            if sending.is_empty() && self.shared.is_finished() {
                return true;
            }
            let reading_due = reading_due.filter(|_| connections.has_idle());
            tokio::select! {
                biased;
                Some(sent) = sending.next() => match self.complete(sent) {
                    Ok(connection) => {
                        self.failed_attempts = 0;
                        connections.give_back(connection);
                    }
                    Err(error) => break error,
                },
                Some(fetched) = fetching.next() => match self.fetched(fetched) {
                    Ok(connection) => connections.give_back(connection),
                    Err(error) => break error,
                },
                answer = answer_of(&mut mark) => match answer {
                    Ok(watermarks) => {
                        mark = None;
                        self.shared.marked(watermarks.as_ref());
                    }
                    Err(error) => break error,
                },
                () = self.shared.work(), if connections.has_idle() || connections.may_widen() => {}
                () = sleep_until(reading_due) => {}
                // What was read back for may have expired.
                () = self.shared.finished(), if sending.is_empty() => {}
                changed = connections.changed() => if let Err(error) = changed {
                    break error;
                },
            }
        };
        self.lost(error);
        drop(fetching);
        self.readings.interrupted();
        // What the others have sent is answered all the same, if it is soon.
        let grace = tokio::time::sleep(limits::LOST_GRACE);
        let answers = async {
            while let Some(sent) = sending.next().await {
                drop(self.complete(sent));
            }
        };
        tokio::select! {
            biased;
            () = answers => {}
            () = grace => {}
        }
        drop(sending);
        self.shared.give_up_in_flight();
        false
    }

    /// What there is to do over a connection.
    fn next_work(&mut self, reads_first: bool) -> Option<Work> {
        let now = Instant::now();
        let mut read = || self.readings.next_request(now).map(Work::Read);
        let send = || self.shared.take().map(|(partition, messages)| Work::Send(partition, messages));
        if reads_first { read().or_else(send) } else { send().or_else(read) }
    }

    /// Asks where the partitions end.
    fn mark(&self) -> Mark {
        let transport = Arc::clone(&self.transport);
        Box::pin(async move { timeout(limits::MARK_PATIENCE, transport.watermarks()).await.ok().transpose() })
    }

    /// Goes on with what was read back. The connection, unless it is lost.
    fn fetched(&mut self, fetched: Fetched<T::Producer>) -> Result<T::Producer, Error> {
        let Fetched { connection, partition, result } = fetched;
        if let Some(seen) = self.readings.answered(partition, result, Instant::now())? {
            self.shared.recovered(partition, seen);
        } else if !self.shared.is_unresolved(partition) {
            self.readings.forget(partition);
        }
        Ok(connection)
    }

    /// Has the queue complete what was sent. The connection, unless it is lost.
    fn complete(&self, sent: Sent<T::Producer>) -> Result<T::Producer, Error> {
        let Sent { connection, partition, result } = sent;
        self.shared.complete(partition, result).map(|()| connection)
    }
}

/// Completes with the answer, if there is a question. Cancel safe.
async fn answer_of(mark: &mut Option<Mark>) -> Result<Option<Watermarks>, Error> {
    match mark {
        Some(answer) => answer.await,
        None => std::future::pending().await,
    }
}

impl<E, T: Transport> Drop for Writer<E, T> {
    /// Resolves every ticket, also when the task is dropped by a runtime that shuts down.
    fn drop(&mut self) {
        self.shared.end();
    }
}
