//! What CONTRACT.md says of what the members were given, and of where the group stands.

use std::collections::BTreeMap;

use crate::reading_ahead::SECOND;
use event_log_core::{
    Cursor, EventBatch, EventConsumer, Notice, Offset, PartitionId, Position, RawEvent, Timestamp,
};
use tokio::time::Instant;

use super::{Walk, number_of};

impl Walk {
    pub(crate) fn is_copy(part: &crate::reading_ahead::Part, offset: Offset) -> bool {
        let Some(at) = part.records.iter().position(|record| record.offset == offset) else { return false };
        let id = part.records[at].id;
        part.records.iter().take(at).any(|record| record.id == id)
    }

    pub(crate) fn took(&mut self, nth: usize, batch: &EventBatch<RawEvent>) -> bool {
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
                            let is_known = self.delivered.contains(&number);
                            let may_miss = Self::is_copy(part, one.offset)
                                || epoch.seen.contains(&number)
                                || is_known && (self.truncates || part.low > 0);
                            !may_miss
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
    pub(crate) fn check_fair(&self, nth: usize, newest: Option<Timestamp>, cursor: &Cursor) {
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

    pub(crate) fn places(&self) -> Vec<Option<Offset>> {
        self.server.change(|state| state.parts.iter().map(|part| part.place).collect())
    }

    pub(crate) fn check_places(&self) {
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

    pub(crate) async fn end(mut self) {
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
                    Ok(batch) => quiet = if self.took(nth, &batch) { quiet + 1 } else { 0 },
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
