//! A log whose partitions have characters. It does as the documentation of `Transport` says, and as badly as that allows.

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use event_log_core::engine::{Message, StoredMessage};
use event_log_core::{Error, EventId, Offset, PartitionId, PartitionWatermarks, Watermarks};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::nature::{Character, Fortune, Sends, Temper};
use super::{Event, OTHERS, PARTITIONS};
use crate::chance::Chance;

#[derive(Clone)]
pub(crate) struct Partition {
    pub(crate) character: Character,
    pub(crate) low: u64,
    /// All that was appended since it began again, what is no longer retained too.
    pub(crate) records: Vec<StoredMessage>,
    /// What was there before.
    pub(crate) former: Vec<Vec<StoredMessage>>,
    pub(crate) sends: u64,
    pub(crate) fetches: u64,
}

impl Partition {
    pub(crate) fn append(&mut self, messages: &[Message]) -> Offset {
        let base = self.records.len() as u64;
        self.records.extend(crate::served::stored(messages, base));
        Offset(base)
    }

    /// Every nth request of the partition is struck, whatever is in it.
    pub(crate) fn is_nth(&self, every: u64) -> bool {
        self.sends % every == 0
    }
}

/// How much is asked of the log, by which a processor that is kept busy is found out.
#[derive(Default)]
pub(crate) struct Calls {
    since: Option<Instant>,
    /// Within a second, without those that brought something.
    fruitless: u64,
    first_connects: u64,
    pub(crate) most_fruitless: u64,
    pub(crate) most_first_connects: u64,
    /// At this moment, of any kind.
    at: Option<Instant>,
    at_once: u64,
}

impl Calls {
    /// More than so many at one moment of a paused clock do not end.
    const MOST_AT_ONCE: u64 = 200_000;

    pub(crate) fn note(&mut self, is_fruitless: bool, is_first_connect: bool) {
        let now = Instant::now();
        if self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            (self.since, self.fruitless, self.first_connects) = (Some(now), 0, 0);
        }
        self.fruitless += u64::from(is_fruitless);
        self.first_connects += u64::from(is_first_connect);
        self.most_fruitless = self.most_fruitless.max(self.fruitless);
        self.most_first_connects = self.most_first_connects.max(self.first_connects);
        self.at_once = if self.at == Some(now) { self.at_once + 1 } else { 0 };
        self.at = Some(now);
        assert!(self.at_once < Self::MOST_AT_ONCE, "the writer asks without an end, and time stands still");
    }
}

pub(crate) struct State {
    pub(crate) chance: Chance,
    pub(crate) temper: Temper,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) in_flight: HashSet<PartitionId>,
    /// Nothing can be reached.
    pub(crate) is_down: bool,
    /// How often there was a connection to replace all that were lost, or the first.
    pub(crate) generation: u64,
    /// How many connections of that generation there are, and whether one has told that it is lost.
    pub(crate) open: u64,
    pub(crate) is_lost: bool,
    pub(crate) connects: u64,
    pub(crate) questions: u64,
    pub(crate) calls: Calls,
}

pub(crate) struct Server {
    pub(crate) state: Mutex<State>,
    /// Changes when every connection is cut.
    pub(crate) link: watch::Sender<u64>,
    /// The turn of a question where the partitions end.
    pub(crate) turn: tokio::sync::Mutex<()>,
}

pub(crate) fn away() -> Error {
    Error::Unavailable(None)
}

pub(crate) async fn pause(millis: u64) {
    // No turn of the runtime where it takes no time at all.
    if millis > 0 {
        sleep(Duration::from_millis(millis)).await;
    }
}

/// What is asked and answered, where `TRACE` is set.
pub(crate) fn tell(text: impl FnOnce() -> String) {
    thread_local!(static START: Instant = Instant::now());
    if std::env::var("TRACE").is_ok() {
        eprintln!("{:>10.3} {}", START.with(Instant::elapsed).as_secs_f64(), text());
    }
}

pub(crate) fn is_nth(number: u64, every: u64) -> bool {
    every > 0 && number % every == 0
}

impl Server {
    pub(crate) fn new(chance: &mut Chance, temper: Temper) -> Arc<Self> {
        let partition = || Partition {
            character: Character::calm(),
            low: 0,
            records: Vec::new(),
            former: Vec::new(),
            sends: 0,
            fetches: 0,
        };
        let state = State {
            chance: Chance(chance.next(u64::MAX)),
            temper,
            partitions: (0..PARTITIONS).map(|_| partition()).collect(),
            in_flight: HashSet::new(),
            is_down: false,
            generation: 0,
            open: 0,
            is_lost: false,
            connects: 0,
            questions: 0,
            calls: Calls::default(),
        };
        let (link, turn) = (watch::Sender::new(0), tokio::sync::Mutex::new(()));
        Arc::new(Self { state: Mutex::new(state), link, turn })
    }

    pub(crate) fn with<T>(&self, partition: PartitionId, change: impl FnOnce(&mut Partition) -> T) -> T {
        change(&mut self.state.lock().partitions[partition.0 as usize])
    }

    pub(crate) fn temper(&self) -> Temper {
        self.state.lock().temper
    }

    pub(crate) fn becomes(&self, partition: u32, character: Character) {
        self.with(PartitionId(partition), |partition| partition.character = character);
    }

    /// All is well from now on.
    pub(crate) fn calm(&self) {
        let state = &mut *self.state.lock();
        state.temper.another = Ok(0);
        (state.temper.connect_fails, state.temper.marks_fail, state.temper.marks_after) = (0, 0, 1);
        (state.temper.falls_together, state.temper.dies_after, state.is_down) = (false, 0, false);
        state.partitions.iter_mut().for_each(|partition| partition.character = Character::calm());
    }

    /// What happens to the partitions at a moment that no caller has chosen.
    pub(crate) fn moment(&self, chance: &mut Chance) {
        let state = &mut *self.state.lock();
        state.is_down = state.temper.has_outages && chance.once_in(3);
        if state.is_down {
            self.link.send_modify(|link| *link += 1);
        }
        for (number, partition) in (0..).zip(&mut state.partitions) {
            let message = |nth: u64| Message {
                id: EventId::from_u128(u128::from(nth) + (1 << 100)),
                headers: Default::default(),
                payload: serde_json::to_vec(&Event { partition: number, number: OTHERS + nth })
                    .unwrap()
                    .into(),
            };
            let others: Vec<_> = (0..partition.character.others).map(message).collect();
            partition.append(&others);
            let end = partition.records.len() as u64;
            match partition.character.fortune {
                Fortune::Trimmed(kept) if chance.once_in(3) => {
                    partition.low = partition.low.max(end.saturating_sub(kept));
                }
                Fortune::BeginsAgain if chance.once_in(6) => {
                    partition.former.push(std::mem::take(&mut partition.records));
                    partition.low = 0;
                }
                _ => {}
            }
        }
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        let marks = |partition: &Partition| PartitionWatermarks {
            low: Offset(partition.low),
            high: Offset(partition.records.len() as u64),
        };
        Watermarks::new(self.state.lock().partitions.iter().map(marks).collect())
    }

    /// A connection is lost.
    pub(crate) fn loses(&self) {
        if self.temper().falls_together {
            self.link.send_modify(|link| *link += 1);
        }
    }

    /// What is done over a connection, unless all are cut meanwhile.
    pub(crate) async fn unless_cut<T>(&self, link: u64, future: impl Future<Output = T>) -> Option<T> {
        let mut links = self.link.subscribe();
        tokio::select! {
            biased;
            _ = links.wait_for(|&now| now != link) => None,
            output = future => Some(output),
        }
    }
}

/// What arrives late over a connection.
pub(crate) type Late = Mutex<Vec<JoinHandle<()>>>;

/// A request on its way: at most one of a partition, also when it is given up.
pub(crate) struct OnItsWay<'a> {
    server: &'a Arc<Server>,
    partition: PartitionId,
    late: &'a Late,
    /// May arrive late, until the connection is closed.
    pub(crate) messages: Option<Vec<Message>>,
    is_late: bool,
}

impl<'a> OnItsWay<'a> {
    pub(crate) fn new(
        server: &'a Arc<Server>,
        late: &'a Late,
        partition: PartitionId,
        messages: &[Message],
    ) -> Self {
        let mut state = server.state.lock();
        let is_alone = state.in_flight.insert(partition);
        assert!(is_alone, "one request of a partition at a time");
        let there = &mut state.partitions[partition.0 as usize];
        there.sends += 1;
        state.calls.note(false, false);
        let messages = state.temper.arrives_late.then(|| messages.to_vec());
        drop(state);
        Self { server, partition, late, messages, is_late: false }
    }

    pub(crate) fn character(&self) -> (Sends, bool) {
        self.server.with(self.partition, |there| {
            let sends = there.character.sends;
            let is_struck = match sends {
                Sends::Lost { every, .. } | Sends::Refused { every, .. } => there.is_nth(every),
                Sends::Answered(_) | Sends::AnsweredLate(_) => false,
            };
            (sends, is_struck)
        })
    }

    /// Its messages arrive after a while.
    pub(crate) fn arrives_after(&mut self, millis: u64, messages: Vec<Message>) {
        (self.messages, self.is_late) = (None, true);
        let (server, partition) = (Arc::clone(self.server), self.partition);
        self.late.lock().push(tokio::spawn(async move {
            pause(millis).await;
            let state = &mut *server.state.lock();
            state.partitions[partition.0 as usize].append(&messages);
            state.in_flight.remove(&partition);
        }));
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        if let Some(messages) = self.messages.take() {
            let after = {
                let chance = &mut self.server.state.lock().chance;
                chance.once_in(2).then(|| chance.of(&[0, 10, 1_000]))
            };
            after.into_iter().for_each(|after| self.arrives_after(after, messages.clone()));
        }
        if !self.is_late {
            self.server.state.lock().in_flight.remove(&self.partition);
        }
    }
}
