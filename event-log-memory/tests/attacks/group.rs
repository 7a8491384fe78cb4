//! A group of consumers that walks at random, with a model of what was promised, and what is checked of it.

use crate::fixture::{Consumer, Event, PARTITIONS, SECOND};
use crate::walks::Random;
use event_log_core::engine::TokioClock;
use event_log_core::{
    Cursor, DeadLetter, EventBatch, EventLog as _, Notice, Offset, PartitionId, Position, ProducerConfig,
    Ticket, Timestamp,
};
use event_log_memory::{Faults, MemoryBroker, MemoryLog, Retention};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const MS: Duration = Duration::from_millis(1);

/// What a walk may meet.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Menu {
    pub(crate) begin_again: bool,
    pub(crate) foreign: bool,
    pub(crate) park: bool,
    pub(crate) fetch_faults: bool,
    pub(crate) copies: bool,
    pub(crate) seeks: bool,
    pub(crate) retention: bool,
    pub(crate) deletion: bool,
    pub(crate) slow: bool,
}

pub(crate) struct Member {
    pub(crate) consumer: Consumer,
    pub(crate) name: usize,
    /// Numbers delivered since the epoch began.
    pub(crate) seen: BTreeMap<PartitionId, BTreeSet<u64>>,
    pub(crate) last: BTreeMap<PartitionId, Offset>,
    pub(crate) sought: BTreeSet<PartitionId>,
    /// Those since the last poll that returned.
    pub(crate) sought_since: BTreeSet<PartitionId>,
    pub(crate) cursors: VecDeque<Cursor>,
    /// Partitions that began again, which this member has not noticed.
    pub(crate) unaware: BTreeSet<PartitionId>,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) delivered: BTreeSet<u64>,
    pub(crate) excused: BTreeSet<u64>,
    /// Where the application has sought to: what is before it, or will be, is not wanted.
    pub(crate) skipped: BTreeMap<PartitionId, Offset>,
    pub(crate) places: BTreeMap<PartitionId, Offset>,
    pub(crate) farthest: BTreeMap<PartitionId, Offset>,
    pub(crate) history: VecDeque<String>,
}

impl Model {
    pub(crate) fn note(&mut self, text: String) {
        if std::env::var("LOUD").is_ok() {
            eprintln!("{text}");
        }
        self.history.push_back(text);
        if self.history.len() > 400 {
            self.history.pop_front();
        }
    }

    pub(crate) fn fail(&self, seed: u64, what: &str) -> ! {
        let history: Vec<_> = self.history.iter().cloned().collect();
        panic!("seed {seed}: {what}\n{}", history.join("\n"));
    }
}

pub(crate) struct Walk {
    pub(crate) seed: u64,
    pub(crate) random: Random,
    pub(crate) menu: Menu,
    pub(crate) broker: MemoryBroker,
    pub(crate) log: MemoryLog<Event>,
    pub(crate) faults: Faults,
    pub(crate) letters: Option<(Arc<MemoryLog<DeadLetter>>, Faults)>,
    pub(crate) members: Vec<Member>,
    pub(crate) model: Model,
    pub(crate) tickets: Vec<Ticket<Event>>,
    pub(crate) number: u64,
    pub(crate) names: usize,
    pub(crate) is_down: bool,
}

pub(crate) fn number_of(payload: &[u8]) -> u64 {
    match serde_json::from_slice::<Event>(payload) {
        Ok(event) => event.number,
        Err(_) => std::str::from_utf8(payload).unwrap().strip_prefix("garbage ").unwrap().parse().unwrap(),
    }
}

impl Walk {
    pub(crate) async fn new(seed: u64, menu: Menu) -> Self {
        let clock = TokioClock::starting_at(Timestamp(1_000_000_000));
        let broker = MemoryBroker::with_clock(Arc::new(clock));
        let mut random = Random(seed);
        let retention = if menu.retention {
            if random.below(2) == 0 {
                Retention::records(10 + random.below(30))
            } else {
                Retention::age(SECOND)
            }
        } else {
            Retention::FOREVER
        };
        let log = event_log_memory::builder()
            .broker(&broker)
            .partitions(PARTITIONS)
            .seed(seed)
            .retention(retention);
        let log = log.open().await.unwrap();
        let faults = broker.faults("events").unwrap();
        let letters = if menu.park {
            let elsewhere = MemoryBroker::new();
            let mut config = ProducerConfig::default();
            config.expiry = Some(Duration::from_millis(300));
            let letters =
                event_log_memory::builder::<DeadLetter>().broker(&elsewhere).partitions(1).config(config);
            let letters = Arc::new(letters.open().await.unwrap());
            let faults = elsewhere.faults("events").unwrap();
            Some((letters, faults))
        } else {
            None
        };
        Self {
            seed,
            random,
            menu,
            broker,
            log,
            faults,
            letters,
            members: Vec::new(),
            model: Model::default(),
            tickets: Vec::new(),
            number: 0,
            names: 0,
            is_down: false,
        }
    }

    pub(crate) fn is_due(&self, position: Position, number: u64) -> bool {
        let is_skipped = self.model.skipped.get(&position.partition).is_some_and(|to| position.offset < *to);
        !is_skipped && !self.model.delivered.contains(&number) && !self.model.excused.contains(&number)
    }

    pub(crate) fn excuse(&mut self, is_excused: impl Fn(Position) -> bool) {
        let contents = self.broker.contents("events");
        let gone = contents.iter().filter(|content| is_excused(content.position));
        self.model.excused.extend(gone.map(|content| number_of(&content.payload)));
    }

    /// Whatever lies before the group's place was delivered.
    pub(crate) async fn check_places(&mut self, committed_by: Option<usize>) {
        if self.is_down {
            return;
        }
        let lag = self.log.lag("g").await.unwrap();
        for (partition, lag) in lag.iter() {
            let before = self.model.places.get(&partition).copied();
            match (before, lag.committed) {
                (Some(before), None) => {
                    self.model.fail(self.seed, &format!("the place {before} of {partition} is gone"));
                }
                (Some(before), Some(now)) if now < before => {
                    let by = committed_by.and_then(|name| self.members.iter().find(|one| one.name == name));
                    if !by.is_some_and(|member| member.sought.contains(&partition)) {
                        let what = format!("the place of {partition} went back from {before} to {now}");
                        self.model.fail(self.seed, &what);
                    }
                }
                (before, Some(now)) => {
                    let farther = before.is_none_or(|before| before < now);
                    if farther && committed_by.is_none() && before.is_some() {
                        self.model.fail(self.seed, "a place moved without a commit");
                    }
                }
                (None, None) => {}
            }
            if let Some(now) = lag.committed {
                if before != Some(now) {
                    for content in self.broker.contents("events") {
                        let Position { partition: at, offset } = content.position;
                        let number = number_of(&content.payload);
                        let is_due = self.is_due(content.position, number);
                        if at == partition && offset < now && is_due {
                            let what = format!(
                                "{number} at {partition}@{offset} is before the place {now} and was not delivered"
                            );
                            self.model.fail(self.seed, &what);
                        }
                    }
                }
                self.model.places.insert(partition, now);
                let farthest = self.model.farthest.entry(partition).or_default();
                *farthest = now.max(*farthest);
            }
        }
    }

    pub(crate) fn took(&mut self, nth: usize, batch: EventBatch<Event>) -> bool {
        let contents = self.broker.contents("events");
        let at = |position: Position| {
            contents
                .iter()
                .find(|content| content.position == position)
                .map(|content| number_of(&content.payload))
        };
        let member = &mut self.members[nth];
        let is_quiet = batch.is_empty() && batch.notices.is_empty();
        for notice in &batch.notices {
            self.model.history.push_back(format!("    {} {notice:?}", member.name));
            match notice {
                Notice::Revoked(partitions) => {
                    for partition in partitions {
                        member.unaware.remove(partition);
                        member.seen.remove(partition);
                        member.last.remove(partition);
                        // A seek may have come after it.
                        if !member.sought_since.contains(partition) {
                            member.sought.remove(partition);
                        }
                    }
                }
                Notice::Truncated { partition, .. } => {
                    member.unaware.remove(partition);
                    member.seen.remove(partition);
                    member.last.remove(partition);
                    member.sought.insert(*partition);
                }
                Notice::Parked { position, .. } | Notice::Skipped { position, .. } => {
                    self.model.delivered.extend(at(*position));
                }
                _ => {}
            }
        }
        member.sought_since.clear();
        let cursor = batch.cursor().clone();
        member.cursors.push_back(cursor);
        if member.cursors.len() > 4 {
            member.cursors.pop_front();
        }
        let numbers: Vec<_> = batch.records.iter().map(|record| record.position.to_string()).collect();
        self.model.history.push_back(format!("    {} got {numbers:?}", member.name));
        for record in batch.records {
            let number = match &record.event {
                Ok(event) => event.number,
                Err(error) => number_of(&error.payload),
            };
            let Position { partition, offset } = record.position;
            if !member.seen.entry(partition).or_default().insert(number) {
                self.model.fail(self.seed, &format!("{} got {number} twice in an epoch", member.name));
            }
            if member.last.insert(partition, offset).is_some_and(|last| last >= offset) {
                self.model.fail(self.seed, &format!("{} got {partition}@{offset} out of order", member.name));
            }
            self.model.delivered.insert(number);
        }
        is_quiet
    }
}
