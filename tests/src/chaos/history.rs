//! What was called and what came of it, in order, and how it is written to a file.

use std::io::{self, BufRead, Write};
use std::sync::Arc;

use event_log_core::{Cursor, EventId, Offset, PartitionId, Position};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::schedule::{Fault, Kind};

/// How an event is called here. It is in its payload too.
pub type EventNumber = u64;

/// What a run depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Where calls, keys, sizes and faults come from.
    pub seed: u64,
    /// Events that are offered.
    pub events: u64,
    /// Faults that strike meanwhile.
    pub faults: u32,
    /// Partitions of the topic.
    pub partitions: u32,
    /// Events that the queue of a log holds.
    pub buffer: usize,
    /// The only kind of fault, where just one is looked into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only: Option<Kind>,
}

impl Settings {
    /// Settings with what a seed decides besides the work itself.
    #[must_use]
    pub fn new(seed: u64, events: u64, faults: u32) -> Self {
        let mut chance = fastrand::Rng::with_seed(seed);
        let partitions = chance.u32(1..=8);
        // Small enough that the longer outages overflow it.
        let buffer = chance.usize(300..3_000);
        Self { seed, events, faults, partitions, buffer, only: None }
    }
}

/// All that was seen of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// What the run depended on.
    pub settings: Settings,
    /// What was seen, in order.
    pub entries: Vec<Entry>,
}

/// Something that was seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// When, in microseconds from the beginning. Nothing is judged by it.
    pub at: u64,
    /// What.
    pub saw: Saw,
}

/// What can be seen. Handles of the log, and consumers, are numbered from 0; a number is used once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Saw {
    /// A handle was opened.
    Opened { handle: u64 },
    /// A handle is let go without a word, with whatever it had not sent.
    Crashed { handle: u64 },
    /// What a handle says of itself at its end.
    Told { handle: u64, told: Told },
    /// An event is about to be offered.
    Offered { event: EventNumber, handle: u64, key: Option<String> },
    /// How that ended.
    Ended { event: EventNumber, fate: Fate },
    /// Nobody will learn how it ended: its future or its ticket was dropped.
    Abandoned { event: EventNumber },
    /// A fault begins.
    Struck { fault: Fault },
    /// And ends.
    Healed { fault: Fault },
    /// A consumer is about to be opened.
    Joining { consumer: u64, group: String },
    /// It is open.
    Joined { consumer: u64 },
    /// A poll has returned a batch.
    Polled { consumer: u64, records: Vec<Delivered>, told: Vec<Came> },
    /// A call of a consumer has failed; whether it is worth another try.
    Failed { consumer: u64, call: String, retryable: bool },
    /// A commit is about to be made.
    Committing { consumer: u64, up_to: Cursor },
    /// It has returned. `stored` is what is certain, and of it only what the call asked for.
    Committed { consumer: u64, stored: Cursor },
    /// A consumer is gone, or about to go: it leaves, or it is dropped.
    Left { consumer: u64 },
    /// From here on nothing disturbs, and nothing is offered.
    Calm,
    /// A consumer that has its group to itself has read all there is.
    Dry { consumer: u64 },
    /// What a partition holds, as somebody sees it who uses neither the library nor the way through the faults.
    Holds { partition: PartitionId, records: Vec<Stored> },
    /// Something that must end has not ended within minutes.
    Stuck { what: String },
}

/// A record as a consumer got it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered(pub PartitionId, pub Offset, pub EventId, pub Option<EventNumber>);

impl Delivered {
    /// Where it is.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position::new(self.0, self.1)
    }
}

/// A record as the log has it. `None` is something that is not an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored(pub Offset, pub EventId, pub Option<EventNumber>);

/// How an append ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Fate {
    /// It is in the log, and where.
    Committed { id: EventId, partition: PartitionId, offset: Option<Offset> },
    /// It is not, and why. `back` is the event that came back.
    NotAppended { why: String, back: EventNumber },
    /// Nobody knows.
    Unknown { id: EventId, back: EventNumber },
}

/// A notice of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Came {
    /// Partitions have come.
    Assigned(Vec<PartitionId>),
    /// Partitions have gone.
    Revoked(Vec<PartitionId>),
    /// A second copy was kept back.
    Duplicate { position: Position, first: Position },
    /// A partition could not be read.
    Fault(PartitionId),
    /// Records are said to be missing, or anything else that no run gives a reason for.
    Odd(String),
}

/// What a handle says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    /// Connections made again.
    pub reconnects: u64,
    /// Events that a full buffer has dropped.
    pub dropped: u64,
    /// Events that were sent without an answer and found in the log.
    pub found: u64,
    /// Likewise, not found and sent again.
    pub sent_again: u64,
    /// Likewise, given up as unknown.
    pub unknown: u64,
}

impl History {
    /// Writes the settings and then an entry a line, as JSON.
    ///
    /// # Errors
    ///
    /// When writing fails.
    pub fn write(&self, mut out: impl Write) -> io::Result<()> {
        writeln!(out, "{}", serde_json::to_string(&self.settings)?)?;
        for entry in &self.entries {
            serde_json::to_writer(&mut out, entry)?;
            writeln!(out)?;
        }
        out.flush()
    }

    /// Reads what [`write`](Self::write) has written.
    ///
    /// # Errors
    ///
    /// When reading fails, or it is something else.
    pub fn read(input: impl BufRead) -> io::Result<Self> {
        let mut lines = input.lines();
        let settings = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let settings = serde_json::from_str(&settings)?;
        let entries = lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect::<io::Result<_>>()?;
        Ok(Self { settings, entries })
    }

    /// What [`write`](Self::write) writes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.write(&mut bytes) {
            Ok(()) => bytes,
            Err(error) => unreachable!("memory takes everything: {error}"),
        }
    }
}

/// Writes down what everybody sees. Clones write into the same history.
#[derive(Clone)]
pub(super) struct Recorder {
    began: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
    /// Keeps only what must not happen.
    is_forgetful: bool,
}

impl Recorder {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), entries: Arc::default(), is_forgetful: false }
    }

    pub(super) fn forgetful() -> Self {
        Self { is_forgetful: true, ..Self::new() }
    }

    pub(super) fn saw(&self, saw: Saw) {
        if self.is_forgetful && !matches!(saw, Saw::Stuck { .. } | Saw::Failed { retryable: false, .. }) {
            return;
        }
        let mut entries = self.entries.lock();
        // Under the lock, so that times and lines have one order.
        let at = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        entries.push(Entry { at, saw });
    }

    pub(super) fn finish(self, settings: Settings) -> History {
        History { settings, entries: std::mem::take(&mut *self.entries.lock()) }
    }
}
