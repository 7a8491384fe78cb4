//! What the members do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::reading_ahead::{MS, SECOND};
use event_log_core::{
    ConsumerOptions, EventConsumer, EventLog as _, Offset, PartitionId, Position, SeekPosition, Timestamp,
};
use tokio::time::Instant;

use super::{Member, PARTITIONS, Walk};

impl Walk {
    pub(crate) async fn poll(&mut self, nth: usize) {
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
                if self.took(nth, &batch) && took < timeout {
                    self.fail(&format!("empty after {took:?}"));
                }
            }
            Ok(Err(error)) => self.note(format!("    {name}: {error:?}")),
            Err(_) => self.note(format!("    {name} dropped")),
        }
        self.members[nth].last_poll = Instant::now();
    }

    pub(crate) async fn commit(&mut self, nth: usize) {
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

    pub(crate) async fn seek(&mut self, nth: usize) {
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

    pub(crate) async fn join(&mut self) {
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

    pub(crate) async fn step(&mut self) {
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
}
