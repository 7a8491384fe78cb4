//! Groups: making them, joining them, and who has what.

use event_log_core::PartitionId;
use iggy::prelude::{ConsumerGroupClient as _, Identifier, IggyError};
use iggy_binary_protocol::codes::SYNC_CONSUMER_GROUP_CODE;
use iggy_binary_protocol::requests::consumer_groups::SyncConsumerGroupRequest;
use iggy_binary_protocol::responses::consumer_groups::SyncConsumerGroupResponse;
use iggy_binary_protocol::{WireDecode as _, WireEncode as _, WireIdentifier};

use super::client::Client;
use super::failure::CallError;

/// What the name of a consumer begins with that has the copy of a group's offsets.
const COPY: &str = "event-log.";

/// The name of a group, as the SDK wants it.
#[derive(Clone, Debug)]
pub(crate) struct GroupId {
    name: String,
    pub(super) id: Identifier,
    /// Whose offsets are the copy of the group's: a consumer that is no member of anything. `None` when the name of the
    /// group leaves no room for it.
    pub(super) copy: Option<Identifier>,
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
        let copy = Identifier::named(&format!("{COPY}{name}")).ok();
        Ok(Self { name: name.to_owned(), id: Identifier::named(name)?, copy })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
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
    pub(crate) async fn delete_group(&self, group: &GroupId, partitions: u32) -> Result<(), CallError> {
        self.delete_group_of(&group.id).await?;
        for partition in 0..partitions {
            self.forget_copy(group, PartitionId(partition)).await?;
        }
        Ok(())
    }

    pub(super) async fn delete_group_of(&self, id: &Identifier) -> Result<(), CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        match self.bounded(self.tcp.delete_consumer_group(stream, topic, id)).await {
            Err(error) if is_missing_group(&error) => Ok(()),
            deleted => deleted,
        }
    }
}

pub(super) fn is_missing_group(error: &CallError) -> bool {
    let named = IggyError::ConsumerGroupNameNotFound(String::new(), Identifier::default()).as_code();
    let numbered = IggyError::ConsumerGroupIdNotFound(Identifier::default(), Identifier::default()).as_code();
    error.code().is_some_and(|code| code == named || code == numbered)
}
