//! The end of every run: the disturbances stop, everything settles, and the whole log is read.

use std::time::Duration;

use event_log_core::conformance::Probe;
use event_log_core::{Codec, EventLog, Headers, JsonCodec, limits};
use event_log_memory::Content;

use super::{PATIENCE, TOPIC, World};
use crate::model::history::{Seen, What};
use crate::model::op::{GROUPS, SLOTS, Start, Which};

impl World {
    pub(super) async fn end(&mut self) {
        self.calm_down().await;
        self.share_out().await;
        for group in 0..GROUPS {
            for slot in 0..SLOTS {
                self.leave(group, slot, false).await;
            }
            self.join(group, 0, Start::Beginning).await;
            self.read_dry(group, 0).await;
            self.commit(group, 0, &Which::Batch(0)).await;
            self.look().await;
        }
        self.read_everything().await;
    }

    async fn calm_down(&mut self) {
        if self.history.settings.seed.is_multiple_of(2) {
            let count = self.faults.deliver_held_requests();
            self.saw(What::Delivered(count));
        }
        self.faults.clear();
        self.saw(What::Link { up: true, cut: false });
        // A reader waits before it asks again for what it did not get.
        tokio::time::sleep(limits::READER_RETRY_MAX).await;
        self.saw(What::Calm);
        let mut state = self.log.state();
        let connected = state.wait_for(event_log_core::LogState::is_connected);
        if tokio::time::timeout(PATIENCE, connected).await.is_err() {
            self.saw(What::Stuck("reconnect"));
        }
        self.finish_running().await;
        self.flush(PATIENCE).await;
        self.settle().await;
        self.look().await;
    }

    /// Lets the members that are left find out which partitions they have; in some runs they read and commit
    /// what there is.
    async fn share_out(&mut self) {
        let read = self.history.settings.seed.is_multiple_of(3);
        for group in 0..GROUPS {
            for round in 0..40 {
                let mut count = 0;
                for slot in 0..SLOTS {
                    count += self.poll(group, slot, if read { 20 } else { 1 }, Some(Duration::ZERO)).await;
                    if read {
                        self.commit(group, slot, &Which::Batch(0)).await;
                    }
                }
                // The first rounds are for joining again.
                if round > 3 && (count == 0 || !read) {
                    break;
                }
            }
            let members = self.members[group].iter().flatten();
            let partitions: Vec<Vec<_>> = members
                .map(|member| member.consumer.position().iter().map(|(partition, _)| partition).collect())
                .collect();
            if !partitions.is_empty() {
                self.saw(What::Shared { group, partitions });
            }
        }
        self.look().await;
    }

    async fn read_dry(&mut self, group: usize, slot: usize) {
        // Polls that only drop second copies return nothing, though there is more.
        let mut empty = 0;
        while empty < 3 {
            let count = self.poll(group, slot, 7, Some(Duration::ZERO)).await;
            empty = if count == 0 { empty + 1 } else { 0 };
        }
        if let Some(member) = &self.members[group][slot] {
            let consumer = member.number;
            self.saw(What::Dry { consumer });
        }
    }

    /// Looks behind the scenes: a consumer would keep second copies back.
    async fn read_everything(&mut self) {
        let contents = self.broker.contents(TOPIC).into_iter();
        let records = contents.map(|Content { position, id, timestamp, payload, .. }| {
            let decoded: Result<Probe, _> = JsonCodec.decode(&payload, &Headers::new());
            let content = decoded.map_or_else(
                |_| crate::model::history::Content::Bytes(payload.to_vec()),
                |probe| crate::model::history::Content::Event(probe.number),
            );
            Seen { position, id, timestamp, content }
        });
        let records = records.collect();
        let marks = self.marks().await.unwrap_or_default();
        self.saw(What::Content { records, marks });
    }
}
