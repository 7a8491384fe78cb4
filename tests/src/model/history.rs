//! What was seen of a run, from outside and in order.

use std::fmt;

use event_log_core::{
    Connection, Cursor, EventId, Notice, Offset, PartitionId, Position, SeekPosition, Timestamp,
};

use super::op::Settings;

/// All that was seen of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// How the topic and the logs were made.
    pub settings: Settings,
    /// What was seen, in this order.
    pub observed: Vec<Observation>,
}

impl fmt::Display for History {
    /// One line per observation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}", self.settings)?;
        let start = self.observed.first().map_or(0, |first| first.at.0);
        for Observation { at, what } in &self.observed {
            writeln!(f, "{:>9} µs {what:?}", at.0.saturating_sub(start))?;
        }
        Ok(())
    }
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When, on the clock of the broker.
    pub at: Timestamp,
    /// What.
    pub what: What,
}

/// Low and high watermark of each partition; `None` while the broker cannot be reached.
pub type Marks = Option<Vec<(Offset, Offset)>>;

/// What can be seen. Events, handles and consumers are numbered from 0, each kind by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// A handle was opened.
    Opened {
        /// Its number.
        handle: usize,
    },
    /// A handle is gone: closed (with what came back without a ticket), or dropped.
    Ended {
        /// Its number.
        handle: usize,
        /// What `close` returned: not appended, unknown, returned by ticket. `None` when it was dropped.
        leftover: Option<(Vec<EventId>, Vec<EventId>, usize)>,
    },
    /// An event was offered.
    Called {
        /// Its number, which is also in its payload.
        event: usize,
        /// On this handle.
        handle: usize,
        /// How.
        call: Call,
        /// The partition of its key, if it has a key.
        key: Option<(String, PartitionId)>,
        /// Whether it can be encoded.
        encodable: bool,
        /// Whether what it is encoded as can be decoded.
        decodable: bool,
        /// The connection just before.
        connection: Connection,
        /// `buffered` of the state just before.
        buffered: usize,
        /// Whether other appends had not returned yet.
        company: bool,
    },
    /// An `append` returned while the event waits in the reconnect buffer; or a `submit` returned a ticket.
    Accepted {
        /// Its number.
        event: usize,
    },
    /// The outcome of an event.
    Resolved {
        /// Its number.
        event: usize,
        /// The outcome.
        fate: Fate,
    },
    /// Nobody will learn the outcome: a ticket or a future was dropped.
    Abandoned {
        /// The event's number.
        event: usize,
    },
    /// Something that must end did not end within minutes.
    Stuck(&'static str),
    /// The state of a handle.
    State {
        /// Its number.
        handle: usize,
        /// Whether it is connected.
        connection: Connection,
        /// Accepted and not resolved.
        buffered: usize,
        /// Dropped so far.
        dropped: u64,
    },
    /// `flush` returned.
    Flushed {
        /// Events whose tickets were out before the call.
        tickets: Vec<usize>,
    },
    /// The connections are let through (or not), and those that were there are cut (or not).
    Link {
        /// Whether connections can be made.
        up: bool,
        /// Whether the existing ones were cut.
        cut: bool,
    },
    /// A fault was switched on.
    Armed(Arming),
    /// Requests that had been held arrived, with this many events.
    Delivered(usize),
    /// A message of a foreign producer was appended.
    Foreign(Position),
    /// All records were removed.
    Purged,
    /// A consumer was opened, or could not be.
    Joined {
        /// The number that it gets.
        consumer: usize,
        /// The group.
        group: usize,
        /// Where a group starts that never committed.
        start: SeekPosition,
        /// The rest.
        reading: Reading<()>,
    },
    /// A consumer was dropped or has left.
    Left {
        /// Its number.
        consumer: usize,
    },
    /// A poll returned. `None` when it was dropped while it waited.
    Polled {
        /// The number of the consumer.
        consumer: usize,
        /// How many records were asked for.
        max: usize,
        /// Records, notices and the cursor of the batch.
        reading: Reading<Option<Batch>>,
    },
    /// A commit returned.
    Committed {
        /// The number of the consumer.
        consumer: usize,
        /// What it was asked to store.
        up_to: Cursor,
        /// What came of it.
        reading: Reading<Committing>,
        /// What the broker has for the group afterwards; `None` while it cannot be reached.
        stored: Option<Vec<Option<Offset>>>,
    },
    /// A seek returned.
    Sought {
        /// The number of the consumer.
        consumer: usize,
        /// Where to.
        to: SeekPosition,
        /// What came of it.
        reading: Reading<()>,
    },
    /// A group was deleted, or the broker refused to.
    Deleted {
        /// The group.
        group: usize,
        /// Whether it was; `None` when the broker could not be asked.
        done: Option<bool>,
    },
    /// The lag of a group.
    Lag {
        /// The group.
        group: usize,
        /// Per partition: committed, low and high watermark, and the lag in offsets.
        partitions: Vec<(Option<Offset>, Offset, Offset, u64)>,
    },
    /// From here on nothing disturbs: the broker is reachable, the faults are off.
    Calm,
    /// The partitions that the members of a group have, after all of them had time to settle.
    Shared {
        /// The group.
        group: usize,
        /// Of each member.
        partitions: Vec<Vec<PartitionId>>,
    },
    /// A consumer has read until nothing came any more.
    Dry {
        /// Its number.
        consumer: usize,
    },
    /// The whole log at the end, second copies included.
    Content {
        /// All records.
        records: Vec<Seen>,
        /// The watermarks.
        marks: Vec<(Offset, Offset)>,
    },
}

/// How an event was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `submit`.
    Submit,
    /// `append`.
    Append,
    /// `append_batch`; the number is the event number of the first of the batch.
    Batch(usize),
}

/// How an append ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// In the log.
    Committed {
        /// With this id.
        id: EventId,
        /// Here, as the log said.
        position: Position,
    },
    /// Turned away at the door.
    Rejected {
        /// Why.
        why: Reject,
        /// The number of the event that came back.
        back: u64,
    },
    /// Dropped by a full buffer.
    Dropped {
        /// It had this id.
        id: EventId,
        /// The number of the event that came back.
        back: u64,
    },
    /// Not sent before the end.
    Closed {
        /// It had this id.
        id: EventId,
        /// The number of the event that came back.
        back: u64,
    },
    /// Waited too long.
    Expired {
        /// It had this id.
        id: EventId,
        /// The number of the event that came back.
        back: u64,
    },
    /// Sent, and nobody knows.
    Unknown {
        /// It had this id.
        id: EventId,
        /// The number of the event that came back.
        back: u64,
    },
    /// An outcome that a memory log has no reason for.
    Odd(String),
}

/// Why an event was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// It cannot be encoded.
    Encode,
    /// The queue is full.
    Full,
    /// The log is closed.
    Closed,
    /// Another event of its batch was turned away.
    Batch,
}

/// A call of a consumer: how the world was before and after, and what came back. Errors are in words, but for
/// the one that the checker has to know.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<T> {
    /// The watermarks just before.
    pub before: Marks,
    /// And just after.
    pub after: Marks,
    /// What came back; `Err(true)` when the log was not reachable, `Err(false)` for any other error.
    pub result: Result<T, bool>,
    /// The position of the consumer afterwards.
    pub position: Cursor,
    /// What it says is committed.
    pub committed: Cursor,
}

/// What came of a commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Committing {
    /// What was stored, if that was not all.
    pub stored: Cursor,
    /// Partitions that the cursor went beyond: asked, delivered.
    pub beyond: Vec<(PartitionId, Offset, Offset)>,
    /// Partitions that belong to others.
    pub revoked: Vec<PartitionId>,
    /// Partitions whose offsets are from before a seek.
    pub superseded: Vec<PartitionId>,
    /// Partitions whose offsets the consumer does not know to be its own.
    pub foreign: Vec<PartitionId>,
    /// Partitions where the log failed; `true` when it was not reachable.
    pub failed: Vec<(PartitionId, bool)>,
}

impl Committing {
    /// Whether the commit returned `Ok`.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.beyond.is_empty()
            && self.revoked.is_empty()
            && self.superseded.is_empty()
            && self.foreign.is_empty()
            && self.failed.is_empty()
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// Where it is.
    pub position: Position,
    /// Its id.
    pub id: EventId,
    /// When it was appended.
    pub timestamp: Timestamp,
    /// What it is.
    pub content: Content,
}

/// What a record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// An event, by its number.
    Event(u64),
    /// Bytes that cannot be decoded.
    Bytes(Vec<u8>),
}

/// A notice, without what cannot be compared.
#[derive(Clone, Debug, PartialEq)]
pub enum Noticed {
    /// [`Notice::Missing`].
    Missing(PartitionId, Offset, Offset),
    /// [`Notice::Truncated`].
    Truncated(PartitionId, Offset, Offset),
    /// [`Notice::Fault`].
    Fault(PartitionId),
    /// [`Notice::Duplicate`]: position, first copy, id.
    Duplicate(Position, Position, EventId),
    /// [`Notice::Assigned`].
    Assigned(Vec<PartitionId>),
    /// [`Notice::Revoked`].
    Revoked(Vec<PartitionId>),
    /// Any other: the programs give no reason for one.
    Odd(String),
}

impl From<Notice> for Noticed {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Missing { partition, from, resumed_at } => Self::Missing(partition, from, resumed_at),
            Notice::Truncated { partition, from, resumed_at } => Self::Truncated(partition, from, resumed_at),
            Notice::Fault { partition, .. } => Self::Fault(partition),
            Notice::Duplicate { position, first, id } => Self::Duplicate(position, first, id),
            Notice::Assigned(partitions) => Self::Assigned(partitions),
            Notice::Revoked(partitions) => Self::Revoked(partitions),
            other => Self::Odd(format!("{other:?}")),
        }
    }
}

/// A fault that was switched on, as far as the judge needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arming {
    /// Requests or their replies get lost or held.
    Requests(usize),
    /// Appends take time.
    Slow,
    /// Fetches return nothing.
    EmptyFetches(usize),
    /// Fetches of a partition fail.
    FailFetches(PartitionId, usize),
    /// Commits of a partition fail.
    FailCommits(PartitionId, usize),
}

/// What a poll delivered: records, notices, and the cursor of the batch.
pub type Batch = (Vec<Seen>, Vec<Noticed>, Cursor);
