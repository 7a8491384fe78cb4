//! What a backend supplies, and all that it supplies: how to reach its log.
//!
//! Everything that is hard to get right twice — order, buffering, recovery, delivery, commits — is in the
//! engine, once, and is proven there. A transport only says truthfully what happened.

use std::future::Future;

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::{CommitErrorKind, Error};
use crate::event::EventId;
use crate::position::{Offset, PartitionId, Position, Timestamp};
use crate::watermark::{PartitionWatermarks, Watermarks};

/// An event on its way into the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The id that the log must keep with the payload.
    pub id: EventId,
    /// The encoded event.
    pub payload: Bytes,
}

/// A record on its way out of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its offset.
    pub offset: Offset,
    /// Its id.
    pub id: EventId,
    /// When the log appended it.
    pub timestamp: Timestamp,
    /// The encoded event.
    pub payload: Bytes,
}

/// The answer to a fetch.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    /// Records in offset order, none before the asked offset. Empty is no proof of the end.
    pub records: Vec<StoredMessage>,
    /// The low watermark, if answering has shown it. Above the asked offset it says that what lies between is gone,
    /// and must not be missing.
    pub low: Option<Offset>,
    /// The high watermark, if answering has shown it for certain. Lower than it once was it says that the partition
    /// was cut: that it was purged, or made anew, or lost its tail in a crash.
    pub high: Option<Offset>,
    /// What was read before is not what stands there now: the partition was cut, although it may have grown as long as
    /// it was since then.
    pub truncated: bool,
}

/// Why a request was not confirmed.
#[derive(Debug)]
pub enum SendError {
    /// Certainly not in the log, and sending the same again would not help: the events come back.
    Refused(Error),
    /// The session is of no use any more. The engine opens another one and, when the request may have taken
    /// effect, reads back before it sends again.
    Lost {
        /// What went wrong.
        error: Error,
        /// Whether the request may have arrived.
        may_have_taken_effect: bool,
    },
}

/// A partition that a member of a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The partition.
    pub partition: PartitionId,
    /// Changes whenever somebody else has had the partition in between. With the epoch it remembers a
    /// consumer goes on where it was, also after joining again; with any other it starts at the committed
    /// cursor. A backend that cannot know gives a new one with every membership.
    pub epoch: u64,
}

/// How to reach a log. Shared by the producer and the consumers of one handle.
pub trait Transport: Send + Sync + 'static {
    /// A connection of the producer.
    type Producer: ProducerConnection;
    /// A connection of a consumer, which is a member of its group.
    type Member: GroupMember;

    /// How many partitions the log has: as configured, and verified by [`connect`](Self::connect).
    fn partitions(&self) -> u32;

    /// Whether it keeps the payloads that it is given, rather than copying them. Then each has an allocation of its own,
    /// which is freed with it; otherwise many share one.
    fn keeps_payloads(&self) -> bool {
        false
    }

    /// How many connections of the producer are worth having at the same time, of which each sends to some of the
    /// partitions. They are opened as they turn out to be of use. With more than one, requests to different partitions
    /// are under way together; those to one partition never are.
    fn connections(&self) -> usize {
        1
    }

    /// Connects, logs in, creates the topic when it is absent and verifies it when it is present.
    fn connect(&self) -> impl Future<Output = Result<Self::Producer, Error>> + Send;

    /// Another connection beside one that [`connect`](Self::connect) has made and that is still good.
    fn connect_another(&self) -> impl Future<Output = Result<Self::Producer, Error>> + Send {
        self.connect()
    }

    /// Connects and joins a group. `instance` is the same whenever the same consumer joins again.
    fn join(&self, group: &str, instance: u128) -> impl Future<Output = Result<Self::Member, Error>> + Send;

    /// The watermarks of every partition.
    fn watermarks(&self) -> impl Future<Output = Result<Watermarks, Error>> + Send;

    /// What a group has committed, for every partition.
    fn committed(&self, group: &str) -> impl Future<Output = Result<Vec<Option<Offset>>, Error>> + Send;

    /// Forgets a group.
    fn delete_group(&self, group: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Appends at once, or hands the messages back: for a log in this process, which can skip the queue as
    /// long as nothing is in it. Returns the offset of the first message; the others follow it without a gap.
    ///
    /// `now` is the time on the engine's clock during the call, for a log that shares it.
    ///
    /// # Errors
    ///
    /// The messages, when they must go through the queue.
    fn try_append<I>(&self, partition: PartitionId, now: Timestamp, messages: I) -> Result<Offset, I>
    where
        I: ExactSizeIterator<Item = Message>,
    {
        let _ = (partition, now);
        Err(messages)
    }
}

/// The producer's connection. Every call ends within a deadline of the transport's own.
pub trait ProducerConnection: Send + 'static {
    /// Appends messages to one partition in one request. Returns the offset of the first, when the log said
    /// so; the others follow it without a gap.
    ///
    /// When the future is dropped the request counts as lost, with unknown effect.
    fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> impl Future<Output = Result<Option<Offset>, SendError>> + Send;

    /// Records from `from` on, at most `max_records`, for reading back what became of a request.
    fn fetch(
        &mut self,
        partition: PartitionId,
        from: Offset,
        max_records: usize,
    ) -> impl Future<Output = Result<FetchResponse, Error>> + Send;

    /// The watermarks of every partition.
    fn watermarks(&mut self) -> impl Future<Output = Result<Watermarks, Error>> + Send;

    /// Completes when the connection is known to be lost, with the reason. Cancel safe; never completes
    /// for a transport that only finds out by sending.
    fn lost(&mut self) -> impl Future<Output = Error> + Send;
}

/// A consumer's connection: one member of one group. Dropping it leaves the group.
///
/// [`Error::Unavailable`] from any call means that the connection is lost; the engine joins again.
pub trait GroupMember: Send + 'static {
    /// The partitions of this member, when they have changed since the last call (or there was none).
    /// Cheap, since it is called before every fetch.
    fn assignment(&mut self) -> impl Future<Output = Result<Option<Vec<Assignment>>, Error>> + Send;

    /// Records from `from` on: at most `max_records`, and no more than `max_bytes` of payload unless the
    /// first record alone is longer. From before the low watermark it begins there.
    fn fetch(
        &mut self,
        partition: PartitionId,
        from: Offset,
        max_records: usize,
        max_bytes: usize,
    ) -> impl Future<Output = Result<FetchResponse, Error>> + Send;

    /// The retained range of a partition.
    fn watermarks(
        &mut self,
        partition: PartitionId,
    ) -> impl Future<Output = Result<PartitionWatermarks, Error>> + Send;

    /// The first offset whose record was appended at `timestamp` or later; the high watermark when there is
    /// none.
    fn offset_at(
        &mut self,
        partition: PartitionId,
        timestamp: Timestamp,
    ) -> impl Future<Output = Result<Offset, Error>> + Send;

    /// What the group has committed of a partition: the next offset to read.
    fn committed(
        &mut self,
        partition: PartitionId,
    ) -> impl Future<Output = Result<Option<Offset>, Error>> + Send;

    /// Stores the committed offset of a partition, also a lower one than before.
    fn store(
        &mut self,
        partition: PartitionId,
        next: Offset,
    ) -> impl Future<Output = Result<(), CommitErrorKind>> + Send;

    /// Waits until something may have changed (records, the assignment, the connection) since the last
    /// fetch, or until `deadline`. Waking too often is allowed, missing a change is not. Cancel safe.
    fn wait(&mut self, deadline: Instant) -> impl Future<Output = ()> + Send;

    /// Leaves the group, and waits until the others know.
    fn leave(self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// The id of a message that came without one (from a producer that knows nothing of this library): its place, in the
/// shape of a version 8 UUID, which no UUIDv7 equals. The same on every backend, and the same whenever it is read.
#[must_use]
pub fn foreign_id(position: Position) -> EventId {
    let place = u128::from(position.partition.0) << 80 | u128::from(position.offset.0 >> 2) & ((1 << 62) - 1);
    let low_bits = u128::from(position.offset.0 & 3) << 64;
    EventId::from_u128(place | low_bits | (8 << 76) | (2 << 62))
}
