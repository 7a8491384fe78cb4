//! What others do to the log.

use event_log_core::{EventConsumer, Offset, PartitionId};

use super::{PARTITIONS, Walk, number_of};

impl Walk {
    pub(crate) fn append(&mut self) {
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

    pub(crate) fn truncate(&mut self) {
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
        // A member that has not noticed may commit what it takes for its place.
        let most = self.members.iter().filter_map(|member| member.consumer.position().get(partition)).max();
        let skipped = self.skipped.entry(partition).or_default();
        *skipped = (*skipped).max(most.unwrap_or_default()).max(Offset(u64::MAX / 2));
        for member in &mut self.members {
            member.epochs.remove(&partition);
        }
    }
}
