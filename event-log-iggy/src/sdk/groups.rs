//! Groups: their members, and what they have committed.

use event_log_core::{Offset, PartitionId};
use iggy::prelude::{Consumer, ConsumerGroupClient as _, ConsumerOffsetClient as _, Identifier, IggyError};
use iggy_binary_protocol::codes::SYNC_CONSUMER_GROUP_CODE;
use iggy_binary_protocol::requests::consumer_groups::SyncConsumerGroupRequest;
use iggy_binary_protocol::responses::consumer_groups::SyncConsumerGroupResponse;
use iggy_binary_protocol::{WireDecode as _, WireEncode as _, WireIdentifier};

use super::client::Client;
use super::failure::CallError;

/// The name of a group, as the SDK wants it.
#[derive(Clone, Debug)]
pub(crate) struct GroupId {
    name: String,
    id: Identifier,
}

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Counts the changes of the group.
    pub(crate) generation: u64,
    pub(crate) partitions: Vec<PartitionId>,
}

impl GroupId {
    pub(crate) fn new(name: &str) -> Result<Self, CallError> {
        Ok(Self { name: name.to_owned(), id: Identifier::named(name)? })
    }
}

impl Client {
    /// Makes the group unless it is there, and joins it. The membership is this connection's.
    pub(crate) async fn join(&self, group: &GroupId) -> Result<(), CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let joined = self.bounded(self.tcp.join_consumer_group(stream, topic, &group.id)).await;
        if !matches!(&joined, Err(error) if is_missing_group(error)) {
            return joined;
        }
        let exists = IggyError::ConsumerGroupNameAlreadyExists(String::new(), topic.clone()).as_code();
        match self.bounded(self.tcp.create_consumer_group(stream, topic, &group.name)).await {
            Err(CallError::Code(code, _)) if code == exists => {}
            made => drop(made?),
        }
        self.bounded(self.tcp.join_consumer_group(stream, topic, &group.id)).await
    }

    /// Leaves the group, so that the others get the partitions at once.
    pub(crate) async fn leave(&self, group: &GroupId) -> Result<(), CallError> {
        self.bounded(self.tcp.leave_consumer_group(&self.topic.stream, &self.topic.topic, &group.id)).await
    }

    /// What this connection has as a member of the group, `None` when it is no member (any more).
    pub(crate) async fn membership(&self, group: &GroupId) -> Result<Option<Membership>, CallError> {
        let request = SyncConsumerGroupRequest {
            stream_id: self.topic.wire_stream.clone(),
            topic_id: self.topic.wire_topic.clone(),
            group_id: WireIdentifier::named(&group.name).map_err(|_| IggyError::InvalidConsumerGroupName)?,
        };
        let reply = self.call(SYNC_CONSUMER_GROUP_CODE, request.to_bytes()).await?;
        if reply.is_empty() {
            return Ok(None);
        }
        let (reply, _) = SyncConsumerGroupResponse::decode(&reply).map_err(|_| IggyError::InvalidCommand)?;
        let mut partitions: Vec<_> = reply.partitions.into_iter().map(PartitionId).collect();
        partitions.sort_unstable();
        Ok(Some(Membership { generation: reply.generation, partitions }))
    }

    /// How many members the group has, `None` when there is no such group.
    pub(crate) async fn members(&self, group: &GroupId) -> Result<Option<u32>, CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        match self.bounded(self.tcp.get_consumer_group(stream, topic, &group.id)).await {
            Ok(details) => Ok(details.map(|details| details.members_count)),
            Err(error) if is_missing_group(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets the group and what it has committed.
    pub(crate) async fn delete_group(&self, group: &GroupId) -> Result<(), CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        match self.bounded(self.tcp.delete_consumer_group(stream, topic, &group.id)).await {
            Err(error) if is_missing_group(&error) => Ok(()),
            deleted => deleted,
        }
    }

    /// The next offset to read of a partition, as the group has committed it.
    pub(crate) async fn committed(
        &self,
        group: &GroupId,
        partition: PartitionId,
    ) -> Result<Option<Offset>, CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let consumer = Consumer::group(group.id.clone());
        let stored = self.tcp.get_consumer_offset(&consumer, stream, topic, Some(partition.0));
        match self.bounded(stored).await {
            // What is stored is the last offset that was processed.
            Ok(stored) => Ok(stored.map(|stored| Offset(stored.stored_offset).next())),
            Err(error) if is_missing_group(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Stores the next offset to read of a partition.
    pub(crate) async fn store(
        &self,
        group: &GroupId,
        partition: PartitionId,
        next: Offset,
    ) -> Result<(), CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        let consumer = Consumer::group(group.id.clone());
        if let Some(last) = next.0.checked_sub(1) {
            let store = self.tcp.store_consumer_offset(&consumer, stream, topic, Some(partition.0), last);
            return self.bounded(store).await;
        }
        // Nothing is processed, which is what a missing offset says.
        let delete = self.tcp.delete_consumer_offset(&consumer, stream, topic, Some(partition.0));
        match self.bounded(delete).await {
            Err(CallError::Code(code, _)) if code == IggyError::ConsumerOffsetNotFound(0).as_code() => Ok(()),
            deleted => deleted,
        }
    }
}

fn is_missing_group(error: &CallError) -> bool {
    let named = IggyError::ConsumerGroupNameNotFound(String::new(), Identifier::default()).as_code();
    let numbered = IggyError::ConsumerGroupIdNotFound(Identifier::default(), Identifier::default()).as_code();
    error.code().is_some_and(|code| code == named || code == numbered)
}
