//! The producing side: appends of every kind, and the ends that a handle can come to.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use event_log_core::conformance::{Defect, Probe};
use event_log_core::{
    AppendError, AppendErrorKind, BatchError, EventLog, Outcome, Receipt, SubmitError, SubmitErrorKind,
    partition_of,
};
use futures::FutureExt;

use super::{PATIENCE, World, key};
use crate::model::history::{Call, Fate, Reject, What};
use crate::model::op::{Event, Op};

type Results = Vec<Result<Receipt<Probe>, AppendError<Probe>>>;

/// An `append` or `append_batch` that has not returned.
pub(super) struct Running {
    events: Vec<usize>,
    future: Pin<Box<dyn Future<Output = Results> + Send>>,
}

impl World {
    pub(super) async fn produce(&mut self, op: &Op) {
        match op {
            Op::Submit(event) => self.submit(event, true),
            Op::Forget(event) => self.submit(event, false),
            Op::Append(event, wait) => {
                let running = self.begin_append(event);
                self.go_on(running, *wait).await;
            }
            Op::Abandon(event) => {
                let mut running = self.begin_append(event);
                match (&mut running.future).now_or_never() {
                    Some(results) => self.returned(&running.events, results),
                    None => self.abandon(running),
                }
            }
            Op::Batch(events, wait) => {
                let running = self.begin_batch(events);
                self.go_on(running, *wait).await;
            }
            _ => {}
        }
    }

    /// Makes the next event, and notes that it is offered.
    fn call(&mut self, event: &Event, call: impl FnOnce(usize) -> Call) -> (usize, Probe) {
        let number = self.events;
        self.events += 1;
        let key = key(event);
        let mut probe = Probe::keyless(number as u64);
        probe.key.clone_from(&key);
        probe.defect = event.defect;
        let partitions = self.history.settings.partitions;
        let state = self.log.state().current();
        self.saw(What::Called {
            event: number,
            handle: self.handle,
            call: call(number),
            key: key.map(|key| (key.clone(), partition_of(&key, partitions))),
            encodable: event.defect != Some(Defect::Unencodable),
            decodable: event.defect != Some(Defect::DecodeError),
            connection: state.connection,
            buffered: state.buffered,
            company: !self.running.is_empty(),
        });
        (number, probe)
    }

    fn submit(&mut self, event: &Event, keep: bool) {
        let (number, probe) = self.call(event, |_| Call::Submit);
        match self.log.submit(probe) {
            Ok(ticket) => {
                self.saw(What::Accepted { event: number });
                if keep {
                    self.tickets.push((number, ticket));
                } else {
                    drop(ticket);
                    self.saw(What::Abandoned { event: number });
                }
            }
            Err(rejected) => {
                let fate = rejection(rejected);
                self.saw(What::Resolved { event: number, fate });
            }
        }
    }

    fn begin_append(&mut self, event: &Event) -> Running {
        let (number, probe) = self.call(event, |_| Call::Append);
        let log = self.log.clone();
        let future = Box::pin(async move { vec![log.append(probe).await] });
        Running { events: vec![number], future }
    }

    fn begin_batch(&mut self, events: &[Event]) -> Running {
        let first = self.events;
        let (events, probes): (Vec<_>, Vec<_>) =
            events.iter().map(|event| self.call(event, |_| Call::Batch(first))).unzip();
        let log = self.log.clone();
        let future = Box::pin(async move {
            match log.append_batch(probes).await {
                Ok(receipts) => receipts.into_iter().map(Ok).collect(),
                Err(error) => BatchError::into_outcomes(error),
            }
        });
        Running { events, future }
    }

    /// Polls an append once, and then waits for it or leaves it to the side.
    async fn go_on(&mut self, mut running: Running, wait: bool) {
        if let Some(results) = (&mut running.future).now_or_never() {
            self.returned(&running.events, results);
        } else if !wait {
            self.running.push(running);
        } else if let Ok(results) = tokio::time::timeout(PATIENCE, &mut running.future).await {
            self.returned(&running.events, results);
        } else {
            self.saw(What::Stuck("append"));
            self.abandon(running);
        }
    }

    fn returned(&mut self, events: &[usize], results: Results) {
        if events.len() != results.len() {
            self.saw(What::Stuck("append_batch did not answer for every event"));
        }
        for (&event, result) in events.iter().zip(results) {
            match result {
                Ok(Receipt::Buffered(ticket)) => {
                    self.saw(What::Accepted { event });
                    self.tickets.push((event, ticket));
                }
                Ok(Receipt::Acked(committed)) => {
                    self.saw(What::Resolved { event, fate: fate(Ok(committed)) });
                }
                Err(error) => self.saw(What::Resolved { event, fate: fate(Err(error)) }),
            }
        }
    }

    fn abandon(&mut self, running: Running) {
        drop(running.future);
        for event in running.events {
            self.saw(What::Abandoned { event });
        }
    }

    /// Notes every outcome that is there.
    pub(super) fn collect(&mut self) {
        for mut running in std::mem::take(&mut self.running) {
            match (&mut running.future).now_or_never() {
                Some(results) => self.returned(&running.events, results),
                None => self.running.push(running),
            }
        }
        for (event, ticket) in std::mem::take(&mut self.tickets) {
            match ticket.try_outcome() {
                Ok(outcome) => self.saw(What::Resolved { event, fate: fate(outcome) }),
                Err(ticket) => self.tickets.push((event, ticket)),
            }
        }
    }

    pub(super) async fn flush(&mut self, limit: Duration) {
        let log = self.log.clone();
        let tickets = self.tickets.iter().map(|&(event, _)| event).collect();
        if tokio::time::timeout(limit, log.flush()).await.is_ok() {
            self.collect();
            self.saw(What::Flushed { tickets });
        } else if limit == PATIENCE {
            self.saw(What::Stuck("flush"));
        }
    }

    pub(super) async fn close(&mut self, deadline: Duration) {
        let log = self.log.clone();
        let Ok(closed) = tokio::time::timeout(PATIENCE, log.close(deadline)).await else {
            return self.saw(What::Stuck("close"));
        };
        let leftover = closed.err().unwrap_or_default();
        let ids = |events: Vec<(_, Probe)>| events.into_iter().map(|(id, _)| id).collect();
        let counts = (ids(leftover.not_appended), ids(leftover.unknown), leftover.returned_by_ticket);
        self.saw(What::Ended { handle: self.handle, leftover: Some(counts) });
        self.collect();
        self.reopen().await;
    }

    pub(super) async fn crash(&mut self) {
        for running in std::mem::take(&mut self.running) {
            self.abandon(running);
        }
        self.saw(What::Ended { handle: self.handle, leftover: None });
        // Opening the next one drops this one, which is the last handle: nothing else holds a clone now.
        self.reopen().await;
        self.settle().await;
    }

    /// Waits until every append that was left to the side has returned.
    pub(super) async fn finish_running(&mut self) {
        for mut running in std::mem::take(&mut self.running) {
            if let Ok(results) = tokio::time::timeout(PATIENCE, &mut running.future).await {
                self.returned(&running.events, results);
            } else {
                self.saw(What::Stuck("append"));
            }
        }
    }
}

fn rejection(rejected: SubmitError<Probe>) -> Fate {
    fate(Err(rejected.into()))
}

fn fate(outcome: Outcome<Probe>) -> Fate {
    let error = match outcome {
        Ok(committed) => {
            return match committed.position() {
                Some(position) => Fate::Committed { id: committed.id, position },
                None => Fate::Odd(format!("{committed:?}")),
            };
        }
        Err(error) => error,
    };
    let odd = Fate::Odd(format!("{error:?}"));
    let (id, may_be_there) = (error.event_id(), error.may_have_taken_effect());
    let (event, failure) = error.into_parts();
    let back = event.number;
    match (failure, id, may_be_there) {
        (AppendErrorKind::Rejected(reason), _, false) => match reason {
            SubmitErrorKind::Encode(_) => Fate::Rejected { why: Reject::Encode, back },
            SubmitErrorKind::Full => Fate::Rejected { why: Reject::Full, back },
            SubmitErrorKind::Closed => Fate::Rejected { why: Reject::Closed, back },
            SubmitErrorKind::BatchRefused => Fate::Rejected { why: Reject::Batch, back },
            _ => odd,
        },
        (AppendErrorKind::Dropped, Some(id), false) => Fate::Dropped { id, back },
        (AppendErrorKind::Closed, Some(id), false) => Fate::Closed { id, back },
        (AppendErrorKind::Expired(_), Some(id), false) => Fate::Expired { id, back },
        (AppendErrorKind::Unknown(_), Some(id), true) => Fate::Unknown { id, back },
        _ => odd,
    }
}
