//! What a backend supplies: how to reach its log, in seventeen operations over three traits.
//!
//! Everything that is hard to get right twice (order, buffering, recovery, delivery, commits) is in the engine, once,
//! and is proven there. A transport only says truthfully what happened. It keeps no state of a reader: what was read,
//! and where a partition was last seen to end, comes with each call.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::{CommitErrorKind, Error};
use crate::event::EventId;
use crate::headers::Headers;
use crate::position::{Offset, PartitionId, Position, Timestamp};
use crate::watermark::Watermarks;

/// An event on its way into the log.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// The id that the log must keep with the payload.
    pub id: EventId,
    /// What the log must keep beside the payload. Most messages have none, which costs nothing.
    pub headers: Headers,
    /// The encoded event.
    pub payload: Bytes,
}

impl fmt::Debug for Message {
    /// With the length of the payload: what it says is the application's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id)
            .field("headers", &self.headers)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

impl Message {
    /// The bytes that count against a bound: payload and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.headers.bytes()
    }
}

/// A record on its way out of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredMessage {
    /// Its offset.
    pub offset: Offset,
    /// Its id.
    pub id: EventId,
    /// When the log appended it.
    pub timestamp: Timestamp,
    /// What it was appended with beside the payload.
    pub headers: Headers,
    /// The encoded event. Freeing it must not panic: what the engine appends does not, and [`contained`](super::contained) makes
    /// anything else so.
    pub payload: Bytes,
}

impl fmt::Debug for StoredMessage {
    /// With the length of the payload: what it says is the application's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredMessage")
            .field("offset", &self.offset)
            .field("id", &self.id)
            .field("timestamp", &self.timestamp)
            .field("headers", &self.headers)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

impl StoredMessage {
    /// The bytes that count against a bound: payload and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.headers.bytes()
    }
}

/// A record by which a partition is recognised: in another incarnation of the log, another record is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landmark {
    /// Where the record was read or acknowledged.
    pub offset: Offset,
    /// Its id.
    pub id: EventId,
}

/// What to fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// The partition.
    pub partition: PartitionId,
    /// The first offset wanted. From before the low watermark the answer begins there.
    pub from: Offset,
    /// The record that was read last, if there is one. If another record is at its offset now, the answer must say
    /// [`truncated`](FetchResponse::truncated). That the offset is no longer retained proves nothing.
    pub after: Option<Landmark>,
    /// At most this many records.
    pub max_records: usize,
    /// No more than this many bytes of payloads and headers, unless the first record alone is longer.
    pub max_bytes: usize,
}

impl FetchRequest {
    /// Records of `partition` from `from` on, within the engine's usual bounds.
    #[must_use]
    pub const fn new(partition: PartitionId, from: Offset) -> Self {
        let (max_records, max_bytes) = (crate::limits::FETCH_RECORDS, crate::limits::FETCH_BYTES);
        Self { partition, from, after: None, max_records, max_bytes }
    }
}

/// The answer to a fetch.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    /// Records in offset order, none before the asked offset. Empty is no proof of the end.
    pub records: Vec<StoredMessage>,
    /// No record that is not in `records` lies between the asked offset and this one: the reader continues here. It is
    /// how a log tells of offsets that no record has, behind its last record too. `None` for the offset behind the last
    /// of `records`.
    pub scanned_to: Option<Offset>,
    /// The low watermark, if answering has shown it. Above the asked offset it says that what lies between is gone,
    /// and must not be missing.
    pub low: Option<Offset>,
    /// The high watermark, if answering has shown it for certain. Lower than it once was it says that the partition
    /// was truncated: that it was purged or recreated, or lost its tail in a crash.
    pub high: Option<Offset>,
    /// The partition was truncated since [`FetchRequest::after`] was read, although it may have grown as long as it was.
    pub truncated: bool,
    /// Which incarnation of the partition answered, for a log that numbers them: with another number than the last
    /// answer had, the partition was truncated.
    pub incarnation: Option<u64>,
}

/// Where a partition ends, as far as its reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownEnd {
    /// The partition.
    pub partition: PartitionId,
    /// The high watermark.
    pub end: Offset,
    /// The incarnation that the last answer gave.
    pub incarnation: Option<u64>,
}

/// Why a request was not confirmed.
#[derive(Debug)]
pub enum SendError {
    /// Certainly not in the log, and sending the same again would not help: the events come back.
    Refused(Error),
    /// The connection is of no use any more. The engine opens another one and, when the request may have taken
    /// effect, reads back before it sends again.
    Lost {
        /// What went wrong.
        error: Error,
        /// Whether the request may have arrived, or may still do so before the connection is [closed](ProducerConnection::close).
        may_have_taken_effect: bool,
    },
}

/// A partition that a member of a group has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The partition.
    pub partition: PartitionId,
    /// Changes whenever another consumer has had the partition in between, or the group was deleted: what this consumer knows of
    /// its place is gone with it, and the group starts again. With the epoch that it remembers a consumer
    /// continues where it was, also after joining again; with any other it starts at the group's place. A backend that
    /// cannot know gives a new epoch with every membership.
    pub epoch: u64,
}

/// The partitions of a member, as of one generation of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignments {
    /// Differs from that of any earlier answer with other partitions or epochs.
    pub generation: u64,
    /// The partitions, each once.
    pub partitions: Vec<Assignment>,
}

/// How [`GroupMember::commit`] treats a place that the group has already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// It is replaced, also by a lower one. Only the member that has the partition may do that.
    Replace,
    /// It is kept: the group's start, which the first member determines for every partition, its own or not. Of several
    /// members that do this at the same time one prevails.
    Initialise,
}

/// What never changes of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TransportProperties {
    /// The name of the log, by which letters and diagnostics tell one log from another. The default is none.
    pub topic: Option<Arc<str>>,
    /// How many partitions the log has: as configured, and verified by [`Transport::connect`]. At least 1.
    pub partitions: u32,
    /// How many connections of the producer are worth having at the same time. They are opened as they turn out to be
    /// of use. With more than one, requests to different partitions are in flight together; those to one partition
    /// never are. The default is 1.
    pub connections: usize,
    /// Whether the log keeps the payloads that it is given, rather than copying them. Then an event that comes alone has an
    /// allocation of its own, which is freed with it; otherwise short ones share pages of 4 KiB, as those of a batch do in
    /// either case. The default is `false`.
    pub keeps_payloads: bool,
    /// Whether fetching takes so long that a reader that is behind has the next records fetched before it needs them.
    /// The default is `true`.
    pub reads_ahead: bool,
}

impl TransportProperties {
    /// A log of so many partitions, and the defaults.
    #[must_use]
    pub const fn new(partitions: u32) -> Self {
        Self { topic: None, partitions, connections: 1, keeps_payloads: false, reads_ahead: true }
    }
}

/// How to reach a log. Shared by the producer and the consumers of one handle.
///
/// Every call ends within a deadline of the transport's own.
pub trait Transport: Send + Sync + 'static {
    /// A connection of the producer.
    type Producer: ProducerConnection;
    /// A connection of a consumer, which is a member of its group.
    type Member: GroupMember;

    /// What never changes.
    fn properties(&self) -> TransportProperties;

    /// Connects, logs in, creates the topic when it is absent and verifies it when it is present. There may be others, good
    /// and lost ones. A consumer opens one for a fetch that was lost with its member's connection more than once.
    fn connect(&self) -> impl Future<Output = Result<Self::Producer, Error>> + Send;

    /// Connects and joins a group. `instance` is the same whenever the same consumer joins again.
    fn join(&self, group: &str, instance: u128) -> impl Future<Output = Result<Self::Member, Error>> + Send;

    /// The watermarks of every partition, as they are while this is asked: a high one that is lower than what was answered
    /// before says that the partition was truncated.
    fn watermarks(&self) -> impl Future<Output = Result<Watermarks, Error>> + Send;

    /// For each partition and time the first offset whose record was appended then or later, and the high watermark
    /// where there is none.
    fn offsets_at(
        &self,
        times: &[(PartitionId, Timestamp)],
    ) -> impl Future<Output = Result<Vec<Offset>, Error>> + Send;

    /// The place of a group in these partitions: the next offset to read. The answers are in the order of the question, one for
    /// each; one that fails hides no other. `None` says that the group has not started, or not completely: its start is
    /// determined then. So of a partition that came to the log after the group had started the place is 0, for nothing of it
    /// was read.
    fn committed(
        &self,
        group: &str,
        partitions: &[PartitionId],
    ) -> impl Future<Output = Result<Vec<Result<Option<Offset>, Error>>, Error>> + Send;

    /// Forgets a group. An unknown one is no error.
    fn delete_group(&self, group: &str) -> impl Future<Output = Result<(), Error>> + Send;

    /// Appends at once, or hands the messages back: for a log in this process, which can skip the queue as long as
    /// nothing is in it. Returns the offset of the first message; the others follow it without a gap.
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
pub trait ProducerConnection: Send + Sync + 'static {
    /// Appends messages to one partition in one request. Returns the offset of the first, when the log said so; the
    /// others follow it without a gap.
    ///
    /// When the future is dropped the request counts as lost, with unknown effect.
    fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> impl Future<Output = Result<Option<Offset>, SendError>> + Send;

    /// Fetches records: for reading back what became of a request, or for a consumer as [`GroupMember::fetch`] does.
    fn fetch(&self, request: FetchRequest) -> impl Future<Output = Result<FetchResponse, Error>> + Send;

    /// Completes when the connection is known to be lost, with the reason. Cancel safe; never completes for a transport
    /// that only finds out by sending.
    fn lost(&mut self) -> impl Future<Output = Error> + Send;

    /// Ends the connection. When it completes, nothing that was sent over it arrives any more, as far as the backend can see to
    /// that. The engine awaits it for a connection over which a request had no answer, before it looks for what became of that,
    /// and sends nothing to that partition meanwhile.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// A consumer's connection: one member of one group. Dropping it leaves the group.
///
/// The engine has several calls in flight at the same time, fetches among them: for each partition at most one that reads on,
/// and one that looks for the last records of the partition, for a seek or the start of a group. Two [waits](Self::wait) may be in
/// flight for different partitions, and stay unpolled while their consumer is not polled and makes other calls: no lock may be
/// held across an await that another call needs.
/// [`Error::Unavailable`] from any call means that the connection is lost; the engine joins again.
pub trait GroupMember: Send + Sync + 'static {
    /// The partitions of this member, unless they are still those of the generation `known`. Cheap, since it is asked
    /// before every fetch.
    fn assignments(
        &self,
        known: Option<u64>,
    ) -> impl Future<Output = Result<Option<Assignments>, Error>> + Send;

    /// Fetches records of a partition.
    fn fetch(&self, request: FetchRequest) -> impl Future<Output = Result<FetchResponse, Error>> + Send;

    /// Stores the place of the group in these partitions. The answers are in the order of the question, one for each;
    /// one that fails keeps no other from being stored.
    ///
    /// When the future is dropped each place is stored or not.
    fn commit(
        &self,
        places: &[(PartitionId, Offset)],
        mode: CommitMode,
    ) -> impl Future<Output = Vec<Result<(), CommitErrorKind>>> + Send;

    /// Waits until one of these partitions ends elsewhere or has another incarnation, until the assignment is another
    /// than that of the generation `known`, until the connection is lost, or until `deadline`. Returns the
    /// partitions that are worth a fetch; they may be too many. It looks at least once, also when the deadline has passed:
    /// how a poll without a timeout finds out that there is nothing. Returning early is allowed, missing a change is not.
    /// Cancel safe.
    fn wait(
        &self,
        ends: &[KnownEnd],
        known: Option<u64>,
        deadline: Instant,
    ) -> impl Future<Output = Vec<PartitionId>> + Send;

    /// Leaves the group, and waits until the other members can know.
    fn leave(&self) -> impl Future<Output = Result<(), Error>> + Send;
}

/// The id of a message that came without one (from a producer that does not use this library): its log, its place and its
/// time, in the shape of a version 8 UUID, which no UUIDv7 equals. The same whenever it is read, and another in each log, so
/// that messages of two logs that are copied into a third are not taken for copies of each other; nor is what stands in the
/// same place once the log has begun again.
///
/// 32 bits are the partition, 64 the offset, and 26 a hash of the log's name and the time.
#[must_use]
pub fn foreign_id(topic: &str, position: Position, timestamp: Timestamp) -> EventId {
    let seed = (timestamp.0 ^ timestamp.0 >> 32) as u32;
    let hash = u128::from(twox_hash::XxHash32::oneshot(seed, topic.as_bytes()) >> 6);
    // From the top: partition (32) and hash (16), version (4), hash (10) and offset (2), variant (2), offset (62).
    let partition = u128::from(position.partition.0) << 96 | (hash >> 10) << 80;
    let middle = (8 << 76) | (hash & 0x3ff) << 66 | u128::from(position.offset.0 >> 62) << 64;
    EventId::from_u128(partition | middle | (2 << 62) | u128::from(position.offset.0) & ((1 << 62) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_foreign_message_is_the_same_in_every_version() {
        let id = |topic, partition, offset, time| {
            let id =
                foreign_id(topic, Position::new(PartitionId(partition), Offset(offset)), Timestamp(time));
            assert_eq!(
                (id.as_uuid().get_version_num(), id.as_uuid().get_variant()),
                (8, uuid::Variant::RFC4122)
            );
            id.as_uuid().to_string()
        };
        assert_eq!(id("s/t", 0, 0, 0), "00000000-62b8-8904-8000-000000000000");
        assert_eq!(id("s/t", 7, 4_711, 1_700_000_000_123_456), "00000007-0d79-8438-8000-000000001267");
        assert_eq!(id("s/u", u32::MAX, u64::MAX, u64::MAX), "ffffffff-6acf-809b-bfff-ffffffffffff");
    }

    #[test]
    fn headers_count_as_payload_does() {
        let mut headers = Headers::new();
        headers.insert("name", "value").unwrap();
        let bytes = headers.bytes();
        let message = Message { id: EventId::from_u128(1), headers, payload: Bytes::from_static(b"payload") };
        assert!(bytes > 0 && message.bytes() == 7 + bytes, "{} and {bytes}", message.bytes());
    }
}
