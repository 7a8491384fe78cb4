//! The producer's side of a broken log.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use event_log_core::conformance::Probe;
use event_log_core::{
    AppendAck, AppendError, AppendErrorKind, BatchError, CloseError, ConsumerOptions, Error, EventConsumer,
    EventId, EventLog, Lag, LogState, Offset, Outcome, PartitionId, Promise, Receipt, StateReceiver,
    SubmitError, Ticket, Watermarks,
};

use super::Break;
use super::consumer::BrokenConsumer;

type Inner = Arc<dyn EventLog<Probe>>;

pub(super) struct BrokenLog {
    inner: Inner,
    fault: Break,
    closed: AtomicBool,
    counted: AtomicU64,
    held: Mutex<Option<(Probe, Promise<Probe>)>>,
}

/// Where the key is written when another one is hashed in its place.
const SALT: &str = "salted:";

pub(super) fn unsalted(mut probe: Probe) -> Probe {
    if let Some((key, padding)) = probe.padding.strip_prefix(SALT).and_then(|rest| rest.split_once('|')) {
        (probe.key, probe.padding) = (Some(key.to_owned()), padding.to_owned());
    }
    probe
}

fn invented() -> AppendAck {
    AppendAck::new(EventId::from_u128(0), PartitionId(0), None)
}

impl BrokenLog {
    pub(super) fn new(inner: Inner, fault: Break) -> Self {
        let (closed, counted, held) = (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(None));
        Self { inner, fault, closed, counted, held }
    }

    fn is_away(&self) -> bool {
        !self.inner.state().current().is_connected()
    }

    /// What becomes of the event before it gets to the real log: `Err` when it does not.
    fn before(&self, mut event: Probe) -> Result<Probe, AppendAck> {
        match self.fault {
            Break::LosesAppends if event.number % 10 == 7 => return Err(invented()),
            Break::AcceptsAfterClose if self.closed.load(Ordering::SeqCst) => return Err(invented()),
            Break::SwallowsOversized if event.padding.len() > 1_000 => event.padding.truncate(10),
            Break::AppendsTwice if event.number % 10 == 7 => drop(self.inner.submit(event.clone())),
            Break::PartitionsByItsOwnHash => {
                if let Some(key) = event.key.replace("the same for all".to_owned()) {
                    event.padding = format!("{SALT}{key}|{}", event.padding);
                }
            }
            _ => {}
        }
        Ok(event)
    }

    fn after(&self, committed: AppendAck) -> AppendAck {
        let AppendAck { id, partition, offset, .. } = committed;
        match self.fault {
            Break::InventsOffsets => {
                let counted = self.counted.fetch_add(1, Ordering::SeqCst);
                AppendAck::new(id, partition, Some(Offset(counted)))
            }
            Break::ForgetsIds => AppendAck::new(EventId::from_u128(id.as_u128() ^ 1), partition, offset),
            _ => committed,
        }
    }

    fn outcome(&self, outcome: Outcome<Probe>) -> Outcome<Probe> {
        match outcome {
            Ok(committed) => Ok(self.after(committed)),
            Err(error)
                if self.fault == Break::DropsWithoutAWord
                    && matches!(error.kind(), AppendErrorKind::Dropped) =>
            {
                Ok(invented())
            }
            Err(error) => Err(error),
        }
    }

    /// A ticket whose outcome is twisted on its way.
    fn ticket(&self, ticket: Ticket<Probe>) -> Ticket<Probe> {
        let twists = matches!(
            self.fault,
            Break::DropsWithoutAWord | Break::InventsOffsets | Break::ForgetsIds | Break::ForgetsTickets
        );
        let ticket = match ticket.try_outcome() {
            Ok(outcome) => return Ticket::resolved(self.outcome(outcome)),
            Err(ticket) if !twists => return ticket,
            Err(ticket) => ticket,
        };
        // Never handed back: every outcome of it comes from the ticket inside.
        let (promise, twisted) = Ticket::pending(Probe::new("stand-in", 0));
        if self.fault == Break::ForgetsTickets {
            std::mem::forget(promise);
            return twisted;
        }
        let (inner, fault) = (Arc::clone(&self.inner), self.fault);
        tokio::spawn(async move {
            let outcome = ticket.await;
            drop(promise.resolve(Self::new(inner, fault).outcome(outcome)));
        });
        twisted
    }

    /// Keeps every other buffered event back until the next one has been submitted.
    fn submit_reordered(&self, event: Probe) -> Result<Ticket<Probe>, SubmitError<Probe>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((earlier, promise)) = held.take() else {
            let (promise, ticket) = Ticket::pending(event.clone());
            *held = Some((event, promise));
            return Ok(ticket);
        };
        let ticket = self.inner.submit(event)?;
        let late = self.inner.submit(earlier)?;
        tokio::spawn(async move { drop(promise.resolve(late.await)) });
        Ok(ticket)
    }

    async fn receipt(&self, receipt: Receipt<Probe>) -> Receipt<Probe> {
        match receipt {
            Receipt::Acked(committed) => Receipt::Acked(self.after(committed)),
            Receipt::Buffered(ticket) => Receipt::Buffered(self.ticket(ticket)),
        }
    }
}

#[async_trait]
impl EventLog<Probe> for BrokenLog {
    fn submit(&self, event: Probe) -> Result<Ticket<Probe>, SubmitError<Probe>> {
        match self.before(event) {
            Err(committed) => Ok(Ticket::resolved(Ok(committed))),
            Ok(event) if self.fault == Break::ReordersTheBuffer && self.is_away() => {
                self.submit_reordered(event)
            }
            Ok(event) => self.inner.submit(event).map(|ticket| self.ticket(ticket)),
        }
    }

    async fn append(&self, event: Probe) -> Result<Receipt<Probe>, AppendError<Probe>> {
        if self.fault == Break::BlocksWhileAway {
            let mut state = self.inner.state();
            let _ = state.wait_for(LogState::is_connected).await;
        }
        match self.before(event) {
            Err(committed) => Ok(Receipt::Acked(committed)),
            Ok(event) => Ok(self.receipt(self.inner.append(event).await?).await),
        }
    }

    async fn append_batch(&self, mut events: Vec<Probe>) -> Result<Vec<Receipt<Probe>>, BatchError<Probe>> {
        if self.fault == Break::ReversesBatches {
            events.reverse();
        }
        let mut sent = Vec::new();
        for event in events {
            match self.before(event) {
                Ok(event) => sent.push(event),
                Err(committed) => return Ok(vec![Receipt::Acked(committed)]),
            }
        }
        let mut receipts = Vec::new();
        for receipt in self.inner.append_batch(sent).await? {
            receipts.push(self.receipt(receipt).await);
        }
        Ok(receipts)
    }

    async fn consumer_with(
        &self,
        group: &str,
        mut options: ConsumerOptions,
    ) -> Result<Box<dyn EventConsumer<Probe>>, Error> {
        let group = if self.fault == Break::SharesTheCursor { "everybody" } else { group };
        BrokenConsumer::twist(self.fault, &mut options);
        let inner = self.inner.consumer_with(group, options).await?;
        Ok(Box::new(BrokenConsumer::new(inner, self.fault)))
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.inner.watermarks().await
    }

    async fn lag(&self, group: &str) -> Result<Lag, Error> {
        self.inner.lag(group).await
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        self.inner.delete_group(group).await
    }

    fn state(&self) -> StateReceiver {
        self.inner.state()
    }

    async fn flush(&self) -> Result<(), Error> {
        self.inner.flush().await
    }

    async fn close(&self, deadline: Duration) -> Result<(), CloseError<Probe>> {
        self.closed.store(true, Ordering::SeqCst);
        let closed = self.inner.close(deadline).await;
        if self.fault == Break::ClosesWithoutAWord { Ok(()) } else { closed }
    }
}
