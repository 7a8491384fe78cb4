//! Where records go that could not be decoded, when the consumer's policy is to park them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::event::{EventId, Partitionable};
use crate::position::{Position, Timestamp};

/// A record that a consumer could not decode, with all that is needed to look at it, or to append it again
/// once the reader has learnt its shape.
///
/// Its own id is the id of the record, so that a letter that was written twice (a consumer died between
/// parking and committing) is read once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The group whose consumer could not read it.
    pub group: String,
    /// Where the record is in its log.
    pub position: Position,
    /// The id of the record.
    pub id: EventId,
    /// When the record was appended.
    pub timestamp: Timestamp,
    /// What the codec said.
    pub reason: String,
    /// The payload, exactly as it is in its log.
    pub payload: Bytes,
}

impl DeadLetter {
    /// A letter; for implementors of consumers.
    #[must_use]
    pub const fn new(
        group: String,
        position: Position,
        id: EventId,
        timestamp: Timestamp,
        reason: String,
        payload: Bytes,
    ) -> Self {
        Self { group, position, id, timestamp, reason, payload }
    }
}

impl Partitionable for DeadLetter {
    /// The letters of one group stay together and in order.
    fn partition_key(&self) -> Option<&str> {
        Some(&self.group)
    }

    fn event_id(&self) -> Option<EventId> {
        Some(self.id)
    }
}
