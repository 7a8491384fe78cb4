//! The producing side of a program.

use event_log_core::conformance::{Fault, NotRun, Probe};
use event_log_core::{AppendAck, AppendError, AppendErrorKind, EventLog, Receipt, SubmitErrorKind};

use super::op::Event;
use super::{End, PATIENCE, Seen, World};

impl World<'_> {
    pub(super) fn probes(&mut self, events: &[Event]) -> Vec<Probe> {
        let probe = |(event, number): (&Event, u64)| Probe {
            defect: event.defect,
            ..Probe::new(&format!("key-{}", event.key), number)
        };
        let first = self.events;
        self.events += events.len() as u64;
        events.iter().zip(first..).map(probe).collect()
    }

    pub(super) async fn append(&mut self, events: &[Event]) -> Seen {
        let probes = self.probes(events);
        Seen::Ended(append(&*self.log, probes).await)
    }

    pub(super) async fn submit(&mut self, events: &[Event]) -> Seen {
        let tickets: Vec<_> = self.probes(events).into_iter().map(|event| self.log.submit(event)).collect();
        self.log.flush().await.expect("the log is open");
        let mut ends = Vec::new();
        for ticket in tickets {
            ends.push(match ticket {
                // `flush` has waited for it.
                Ok(ticket) => ticket.try_outcome().map_or(End::Failed("pending"), ended),
                Err(rejected) => End::Failed(rejection(&rejected.kind)),
            });
        }
        Seen::Ended(ends)
    }

    pub(super) async fn outage(&mut self, events: &[Event]) -> Result<Seen, NotRun> {
        self.harness.inject(Fault::Disconnect).await?;
        self.until_connected(false).await;
        let tickets: Vec<_> = self.probes(events).into_iter().map(|event| self.log.submit(event)).collect();
        self.harness.inject(Fault::Reconnect).await?;
        self.until_connected(true).await;
        self.revive().await;
        let mut ends = Vec::new();
        for ticket in tickets {
            ends.push(match ticket {
                Ok(ticket) => ended(ticket.await),
                Err(rejected) => End::Failed(rejection(&rejected.kind)),
            });
        }
        Ok(Seen::Ended(ends))
    }

    async fn until_connected(&self, connected: bool) {
        let mut state = self.log.state();
        let change = state.wait_for(|state| state.is_connected() == connected);
        let state = tokio::time::timeout(PATIENCE, change).await.expect("the log notices");
        assert!(!state.is_closed(), "the log is open");
    }
}

/// Appends a batch and waits for every outcome.
pub(super) async fn append(log: &dyn EventLog<Probe>, probes: Vec<Probe>) -> Vec<End> {
    let receipts = match log.append_batch(probes).await {
        Ok(receipts) => receipts.into_iter().map(Ok).collect(),
        Err(error) => error.into_outcomes(),
    };
    let mut ends = Vec::new();
    for receipt in receipts {
        ends.push(match receipt {
            Ok(receipt) => ended(Receipt::acked(receipt).await),
            Err(error) => ended(Err(error)),
        });
    }
    ends
}

fn ended(outcome: Result<AppendAck, AppendError<Probe>>) -> End {
    match outcome {
        Ok(committed) => match committed.position() {
            Some(position) => End::Committed(position.partition.0, position.offset.0),
            None => End::Failed("nowhere"),
        },
        Err(error) => End::Failed(match error.kind() {
            AppendErrorKind::Rejected(reason) => rejection(reason),
            AppendErrorKind::Dropped => "dropped",
            AppendErrorKind::Expired(_) => "expired",
            AppendErrorKind::Closed => "closed",
            AppendErrorKind::Unknown(_) => "unknown",
            _ => "refused",
        }),
    }
}

const fn rejection(reason: &SubmitErrorKind) -> &'static str {
    match reason {
        SubmitErrorKind::Full => "full",
        SubmitErrorKind::Encode(_) => "unencodable",
        SubmitErrorKind::BatchRefused => "batch refused",
        SubmitErrorKind::TooLarge { .. } => "too large",
        SubmitErrorKind::Closed => "closed",
        _ => "rejected",
    }
}
