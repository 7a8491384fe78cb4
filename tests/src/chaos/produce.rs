//! A producer: every way to append, and a note of each call before it is made.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use event_log_core::conformance::Probe;
use event_log_core::{AppendAck, AppendError, AppendErrorKind, EventLog, Outcome, Receipt, Ticket};
use futures::FutureExt;
use futures::future::join_all;

use super::history::{EventNumber, Fate, Saw};
use super::run::{Log, PATIENCE, World};

/// Keys of one producer. Nobody else uses them, so that the order of their events is that of its calls.
const KEYS: u64 = 8;

/// Tickets that a producer has open before it waits for the oldest.
const OPEN_TICKETS: usize = 400;

struct Producer {
    world: Arc<World>,
    /// Where its handle is.
    slot: usize,
    name: u64,
    numbers: Range<EventNumber>,
    chance: fastrand::Rng,
    open: VecDeque<(EventNumber, Ticket<Probe>)>,
}

/// Offers the events with these numbers, and waits for the outcome of each.
pub(super) async fn produce(
    world: Arc<World>,
    slot: usize,
    name: u64,
    numbers: Range<EventNumber>,
    chance: fastrand::Rng,
) {
    let mut producer = Producer { world, slot, name, numbers, chance, open: VecDeque::new() };
    while !producer.numbers.is_empty() && !producer.world.is_enough_offered() {
        producer.step().await;
        producer.settle(OPEN_TICKETS).await;
    }
    producer.settle(0).await;
}

impl Producer {
    async fn step(&mut self) {
        // The same handle for the whole step: what crashes meanwhile crashes under it.
        let (handle, log) = self.world.handle(self.slot);
        match self.chance.u32(0..20) {
            0..8 => self.submit(handle, &log),
            8..11 => self.append(handle, &log).await,
            11..14 => self.append_many(handle, &log).await,
            14..17 => self.append_batch(handle, &log).await,
            17 => self.abandon(handle, &log),
            _ => {
                let idle = Duration::from_micros(self.chance.u64(1..8_000));
                tokio::time::sleep(idle).await;
            }
        }
        // On one thread, others would hardly have their turn otherwise.
        tokio::task::yield_now().await;
    }

    /// The next event, if there is one, and the note that it is about to be offered.
    fn offer(&mut self, handle: u64) -> Option<(EventNumber, Probe)> {
        let event = self.numbers.next()?;
        let probe = self.probe(event);
        self.world.recorder.saw(Saw::Offered { event, handle, key: probe.key.clone() });
        self.world.offered();
        Some((event, probe))
    }

    fn probe(&mut self, number: EventNumber) -> Probe {
        let padding = if self.chance.u32(0..60) == 0 { 8_000 } else { 200 };
        let padding = self.chance.usize(0..padding);
        let probe = match self.chance.u64(0..KEYS * 3) {
            0 => Probe::keyless(number),
            // One of all producers has the empty key.
            1 if self.name == 0 => Probe::new("", number),
            nth => Probe::new(&format!("{}-{}", self.name, nth % KEYS), number),
        };
        probe.padded(padding)
    }

    fn submit(&mut self, handle: u64, log: &Log) {
        for _ in 0..self.chance.u32(1..60) {
            let Some((event, probe)) = self.offer(handle) else { return };
            match log.submit(probe) {
                Ok(ticket) if self.chance.u32(0..50) == 0 => {
                    drop(ticket);
                    self.world.recorder.saw(Saw::Abandoned { event });
                }
                Ok(ticket) => self.open.push_back((event, ticket)),
                Err(rejected) => {
                    self.ended(event, Err(rejected.into()));
                    // It is full: going on at once would be refused as well.
                    return;
                }
            }
        }
    }

    async fn append(&mut self, handle: u64, log: &Log) {
        let Some((event, probe)) = self.offer(handle) else { return };
        let receipt = in_time(log.append(probe)).await;
        self.received(event, receipt);
    }

    async fn append_many(&mut self, handle: u64, log: &Log) {
        let offers: Vec<_> = (0..self.chance.u32(2..30)).map_while(|_| self.offer(handle)).collect();
        let appends = offers.into_iter().map(|(event, probe)| log.append(probe).map(move |it| (event, it)));
        // They are first polled in this order, which is the order of the notes.
        let Some(receipts) = in_time(join_all(appends)).await else {
            return self.world.recorder.saw(Saw::Stuck { what: "appends".to_owned() });
        };
        for (event, receipt) in receipts {
            self.received(event, Some(receipt));
        }
    }

    async fn append_batch(&mut self, handle: u64, log: &Log) {
        let offers: Vec<_> = (0..self.chance.u32(1..80)).map_while(|_| self.offer(handle)).collect();
        let (events, probes): (Vec<_>, Vec<_>) = offers.into_iter().unzip();
        let outcomes = match in_time(log.append_batch(probes)).await {
            Some(Ok(receipts)) => receipts.into_iter().map(Ok).collect(),
            Some(Err(error)) => error.into_outcomes(),
            None => return self.world.recorder.saw(Saw::Stuck { what: "a batch".to_owned() }),
        };
        for (event, receipt) in events.into_iter().zip(outcomes) {
            self.received(event, Some(receipt));
        }
    }

    /// Begins an append, and drops it if it does not end at once.
    fn abandon(&mut self, handle: u64, log: &Log) {
        let Some((event, probe)) = self.offer(handle) else { return };
        match log.append(probe).now_or_never() {
            None => self.world.recorder.saw(Saw::Abandoned { event }),
            receipt => self.received(event, receipt),
        }
    }

    fn received(&mut self, event: EventNumber, receipt: Option<Result<Receipt<Probe>, AppendError<Probe>>>) {
        match receipt {
            Some(Ok(Receipt::Buffered(ticket))) => self.open.push_back((event, ticket)),
            Some(Ok(Receipt::Acked(committed))) => self.ended(event, Ok(committed)),
            Some(Err(error)) => self.ended(event, Err(error)),
            None => self.world.recorder.saw(Saw::Stuck { what: format!("event {event}") }),
        }
    }

    fn ended(&self, event: EventNumber, outcome: Outcome<Probe>) {
        self.world.recorder.saw(Saw::Ended { event, fate: fate(outcome) });
    }

    /// Waits until no more than `most` tickets are open, and notes the outcomes that are known.
    async fn settle(&mut self, most: usize) {
        while let Some((event, ticket)) = self.open.pop_front() {
            match ticket.try_outcome() {
                Ok(outcome) => self.ended(event, outcome),
                Err(ticket) if self.open.len() < most => {
                    self.open.push_front((event, ticket));
                    return;
                }
                Err(ticket) => match in_time(ticket).await {
                    Some(outcome) => self.ended(event, outcome),
                    None => self.world.recorder.saw(Saw::Stuck { what: format!("the ticket of {event}") }),
                },
            }
        }
    }
}

/// What comes of it, if it ends at all.
async fn in_time<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(PATIENCE, future).await.ok()
}

fn fate(outcome: Outcome<Probe>) -> Fate {
    match outcome {
        Ok(AppendAck { id, partition, offset, .. }) => Fate::Committed { id, partition, offset },
        Err(error) => {
            let (back, id) = (error.event().number, error.event_id());
            match (error.kind(), id) {
                (AppendErrorKind::Unknown(_), Some(id)) => Fate::Unknown { id, back },
                (AppendErrorKind::Rejected(reason), _) => {
                    Fate::NotAppended { why: format!("rejected: {reason}"), back }
                }
                (failure, _) => Fate::NotAppended { why: failure.to_string(), back },
            }
        }
    }
}
