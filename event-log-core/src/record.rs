//! What a consumer receives: records, in batches, with notices of what else happened.

use crate::codec::{CodecError, DecodeError};
use crate::error::Error;
use crate::event::{EventId, Partitionable};
use crate::headers::Headers;
use crate::position::{Cursor, Offset, PartitionId, Position, Timestamp};

/// One event as the log holds it, or the bytes that could not be decoded into one.
#[derive(Debug)]
#[non_exhaustive]
pub struct Record<E> {
    /// Where the record is.
    pub position: Position,
    /// The identity that the event was appended with, the same for every retry.
    ///
    /// A message of a foreign producer that brought no id has the one that its position makes: stable
    /// from poll to poll, and never equal to a UUIDv7.
    pub id: EventId,
    /// When the log appended it.
    pub timestamp: Timestamp,
    /// What it was appended with beside the event.
    pub headers: Headers,
    /// The event, or why the bytes are not one.
    pub event: Result<E, DecodeError>,
}

impl<E> Record<E> {
    /// A record; for implementors of consumers.
    pub const fn new(
        position: Position,
        id: EventId,
        timestamp: Timestamp,
        headers: Headers,
        event: Result<E, DecodeError>,
    ) -> Self {
        Self { position, id, timestamp, headers, event }
    }
}

impl<E: Partitionable> Record<E> {
    /// The event's partition key; `None` too for a record that could not be decoded, since a log need not
    /// carry more than the event's bytes.
    pub fn key(&self) -> Option<&str> {
        self.event.as_ref().ok()?.partition_key()
    }
}

/// What one [`poll`](crate::EventConsumer::poll) delivered.
///
/// Iterating over the batch, or over a reference to it, goes over its records.
#[derive(Debug)]
#[non_exhaustive]
pub struct EventBatch<E> {
    /// In offset order within each partition, merged by append time across partitions.
    pub records: Vec<Record<E>>,
    /// What happened besides: nothing that concerns a reader is only logged.
    pub notices: Vec<Notice>,
    cursor: Cursor,
}

impl<E> EventBatch<E> {
    /// A batch that leaves its reader at `cursor`; for implementors of consumers.
    #[must_use]
    pub const fn new(records: Vec<Record<E>>, notices: Vec<Notice>, cursor: Cursor) -> Self {
        Self { records, notices, cursor }
    }

    /// Where the reader stands after this batch: the usual argument of
    /// [`commit`](crate::EventConsumer::commit).
    #[must_use]
    pub const fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// How many records there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record; there may still be notices.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The events that could be decoded, with their positions.
    pub fn events(&self) -> impl Iterator<Item = (Position, &E)> {
        self.records.iter().filter_map(|record| Some((record.position, record.event.as_ref().ok()?)))
    }

    /// The events that could be decoded, without the rest.
    pub fn into_events(self) -> impl Iterator<Item = E> {
        self.records.into_iter().filter_map(|record| record.event.ok())
    }
}

impl<E> IntoIterator for EventBatch<E> {
    type Item = Record<E>;
    type IntoIter = std::vec::IntoIter<Record<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.into_iter()
    }
}

impl<'a, E> IntoIterator for &'a EventBatch<E> {
    type Item = &'a Record<E>;
    type IntoIter = std::slice::Iter<'a, Record<E>>;

    fn into_iter(self) -> Self::IntoIter {
        self.records.iter()
    }
}

/// Something that a reader should know and that is not a record.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice {
    /// Records between these offsets were gone before they could be read, because retention removed them
    /// or the log was purged. The count of records is not known: offsets may have gaps.
    Missing {
        /// The partition.
        partition: PartitionId,
        /// Where this reader wanted to continue.
        from: Offset,
        /// Where it continues instead.
        resumed_at: Offset,
    },
    /// The partition ends before where this reader stood: it was purged or created again, and its offsets begin again,
    /// or it lost its tail in a crash that its durability did not cover. Positions and cursors from before mean
    /// nothing any more. The reader goes on with the first record that was appended no earlier than the last one it
    /// has delivered, or with the earliest when it has delivered none, and drops what it delivered before.
    Truncated {
        /// The partition.
        partition: PartitionId,
        /// Where this reader stood.
        from: Offset,
        /// Where it continues instead.
        resumed_at: Offset,
    },
    /// A partition could not be read this time; the others could, and this one is tried again.
    Fault {
        /// The partition.
        partition: PartitionId,
        /// What went wrong.
        error: Error,
    },
    /// A record that could not be decoded was passed over, as
    /// [`PoisonPolicy::Skip`](crate::PoisonPolicy::Skip) asked.
    Skipped {
        /// Where it is.
        position: Position,
        /// What the codec said.
        error: CodecError,
    },
    /// A record that could not be decoded was appended to the dead-letter log.
    Parked {
        /// Where it is.
        position: Position,
        /// The id of the letter in the dead-letter log. The letter has that of the record.
        id: EventId,
    },
    /// A second copy of a record that this consumer has delivered already was dropped.
    Duplicate {
        /// Where the dropped copy is.
        position: Position,
        /// Where the copy that was delivered is.
        first: Position,
        /// The id of both.
        id: EventId,
    },
    /// These partitions came to this consumer.
    Assigned(Vec<PartitionId>),
    /// These partitions are not this consumer's any more, with whatever was not committed: they went to other members of the
    /// group, or the log does not know whether they did. A consumer that has one again is told so as of any other.
    Revoked(Vec<PartitionId>),
}
