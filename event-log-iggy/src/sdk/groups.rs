//! Groups: making them, joining them, and who has what.

use event_log_core::{Error, PartitionId};
use iggy::prelude::{ConsumerGroupClient as _, Identifier, IggyError};
use iggy_binary_protocol::codes::SYNC_CONSUMER_GROUP_CODE;
use iggy_binary_protocol::requests::consumer_groups::SyncConsumerGroupRequest;
use iggy_binary_protocol::responses::consumer_groups::SyncConsumerGroupResponse;
use iggy_binary_protocol::{WireDecode as _, WireEncode as _, WireIdentifier};

use super::client::Client;
use super::failure::CallError;
use crate::limits;

/// What every name begins with that this crate derives from the name of a group. No group may be named so.
const RESERVED: &str = "event-log";

/// A name that this crate needs beside a group's own.
#[derive(Clone, Copy)]
enum Derived {
    /// Whose offsets are the copy of the group's: a consumer that is no member of anything.
    Copy,
    /// The group without members that says that the group has started.
    Started,
    /// The group without members that the member has made which starts the group just now.
    Starting,
}

impl Derived {
    /// The name, which fits: of a name that is too long there is a hash instead. The two forms begin differently, so that
    /// no short name is the long form of another.
    fn of(self, group: &str) -> String {
        let (short, long) = match self {
            Self::Copy => ("event-log.", "event-log-hash."),
            Self::Started => ("event-log-started.", "event-log-hash-started."),
            Self::Starting => ("event-log-starting.", "event-log-hash-starting."),
        };
        if short.len() + group.len() <= limits::NAME_BYTES {
            format!("{short}{group}")
        } else {
            format!("{long}{:032x}", fnv1a_128(group.as_bytes()))
        }
    }
}

/// FNV-1a, 128 bits: part of the names that are stored on servers, so that it never changes.
fn fnv1a_128(bytes: &[u8]) -> u128 {
    let step =
        |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, step)
}

/// The name of a group, and the names that go with it, as the SDK wants them.
#[derive(Clone, Debug)]
pub(crate) struct GroupId {
    name: String,
    pub(super) id: Identifier,
    pub(super) copy: Identifier,
    pub(super) started: String,
    pub(super) starting: String,
}

/// What a member has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Counts the changes of the group.
    pub(crate) generation: u64,
    pub(crate) partitions: Vec<PartitionId>,
}

impl GroupId {
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        if name.starts_with(RESERVED) && name[RESERVED.len()..].starts_with(['.', '-']) {
            return Err(Error::invalid(
                "group",
                format!("{name:?} begins like a name of this library's own"),
            ));
        }
        let identifier =
            |name: &str| Identifier::named(name).map_err(|error| CallError::from(error).into_error());
        Ok(Self {
            id: identifier(name)?,
            copy: identifier(&Derived::Copy.of(name))?,
            started: Derived::Started.of(name),
            starting: Derived::Starting.of(name),
            name: name.to_owned(),
        })
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
        self.create_group(&group.name).await?;
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

    /// Creates a group. `false` when it exists: of several that create it one succeeds.
    pub(super) async fn create_group(&self, name: &str) -> Result<bool, CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        match self.bounded(self.tcp.create_consumer_group(stream, topic, name)).await {
            Ok(_) => Ok(true),
            Err(CallError::Code(_, IggyError::ConsumerGroupNameAlreadyExists(..))) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How many members the group has, `None` when there is no such group.
    pub(crate) async fn members(&self, group: &GroupId) -> Result<Option<u32>, CallError> {
        self.members_of(&group.id).await
    }

    pub(super) async fn members_of(&self, id: &Identifier) -> Result<Option<u32>, CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        match self.bounded(self.tcp.get_consumer_group(stream, topic, id)).await {
            Ok(details) => Ok(details.map(|details| details.members_count)),
            Err(error) if is_missing_group(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Forgets the group, with the offsets that are its own.
    pub(crate) async fn delete_group(&self, group: &GroupId) -> Result<(), CallError> {
        self.delete_group_of(&group.id).await
    }

    pub(super) async fn delete_group_of(&self, id: &Identifier) -> Result<(), CallError> {
        let (stream, topic) = (&self.topic.stream, &self.topic.topic);
        match self.bounded(self.tcp.delete_consumer_group(stream, topic, id)).await {
            Err(error) if is_missing_group(&error) => Ok(()),
            deleted => deleted,
        }
    }
}

pub(super) const fn is_missing_group(error: &CallError) -> bool {
    matches!(
        error,
        CallError::Code(_, IggyError::ConsumerGroupNameNotFound(..) | IggyError::ConsumerGroupIdNotFound(..))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Derived; 3] = [Derived::Copy, Derived::Started, Derived::Starting];

    #[test]
    fn derived_names_fit_and_differ() {
        let mut names = Vec::new();
        for group in ["g".to_owned(), "g".repeat(244), "g".repeat(255), "ä".repeat(127), "h".repeat(255)] {
            names.extend(ALL.map(|derived| derived.of(&group)));
            GroupId::new(&group).unwrap();
        }
        assert!(names.iter().all(|name| name.len() <= limits::NAME_BYTES));
        let count = names.len();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_name_of_our_own_is_refused_for_a_group() {
        for derived in ALL {
            assert!(GroupId::new(&derived.of("g")).is_err());
            assert!(GroupId::new(&derived.of(&"g".repeat(255))).is_err());
        }
        GroupId::new("event-logger").unwrap();
        GroupId::new("event-log").unwrap();
        assert!(GroupId::new("").is_err());
    }

    #[test]
    fn the_hash_never_changes() {
        // The published vectors of FNV-1a.
        assert_eq!(fnv1a_128(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a_128(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
    }
}
