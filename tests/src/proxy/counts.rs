//! What the proxy has seen and done.

use std::collections::BTreeMap;

/// What the proxy has seen and done since it was started. A snapshot is consistent in itself, and a client that
/// has a reply finds everything that led to it counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections of clients that were let through.
    pub accepted: u64,
    /// Connections of clients that were closed at once, while the proxy was disconnected.
    pub refused: u64,
    /// Connections that a fault has cut.
    pub cut: u64,
    /// Connections that came to nothing because the server did not take them.
    pub unreachable: u64,
    /// Appends that the server has got in whole; held ones from when they are delivered.
    pub appends_forwarded: u64,
    /// Replies of the server that were handed to a client in whole.
    pub replies_delivered: u64,
    /// Appends whose reply was kept from the client: `lose_replies`.
    pub replies_lost: u64,
    /// Appends that never reached the server: `lose_requests`.
    pub requests_lost: u64,
    /// Appends that were kept: `hold_requests`.
    pub requests_held: u64,
    /// Held appends that the server has confirmed since.
    pub held_appended: u64,
    /// Appends that had to wait: `slow_appends`.
    pub appends_slowed: u64,
    /// Polls that were answered as if there were nothing: `empty_fetches`.
    pub fetches_emptied: u64,
    /// Polls that were refused: `fail_fetches`.
    pub fetches_failed: u64,
    /// Offset stores that were refused: `fail_commits`.
    pub commits_failed: u64,
    /// Frames that had to wait: `NetworkFault::Delay`.
    pub frames_delayed: u64,
    /// Frames that were cut into pieces with pauses between them: `NetworkFault::Throttle`.
    pub frames_throttled: u64,
    /// Frames that were dropped without a word: `NetworkFault::BlackHole`.
    pub frames_swallowed: u64,
    /// Times that a connection stopped reading: `NetworkFault::HalfOpen`.
    pub reads_stopped: u64,
    /// Connections that were cut after so many bytes: `NetworkFault::CutAfterBytes`.
    pub cut_after_bytes: u64,
    /// The longest chain of requests of which each was sent after the reply to the one before had been delivered, over
    /// whatever connections: round trips in a row. Requests that are in flight together count once; with a
    /// `NetworkFault::Delay` those are in flight together that do not depend on each other.
    pub round_trips_in_a_row: u64,
    pub(super) received: BTreeMap<u32, u64>,
    pub(super) forwarded: BTreeMap<u32, u64>,
}

impl Counts {
    /// Requests with this code (see [`iggy_binary_protocol::codes`]) that clients have sent, whatever became of
    /// them.
    #[must_use]
    pub fn received(&self, code: u32) -> u64 {
        self.received.get(&code).copied().unwrap_or(0)
    }

    /// Requests with this code (see [`iggy_binary_protocol::codes`]) that the server has got in whole: its round
    /// trips.
    #[must_use]
    pub fn forwarded(&self, code: u32) -> u64 {
        self.forwarded.get(&code).copied().unwrap_or(0)
    }

    /// All requests that the server has got in whole, by code.
    #[must_use]
    pub const fn all_forwarded(&self) -> &BTreeMap<u32, u64> {
        &self.forwarded
    }
}

pub(super) fn count(counts: &mut BTreeMap<u32, u64>, code: u32) {
    *counts.entry(code).or_default() += 1;
}
