//! The one task that sends: it takes requests from the queue, sends them, and has the queue complete them.
//!
//! Requests to one partition follow one another; those to different partitions are in flight together, as far as there
//! are connections for them. When a connection is lost the queue keeps what is unresolved, and [recovery](super::recovery)
//! finds out, before anything is sent again, what of it has arrived.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use futures::StreamExt;
use futures::future::{BoxFuture, Either, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::attempts;
use super::connections::Connections;
use super::partition::Taken;
use super::recovery::{Read, ReadBack, Readings};
use super::requests::{self, Answer, Event, Generation, Question};
use super::shared::{Shared, sleep_until};
use crate::contain::report;
use crate::engine::transport::Transport;
use crate::error::Error;
use crate::position::PartitionId;

pub(in crate::engine) struct Writer<E, T: Transport> {
    shared: Arc<Shared<E>>,
    transport: Arc<T>,
    /// Attempts to connect since a request was answered for the last time, or a connection has lasted. A log that takes
    /// connections and loses every request is asked ever more rarely too.
    failed_attempts: u32,
    /// What is in flight, over connections that are lost too. One set of all, so that none keeps another from being looked at.
    in_flight: FuturesUnordered<BoxFuture<'static, Event<T::Producer>>>,
    /// How often there was a new connection.
    generation: u64,
    /// The last question for the watermarks.
    question: Option<Question>,
    readings: Readings,
}

/// What a connection is needed for.
enum Work {
    Send(PartitionId, Taken),
    Read(Read),
}

impl<E: Send + 'static, T: Transport> Writer<E, T> {
    pub(in crate::engine) fn new(shared: Arc<Shared<E>>, transport: Arc<T>) -> Self {
        Self {
            shared,
            transport,
            failed_attempts: 0,
            in_flight: FuturesUnordered::new(),
            generation: 0,
            question: None,
            readings: Readings::default(),
        }
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
            let (since, transport) = (Instant::now(), Arc::clone(&self.transport));
            match self.beside(transport.watermarks()).await {
                Ok(watermarks) => {
                    let unresolved = self.shared.connected(&watermarks, since);
                    for (partition, seen) in
                        self.readings.begin(unresolved, &watermarks, since, Instant::now())
                    {
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
        let connected = async {
            let connect = pin!(attempts.connect(&*transport));
            let finished = pin!(shared.finished());
            match futures::future::select(connect, finished).await {
                Either::Left((connection, _)) => Some(connection),
                Either::Right(_) => None,
            }
        };
        let connection = self.beside(connected).await?;
        // Until a request is answered over it, this one counts as well.
        self.failed_attempts = attempts.failed.saturating_add(1);
        Some(connection)
    }

    /// Awaits something beside what is in flight over connections that are lost.
    async fn beside<F: Future>(&mut self, future: F) -> F::Output {
        let mut future = pin!(future);
        loop {
            tokio::select! {
                biased;
                output = &mut future => return output,
                Some(event) = self.in_flight.next() => drop(self.take_event(event)),
            }
        }
    }

    /// Sends all there is, as it comes, and reads back what has to be. Returns true when the log is closing and nothing is
    /// left, false when the connection is lost.
    async fn drain(&mut self, connection: T::Producer) -> bool {
        self.generation += 1;
        let (lost, generation) = Generation::new(self.generation);
        let mut connections = Connections::new(Arc::clone(&self.transport), connection);
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
                self.begin(work, connection, generation.clone());
            }
            let reading_due = self.readings.next_due(Instant::now());
            if connections.may_widen() && (self.shared.is_ready() || reading_due.is_some()) {
                connections.widen();
            }
            if self.shared.is_finished() {
                return true;
            }
            let reading_due = reading_due.filter(|_| connections.has_idle());
            tokio::select! {
                biased;
                changed = connections.changed() => if let Err(error) = changed {
                    break error;
                },
                Some(event) = self.in_flight.next() => match self.take_event(event) {
                    Ok(connection) => connection.into_iter().for_each(|one| connections.give_back(one)),
                    Err(error) => break error,
                },
                () = self.shared.work(), if connections.has_idle() || connections.may_widen() => {}
                () = sleep_until(reading_due) => {}
                // What was read back for may have expired.
                () = self.shared.finished(), if self.in_flight.is_empty() || self.readings.is_reading() => {}
            }
        };
        self.lost(error);
        let now = Instant::now();
        lost.send_replace(Some(now));
        self.readings.interrupted(now);
        false
    }

    /// What there is to do over a connection.
    fn next_work(&mut self, reads_first: bool) -> Option<Work> {
        let now = Instant::now();
        let mut read = || self.readings.next_request(now).map(Work::Read);
        let send = || self.shared.take().map(|(partition, taken)| Work::Send(partition, taken));
        if reads_first { read().or_else(send) } else { send().or_else(read) }
    }

    fn begin(&mut self, work: Work, connection: T::Producer, of: Generation) {
        let work = match work {
            Work::Send(partition, taken) => {
                let question = taken.mark.map(|wanted| match &self.question {
                    Some(question) if question.answers(wanted) => question.clone(),
                    _ => self.question.insert(Question::new(&self.transport)).clone(),
                });
                requests::send(Arc::clone(&self.shared), connection, (partition, taken), question, of).boxed()
            }
            Work::Read(read) => requests::read(Arc::clone(&self.transport), connection, read, of).boxed(),
        };
        self.in_flight.push(work);
    }

    /// Goes on with what has come of a request or of a question. Returns the connection, if it is good.
    ///
    /// # Errors
    ///
    /// When the connections that there are now are lost.
    fn take_event(&mut self, event: Event<T::Producer>) -> Result<Option<T::Producer>, Error> {
        let Event { partition, generation, answer } = event;
        let (is_current, now) = (generation == self.generation, Instant::now());
        match answer {
            Answer::Sent(connection, result) => match self.shared.complete(partition, result) {
                Ok(()) => {
                    self.failed_attempts = 0;
                    Ok(Some(connection).filter(|_| is_current))
                }
                Err(error) if is_current => Err(error),
                Err(_) => {
                    self.read_back(partition);
                    Ok(None)
                }
            },
            Answer::GivenUp => {
                self.shared.give_up_in_flight(partition);
                self.read_back(partition);
                Ok(None)
            }
            // What is asked of an earlier generation has been asked again.
            Answer::Asked(..) | Answer::Fetched(..) | Answer::Interrupted if !is_current => Ok(None),
            Answer::Asked(connection, marks) => {
                let seen = self.readings.asked(partition, marks, now)?;
                self.take_seen(partition, seen);
                Ok(Some(connection))
            }
            Answer::Fetched(connection, records) => {
                let seen = self.readings.answered(partition, records, now)?;
                self.take_seen(partition, seen);
                Ok(Some(connection))
            }
            Answer::Interrupted => Ok(None),
        }
    }

    /// A request has come back over a connection that was lost before: beside what goes over the new one it is read back.
    fn read_back(&mut self, partition: PartitionId) {
        if let Some(unresolved) = self.shared.unresolved(partition) {
            self.readings.add(unresolved);
        }
    }

    /// Goes on with what was read back of a partition, if it is all.
    fn take_seen(&mut self, partition: PartitionId, seen: Option<ReadBack>) {
        if let Some(seen) = seen {
            self.shared.recovered(partition, seen);
        } else if !self.shared.is_unresolved(partition) {
            self.readings.forget(partition);
        }
    }
}

impl<E, T: Transport> Drop for Writer<E, T> {
    /// Resolves every ticket, also when the task is dropped by a runtime that shuts down.
    fn drop(&mut self) {
        self.shared.end();
    }
}
