//! The one task that sends: it takes requests from the queue, sends them, and has the queue complete them.
//!
//! Requests to one partition follow one another; those to different partitions are in flight together, as far as there
//! are connections for them. When a connection is lost the queue keeps what is unresolved, and [recovery](super::recovery)
//! finds out, before anything is sent again, what of it has arrived.

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::time::Instant;

use super::attempts;
use super::connections::Connections;
use super::partition::{MarkWanted, Taken};
use super::recovery::{Read, Readings, Seen};
use super::requests::{self, Event, Generation, Question};
use super::shared::{Shared, sleep_until};
use crate::contain::report;
use crate::engine::transport::Transport;
use crate::error::Error;
use crate::limits;
use crate::position::PartitionId;

pub(in crate::engine) struct Writer<E, T: Transport> {
    shared: Arc<Shared<E>>,
    transport: Arc<T>,
    /// Attempts to connect since a request was answered for the last time, or a connection has lasted. A log that takes
    /// connections and loses every request is asked ever more rarely too.
    failed_attempts: u32,
    /// A request was answered since the last connection was lost.
    has_answered: bool,
    /// What is in flight, over connections that are lost too. One set of all, so that none keeps another from being looked at.
    in_flight: FuturesUnordered<BoxFuture<'static, Event<T::Producer>>>,
    /// How many of them are neither requests nor fetches.
    beside: usize,
    /// How often there was a new connection.
    generation: u64,
    /// The last question for the watermarks, until it is over.
    question: Option<Question>,
    readings: Readings,
    /// Connections over which single partitions are read back, while nothing goes over them.
    isolated: HashMap<PartitionId, T::Producer>,
    /// How many fetches of reading back, and after them how many requests, have their turn in this round. Where there is one
    /// connection for both, and each may be slow or lose it, no partition keeps another waiting for more than a turn.
    round: (usize, usize),
    /// Dropped last: a log that is closed holds nothing of its backend any more but its handles.
    _ending: Ending<E>,
}

/// Tells those who close the log that its writer is gone.
struct Ending<E>(Arc<Shared<E>>);

impl<E> Drop for Ending<E> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// What a connection is needed for.
enum Work {
    Send(PartitionId, Taken),
    Read(Read),
}

impl<E: Send + 'static, T: Transport> Writer<E, T> {
    pub(in crate::engine) fn new(shared: Arc<Shared<E>>, transport: Arc<T>) -> Self {
        Self {
            _ending: Ending(Arc::clone(&shared)),
            shared,
            transport,
            failed_attempts: 0,
            has_answered: false,
            in_flight: FuturesUnordered::new(),
            beside: 0,
            generation: 0,
            question: None,
            readings: Readings::default(),
            isolated: HashMap::new(),
            round: (0, 0),
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
            let since = Instant::now();
            let unresolved = self.shared.connected();
            self.readings.begin(unresolved);
            // The first requests want to know, and wait for the answer no longer than those that come later do.
            let patience =
                if self.generation == 0 { limits::FIRST_MARK_PATIENCE } else { limits::MARK_PATIENCE };
            self.ask(patience);
            if self.drain(connection).await {
                return;
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
        self.has_answered = false;
        let (shared, transport) = (Arc::clone(&self.shared), Arc::clone(&self.transport));
        let mut attempts = attempts::Attempts::new(&shared, self.failed_attempts);
        let connection = self.unless_finished(attempts.connect(&*transport)).await?;
        // Until a request is answered over it, this one counts as well.
        self.failed_attempts = if self.has_answered { 0 } else { attempts.failed.saturating_add(1) };
        Some(connection)
    }

    /// Awaits something beside what is in flight over connections that are lost; `None` when the log is closing and there is
    /// nothing left to send.
    async fn unless_finished<F: Future>(&mut self, future: F) -> Option<F::Output> {
        let shared = Arc::clone(&self.shared);
        let (mut future, mut finished) = (pin!(future), pin!(shared.finished()));
        loop {
            tokio::select! {
                biased;
                output = &mut future => return Some(output),
                () = &mut finished => return None,
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
        let error = loop {
            // Answers may be there at once, for as long as there is something to send.
            tokio::task::coop::consume_budget().await;
            if !self.readings.is_reading() {
                self.isolated.clear();
            }
            while connections.has_idle() {
                let Some(work) = self.next_work() else { break };
                let Some(work) = self.begin_isolated(work) else { continue };
                let Some(connection) = connections.take() else { break };
                self.begin(work, connection, generation.clone());
            }
            if let Some(number) = self.readings.next_question(Instant::now()) {
                self.beside += 1;
                self.in_flight.push(requests::ends(Arc::clone(&self.transport), number).boxed());
            }
            let fetch_due = self.readings.next_fetch_due(Instant::now());
            let needs_more =
                connections.is_waiting_to_widen() && (fetch_due.is_some() || self.shared.ready() > 0);
            if needs_more && connections.may_widen() {
                connections.widen();
            }
            if self.shared.is_finished() {
                return true;
            }
            let fetch_due = fetch_due.filter(|_| connections.has_idle());
            let question_due = self.readings.next_question_due(Instant::now());
            let reading_due = fetch_due.into_iter().chain(question_due).min();
            let widening_due = connections.may_widen_at().filter(|_| needs_more);
            tokio::select! {
                biased;
                changed = connections.changed() => if let Err(error) = changed {
                    break error;
                },
                Some(event) = self.in_flight.next() => match self.take_event(event) {
                    Ok(connection) => connection.into_iter().for_each(|one| connections.give_back(one)),
                    Err(error) => break error,
                },
                () = self.shared.work(), if connections.has_idle() || connections.is_waiting_to_widen() => {}
                () = sleep_until(reading_due) => {}
                () = sleep_until(widening_due) => {}
                // What was read back for may have expired.
                () = self.shared.finished(), if !self.is_sending() || self.readings.is_reading() => {}
            }
        };
        self.lost(error);
        lost.send_replace(Some(Instant::now()));
        false
    }

    /// Whether requests are in flight, or what reads back.
    fn is_sending(&self) -> bool {
        self.in_flight.len() > self.beside
    }

    /// What there is to do over a connection.
    fn next_work(&mut self) -> Option<Work> {
        let now = Instant::now();
        if let Some(work) = self.next_of_round(now) {
            return Some(work);
        }
        self.round = (self.readings.fetches_due(now), self.shared.ready());
        // That the queue is idle is found out where there is nothing to take.
        self.next_of_round(now).or_else(|| next_request(&self.shared))
    }

    fn next_of_round(&mut self, now: Instant) -> Option<Work> {
        let Self { round: (fetches, requests), readings, shared, .. } = self;
        turn(fetches, || readings.next_fetch(now).map(Work::Read))
            .or_else(|| turn(requests, || next_request(shared)))
    }

    /// Begins what goes over a connection of its own. Anything else comes back.
    fn begin_isolated(&mut self, work: Work) -> Option<Work> {
        match work {
            Work::Read(read) if read.is_isolated => {
                let kept = self.isolated.remove(&read.request.partition);
                let reading = requests::read_isolated((Arc::clone(&self.transport), kept), read);
                self.in_flight.push(reading.boxed());
                None
            }
            work => Some(work),
        }
    }

    fn begin(&mut self, work: Work, connection: T::Producer, of: Generation) {
        let work = match work {
            Work::Send(partition, taken) => {
                let question = taken.mark.map(|wanted| self.question_for(wanted));
                requests::send(Arc::clone(&self.shared), connection, (partition, taken), question, of).boxed()
            }
            Work::Read(read) => requests::read(connection, read, of).boxed(),
        };
        self.in_flight.push(work);
    }

    /// The question for the watermarks that is under way, or a new one.
    fn question_for(&mut self, wanted: MarkWanted) -> Question {
        if let Some(question) = self.question.as_ref().filter(|question| question.answers(wanted)) {
            return question.clone();
        }
        self.ask(limits::MARK_PATIENCE)
    }

    /// Asks where the partitions end.
    fn ask(&mut self, patience: Duration) -> Question {
        let question = Question::new(&self.shared, &self.transport, patience);
        self.beside += 1;
        self.in_flight.push(question.clone().over().boxed());
        self.question.insert(question).clone()
    }

    /// Goes on with what has come of something in flight. Returns the connection, if it is good.
    ///
    /// # Errors
    ///
    /// When the connections that there are now are lost.
    fn take_event(&mut self, event: Event<T::Producer>) -> Result<Option<T::Producer>, Error> {
        match event {
            Event::Sent { partition, generation, connection, result } => {
                let is_current = generation == self.generation;
                match self.shared.complete(partition, result) {
                    Ok(()) => {
                        (self.failed_attempts, self.has_answered) = (0, true);
                        Ok(Some(connection).filter(|_| is_current))
                    }
                    Err(error) => {
                        self.close(partition, connection);
                        if is_current { Err(error) } else { Ok(None) }
                    }
                }
            }
            Event::GivenUp { partition, generation, connection } => {
                self.shared.give_up_in_flight(partition);
                if self.shared.is_closing(partition) {
                    self.close(partition, connection);
                    return Ok(None);
                }
                // It was not sent. If it has expired, that is told before it is taken again.
                self.shared.expire();
                Ok(Some(connection).filter(|_| generation == self.generation))
            }
            Event::Closed { partition } => {
                self.beside -= 1;
                self.shared.closed(partition);
                // Where a connection is good, beside what goes over that.
                if let Some(unresolved) = self.shared.unresolved(partition) {
                    self.readings.add(unresolved);
                }
                Ok(None)
            }
            Event::Read { partition, number, generation, answer } => {
                let (is_current, now) = (generation == self.generation, Instant::now());
                let (connection, progress) = match answer {
                    Some((connection, records)) => (connection, self.readings.answered(number, records, now)),
                    None => (None, self.readings.interrupted(number, now)),
                };
                let seen = match progress.transpose() {
                    Err(error) if is_current => return Err(error),
                    Err(_) => return Ok(None),
                    Ok(seen) => seen,
                };
                let is_over = seen.as_ref().is_none_or(|(_, seen)| seen.is_some());
                seen.into_iter().for_each(|seen| self.take_seen(seen));
                if requests::is_isolated(generation) {
                    let kept = connection.filter(|_| !is_over);
                    self.isolated.extend(kept.map(|connection| (partition, connection)));
                    return Ok(None);
                }
                Ok(connection.filter(|_| is_current))
            }
            Event::Ends { number, answer } => {
                self.beside -= 1;
                let all = self.readings.bounded(number, &answer, Instant::now());
                all.into_iter().for_each(|seen| self.take_seen(seen));
                Ok(None)
            }
            Event::Asked => {
                self.beside -= 1;
                self.question.take_if(|question| question.is_over());
                Ok(None)
            }
        }
    }

    /// A request had no answer over this connection. If it may still arrive, that is waited for before it is read back.
    fn close(&mut self, partition: PartitionId, connection: T::Producer) {
        if self.shared.is_closing(partition) {
            self.beside += 1;
            self.in_flight.push(requests::close(partition, connection).boxed());
        }
    }

    /// Goes on with what was read back of a request, if it is all.
    fn take_seen(&mut self, (lost, seen): Seen) {
        if let Some(seen) = seen {
            self.shared.recovered(lost, seen);
        } else if !self.shared.is_unresolved(lost) {
            self.readings.forget(lost);
        }
    }
}

impl<E, T: Transport> Drop for Writer<E, T> {
    /// Resolves every ticket, also when the task is dropped by a runtime that shuts down.
    fn drop(&mut self) {
        self.shared.end();
    }
}

fn next_request<E>(shared: &Shared<E>) -> Option<Work> {
    shared.take().map(|(partition, taken)| Work::Send(partition, taken))
}

/// The next of those that have their turn in this round. None of them has, once there is none.
fn turn<W>(left: &mut usize, next: impl FnOnce() -> Option<W>) -> Option<W> {
    let next = (*left > 0).then(next).flatten();
    *left = if next.is_some() { *left - 1 } else { 0 };
    next
}
