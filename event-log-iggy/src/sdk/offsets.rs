//! What a group has committed.
//!
//! The server stores the offset of the last message that was processed; everywhere else it is the next one to read.
//!
//! It is stored twice: as the group's, which the server only takes from the member that has the partition, and then as
//! that of a consumer on its own, the copy. The copy survives a group that has to be [made anew](super::stale_members), and a crash
//! in the middle of storing: the server (0.9.0-edge.5) empties the file of an offset before it writes the new one, so that
//! one killed in between has forgotten the offset when it comes back. Of the two files only one is being written at a time.
//!
//! Nor is *no offset* believed at once: the server says so too when it could not ask the part of it that has the partition.

use event_log_core::{Offset, PartitionId};
use iggy::prelude::{Consumer, ConsumerOffsetClient as _, IggyError};

use super::client::Client;
use super::failure::CallError;
use super::groups::{GroupId, is_missing_group};
use super::messages::ReadFrom;
use super::topics::PartitionStats;

/// Whose offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// The group's, which only the member may store that has the partition.
    Group,
    /// The copy, which every connection may store.
    Copy,
}

/// The offset of the last record that a group has processed in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoredOffset {
    last: Offset,
    /// It is the first offset and the end of the partition.
    is_first: bool,
}

impl StoredOffset {
    /// The next offset to read of a partition that is like this. A server that has lost a whole partition puts the offsets
    /// of its groups to 0, as if the first record had been processed, where there is none: that is no offset.
    pub(crate) fn next_in(self, stats: PartitionStats) -> Option<Offset> {
        (!self.is_first || stats.high > Offset::ZERO).then(|| self.last.next())
    }
}

impl GroupId {
    fn consumer(&self, whose: Stored) -> Consumer {
        match whose {
            Stored::Group => Consumer::group(self.id.clone()),
            Stored::Copy => Consumer::new(self.copy.clone()),
        }
    }
}

impl Client {
    /// What is stored for a group in a partition: the group's own, or the copy.
    pub(crate) async fn stored_offset(
        &self,
        group: &GroupId,
        partition: PartitionId,
    ) -> Result<Option<StoredOffset>, CallError> {
        match self.offset_of(group, Stored::Group, partition).await? {
            None => self.offset_of(group, Stored::Copy, partition).await,
            stored => Ok(stored),
        }
    }

    /// The same, after the server has shown that the part of it answers which has the partition: by a record, if there is
    /// one. Without a record no offset can be stored.
    pub(crate) async fn certain_offset(
        &self,
        group: &GroupId,
        partition: PartitionId,
        stats: PartitionStats,
    ) -> Result<Option<StoredOffset>, CallError> {
        if stats.messages > 0 && self.poll(partition, ReadFrom::First, 1).await?.records.is_empty() {
            return Err(IggyError::CannotReadMessage.into());
        }
        self.stored_offset(group, partition).await
    }

    pub(crate) async fn offset_of(
        &self,
        group: &GroupId,
        whose: Stored,
        partition: PartitionId,
    ) -> Result<Option<StoredOffset>, CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let consumer = group.consumer(whose);
        let stored = self.tcp.get_consumer_offset(&consumer, stream, topic, Some(partition.0));
        let stored = match self.bounded(stored).await {
            Ok(stored) => stored,
            Err(error) if is_missing_group(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(stored.map(|stored| StoredOffset {
            last: Offset(stored.stored_offset),
            is_first: (stored.stored_offset, stored.current_offset) == (0, 0),
        }))
    }

    /// Stores the next offset to read of a partition: for the first one none, which says that nothing is processed.
    pub(crate) async fn store(
        &self,
        group: &GroupId,
        whose: Stored,
        partition: PartitionId,
        next: Offset,
    ) -> Result<(), CallError> {
        let Some(last) = next.0.checked_sub(1) else {
            return self.forget_offset(group, whose, partition).await;
        };
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let consumer = group.consumer(whose);
        self.bounded(self.tcp.store_consumer_offset(&consumer, stream, topic, Some(partition.0), last)).await
    }

    pub(crate) async fn forget_offset(
        &self,
        group: &GroupId,
        whose: Stored,
        partition: PartitionId,
    ) -> Result<(), CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let consumer = group.consumer(whose);
        let delete = self.tcp.delete_consumer_offset(&consumer, stream, topic, Some(partition.0));
        match self.bounded(delete).await {
            Err(CallError::Code(_, IggyError::ConsumerOffsetNotFound(..))) => Ok(()),
            deleted => deleted,
        }
    }
}
