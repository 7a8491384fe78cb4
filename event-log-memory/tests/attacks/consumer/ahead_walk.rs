//! Random walks of one consumer over a log that reads ahead, answers late, stale and short, and fails now and then.

use event_log_core::engine::{LogBuilder, TransportLog};
use event_log_core::{
    ConsumerOptions, Cursor, EventBatch, EventConsumer, EventLog as _, Notice, Offset, PartitionId, Position,
    RawCodec, RawEvent, SeekPosition, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use crate::ahead::{Flaky, MS, Part, SECOND, Server};
use crate::walks::Random;

struct Walk {
    seed: u64,
    random: Random,
    server: Arc<Server>,
    log: TransportLog<RawEvent, Flaky>,
    consumer: Box<dyn EventConsumer<RawEvent>>,
    seen: BTreeMap<PartitionId, BTreeSet<u64>>,
    last: BTreeMap<PartitionId, Offset>,
    sought: BTreeSet<PartitionId>,
    sought_since: BTreeSet<PartitionId>,
    cursors: VecDeque<Cursor>,
    delivered: BTreeSet<u64>,
    skipped: BTreeMap<PartitionId, u64>,
    farthest: BTreeMap<PartitionId, Offset>,
    numbers: u64,
    history: VecDeque<String>,
    copies: bool,
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let server = Server::new(seed);
        let log =
            LogBuilder::new(Arc::new(RawCodec)).open(Arc::new(Flaky(Arc::clone(&server)))).await.unwrap();
        let consumer = log.consumer_with("g", ConsumerOptions::default()).await.unwrap();
        server.0.lock().chaos = true;
        Self {
            seed,
            random: Random(seed),
            server,
            log,
            consumer,
            seen: BTreeMap::new(),
            last: BTreeMap::new(),
            sought: BTreeSet::new(),
            sought_since: BTreeSet::new(),
            cursors: VecDeque::new(),
            delivered: BTreeSet::new(),
            skipped: BTreeMap::new(),
            farthest: BTreeMap::new(),
            numbers: 0,
            history: VecDeque::new(),
            copies: seed % 3 == 0,
        }
    }

    fn note(&mut self, text: String) {
        if std::env::var("LOUD").is_ok() {
            eprintln!("{text}");
        }
        self.history.push_back(text);
        if self.history.len() > 150 {
            self.history.pop_front();
        }
    }

    fn fail(&self, what: &str) -> ! {
        let history: Vec<_> = self.history.iter().cloned().collect();
        panic!("seed {}: {what}\n{}", self.seed, history.join("\n"));
    }

    fn places(&self) -> Vec<Option<Offset>> {
        self.server.0.lock().parts.iter().map(|part| part.place).collect()
    }

    /// What is before the places was delivered.
    fn check_places(&self) {
        let state = self.server.0.lock();
        for (nth, part) in state.parts.iter().enumerate() {
            let place = part.place.unwrap_or_default();
            let skipped = self.skipped.get(&PartitionId(nth as u32)).copied().unwrap_or_default();
            for record in
                part.records.iter().filter(|record| record.offset < place && record.offset.0 >= skipped)
            {
                let number = number_of(&record.payload);
                if !self.delivered.contains(&number) && !is_copy(part, number, skipped) {
                    self.fail(&format!(
                        "{number} at {nth}@{} is before {place} and was not delivered",
                        record.offset
                    ));
                }
            }
        }
    }

    fn took(&mut self, batch: EventBatch<RawEvent>) -> bool {
        let is_quiet = batch.is_empty() && batch.notices.is_empty();
        for notice in &batch.notices {
            self.note(format!("    {notice:?}"));
            match notice {
                Notice::Revoked(partitions) => {
                    for partition in partitions {
                        self.seen.remove(partition);
                        self.last.remove(partition);
                        if !self.sought_since.contains(partition) {
                            self.sought.remove(partition);
                        }
                    }
                }
                Notice::Truncated { partition, from, .. } if !self.sought.contains(partition) => {
                    self.fail(&format!("{partition} is said to be truncated before {from}"));
                }
                Notice::Truncated { partition, .. } => {
                    self.seen.remove(partition);
                    self.last.remove(partition);
                }
                _ => {}
            }
        }
        self.sought_since.clear();
        self.cursors.push_back(batch.cursor().clone());
        if self.cursors.len() > 4 {
            self.cursors.pop_front();
        }
        let got: Vec<_> = batch.records.iter().map(|record| record.position.to_string()).collect();
        self.note(format!("    got {got:?}"));
        for record in batch.records {
            let number = number_of(&record.event.unwrap().payload);
            let Position { partition, offset } = record.position;
            if !self.seen.entry(partition).or_default().insert(number) {
                self.fail(&format!("{number} twice in an epoch"));
            }
            if self.last.insert(partition, offset).is_some_and(|last| last >= offset) {
                self.fail(&format!("{partition}@{offset} out of order"));
            }
            self.delivered.insert(number);
        }
        is_quiet
    }

    async fn poll(&mut self) {
        let max = 1 + self.random.below(20) as usize;
        let timeout = match self.random.below(4) {
            0 => Duration::ZERO,
            1 => 2 * SECOND,
            _ => MS * self.random.below(200) as u32,
        };
        let patience =
            if self.random.below(3) == 0 { MS * self.random.below(100) as u32 } else { 3_600 * SECOND };
        self.note(format!("poll {max}, {timeout:?}, patience {patience:?}"));
        let start = Instant::now();
        let polled = tokio::time::timeout(patience, self.consumer.poll(max, timeout)).await;
        let took = start.elapsed();
        if took > timeout + SECOND + 2 * MS {
            self.fail(&format!("the poll took {took:?}"));
        }
        match polled {
            Ok(Ok(batch)) => {
                if batch.len() > max {
                    self.fail("too many records");
                }
                if self.took(batch) && took < timeout {
                    self.fail(&format!("empty after {took:?}"));
                }
            }
            Ok(Err(error)) => self.note(format!("    {error:?}")),
            Err(_) => self.note("    dropped".to_owned()),
        }
    }

    async fn commit(&mut self) {
        let cursor = match self.random.below(4) {
            0 => self.consumer.position().clone(),
            1 => self.cursors.back().cloned().unwrap_or_default(),
            2 => self.cursors.front().cloned().unwrap_or_default(),
            _ => {
                let kept = self.cursors.back().cloned().unwrap_or_default();
                serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap()
            }
        };
        let before = self.places();
        let patience =
            if self.random.below(3) == 0 { MS * self.random.below(60) as u32 } else { 3_600 * SECOND };
        let committed = tokio::time::timeout(patience, self.consumer.commit(&cursor)).await;
        let after = self.places();
        self.note(format!("commit {cursor}: {committed:?}, {after:?}"));
        self.check_places();
        for (nth, after) in after.iter().enumerate() {
            let farthest = self.farthest.entry(PartitionId(nth as u32)).or_default();
            *farthest = after.unwrap_or_default().max(*farthest);
        }
        for (nth, (before, after)) in before.iter().zip(&after).enumerate() {
            let partition = PartitionId(nth as u32);
            if after < before && !self.sought.contains(&partition) {
                self.fail(&format!("the place of {nth} went back from {before:?} to {after:?}"));
            }
        }
        if let Ok(Ok(())) = committed {
            for (partition, next) in cursor.iter() {
                if self.farthest[&partition] < next {
                    self.fail(&format!("Ok, but the place of {partition} is not {next}"));
                }
            }
        }
    }

    async fn seek(&mut self) {
        let high = self.numbers / 3 + 2;
        let to = match self.random.below(5) {
            0 => SeekPosition::Beginning,
            1 => SeekPosition::FromEnd(self.random.below(12) as usize),
            2 => SeekPosition::Timestamp(Timestamp(self.random.below(self.numbers + 1))),
            3 => SeekPosition::Cursor(self.cursors.front().cloned().unwrap_or_default()),
            _ => SeekPosition::Position(Position::new(
                PartitionId(self.random.below(3) as u32),
                Offset(self.random.below(high)),
            )),
        };
        let patience =
            if self.random.below(3) == 0 { MS * self.random.below(60) as u32 } else { 3_600 * SECOND };
        let sought = tokio::time::timeout(patience, self.consumer.seek(to.clone())).await;
        let position = self.consumer.position().clone();
        self.note(format!("seek {to:?}: {sought:?}, at {position}"));
        if let Ok(Ok(())) = sought {
            for (partition, next) in position.iter() {
                let is_meant = match &to {
                    SeekPosition::Position(to) => to.partition == partition,
                    SeekPosition::Cursor(cursor) => cursor.get(partition).is_some(),
                    _ => true,
                };
                if is_meant {
                    self.sought.insert(partition);
                    self.sought_since.insert(partition);
                    self.seen.remove(&partition);
                    self.last.remove(&partition);
                    let skipped = self.skipped.entry(partition).or_default();
                    *skipped = next.0.max(*skipped);
                }
            }
        }
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..25 => {
                let (partition, count) = (self.random.below(3) as usize, 1 + self.random.below(30));
                for _ in 0..count {
                    self.numbers += 1;
                    let gap = if self.random.below(20) == 0 { self.random.below(4) } else { 0 };
                    self.server.append(partition, self.numbers, None, gap);
                    if self.copies && self.random.below(10) == 0 {
                        let number = self.numbers;
                        self.numbers += 1;
                        self.server.append(partition, self.numbers, Some(number), 0);
                    }
                }
                self.note(format!("append {count} to {partition}"));
            }
            25..70 => self.poll().await,
            70..82 => self.commit().await,
            82..84 => self.seek().await,
            84 => {
                self.note("cut".to_owned());
                self.server.0.lock().link += 1;
            }
            85 => {
                let mut state = self.server.0.lock();
                (state.up, state.link) = (!state.up, state.link + 1);
                let up = state.up;
                drop(state);
                self.note(format!("up: {up}"));
            }
            86..89 => {
                let partition = self.random.below(3) as usize;
                let mut state = self.server.0.lock();
                state.generation += 1;
                let part = &mut state.parts[partition];
                part.away = !part.away;
                let away = part.away;
                if !away {
                    part.epoch += 1;
                    if self.random.below(3) == 0 {
                        // Another member had it, and has committed.
                        part.place = Some(Offset(part.high));
                        self.farthest.insert(PartitionId(partition as u32), Offset(part.high));
                        let skipped = self.skipped.entry(PartitionId(partition as u32)).or_default();
                        *skipped = part.high.max(*skipped);
                    }
                }
                drop(state);
                self.note(format!("{partition} away: {away}"));
            }
            89 => {
                let partition = self.random.below(3) as usize;
                let mut state = self.server.0.lock();
                let part = &mut state.parts[partition];
                let count = self.random.below(10).min(part.records.len() as u64);
                for _ in 0..count {
                    if let Some(gone) = part.records.pop_front() {
                        part.low = gone.offset.0 + 1;
                    }
                }
                drop(state);
                self.note(format!("retention of {count} in {partition}"));
            }
            _ => tokio::time::sleep(MS * self.random.below(150) as u32).await,
        }
    }

    async fn end(mut self) {
        self.note("the end".to_owned());
        {
            let mut state = self.server.0.lock();
            (state.up, state.chaos) = (true, false);
            state.generation += 1;
            for part in &mut state.parts {
                part.epoch += u64::from(part.away);
                part.away = false;
            }
        }
        let mut quiet = 0;
        for _ in 0..300 {
            if let Ok(batch) = self.consumer.poll(100, SECOND).await {
                quiet = if self.took(batch) { quiet + 1 } else { 0 };
            }
            if quiet > 5 {
                break;
            }
        }
        let mut missing = Vec::new();
        for (nth, part) in self.server.0.lock().parts.iter().enumerate() {
            let skipped = self.skipped.get(&PartitionId(nth as u32)).copied().unwrap_or_default();
            for record in part.records.iter().filter(|record| record.offset.0 >= skipped) {
                let number = number_of(&record.payload);
                if !self.delivered.contains(&number) && !is_copy(part, number, skipped) {
                    missing.push(format!("{nth}@{}", record.offset));
                }
            }
        }
        if !missing.is_empty() {
            self.fail(&format!("never delivered: {missing:?}"));
        }
        let position = self.consumer.position().clone();
        if let Err(error) = self.consumer.commit(&position).await {
            self.fail(&format!("{error:?}"));
        }
        drop(self.log);
    }
}

/// Whether the first copy is before what is wanted.
fn is_copy(part: &Part, number: u64, skipped: u64) -> bool {
    let mut before = part.records.iter().filter(|record| record.offset.0 < skipped);
    before.any(|record| number_of(&record.payload) == number)
}

fn number_of(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn random_ahead() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let first = number("FIRST", 0);
    for seed in first..first + number("SEEDS", 60) {
        let mut walk = Walk::new(seed).await;
        for _ in 0..250 {
            walk.step().await;
        }
        walk.end().await;
    }
}
