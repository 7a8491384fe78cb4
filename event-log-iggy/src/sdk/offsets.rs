//! What a group has committed.
//!
//! The server stores the offset of the last record that was processed; everywhere else it is the next one to read.
//!
//! It is stored twice: as the group's, which the server takes only from the member that has the partition, and then as that
//! of a consumer without a group, the copy. The copy survives a group that has to be [created
//! again](super::stale_members), and a crash while an offset is stored (see [`quirks`]): only one of the two is being
//! stored at a time. The start of a group is stored as the copy alone, also by members that do not have the partition.

use event_log_core::{Offset, PartitionId};
use iggy::prelude::{Consumer, ConsumerOffsetClient as _, IggyError};

use super::client::Client;
use super::failure::CallError;
use super::groups::{GroupId, is_missing_group};
use super::messages::ReadFrom;
use super::quirks;
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
    /// Where the partition ends, as the server says with the offset.
    end: Offset,
}

impl StoredOffset {
    /// The next offset to read of a partition that is like this.
    pub(crate) fn next_in(self, stats: PartitionStats) -> Option<Offset> {
        (!quirks::is_of_lost_partition(self.last, self.end, stats)).then(|| self.last.next())
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
            end: Offset(stored.current_offset),
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
