//! The faults that the cases ask for.

use std::time::Duration;

use bytes::Bytes;

use crate::position::PartitionId;

/// How the last record of a partition is torn: what a crash in the middle of an append leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// The record ends early.
    Short,
    /// The record has its length, and other bytes than were written.
    Garbled,
}

/// A fault that a case asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// Cut every connection and let none through.
    Disconnect,
    /// Let connections through again.
    Reconnect,
    /// Append the next requests, but cut the connection before the reply.
    LoseReplies(usize),
    /// Lose the next requests with their connections.
    LoseRequests(usize),
    /// Keep the next requests under way while the producer reconnects, until [`Fault::DeliverHeld`].
    HoldRequests(usize),
    /// Let the held requests arrive.
    DeliverHeld,
    /// Have every append take this long; zero ends it.
    SlowAppends(Duration),
    /// Have every fetch of a consumer take this long; zero ends it.
    SlowFetches(Duration),
    /// Have every connection take this long to be made; zero ends it.
    SlowConnects(Duration),
    /// Use up this many offsets behind the last record, which no record gets: the high watermark is behind them.
    TrailingGap(PartitionId, u64),
    /// Leave a gap of this many offsets before the next record.
    SkipOffsets(PartitionId, u64),
    /// Answer the next fetches as if there were no records.
    EmptyFetches(usize),
    /// Fail the next fetches of this partition.
    FailFetches(PartitionId, usize),
    /// Leave fetches without an answer and keep their connections, as a log that hangs, until it is switched off.
    StallFetches(bool),
    /// Fail the next commits of this partition.
    FailCommits(PartitionId, usize),
    /// Remove all records. Offsets go on where they were, or begin again: as the backend does it.
    Purge,
    /// Remove all records and what groups have committed, and begin the offsets again at 0.
    BeginAgain,
    /// Append bytes as a producer would that does not use this library.
    AppendForeign(PartitionId, Bytes),
    /// Stop the backend as an operator does, and start it again. Handles reconnect by themselves.
    Restart,
    /// Kill the backend in the middle of whatever it does, and start it again with what a killed process leaves: all that
    /// it has written, synced or not, and nothing that it has only kept in memory.
    Crash,
    /// Cut the power of the machine, and start the backend again with what was synced, and no more.
    PowerLoss,
    /// Kill the backend while it appends a record to this partition that no caller awaits, so that a part of the record is
    /// left behind the last one, and start it again.
    TornTail(PartitionId, Tear),
}

impl Fault {
    /// What [`Harness::not_run`](super::Harness::not_run) calls it: the name of the variant.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Disconnect => "Disconnect",
            Self::Reconnect => "Reconnect",
            Self::LoseReplies(_) => "LoseReplies",
            Self::LoseRequests(_) => "LoseRequests",
            Self::HoldRequests(_) => "HoldRequests",
            Self::DeliverHeld => "DeliverHeld",
            Self::SlowAppends(_) => "SlowAppends",
            Self::SlowFetches(_) => "SlowFetches",
            Self::SlowConnects(_) => "SlowConnects",
            Self::TrailingGap(..) => "TrailingGap",
            Self::SkipOffsets(..) => "SkipOffsets",
            Self::EmptyFetches(_) => "EmptyFetches",
            Self::FailFetches(..) => "FailFetches",
            Self::StallFetches(_) => "StallFetches",
            Self::FailCommits(..) => "FailCommits",
            Self::Purge => "Purge",
            Self::BeginAgain => "BeginAgain",
            Self::AppendForeign(..) => "AppendForeign",
            Self::Restart => "Restart",
            Self::Crash => "Crash",
            Self::PowerLoss => "PowerLoss",
            Self::TornTail(..) => "TornTail",
        }
    }

    /// The names of all faults.
    pub(super) const NAMES: &[&str] = &[
        "Disconnect",
        "Reconnect",
        "LoseReplies",
        "LoseRequests",
        "HoldRequests",
        "DeliverHeld",
        "SlowAppends",
        "SlowFetches",
        "SlowConnects",
        "TrailingGap",
        "SkipOffsets",
        "EmptyFetches",
        "FailFetches",
        "StallFetches",
        "FailCommits",
        "Purge",
        "BeginAgain",
        "AppendForeign",
        "Restart",
        "Crash",
        "PowerLoss",
        "TornTail",
    ];
}
