//! A second outside reader's random walks over the consuming side: several members of a group, everything that can happen
//! to them, and a model of what was promised.

use crate::fixture::{SECOND, event};
use crate::group::{MS, Member, Menu, Walk, number_of};
use event_log_core::{
    ConsumerOptions, EventLog as _, Offset, PartitionId, PoisonPolicy, Position, SeekPosition, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

impl Walk {
    fn append(&mut self) {
        let (partition, count) = (self.random.below(2) as u32, 1 + self.random.below(6));
        for _ in 0..count {
            self.number += 1;
            if self.menu.foreign && self.random.below(6) == 0 {
                self.faults
                    .append_foreign(PartitionId(partition), format!("garbage {}", self.number))
                    .unwrap();
            } else {
                self.tickets.extend(self.log.submit(event(partition, self.number)).ok());
            }
        }
        self.model.note(format!("append {count} to {partition}, up to {}", self.number));
    }

    async fn poll(&mut self, nth: usize) {
        let max = 1 + self.random.below(12) as usize;
        let timeout = match self.random.below(4) {
            0 => Duration::ZERO,
            1 => 1_500 * MS,
            _ => MS * self.random.below(200) as u32,
        };
        let patience =
            if self.random.below(4) == 0 { MS * self.random.below(120) as u32 } else { 3_600 * SECOND };
        let name = self.members[nth].name;
        self.model.note(format!("poll {name}: {max}, {timeout:?}, patience {patience:?}"));
        let start = Instant::now();
        // Something comes meanwhile.
        let later = self.random.below(3) == 0;
        let (log, number) = (self.log.clone(), self.number + 1);
        let partition = self.random.below(2) as u32;
        let wait = MS * self.random.below(150) as u32;
        let polled = {
            let poll = tokio::time::timeout(patience, self.members[nth].consumer.poll(max, timeout));
            let append = async {
                if later {
                    tokio::time::sleep(wait).await;
                    return log.submit(event(partition, number)).ok();
                }
                None
            };
            let (polled, ticket) = tokio::join!(poll, append);
            if later {
                self.number = number;
            }
            self.tickets.extend(ticket);
            polled
        };
        let took = start.elapsed();
        let bound = (timeout + SECOND + 2 * MS).max(wait + 2 * MS);
        if took > bound {
            self.model.fail(self.seed, &format!("poll {name} took {took:?}"));
        }
        match polled {
            Ok(Ok(batch)) => {
                if batch.len() > max {
                    self.model.fail(self.seed, "more records than asked for");
                }
                let is_early = took < timeout;
                if self.took(nth, batch) && is_early {
                    self.model
                        .fail(self.seed, &format!("poll {name} was empty after {took:?} of {timeout:?}"));
                }
            }
            Ok(Err(error)) => self.model.note(format!("    {name}: {error:?}")),
            Err(_) => self.model.note(format!("    {name} dropped")),
        }
    }

    async fn commit(&mut self, nth: usize) {
        let which = self.random.below(4);
        let member = &mut self.members[nth];
        let mut cursor = match which {
            0 => member.consumer.position().clone(),
            1 => member.cursors.back().cloned().unwrap_or_default(),
            2 => member.cursors.front().cloned().unwrap_or_default(),
            _ => {
                // Kept somewhere.
                let kept = member.cursors.back().cloned().unwrap_or_default();
                serde_json::from_slice(&serde_json::to_vec(&kept).unwrap()).unwrap()
            }
        };
        // It would be stored in the new log.
        member.unaware.iter().for_each(|partition| _ = cursor.remove(*partition));
        let name = member.name;
        let committed = member.consumer.commit(&cursor).await;
        self.model.note(format!("commit {name} {cursor}: {committed:?}"));
        self.check_places(Some(name)).await;
        if committed.is_ok() {
            for (partition, next) in cursor.iter() {
                let farthest = self.model.farthest.get(&partition).copied();
                if !self.is_down && farthest < Some(next) {
                    let what = format!("Ok, but {partition} was at most at {farthest:?} and never at {next}");
                    self.model.fail(self.seed, &what);
                }
            }
        }
    }

    async fn seek(&mut self, nth: usize) {
        let high = self.broker.contents("events").len() as u64 / 2 + 2;
        let to = match self.random.below(6) {
            0 => SeekPosition::Beginning,
            1 => SeekPosition::End,
            2 => SeekPosition::FromEnd(self.random.below(10) as usize),
            3 => SeekPosition::Position(Position::new(
                PartitionId(self.random.below(2) as u32),
                Offset(self.random.below(high + 4)),
            )),
            4 => SeekPosition::Timestamp(Timestamp(1_000_000_000 + self.random.below(20_000_000))),
            _ => SeekPosition::Cursor(self.members[nth].cursors.front().cloned().unwrap_or_default()),
        };
        if !self.members[nth].unaware.is_empty() {
            // What was committed before is taken for the place in the new log.
            return;
        }
        let before = self.members[nth].consumer.position().clone();
        let member = &mut self.members[nth];
        // A log that hangs does so for as long as it likes.
        let sought = tokio::time::timeout(5 * SECOND, member.consumer.seek(to.clone())).await;
        let sought = sought.unwrap_or(Err(event_log_core::Error::Timeout(5 * SECOND)));
        let position = member.consumer.position().clone();
        self.model.note(format!("seek {} {to:?} from {before}: {sought:?}, at {position}", member.name));
        if sought.is_ok() {
            for (partition, _) in position.iter() {
                let is_meant = match &to {
                    SeekPosition::Position(to) => to.partition == partition,
                    SeekPosition::Cursor(cursor) => cursor.get(partition).is_some(),
                    _ => true,
                };
                if is_meant {
                    member.sought.insert(partition);
                    member.sought_since.insert(partition);
                    member.seen.remove(&partition);
                    member.last.remove(&partition);
                }
            }
            // Of what is skipped the copies are, too.
            self.excuse(|at| {
                let moved = before.get(at.partition) != position.get(at.partition);
                moved && position.get(at.partition).is_some_and(|next| at.offset < next)
            });
            for (partition, next) in
                position.iter().filter(|(partition, _)| before.get(*partition) != position.get(*partition))
            {
                let skipped = self.model.skipped.entry(partition).or_default();
                *skipped = next.max(*skipped);
            }
        }
    }

    async fn join(&mut self) {
        if self.members.len() >= 3 {
            return;
        }
        let policy = match &self.letters {
            Some((letters, _)) => PoisonPolicy::Park(letters.clone()),
            None => PoisonPolicy::Deliver,
        };
        let joined = self.log.consumer_with("g", ConsumerOptions::default().poison(policy)).await;
        self.model.note(format!("join {}: {:?}", self.names, joined.as_ref().map(drop)));
        if let Ok(consumer) = joined {
            self.members.push(Member {
                consumer,
                name: self.names,
                seen: BTreeMap::new(),
                last: BTreeMap::new(),
                sought: BTreeSet::new(),
                sought_since: BTreeSet::new(),
                cursors: VecDeque::new(),
                unaware: BTreeSet::new(),
            });
            self.names += 1;
        }
        self.check_places(None).await;
    }

    async fn settle(&mut self) {
        for nth in 0..self.members.len() {
            for _ in 0..400 {
                let batch = self.members[nth].consumer.poll(100, 400 * MS).await;
                if let Ok(batch) = batch {
                    if self.took(nth, batch) {
                        break;
                    }
                }
            }
        }
    }

    async fn begin_again(&mut self) {
        if self.is_down {
            return;
        }
        // What is known to be lost otherwise: a log that is longer before a member has looked.
        self.faults.clear();
        for _ in 0..3 {
            self.settle().await;
            tokio::time::sleep(2 * SECOND).await;
        }
        self.settle().await;
        self.excuse(|_| true);
        self.model.skipped.clear();
        self.faults.begin_again();
        self.model.note("begin again".to_owned());
        self.model.places.values_mut().for_each(|place| *place = Offset::ZERO);
        self.model.farthest.clear();
        for member in &mut self.members {
            member.unaware = member.consumer.position().iter().map(|(partition, _)| partition).collect();
            member.cursors.clear();
        }
    }

    async fn step(&mut self) {
        let nth = self.random.below(self.members.len().max(1) as u64) as usize;
        let has_member = nth < self.members.len();
        match self.random.below(100) {
            0..22 => self.append(),
            22..60 if has_member => self.poll(nth).await,
            60..70 if has_member => self.commit(nth).await,
            70..73 if has_member && self.menu.seeks => self.seek(nth).await,
            73..77 => self.join().await,
            77..79 if has_member => {
                let member = self.members.swap_remove(nth);
                self.model.note(format!("drop {}", member.name));
            }
            79..81 if has_member => {
                let member = self.members.swap_remove(nth);
                self.model.note(format!("leave {}", member.name));
                drop(member.consumer.leave().await);
            }
            81 => {
                self.model.note("interrupt".to_owned());
                self.faults.interrupt();
                self.is_down = false;
            }
            82 => {
                self.model.note("restart".to_owned());
                self.faults.restart();
                self.is_down = false;
            }
            83 => {
                self.model.note("disconnect".to_owned());
                self.faults.disconnect();
                self.is_down = true;
            }
            84..86 => {
                self.model.note("reconnect".to_owned());
                self.faults.reconnect();
                self.is_down = false;
            }
            86 if self.menu.slow => {
                let each = MS * (self.random.below(4) * 60) as u32;
                self.model.note(format!("slow {each:?}"));
                self.faults.slow_fetches(each);
            }
            87 if self.menu.slow => {
                let stall = self.random.below(3) == 0;
                self.model.note(format!("stall {stall}"));
                self.faults.stall_fetches(stall);
            }
            88 if self.menu.fetch_faults => {
                let (partition, count) = (self.random.below(2) as u32, self.random.below(5) as usize);
                self.model.note(format!("fail {count} fetches of {partition}"));
                self.faults.fail_fetches(PartitionId(partition), count);
            }
            89 if self.menu.fetch_faults => {
                let count = self.random.below(5) as usize;
                self.model.note(format!("{count} empty fetches"));
                self.faults.empty_fetches(count);
            }
            90 => {
                let (partition, count) = (self.random.below(2) as u32, self.random.below(2) as usize);
                self.model.note(format!("fail {count} commits of {partition}"));
                self.faults.fail_commits(PartitionId(partition), count);
            }
            91 => {
                let partition = self.random.below(2) as u32;
                self.model.note(format!("gap in {partition}"));
                if self.random.below(2) == 0 {
                    self.faults.skip_offsets(PartitionId(partition), self.random.below(5));
                } else {
                    self.faults.trailing_gap(PartitionId(partition), self.random.below(5));
                }
            }
            92 if self.menu.copies => {
                self.model.note("hold or lose".to_owned());
                match self.random.below(3) {
                    0 => self.faults.hold_requests(1),
                    1 => self.faults.lose_replies(1),
                    _ => self.faults.lose_requests(1),
                }
            }
            93 if self.menu.copies && !self.is_down => {
                let count = self.faults.deliver_held_requests();
                self.model.note(format!("delivered {count} held"));
            }
            94 if self.menu.begin_again && self.random.below(2) == 0 => self.begin_again().await,
            95 if self.menu.retention => {
                self.model.note("purge".to_owned());
                self.excuse(|_| true);
                self.faults.purge();
            }
            96 if self.menu.deletion => {
                let deleted = self.log.delete_group("g").await;
                self.model.note(format!("delete: {deleted:?}"));
                if deleted.is_ok() {
                    self.model.places.clear();
                    self.model.farthest.clear();
                    // What was stored before is of the group that is gone.
                    for member in &mut self.members {
                        member.cursors.clear();
                        // Nothing of the mirrored places is stored in the new group.
                        member.unaware =
                            member.consumer.position().iter().map(|(partition, _)| partition).collect();
                    }
                }
            }
            97 => {
                if let Some((_, away)) = &self.letters {
                    let is_away = self.random.below(2) == 0;
                    self.model.note(format!("letters away: {is_away}"));
                    if is_away { away.disconnect() } else { away.reconnect() }
                }
            }
            _ => tokio::time::sleep(MS * self.random.below(300) as u32).await,
        }
        if self.random.below(3) == 0 {
            tokio::time::sleep(MS * self.random.below(20) as u32).await;
        }
    }

    async fn end(mut self) {
        self.model.note("the end".to_owned());
        self.faults.clear();
        self.is_down = false;
        if let Some((_, away)) = &self.letters {
            away.reconnect();
        }
        self.faults.deliver_held_requests();
        tokio::time::timeout(100 * SECOND, self.log.flush()).await.expect("the log flushes").unwrap();
        while self.members.len() > 1 {
            let last = self.members.pop().unwrap();
            drop(last);
        }
        self.join().await;
        for _ in 0..40 {
            tokio::time::sleep(2 * SECOND).await;
            self.settle().await;
        }
        let mut missing = Vec::new();
        for content in self.broker.contents("events") {
            let number = number_of(&content.payload);
            if self.is_due(content.position, number) {
                missing.push((number, content.position.to_string()));
            }
        }
        if !missing.is_empty() {
            self.model.fail(self.seed, &format!("never delivered: {missing:?}"));
        }
        for nth in 0..self.members.len() {
            self.commit(nth).await;
        }
    }
}

async fn walks(seeds: std::ops::Range<u64>, menu: Menu) {
    for seed in seeds {
        let mut walk = Walk::new(seed, menu).await;
        walk.join().await;
        for _ in 0..200 {
            walk.step().await;
        }
        walk.end().await;
    }
}

const PLAIN: Menu = Menu {
    begin_again: false,
    foreign: false,
    park: false,
    fetch_faults: false,
    copies: false,
    seeks: false,
    retention: false,
    deletion: false,
    slow: false,
};

fn seeds() -> std::ops::Range<u64> {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let first = number("FIRST", 0);
    first..first + number("SEEDS", 40)
}

macro_rules! walk {
    ($name:ident, $($field:ident),*) => {
        #[tokio::test(start_paused = true)]
        async fn $name() {
            walks(seeds(), Menu { $($field: true,)* ..PLAIN }).await;
        }
    };
}

walk!(random_plain, slow);
walk!(random_faults, slow, fetch_faults);
walk!(random_seeks, slow, fetch_faults, seeks);
walk!(random_copies, copies, slow);
walk!(random_foreign, foreign, slow, fetch_faults, seeks);
walk!(random_letters, foreign, park, slow);
walk!(random_retention, retention, slow, fetch_faults);
walk!(random_begin_again, begin_again, slow);
walk!(random_begin_again_and_faults, begin_again, fetch_faults, slow, copies);
walk!(random_deletion, deletion, slow, fetch_faults);
walk!(random_all, begin_again, fetch_faults, copies, seeks, retention, deletion, slow);
