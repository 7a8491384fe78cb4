//! What was before what.

use tokio::time::Instant;

/// A moment in the life of a queue. Clocks are coarse, and two things that happen at the same time on one have an order all the
/// same: where a partition ended says something of a request only if it was asked after the request was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    number: u64,
    pub(super) at: Instant,
}

/// Numbers the moments of a queue.
#[derive(Debug, Default)]
pub(super) struct Moments(u64);

impl Moments {
    /// This moment, which is after all before.
    pub(super) fn now(&mut self) -> Moment {
        self.0 += 1;
        Moment { number: self.0, at: Instant::now() }
    }
}
