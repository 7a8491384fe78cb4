//! What a log says of its connection and its buffer.

use crate::position::Timestamp;

/// The state of a log, as [`EventLog::state`](crate::EventLog::state) publishes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogState {
    /// Whether the log can be reached.
    pub connection: Connection,
    /// Events accepted and not resolved yet, while the log is away or slower than its producers.
    pub buffered: usize,
    /// Events that the full reconnect buffer has dropped since the log was opened. It only grows.
    pub dropped: u64,
    /// How often a lost connection was made again.
    pub reconnects: u64,
    /// What became of events that were sent and not answered.
    pub recovered: Recovered,
}

/// What reading back has shown about events whose request was sent and never answered, since the log was opened.
/// An event is counted once for each such request. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// They were in the log.
    pub found: u64,
    /// They were not there, and were sent again.
    pub sent_again: u64,
    /// Nobody can say: retention, or a cut, had taken what would have had to be read.
    pub unknown: u64,
}

/// Whether a log can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Connection {
    /// Appends go straight to the log.
    #[default]
    Connected,
    /// The log is away; appends go to the reconnect buffer.
    Reconnecting {
        /// When the connection was lost.
        since: Timestamp,
        /// How many attempts to reconnect have failed so far.
        attempt: u32,
    },
    /// The log has been closed; nothing is accepted any more.
    Closed,
}

impl LogState {
    /// Whether appends go straight to the log.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Connected)
    }

    /// Whether the log has been closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.connection, Connection::Closed)
    }
}
