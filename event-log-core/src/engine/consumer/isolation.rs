//! Which fetches have a connection of their own: those that were lost with the one of their consumer, as
//! [`Suspicion`](crate::engine::suspicion::Suspicion) has it, a few at a time and each in its turn.

use super::partition::PartitionReader;
use crate::limits;

/// Those that may have a connection of their own now, those first whose last turn is longest ago. What has lost the last one that
/// it had takes no room from the others.
pub(super) fn in_turn(readers: &[PartitionReader]) -> Vec<usize> {
    let mut room = [limits::ISOLATED_FETCHES, limits::LOSING_FETCHES];
    let class = |at: usize| usize::from(readers[at].fetch().has_lost_its_own());
    let (mut waiting, isolated): (Vec<_>, Vec<_>) = (0..readers.len())
        .filter(|&at| readers[at].fetch().waits_for_isolation() || readers[at].fetch().is_isolated())
        .partition(|&at| readers[at].fetch().waits_for_isolation());
    for at in isolated {
        room[class(at)] = room[class(at)].saturating_sub(1);
    }
    waiting.sort_by_key(|&at| readers[at].fetch().isolated_at());
    waiting.retain(|&at| {
        let left = &mut room[class(at)];
        let has_room = *left > 0;
        *left = left.saturating_sub(1);
        has_room
    });
    waiting
}
