//! A log whose partitions have characters: each behaves in its own way for as long as it has it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event_log_core::engine::{FetchRequest, FetchResponse, LogBuilder, StoredMessage, TransportLog};
use event_log_core::{Error, EventId, Headers, Offset, RawCodec, RawEvent, Timestamp};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::reach::Reach;

/// How a partition behaves, again and again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Character {
    /// It answers after its time, truly.
    Healthy,
    /// With each `every`th fetch the connection is lost, and with it all that is under way over it.
    Loses { every: u64 },
    /// It answers with one record at a time.
    Short,
    /// Storing its place loses the connection, each `every`th time.
    CommitLoses { every: u64 },
    /// Where the group stands in it cannot be asked for.
    NoPlace,
    /// It does not say where it ends, nor how far it has looked.
    Silent,
}

pub(crate) struct Part {
    pub(crate) records: Vec<StoredMessage>,
    /// When they were appended.
    pub(crate) since: Vec<Instant>,
    pub(crate) incarnation: u64,
    pub(crate) place: Option<Offset>,
    pub(crate) epoch: u64,
    /// Another member has it.
    pub(crate) is_away: bool,
    /// What a fetch takes.
    pub(crate) takes: Duration,
    pub(crate) character: Character,
    /// How often it was fetched, and its place stored.
    pub(crate) fetches: u64,
    pub(crate) stores: u64,
}

pub(crate) struct State {
    pub(crate) parts: Vec<Part>,
    pub(crate) generation: u64,
    pub(crate) clock: u64,
    /// What joining takes, and each question that concerns no partition alone.
    pub(crate) join_takes: Duration,
    pub(crate) asks_take: Duration,
    /// Of the questions, what only looking for news takes.
    pub(crate) wait_takes: Duration,
    /// And what asking for the places of the group takes besides.
    pub(crate) places_take: Duration,
    /// How often each call was made.
    pub(crate) calls: BTreeMap<&'static str, u64>,
}

pub(crate) struct Server {
    pub(crate) state: Mutex<State>,
    /// Something has changed that a wait may be for.
    pub(crate) changed: Notify,
}

pub(crate) fn fault() -> Error {
    Error::Backend { retryable: true, may_have_taken_effect: false, error: "a fault".into() }
}

impl Part {
    pub(crate) fn high(&self) -> Offset {
        Offset(self.records.len() as u64)
    }

    pub(crate) fn answer(&self, request: FetchRequest) -> FetchResponse {
        let from = request.from.0.min(self.records.len() as u64) as usize;
        let most = if self.character == Character::Short { 1 } else { request.max_records };
        let records: Vec<_> = self.records[from..].iter().take(most).cloned().collect();
        let is_another = |after: event_log_core::engine::Landmark| {
            self.records.get(after.offset.0 as usize).is_some_and(|record| record.id != after.id)
        };
        let tells = self.character != Character::Silent;
        FetchResponse {
            scanned_to: tells.then(|| Offset((from + records.len()) as u64).max(request.from)),
            records,
            low: Some(Offset::ZERO),
            high: tells.then(|| self.high()),
            truncated: request.after.is_some_and(is_another),
            incarnation: Some(self.incarnation),
        }
    }
}

impl Server {
    pub(crate) fn new(partitions: usize) -> Arc<Self> {
        let part = |_| Part {
            records: Vec::new(),
            since: Vec::new(),
            incarnation: 0,
            place: None,
            epoch: 0,
            is_away: false,
            takes: Duration::ZERO,
            character: Character::Healthy,
            fetches: 0,
            stores: 0,
        };
        let state = State {
            parts: (0..partitions).map(part).collect(),
            generation: 0,
            clock: 0,
            join_takes: Duration::ZERO,
            asks_take: Duration::ZERO,
            wait_takes: Duration::ZERO,
            places_take: Duration::ZERO,
            calls: BTreeMap::new(),
        };
        Arc::new(Self { state: Mutex::new(state), changed: Notify::new() })
    }

    pub(crate) async fn open(self: &Arc<Self>) -> TransportLog<RawEvent, Reach> {
        LogBuilder::new(Arc::new(RawCodec)).open(Arc::new(Reach(Arc::clone(self)))).await.unwrap()
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock());
        self.changed.notify_waiters();
        changed
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.lock())
    }

    pub(crate) fn called(&self, name: &'static str) {
        *self.state.lock().calls.entry(name).or_default() += 1;
    }

    pub(crate) fn append(&self, partition: usize, number: u64) {
        self.change(|state| {
            state.clock += 1;
            let timestamp = Timestamp(state.clock);
            let part = &mut state.parts[partition];
            part.records.push(StoredMessage {
                offset: part.high(),
                id: EventId::from_u128(u128::from(number) << 8 | 1),
                timestamp,
                headers: Headers::new(),
                payload: Bytes::from(number.to_string()),
            });
            part.since.push(Instant::now());
        });
    }

    /// The partition goes to another member, or comes back from there.
    pub(crate) fn moves(&self, partition: usize) {
        self.change(|state| {
            state.generation += 1;
            let part = &mut state.parts[partition];
            part.is_away = !part.is_away;
            part.epoch += u64::from(!part.is_away);
        });
    }
}
