//! What the members of a handle know of their partitions, also after a connection is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use event_log_core::{Offset, PartitionId};
use parking_lot::Mutex;

use crate::limits;

/// What a member knows of a partition that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EpochState {
    /// The number that the engine tells epochs apart by.
    pub(crate) number: u64,
    /// The offset that the group has stored, and zero for none, as far as this member knows.
    pub(crate) committed: Option<Offset>,
    /// What this member has asked to commit without being told whether it was.
    pub(crate) asked: Option<Offset>,
}

impl EpochState {
    pub(crate) const fn new(number: u64) -> Self {
        Self { number, committed: None, asked: None }
    }

    /// Whether no other member has committed since, if this is what the group has stored now.
    pub(crate) fn accounts_for(&self, committed: Offset) -> bool {
        [self.committed, self.asked].contains(&Some(committed))
    }
}

pub(crate) type Epochs = BTreeMap<PartitionId, EpochState>;

/// The epochs of all members of a handle.
#[derive(Debug, Default)]
pub(crate) struct MemberStates {
    /// Of members that are connected, with the names of their groups.
    connected: Mutex<Vec<(String, Weak<Mutex<Epochs>>)>>,
    /// By consumer, for the case that it joins again. The oldest are forgotten first.
    disconnected: Mutex<VecDeque<(u128, Epochs)>>,
    numbers: AtomicU64,
}

impl MemberStates {
    /// A number that no epoch of this handle has had.
    pub(crate) fn next_epoch(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// What a consumer that joins had before.
    pub(crate) fn connect(&self, group: &str, instance: u128) -> Arc<Mutex<Epochs>> {
        let epochs = Arc::new(Mutex::new(self.recall(instance)));
        let mut connected = self.connected.lock();
        connected.retain(|(_, epochs)| epochs.strong_count() > 0);
        connected.push((group.to_owned(), Arc::downgrade(&epochs)));
        epochs
    }

    /// The group has stored these offsets. A member that does not know yet where the group stands knows it now: it is where
    /// it begins to read. What a member knows better is not changed.
    pub(crate) fn stored(&self, group: &str, places: impl IntoIterator<Item = (PartitionId, Offset)>) {
        let connected = self.connected.lock();
        let members = connected.iter().filter(|(name, _)| name == group);
        let members: Vec<_> = members.filter_map(|(_, epochs)| epochs.upgrade()).collect();
        drop(connected);
        for (partition, offset) in places {
            for epochs in &members {
                if let Some(epoch) = epochs.lock().get_mut(&partition) {
                    epoch.committed.get_or_insert(offset);
                }
            }
        }
    }

    /// The connection of a consumer is lost.
    pub(crate) fn disconnect(&self, instance: u128, epochs: Epochs) {
        if epochs.is_empty() {
            return;
        }
        let mut disconnected = self.disconnected.lock();
        disconnected.retain(|(known, _)| *known != instance);
        if disconnected.len() == limits::REMEMBERED_CONSUMERS {
            disconnected.pop_front();
        }
        disconnected.push_back((instance, epochs));
    }

    fn recall(&self, instance: u128) -> Epochs {
        let mut disconnected = self.disconnected.lock();
        let at = disconnected.iter().position(|(known, _)| *known == instance);
        at.and_then(|at| disconnected.remove(at)).map(|(_, epochs)| epochs).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(0);

    fn epochs(number: u64) -> Epochs {
        [(P, EpochState::new(number))].into()
    }

    #[test]
    fn a_consumer_that_joins_again_gets_its_last_epochs_once() {
        let states = MemberStates::default();
        states.disconnect(1, epochs(1));
        states.disconnect(1, epochs(2));
        assert_eq!(*states.connect("g", 1).lock(), epochs(2));
        assert!(states.connect("g", 1).lock().is_empty());
    }

    #[test]
    fn a_member_learns_once_where_its_group_stands() {
        let states = MemberStates::default();
        let (ours, other) = (states.connect("g", 1), states.connect("h", 2));
        (*ours.lock(), *other.lock()) = (epochs(1), epochs(2));
        states.stored("g", [(P, Offset(3)), (PartitionId(1), Offset(3))]);
        states.stored("g", [(P, Offset(9))]);
        let known = |epochs: &Mutex<Epochs>| epochs.lock()[&P];
        assert!(known(&ours).accounts_for(Offset(3)) && !known(&ours).accounts_for(Offset(9)));
        assert!(!known(&other).accounts_for(Offset(3)), "it is of another group");
        assert_eq!(ours.lock().len(), 1, "the other partition is not its own");
    }

    #[test]
    fn it_is_bounded() {
        let states = MemberStates::default();
        for instance in 0..=limits::REMEMBERED_CONSUMERS as u128 {
            states.disconnect(instance, epochs(1));
            drop(states.connect("g", u128::MAX));
        }
        assert_eq!(states.disconnected.lock().len(), limits::REMEMBERED_CONSUMERS);
        assert!(states.connect("g", 0).lock().is_empty(), "the oldest was forgotten");
        assert!(states.connected.lock().len() <= 2);
    }
}
