//! What the application does, by callers that have characters too, and what they are told.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use event_log_core::engine::TransportLog;
use event_log_core::{
    AppendError, CloseError, EventLog as _, EventLogExt as _, Outcome, Receipt, SubmitErrorKind,
};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};

use super::Event;
use super::transport::Scripted;
use crate::chance::Chance;

pub(crate) type Log = TransportLog<Event, Scripted>;

/// How an event was handed in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Way {
    /// Its outcome is waited for.
    Asked,
    /// The same, in a batch, whose outcomes are looked at one after the other.
    Batch,
    /// Its ticket was dropped.
    Orphan,
    /// The call was dropped, perhaps.
    Cancelled,
    /// Drawn by `append_all`, which tells no single outcome.
    Drawn,
}

pub(crate) struct Noted {
    pub(crate) partition: u32,
    pub(crate) caller: u32,
    pub(crate) way: Way,
    pub(crate) at: Instant,
    pub(crate) ended: Option<Instant>,
    pub(crate) outcome: Option<Outcome<Event>>,
    /// Its `append_all` has said that all were appended.
    pub(crate) is_said: bool,
}

/// Everything that was handed in, by number, and what came of it.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) noted: Vec<Noted>,
    /// What `close` has returned, and whether the outcome of each is unknown.
    pub(crate) left_over: HashMap<u64, bool>,
}

#[derive(Clone)]
pub(crate) struct Calls {
    pub(crate) log: Log,
    pub(crate) book: Arc<Mutex<Book>>,
    pub(crate) is_done: Arc<AtomicBool>,
    caller: u32,
}

/// Times are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Caller {
    /// One after the other.
    Steady(u64),
    /// So many at once, each time.
    Burst(u64, u64),
    /// Gives up after the first, and comes again after the second.
    Impatient(u64, u64),
    /// Does not want to know.
    Careless(u64),
    /// Of all partitions.
    Batches(u64, u64),
    Draws(u64, u64),
    Flushes(u64, u64),
}

impl Caller {
    /// One that leaves a partition the turn of each event.
    pub(crate) fn gentle(chance: &mut Chance) -> Self {
        match chance.next(6) {
            0..=2 => Self::Steady(chance.of(&[50, 100, 1_000, 3_000, 30_000, 90_000])),
            3 => Self::Impatient(chance.of(&[0, 5, 50, 500]), chance.of(&[1_000, 5_000])),
            4 => Self::Careless(chance.of(&[1_000, 5_000])),
            _ => Self::Steady(chance.of(&[200, 500, 1_500])),
        }
    }

    pub(crate) fn any(chance: &mut Chance) -> Self {
        let pause = chance.of(&[100, 1_000, 10_000]);
        match chance.next(8) {
            0 | 1 => Self::gentle(chance),
            2 | 3 => Self::Burst(chance.of(&[2, 20, 200]), pause.max(1_000)),
            4 => Self::Batches(chance.of(&[1, 5, 50]), pause),
            5 => Self::Draws(chance.of(&[1, 10, 60]), pause),
            6 => Self::Flushes(chance.of(&[0, 300, 30_000]), pause),
            _ => Self::Impatient(chance.of(&[0, 5, 500]), pause),
        }
    }
}

impl Calls {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, book: Arc::default(), is_done: Arc::default(), caller: 0 }
    }

    fn event(&self, partition: u32, way: Way) -> Event {
        let noted = &mut self.book.lock().noted;
        let number = noted.len() as u64;
        let (at, caller) = (Instant::now(), self.caller);
        noted.push(Noted { partition, caller, way, at, ended: None, outcome: None, is_said: false });
        Event { partition, number }
    }

    fn note(&self, number: u64, outcome: Outcome<Event>) {
        if let Err(error) = &outcome {
            assert_eq!(error.event().number, number, "its own event comes back");
        }
        let noted = &mut self.book.lock().noted[number as usize];
        assert!(noted.outcome.is_none(), "{number} ends a second time: {outcome:?}");
        (noted.outcome, noted.ended) = (Some(outcome), Some(Instant::now()));
    }

    async fn note_receipt(&self, number: u64, receipt: Result<Receipt<Event>, AppendError<Event>>) {
        let outcome = match receipt {
            Ok(receipt) => receipt.acked().await,
            Err(error) => Err(error),
        };
        self.note(number, outcome);
    }

    /// Submits an event, and has its outcome noted when there is one.
    fn submit(&self, partition: u32, way: Way) -> Option<impl Future<Output = ()> + use<>> {
        let event = self.event(partition, way);
        let number = event.number;
        match self.log.submit(event) {
            Ok(ticket) => {
                let calls = self.clone();
                Some(async move { calls.note(number, ticket.await) })
            }
            Err(error) => {
                let is_known = matches!(error.kind, SubmitErrorKind::Full | SubmitErrorKind::Closed);
                assert!(is_known, "{error:?}");
                self.note(number, Err(error.into()));
                None
            }
        }
    }

    async fn batch(&self, chance: &mut Chance, count: u64) {
        let batch: Vec<_> = (0..count).map(|_| self.event(chance.partition(), Way::Batch)).collect();
        let numbers: Vec<_> = batch.iter().map(|event| event.number).collect();
        let receipts: Vec<_> = match self.log.append_batch(batch).await {
            Ok(receipts) => receipts.into_iter().map(Ok).collect(),
            Err(error) => error.into_outcomes(),
        };
        for (number, receipt) in numbers.into_iter().zip(receipts) {
            self.note_receipt(number, receipt).await;
        }
    }

    async fn draw(&self, partition: u32, count: u64) {
        let drawn = Mutex::new(Vec::new());
        let mut events = (0..count).map(|_| {
            let event = self.event(partition, Way::Drawn);
            drawn.lock().push(event.number);
            event
        });
        let appended = self.log.append_all(&mut events).await;
        let drawn = drawn.lock();
        match appended {
            Ok(appended) => {
                assert_eq!(appended, drawn.len() as u64, "each was drawn, and appended");
                let noted = &mut self.book.lock().noted;
                drawn.iter().for_each(|&number| noted[number as usize].is_said = true);
            }
            Err(error) => {
                assert_eq!(error.appended + error.failures.len() as u64, drawn.len() as u64, "{error:?}");
                for failure in error.failures {
                    self.note(failure.event().number, Err(failure));
                }
            }
        }
    }

    /// Goes on until all callers are to stop.
    pub(crate) async fn run(mut self, number: u32, caller: Caller, partition: u32, seed: u64) {
        self.caller = number;
        let mut chance = Chance(seed);
        while !self.is_done.load(Relaxed) {
            let pause = match caller {
                Caller::Steady(pause) => {
                    let event = self.event(partition, Way::Asked);
                    let number = event.number;
                    let receipt = self.log.append(event).await;
                    self.note_receipt(number, receipt).await;
                    pause
                }
                Caller::Burst(count, pause) => {
                    let outcomes: Vec<_> =
                        (0..count).filter_map(|_| self.submit(partition, Way::Asked)).collect();
                    for outcome in outcomes {
                        outcome.await;
                    }
                    pause
                }
                Caller::Impatient(patience, pause) => {
                    let event = self.event(partition, Way::Cancelled);
                    let number = event.number;
                    let appending = async { self.note_receipt(number, self.log.append(event).await).await };
                    let _ = timeout(Duration::from_millis(patience), appending).await;
                    pause
                }
                Caller::Careless(pause) => {
                    drop(self.submit(partition, Way::Orphan));
                    pause
                }
                Caller::Batches(count, pause) => {
                    self.batch(&mut chance, count).await;
                    pause
                }
                Caller::Draws(count, pause) => {
                    self.draw(partition, count).await;
                    pause
                }
                Caller::Flushes(patience, pause) => {
                    let before = self.book.lock().noted.len();
                    let flushed = timeout(Duration::from_millis(patience), self.log.flush()).await;
                    if flushed.is_ok_and(|flushed| flushed.is_ok()) {
                        self.is_flushed(before).await;
                    }
                    pause
                }
            };
            sleep(Duration::from_millis(pause)).await;
        }
    }

    /// What was submitted before a flush has an outcome after it, which those who wait for it may take now.
    async fn is_flushed(&self, before: usize) {
        // Batches and buffered receipts are looked at one after the other.
        for _ in 0..300 {
            tokio::task::yield_now().await;
        }
        let book = self.book.lock();
        for (number, noted) in book.noted[..before].iter().enumerate() {
            // Whether an `append` waits for space still cannot be seen from here, but `submit` has accepted the event or not.
            let is_submitted = noted.way == Way::Asked && noted.caller >= Self::SUBMITS;
            assert!(!is_submitted || noted.outcome.is_some(), "{number} is flushed and has no outcome");
        }
    }

    /// Callers of this number and behind it submit.
    pub(crate) const SUBMITS: u32 = 1_000;

    pub(crate) fn leave_over(&self, left: CloseError<Event>) {
        let left = [(false, left.not_appended), (true, left.unknown)];
        let left = left.into_iter().flat_map(|(unknown, all)| all.into_iter().map(move |one| (unknown, one)));
        let book = &mut *self.book.lock();
        for (is_unknown, (_, event)) in left {
            let before = book.left_over.insert(event.number, is_unknown);
            assert!(before.is_none(), "{} is left over twice", event.number);
        }
    }
}

/// Callers for a partition.
pub(crate) fn callers(chance: &mut Chance, is_healthy: bool) -> Vec<Caller> {
    let count = chance.of(&[1, 2, 3]);
    let mut caller = || if is_healthy { Caller::gentle(chance) } else { Caller::any(chance) };
    (0..count).map(|_| caller()).collect()
}
