//! The faults that the harness has switched on.

use std::collections::BTreeMap;
use std::time::Duration;

use event_log_core::PartitionId;
use event_log_core::engine::Message;

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) lose_replies: usize,
    pub(super) lose_requests: usize,
    pub(super) hold_requests: usize,
    pub(super) held: Vec<(PartitionId, Vec<Message>)>,
    pub(super) slow_appends: Duration,
    pub(super) slow_fetches: Duration,
    pub(super) slow_connects: Duration,
    pub(super) empty_fetches: usize,
    pub(super) fail_fetches: BTreeMap<PartitionId, usize>,
    pub(super) fail_commits: BTreeMap<PartitionId, usize>,
    pub(super) stalled: bool,
}

/// Whether one of so many is left, which is then one less.
pub(super) fn draw(count: &mut usize) -> bool {
    let due = *count > 0;
    *count = count.saturating_sub(1);
    due
}

pub(super) fn draw_of(counts: &mut BTreeMap<PartitionId, usize>, partition: PartitionId) -> bool {
    counts.get_mut(&partition).is_some_and(draw)
}
