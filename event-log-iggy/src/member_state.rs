//! What a consumer knew of its partitions when it lost its connection.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use event_log_core::{Offset, PartitionId};
use parking_lot::Mutex;

use crate::limits;

/// What a member knows of a partition that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochState {
    /// The number that the engine tells epochs apart by.
    pub(crate) number: u64,
    /// The place of the group, as far as this member knows.
    pub(crate) committed: Offset,
    /// What this member has asked to commit without being told whether it was.
    pub(crate) asked: Option<Offset>,
}

impl EpochState {
    /// Whether nobody but this member has committed since, if this is the place of the group now.
    pub(crate) fn accounts_for(&self, committed: Offset) -> bool {
        committed == self.committed || Some(committed) == self.asked
    }
}

pub(crate) type Epochs = BTreeMap<PartitionId, EpochState>;

/// Epochs by consumer, for the case that it joins again. The oldest are forgotten first.
#[derive(Debug, Default)]
pub(crate) struct MemberStates {
    consumers: Mutex<VecDeque<(u128, Epochs)>>,
    numbers: AtomicU64,
}

impl MemberStates {
    /// A number that no epoch of this handle has had.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn keep(&self, instance: u128, epochs: Epochs) {
        if epochs.is_empty() {
            return;
        }
        let mut consumers = self.consumers.lock();
        consumers.retain(|(known, _)| *known != instance);
        if consumers.len() == limits::REMEMBERED_CONSUMERS {
            consumers.pop_front();
        }
        consumers.push_back((instance, epochs));
    }

    pub(crate) fn recall(&self, instance: u128) -> Epochs {
        let mut consumers = self.consumers.lock();
        let at = consumers.iter().position(|(known, _)| *known == instance);
        at.and_then(|at| consumers.remove(at)).map(|(_, epochs)| epochs).unwrap_or_default()
    }

    pub(crate) fn forget(&self, instance: u128) {
        drop(self.recall(instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(number: u64) -> Epochs {
        [(PartitionId(0), EpochState { number, committed: Offset::ZERO, asked: None })].into()
    }

    #[test]
    fn what_is_recalled_is_what_was_kept_last_and_only_once() {
        let remembered = MemberStates::default();
        remembered.keep(1, epochs(1));
        remembered.keep(1, epochs(2));
        assert_eq!(remembered.recall(1), epochs(2));
        assert!(remembered.recall(1).is_empty());
    }

    #[test]
    fn it_is_bounded() {
        let remembered = MemberStates::default();
        for instance in 0..=limits::REMEMBERED_CONSUMERS as u128 {
            remembered.keep(instance, epochs(1));
        }
        assert_eq!(remembered.consumers.lock().len(), limits::REMEMBERED_CONSUMERS);
        assert!(remembered.recall(0).is_empty(), "the oldest was forgotten");
    }
}
