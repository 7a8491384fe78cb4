//! What a group has committed.
//!
//! The server stores the offset of the last message that was processed; everywhere else it is the next one to read.
//!
//! It is stored twice: as the group's, which the server only takes from the member that has the partition, and then as
//! that of a consumer on its own, the copy. The copy survives a group that has to be [made anew](super::ghosts), and a crash
//! in the middle of storing: the server (0.9.0-edge.5) empties the file of an offset before it writes the new one, so that
//! one killed in between has forgotten the offset when it comes back. Of the two files only one is being written at a time.
//!
//! Nor is *no offset* believed at once: the server says so too when it could not ask the part of it that has the partition.

use event_log_core::{Offset, PartitionId};
use iggy::prelude::{Consumer, ConsumerOffsetClient as _, IggyError};

use super::client::Client;
use super::failure::CallError;
use super::groups::{GroupId, is_missing_group};
use super::messages::From;
use super::topics::PartitionStats;

impl Client {
    /// The next offset to read of a partition, as the group has committed it.
    pub(crate) async fn committed(
        &self,
        group: &GroupId,
        partition: PartitionId,
    ) -> Result<Option<Offset>, CallError> {
        let stored = self.either_offset(group, partition).await?;
        if stored.is_some() {
            return Ok(stored);
        }
        if !self.answers_for(partition).await? {
            return Err(IggyError::CannotReadMessage.into());
        }
        self.either_offset(group, partition).await
    }

    /// The group's, or the copy.
    async fn either_offset(
        &self,
        group: &GroupId,
        partition: PartitionId,
    ) -> Result<Option<Offset>, CallError> {
        let stored = self.offset_of(&Consumer::group(group.id.clone()), partition).await?;
        match &group.copy {
            Some(copy) if stored.is_none() => self.offset_of(&Consumer::new(copy.clone()), partition).await,
            _ => Ok(stored),
        }
    }

    /// Whether the part of the server that has the partition is there: it says so by a message, if there is one.
    async fn answers_for(&self, partition: PartitionId) -> Result<bool, CallError> {
        if !self.poll(partition, From::First, 1).await?.records.is_empty() {
            return Ok(true);
        }
        Ok(self.stats_of(partition).await?.is_none_or(|stats| stats.messages == 0))
    }

    async fn stats_of(&self, partition: PartitionId) -> Result<Option<PartitionStats>, CallError> {
        let topic = self.topic().await?;
        Ok(topic.and_then(|topic| topic.partitions.get(partition.0 as usize).copied()))
    }

    /// Stores the next offset to read of a partition.
    pub(crate) async fn store(
        &self,
        group: &GroupId,
        partition: PartitionId,
        next: Offset,
    ) -> Result<(), CallError> {
        let consumer = Consumer::group(group.id.clone());
        if next > Offset::ZERO {
            self.store_offset(&consumer, partition, next).await?;
            return match &group.copy {
                Some(copy) => self.store_offset(&Consumer::new(copy.clone()), partition, next).await,
                None => Ok(()),
            };
        }
        // Nothing is processed, which is what a missing offset says.
        self.delete_offset(&consumer, partition).await?;
        self.forget_copy(group, partition).await
    }

    /// Copies what the group has committed, also what others than this library have.
    pub(super) async fn copy_offsets(&self, group: &GroupId, partitions: u32) -> Result<(), CallError> {
        let Some(copy) = &group.copy else { return Ok(()) };
        let (original, copy) = (Consumer::group(group.id.clone()), Consumer::new(copy.clone()));
        for partition in (0..partitions).map(PartitionId) {
            let next = self.offset_of(&original, partition).await?;
            // A copy that is farther was made by somebody who has committed meanwhile.
            if next > self.offset_of(&copy, partition).await?
                && let Some(next) = next
            {
                self.store_offset(&copy, partition, next).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn forget_copy(&self, group: &GroupId, partition: PartitionId) -> Result<(), CallError> {
        match &group.copy {
            Some(copy) => self.delete_offset(&Consumer::new(copy.clone()), partition).await,
            None => Ok(()),
        }
    }

    async fn offset_of(
        &self,
        consumer: &Consumer,
        partition: PartitionId,
    ) -> Result<Option<Offset>, CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let stored = self.tcp.get_consumer_offset(consumer, stream, topic, Some(partition.0));
        let stored = match self.bounded(stored).await {
            Ok(stored) => stored,
            Err(error) if is_missing_group(&error) => None,
            Err(error) => return Err(error),
        };
        // A server that has lost a whole partition puts the offsets of its groups to 0, as if its first message had been
        // processed; but there is none yet.
        if stored.as_ref().is_some_and(|stored| (stored.stored_offset, stored.current_offset) == (0, 0))
            && self.stats_of(partition).await?.is_none_or(|stats| stats.high == Offset::ZERO)
        {
            return Ok(None);
        }
        Ok(stored.map(|stored| Offset(stored.stored_offset).next()))
    }

    /// Stores an offset that is not the first.
    async fn store_offset(
        &self,
        consumer: &Consumer,
        partition: PartitionId,
        next: Offset,
    ) -> Result<(), CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let last = next.0.saturating_sub(1);
        self.bounded(self.tcp.store_consumer_offset(consumer, stream, topic, Some(partition.0), last)).await
    }

    async fn delete_offset(&self, consumer: &Consumer, partition: PartitionId) -> Result<(), CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let delete = self.tcp.delete_consumer_offset(consumer, stream, topic, Some(partition.0));
        match self.bounded(delete).await {
            Err(CallError::Code(code, _)) if code == IggyError::ConsumerOffsetNotFound(0).as_code() => Ok(()),
            deleted => deleted,
        }
    }
}
