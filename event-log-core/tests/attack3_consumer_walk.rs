//! Attack: random walks of several members of a group over a log that reads ahead, against a model of the contract alone.

#![cfg(feature = "engine")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    clippy::nonminimal_bool,
    clippy::print_stderr,
    reason = "tests"
)]

mod attack_reading_ahead;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use attack_reading_ahead::{MS, Reach, SECOND, Server};
use event_log_core::engine::TransportLog;
use event_log_core::{
    ConsumerOptions, Cursor, EventBatch, EventConsumer, EventLog as _, Notice, Offset, PartitionId, Position,
    RawEvent, SeekPosition, Timestamp,
};
use tokio::time::Instant;

const PARTITIONS: usize = 3;

/// What is open of an epoch of a member in a partition.
#[derive(Default)]
struct Epoch {
    last: Option<Offset>,
    seen: BTreeSet<u64>,
    missing: Vec<(Offset, Offset)>,
}

struct Member {
    name: usize,
    consumer: Box<dyn EventConsumer<RawEvent>>,
    epochs: BTreeMap<PartitionId, Epoch>,
    cursors: VecDeque<Cursor>,
    has: BTreeSet<PartitionId>,
    /// Since when it has been polled without a break and the server is calm.
    sought: BTreeSet<PartitionId>,
    last_poll: Instant,
}

struct Walk {
    seed: u64,
    random: u64,
    server: Arc<Server>,
    log: TransportLog<RawEvent, Reach>,
    members: Vec<Member>,
    names: usize,
    number: u64,
    delivered: BTreeSet<u64>,
    /// Below these places records may be undelivered.
    skipped: BTreeMap<PartitionId, Offset>,
    went_back: BTreeSet<PartitionId>,
    /// Every record that ever was: partition and incarnation, offset, number.
    truncated: BTreeSet<PartitionId>,
    history: VecDeque<String>,
    calm: bool,
    copies: bool,
    truncates: bool,
    changed_at: Instant,
}

fn number_of(payload: &[u8]) -> u64 {
    std::str::from_utf8(payload).unwrap().parse().unwrap()
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let server = Server::new(PARTITIONS);
        let calm = seed % 3 == 0;
        server.change(|state| {
            state.random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d) | 1;
            if calm {
                state.parts.iter_mut().for_each(|part| part.fetch_takes = 7 * MS);
                state.ask_takes = 3 * MS;
                state.wait_takes = 3 * MS;
            }
        });
        let log = server.open().await;
        server.change(|state| state.chaos = !calm);
        Self {
            seed,
            random: seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            server,
            log,
            members: Vec::new(),
            names: 0,
            number: 0,
            delivered: BTreeSet::new(),
            skipped: BTreeMap::new(),
            went_back: BTreeSet::new(),
            truncated: BTreeSet::new(),
            history: VecDeque::new(),
            calm,
            copies: seed % 2 == 0,
            truncates: seed % 5 == 1,
            changed_at: Instant::now(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % bound
    }

    fn note(&mut self, text: String) {
        if std::env::var("LOUD").is_ok() {
            eprintln!("{text}");
        }
        self.history.push_back(text);
        if self.history.len() > 120 {
            self.history.pop_front();
        }
    }

    fn fail(&self, what: &str) -> ! {
        let history: Vec<_> = self.history.iter().cloned().collect();
        panic!("seed {}: {what}\n{}\nseed {}: {what}", self.seed, history.join("\n"), self.seed);
    }

    fn is_copy(part: &attack_reading_ahead::Part, offset: Offset) -> bool {
        let Some(at) = part.records.iter().position(|record| record.offset == offset) else { return false };
        let id = part.records[at].id;
        part.records.iter().take(at).any(|record| record.id == id)
    }

    fn took(&mut self, nth: usize, batch: EventBatch<RawEvent>) -> bool {
        let is_quiet = batch.is_empty() && batch.notices.is_empty();
        let name = self.members[nth].name;
        for notice in &batch.notices {
            self.note(format!("    {name}: {notice:?}"));
            match notice {
                Notice::Revoked(partitions) => {
                    for partition in partitions {
                        self.members[nth].epochs.remove(partition);
                        self.members[nth].has.remove(partition);
                    }
                }
                Notice::Assigned(partitions) => {
                    for partition in partitions {
                        self.members[nth].epochs.remove(partition);
                        if !self.members[nth].has.insert(*partition) {
                            self.fail(&format!("{partition} is assigned to {name}, which has it"));
                        }
                    }
                }
                Notice::Truncated { partition, .. } => {
                    if !self.truncated.contains(partition) && !self.members[nth].sought.contains(partition) {
                        self.fail(&format!("{partition} is said to be truncated"));
                    }
                    self.members[nth].epochs.remove(partition);
                }
                Notice::Missing { partition, from, resumed_at } => {
                    let epoch = self.members[nth].epochs.entry(*partition).or_default();
                    epoch.missing.push((*from, *resumed_at));
                }
                _ => {}
            }
        }
        let newest = batch.records.iter().map(|record| record.timestamp).max();
        for record in &batch.records {
            let number = number_of(&record.event.as_ref().unwrap().payload);
            let Position { partition, offset } = record.position;
            let skips_one = {
                let state = self.server.0.lock();
                let part = &state.parts[partition.0 as usize];
                let epoch = self.members[nth].epochs.entry(partition).or_default();
                epoch.last.and_then(|last| {
                    let between = part.records.iter().filter(|one| last < one.offset && one.offset < offset);
                    between
                        .filter(|one| {
                            !epoch.missing.iter().any(|&(from, to)| from <= one.offset && one.offset < to)
                        })
                        .find(|one| {
                            let number = number_of(&one.payload);
                            !Self::is_copy(part, one.offset)
                                && !epoch.seen.contains(&number)
                                && !(self.truncates && self.delivered.contains(&number))
                                && !(part.low > 0 && self.delivered.contains(&number))
                        })
                        .map(|one| one.offset)
                })
            };
            let is_second = {
                let state = self.server.0.lock();
                Self::is_copy(&state.parts[partition.0 as usize], offset)
            };
            if is_second {
                self.fail(&format!("{name} got the second copy {partition}@{offset}"));
            }
            if let Some(skipped) = skips_one {
                self.fail(&format!("{name} got {partition}@{offset} and never {partition}@{skipped}"));
            }
            let epoch = self.members[nth].epochs.entry(partition).or_default();
            let is_twice = !epoch.seen.insert(number);
            let is_back = epoch.last.replace(offset).is_some_and(|last| last >= offset);
            if is_twice {
                self.fail(&format!("{name} got {number} at {partition}@{offset} twice in an epoch"));
            }
            if is_back {
                self.fail(&format!("{name} got {partition}@{offset} out of order"));
            }
            if batch.cursor().get(partition).is_none_or(|next| next <= offset) {
                self.fail(&format!("{name} got {partition}@{offset}, and its cursor is {}", batch.cursor()));
            }
            self.delivered.insert(number);
        }
        let mut by_partition = BTreeMap::<_, Vec<u64>>::new();
        for record in &batch.records {
            by_partition.entry(record.position.partition).or_default().push(record.position.offset.0);
        }
        let shown: Vec<_> = by_partition
            .iter()
            .map(|(partition, all)| format!("{partition}@{}..={}", all[0], all[all.len() - 1]))
            .collect();
        self.note(format!("    {name} got {shown:?}, at {}", batch.cursor()));
        self.members[nth].cursors.push_back(batch.cursor().clone());
        if self.members[nth].cursors.len() > 4 {
            self.members[nth].cursors.pop_front();
        }
        if self.calm {
            self.check_fair(nth, newest, batch.cursor());
        }
        is_quiet
    }

    /// Nothing that has been there for long is passed over by what is newer.
    fn check_fair(&self, nth: usize, newest: Option<Timestamp>, cursor: &Cursor) {
        let now = Instant::now();
        let Some(newest) = newest else { return };
        if now - self.changed_at < 5 * SECOND {
            return;
        }
        let state = self.server.0.lock();
        for (partition, next) in cursor.iter() {
            let part = &state.parts[partition.0 as usize];
            let waits = part.records.iter().zip(&part.since).find(|(record, _)| {
                record.offset >= next
                    && !Self::is_copy(part, record.offset)
                    && !self.delivered.contains(&number_of(&record.payload))
            });
            let Some((record, &since)) = waits else { continue };
            if record.timestamp < newest
                && now - since > 3 * SECOND
                && self.members[nth].last_poll > since + SECOND
            {
                let waits = now - since;
                let at = record.offset;
                drop(state);
                self.fail(&format!(
                    "{partition}@{at} has waited for {waits:?}, and newer ones of others were delivered"
                ));
            }
        }
    }

    async fn poll(&mut self, nth: usize) {
        let max = 1 + self.below(60) as usize;
        let timeout = match self.below(4) {
            0 => Duration::ZERO,
            1 => 2 * SECOND,
            _ => MS * self.below(300) as u32,
        };
        let patience = if self.below(4) == 0 { MS * self.below(150) as u32 } else { 3_600 * SECOND };
        let name = self.members[nth].name;
        self.note(format!("poll {name}: {max}, {timeout:?}, patience {patience:?}"));
        let start = Instant::now();
        let polled = tokio::time::timeout(patience, self.members[nth].consumer.poll(max, timeout)).await;
        let took = start.elapsed();
        if took > timeout + SECOND + 2 * MS {
            self.fail(&format!("the poll took {took:?}"));
        }
        match polled {
            Ok(Ok(batch)) => {
                if batch.len() > max {
                    self.fail("too many records");
                }
                if self.took(nth, batch) && took < timeout {
                    self.fail(&format!("empty after {took:?}"));
                }
            }
            Ok(Err(error)) => self.note(format!("    {name}: {error:?}")),
            Err(_) => self.note(format!("    {name} dropped")),
        }
        self.members[nth].last_poll = Instant::now();
    }

    fn places(&self) -> Vec<Option<Offset>> {
        self.server.change(|state| state.parts.iter().map(|part| part.place).collect())
    }

    fn check_places(&self) {
        let state = self.server.0.lock();
        for (nth, part) in state.parts.iter().enumerate() {
            let partition = PartitionId(nth as u32);
            let skipped = self.skipped.get(&partition).copied().unwrap_or_default();
            let place = part.place.unwrap_or_default();
            for record in
                part.records.iter().filter(|record| record.offset < place && record.offset >= skipped)
            {
                let number = number_of(&record.payload);
                if !self.delivered.contains(&number) && !Self::is_copy(part, record.offset) {
                    let at = record.offset;
                    drop(state);
                    self.fail(&format!(
                        "{partition}@{at} ({number}) is before {place} and was not delivered"
                    ));
                }
            }
        }
    }

    async fn commit(&mut self, nth: usize) {
        let which = self.below(5);
        let member = &self.members[nth];
        let kept = member.cursors.back().cloned().unwrap_or_default();
        let mut cursor = match which {
            0 => member.consumer.position().clone(),
            1 | 2 => kept,
            3 => member.cursors.front().cloned().unwrap_or_default(),
            _ => serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap(),
        };
        if self.below(4) == 0 {
            cursor.remove(PartitionId(0));
        }
        let patience = if self.below(4) == 0 { MS * self.below(60) as u32 } else { 3_600 * SECOND };
        let before = self.places();
        let committed = tokio::time::timeout(patience, self.members[nth].consumer.commit(&cursor)).await;
        let after = self.places();
        let name = self.members[nth].name;
        self.note(format!("commit {name} {cursor}: {committed:?}, {after:?}"));
        for (nth, (before, after)) in before.iter().zip(&after).enumerate() {
            let partition = PartitionId(nth as u32);
            if after < before {
                if !self.members.iter().any(|member| member.sought.contains(&partition))
                    && !self.truncated.contains(&partition)
                {
                    self.fail(&format!("the place of {partition} went back from {before:?} to {after:?}"));
                }
                self.went_back.insert(partition);
            }
        }
        self.check_places();
        if let Ok(Ok(())) = committed {
            for (partition, next) in cursor.iter() {
                if after[partition.0 as usize] < Some(next)
                    && (std::env::var("STRICT").is_ok() || !self.went_back.contains(&partition))
                    && !self.truncated.contains(&partition)
                {
                    self.fail(&format!(
                        "Ok, but the place of {partition} is {:?} and not {next}",
                        after[partition.0 as usize]
                    ));
                }
            }
        }
        if let Ok(Err(error)) = committed {
            for (partition, next) in error.stored().iter() {
                if after[partition.0 as usize] < Some(next) && !self.went_back.contains(&partition) {
                    self.fail(&format!(
                        "said to be stored: {partition}@{next}, and the place is {:?}",
                        after[partition.0 as usize]
                    ));
                }
            }
        }
    }

    async fn seek(&mut self, nth: usize) {
        let high = self.number / PARTITIONS as u64 + 3;
        let to = match self.below(6) {
            0 => SeekPosition::Beginning,
            1 => SeekPosition::FromEnd(self.below(20) as usize),
            2 => SeekPosition::Timestamp(Timestamp(self.below(self.number + 1))),
            3 => SeekPosition::Cursor(self.members[nth].cursors.front().cloned().unwrap_or_default()),
            4 => SeekPosition::End,
            _ => {
                let at = Offset(self.below(high));
                SeekPosition::Position(Position::new(PartitionId(self.below(3) as u32), at))
            }
        };
        let patience = if self.below(4) == 0 { MS * self.below(60) as u32 } else { 3_600 * SECOND };
        let before = self.members[nth].consumer.position().clone();
        let sought = tokio::time::timeout(patience, self.members[nth].consumer.seek(to.clone())).await;
        let position = self.members[nth].consumer.position().clone();
        let name = self.members[nth].name;
        self.note(format!("seek {name} {to:?} from {before}: {sought:?}, at {position}"));
        if let Ok(Ok(())) = sought {
            for (partition, next) in position.iter() {
                let is_meant = match &to {
                    SeekPosition::Position(to) => to.partition == partition,
                    SeekPosition::Cursor(cursor) => cursor.get(partition).is_some(),
                    _ => true,
                };
                if is_meant {
                    self.members[nth].sought.insert(partition);
                    self.members[nth].epochs.remove(&partition);
                    let skipped = self.skipped.entry(partition).or_default();
                    *skipped = next.max(*skipped);
                }
            }
        } else if position != before && !matches!(sought, Ok(Ok(()))) {
            // It may have lost partitions, and got others, but moved in none.
            for (partition, next) in position.iter() {
                if before.get(partition).is_some_and(|before| before != next)
                    && self.server.change(|state| state.generation) == 0
                {
                    self.fail("a seek that failed has moved");
                }
            }
        }
    }

    async fn join(&mut self) {
        if self.members.len() >= 3 {
            return;
        }
        let joined = tokio::time::timeout(
            if self.below(5) == 0 { MS * 20 } else { 3_600 * SECOND },
            self.log.consumer_with("g", ConsumerOptions::default()),
        )
        .await;
        let name = self.names;
        self.note(format!("join {name}: {:?}", joined.as_ref().map(|joined| joined.as_ref().map(drop))));
        self.changed_at = Instant::now();
        if let Ok(Ok(consumer)) = joined {
            let has = consumer.position().iter().map(|(partition, _)| partition).collect();
            self.members.push(Member {
                name,
                consumer,
                epochs: BTreeMap::new(),
                cursors: VecDeque::new(),
                has,
                sought: BTreeSet::new(),
                last_poll: Instant::now(),
            });
            self.names += 1;
        }
    }

    fn append(&mut self) {
        let partition = self.below(PARTITIONS as u64) as usize;
        let count = if self.calm && self.below(10) == 0 {
            3_000
        } else if self.below(8) == 0 {
            600
        } else {
            1 + self.below(40)
        };
        for _ in 0..count {
            self.number += 1;
            let number = self.number;
            self.server.append(partition, number);
            if self.copies && self.below(12) == 0 {
                let back = self.below(60).min(number - 1);
                // Of one that is in this partition, if there is one.
                let number = number - back;
                let is_here = self.server.change(|state| {
                    state.parts[partition].records.iter().any(|record| number_of(&record.payload) == number)
                });
                if is_here {
                    self.server.append(partition, number);
                }
            }
        }
        self.note(format!("append {count} to {partition}"));
    }

    fn truncate(&mut self) {
        let nth = self.below(PARTITIONS as u64) as usize;
        let partition = PartitionId(nth as u32);
        let count = 1 + self.below(30);
        let again = self.below(2) == 0;
        self.truncated.insert(partition);
        let lost = self.server.change(|state| {
            let part = &mut state.parts[nth];
            let mut lost = Vec::new();
            for _ in 0..count {
                let Some(record) = part.records.pop_back() else { break };
                part.since.pop_back();
                part.high = record.offset.0;
                lost.push(number_of(&record.payload));
            }
            part.incarnation += 1;
            part.place = part.place.map(|place| place.min(Offset(part.high)));
            lost.reverse();
            lost
        });
        self.note(format!("truncate {nth} by {}, again: {again}", lost.len()));
        if again {
            // A producer that knew of no acknowledgement.
            for number in lost {
                self.server.append(nth, number);
            }
        }
        // Whoever has not noticed may commit what it takes for its place.
        let most = self.members.iter().filter_map(|member| member.consumer.position().get(partition)).max();
        let skipped = self.skipped.entry(partition).or_default();
        *skipped = (*skipped).max(most.unwrap_or_default()).max(Offset(u64::MAX / 2));
        for member in &mut self.members {
            member.epochs.remove(&partition);
        }
    }

    async fn step(&mut self) {
        let nth = self.below(self.members.len().max(1) as u64) as usize;
        let has_member = nth < self.members.len();
        match self.below(100) {
            0..20 => self.append(),
            20..64 if has_member => self.poll(nth).await,
            64..76 if has_member => self.commit(nth).await,
            76..78 if has_member && self.seed % 4 != 3 => self.seek(nth).await,
            78..80 => self.join().await,
            80 if has_member => {
                let member = self.members.swap_remove(nth);
                self.note(format!("drop {}", member.name));
                self.changed_at = Instant::now();
            }
            81 if has_member => {
                let member = self.members.swap_remove(nth);
                self.changed_at = Instant::now();
                let name = member.name;
                let left = member.consumer.leave().await;
                self.note(format!("leave {name}: {left:?}"));
            }
            82 => {
                self.server.evict_all();
                self.changed_at = Instant::now();
                self.note("cut".to_owned());
            }
            83 if !self.calm => {
                let up = self.server.change(|state| {
                    state.up = !state.up;
                    state.up
                });
                self.server.evict_all();
                self.note(format!("up: {up}"));
            }
            84 => {
                let nth = self.below(PARTITIONS as u64) as usize;
                let count = self.below(30);
                let low = self.server.change(|state| {
                    let part = &mut state.parts[nth];
                    for _ in 0..count {
                        let Some(record) = part.records.pop_front() else { break };
                        part.since.pop_front();
                        part.low = record.offset.0 + 1;
                    }
                    part.low
                });
                self.note(format!("retention in {nth}: {low}"));
            }
            85 if self.truncates => self.truncate(),
            86 if !self.calm => {
                let nth = self.below(PARTITIONS as u64) as usize;
                let fails = self.server.change(|state| {
                    state.parts[nth].fetch_fails = !state.parts[nth].fetch_fails;
                    state.parts[nth].fetch_fails
                });
                self.note(format!("fetches of {nth} fail: {fails}"));
            }
            87 if !self.calm => {
                let nth = self.below(PARTITIONS as u64) as usize;
                let fails = self.server.change(|state| {
                    state.parts[nth].place_fails = !state.parts[nth].place_fails;
                    state.parts[nth].place_fails
                });
                self.note(format!("the place of {nth} fails: {fails}"));
            }
            88..100 => {
                let wait = MS * self.below(400) as u32;
                tokio::time::sleep(wait).await;
            }
            _ => {}
        }
    }

    async fn end(mut self) {
        self.note("the end".to_owned());
        self.server.change(|state| {
            (state.up, state.chaos) = (true, false);
            for part in &mut state.parts {
                (part.fetch_fails, part.place_fails) = (false, false);
            }
        });
        if self.members.is_empty() {
            self.join().await;
        }
        let mut quiet = 0;
        let mut rounds = 0;
        while quiet < 4 * self.members.len() {
            rounds += 1;
            if rounds > 3_000 {
                self.fail("there is no end of it");
            }
            for nth in 0..self.members.len() {
                match self.members[nth].consumer.poll(1_000, SECOND).await {
                    Ok(batch) => quiet = if self.took(nth, batch) { quiet + 1 } else { 0 },
                    Err(error) => {
                        self.note(format!("    {error:?}"));
                        quiet = 0;
                    }
                }
            }
        }
        let mut missing = Vec::new();
        self.server.change(|state| {
            for (nth, part) in state.parts.iter().enumerate() {
                let skipped = self.skipped.get(&PartitionId(nth as u32)).copied().unwrap_or_default();
                for record in part.records.iter().filter(|record| record.offset >= skipped) {
                    let number = number_of(&record.payload);
                    if !self.delivered.contains(&number) && !Self::is_copy(part, record.offset) {
                        missing.push(format!("{nth}@{} ({number})", record.offset));
                    }
                }
            }
        });
        if !missing.is_empty() {
            self.fail(&format!("never delivered: {missing:?}"));
        }
        for nth in 0..self.members.len() {
            let position = self.members[nth].consumer.position().clone();
            let committed = self.members[nth].consumer.commit(&position).await;
            let after = self.places();
            self.note(format!("last commit {position}: {committed:?}, {after:?}"));
            if committed.is_err() {
                self.fail(&format!("{committed:?}"));
            }
            for (partition, next) in position.iter() {
                if after[partition.0 as usize] < Some(next) {
                    self.fail(&format!(
                        "at the end, Ok, but {partition} is at {:?} and not {next}",
                        after[partition.0 as usize]
                    ));
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn random_members_of_a_log_that_reads_ahead() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let first = number("FIRST", 0);
    for seed in first..first + number("SEEDS", 3) {
        let mut walk = Walk::new(seed).await;
        for _ in 0..number("STEPS", 300) {
            walk.step().await;
        }
        walk.end().await;
    }
}
