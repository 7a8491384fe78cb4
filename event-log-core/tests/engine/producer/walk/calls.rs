//! What the application does, and what it is told.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use event_log_core::engine::TransportLog;
use event_log_core::{
    AppendError, CloseError, EventLog as _, EventLogExt as _, Outcome, Receipt, SubmitErrorKind, Ticket,
};
use parking_lot::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::DAY;
use super::server::{Event, Scripted};
use crate::chance::Chance;

type Log = TransportLog<Event, Scripted>;

/// The outcomes of each event, of which there has to be one.
#[derive(Clone, Default)]
struct Outcomes(Arc<Mutex<BTreeMap<u64, Vec<Outcome<Event>>>>>);

impl Outcomes {
    fn note(&self, number: u64, outcome: Outcome<Event>) {
        if let Err(error) = &outcome {
            assert_eq!(error.event().number, number, "its own event comes back");
        }
        self.0.lock().entry(number).or_default().push(outcome);
    }

    async fn note_receipt(&self, number: u64, receipt: Result<Receipt<Event>, AppendError<Event>>) {
        let outcome = match receipt {
            Ok(receipt) => receipt.acked().await,
            Err(error) => Err(error),
        };
        self.note(number, outcome);
    }
}

pub(crate) struct Calls {
    seed: u64,
    log: Option<Log>,
    outcomes: Outcomes,
    tickets: Vec<(u64, Ticket<Event>)>,
    tasks: Vec<JoinHandle<()>>,
    ended: Ended,
}

/// What came of a walk, to be judged.
#[derive(Default)]
pub(crate) struct Ended {
    pub(crate) seed: u64,
    /// How many events there were, and the partition of each.
    pub(crate) count: u64,
    pub(crate) partitions: HashMap<u64, u32>,
    pub(crate) outcomes: BTreeMap<u64, Vec<Outcome<Event>>>,
    /// Events whose tickets were dropped, and those of calls that were.
    pub(crate) orphans: HashSet<u64>,
    pub(crate) cancelled: HashSet<u64>,
    /// The log was dropped, and not closed.
    pub(crate) is_dropped: bool,
    /// What `close` has returned, and whether the outcome of each is unknown.
    pub(crate) left_over: HashMap<u64, bool>,
    pub(crate) returned_by_ticket: u64,
}

impl Calls {
    pub(crate) fn new(seed: u64, log: Log) -> Self {
        Self {
            seed,
            log: Some(log),
            outcomes: Outcomes::default(),
            tickets: Vec::new(),
            tasks: Vec::new(),
            ended: Ended { seed, ..Ended::default() },
        }
    }

    fn log(&self) -> Log {
        self.log.clone().unwrap()
    }

    fn event(&mut self, partition: u32) -> Event {
        let number = self.ended.count;
        self.ended.count += 1;
        self.ended.partitions.insert(number, partition);
        Event { partition, number }
    }

    pub(crate) async fn step(&mut self, chance: &mut Chance) {
        match chance.next(13) {
            0..=6 => self.submit(chance),
            7 | 8 => {
                let event = self.event(chance.partition());
                let (log, outcomes, number) = (self.log(), self.outcomes.clone(), event.number);
                let appending = async move { outcomes.note_receipt(number, log.append(event).await).await };
                let cancels = chance.next(3) == 0;
                self.run(chance, appending, &[number], cancels).await;
            }
            9 | 10 => {
                let count = chance.of(&[1, 2, 5, 30]);
                let batch: Vec<_> = (0..count).map(|_| self.event(chance.partition())).collect();
                let numbers: Vec<_> = batch.iter().map(|event| event.number).collect();
                let (log, outcomes, noted) = (self.log(), self.outcomes.clone(), numbers.clone());
                let appending = async move {
                    let receipts: Vec<_> = match log.append_batch(batch).await {
                        Ok(receipts) => receipts.into_iter().map(Ok).collect(),
                        Err(error) => error.into_outcomes(),
                    };
                    for (number, receipt) in noted.into_iter().zip(receipts) {
                        outcomes.note_receipt(number, receipt).await;
                    }
                };
                let cancels = chance.next(4) == 0;
                self.run(chance, appending, &numbers, cancels).await;
            }
            11 => {
                let event = self.event(chance.partition());
                let (log, outcomes, number) = (self.log(), self.outcomes.clone(), event.number);
                let appending = async move { outcomes.note(number, log.append_acked(event).await) };
                self.run(chance, appending, &[number], false).await;
            }
            _ => {
                let patience = Duration::from_millis(chance.of(&[0, 300, 30_000]));
                let _ = self.flush(patience).await;
            }
        }
    }

    fn submit(&mut self, chance: &mut Chance) {
        let event = self.event(chance.partition());
        let number = event.number;
        match self.log().submit(event) {
            Ok(ticket) if chance.next(5) == 0 => {
                drop(ticket);
                self.ended.orphans.insert(number);
            }
            Ok(ticket) => self.tickets.push((number, ticket)),
            Err(error) => {
                assert!(matches!(error.kind, SubmitErrorKind::Full), "{error:?}");
                self.outcomes.note(number, Err(error.into()));
            }
        }
    }

    async fn run(
        &mut self,
        chance: &mut Chance,
        appending: impl Future<Output = ()> + Send + 'static,
        numbers: &[u64],
        cancels: bool,
    ) {
        if cancels {
            self.ended.cancelled.extend(numbers);
            drop(timeout(Duration::from_millis(chance.of(&[0, 5, 500])), appending).await);
        } else {
            self.tasks.push(tokio::spawn(appending));
            tokio::task::yield_now().await;
        }
    }

    /// After a flush that has ended every ticket has an outcome.
    pub(crate) async fn flush(&mut self, patience: Duration) -> Option<()> {
        timeout(patience, self.log().flush()).await.ok()?.unwrap();
        self.note_tickets();
        Some(())
    }

    fn note_tickets(&mut self) {
        for (number, ticket) in std::mem::take(&mut self.tickets) {
            let outcome = ticket.try_outcome();
            let outcome = outcome.unwrap_or_else(|_| panic!("seed {}: {number} is pending", self.seed));
            self.outcomes.note(number, outcome);
        }
    }

    /// Without `close`.
    pub(crate) fn give_up(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        self.log = None;
    }

    /// Everything has ended, and `close` has returned this, if it was called.
    pub(crate) async fn end(mut self, left: Option<Option<CloseError<Event>>>) -> Ended {
        self.note_tickets();
        self.ended.is_dropped = left.is_none();
        for task in self.tasks {
            match timeout(DAY, task).await.expect("an append ends") {
                Ok(()) => {}
                Err(error) => assert!(self.ended.is_dropped && error.is_cancelled(), "{error}"),
            }
        }
        if let Some(left) = left.flatten() {
            self.ended.returned_by_ticket = left.returned_by_ticket as u64;
            let left = [(false, left.not_appended), (true, left.unknown)];
            for (is_unknown, (_, event)) in left
                .into_iter()
                .flat_map(|(is_unknown, events)| events.into_iter().map(move |one| (is_unknown, one)))
            {
                let before = self.ended.left_over.insert(event.number, is_unknown);
                assert!(before.is_none(), "{} is left over twice", event.number);
            }
        }
        self.ended.outcomes = std::mem::take(&mut *self.outcomes.0.lock());
        self.ended
    }
}
