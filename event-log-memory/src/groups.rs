//! Consumer groups: who is a member, who has which partition, and what is committed.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_log_core::engine::{Assignment, Assignments};
use event_log_core::{Offset, PartitionId};
use parking_lot::Mutex;

/// All groups of a topic. A group is there from its first member or commit until it is deleted.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// The last epoch of any partition in any group: a group that is deleted and made again begins no epoch again.
    last_epoch: Arc<AtomicU64>,
    groups: Mutex<HashMap<String, Arc<Group>>>,
}

impl Groups {
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Group>> {
        self.groups.lock().get(name).cloned()
    }

    /// Adds a member to the group, which is made when it is new. Under the lock of the map, so that the
    /// group cannot be deleted between being found and being joined.
    pub(crate) fn join(&self, name: &str, partitions: u32, instance: u128) -> (Arc<Group>, MemberId) {
        let mut groups = self.groups.lock();
        let group = groups
            .entry(name.to_owned())
            .or_insert_with(|| Arc::new(Group::new(partitions, &self.last_epoch)));
        let member = group.join(instance);
        (Arc::clone(group), member)
    }

    /// Every connection has been cut: nobody is a member any more until it joins again.
    pub(crate) fn evict_all(&self) {
        for group in self.groups.lock().values() {
            let mut state = group.state.lock();
            state.members.clear();
            group.rebalance(&mut state);
        }
    }

    /// Which consumer had a partition last is not known any more: the next one gets a new epoch, the same consumer too.
    pub(crate) fn forget_instances(&self) {
        for group in self.groups.lock().values() {
            group.state.lock().partitions.iter_mut().for_each(|partition| partition.last_instance = None);
        }
    }

    /// What was committed refers to offsets that are no more.
    pub(crate) fn forget_commits(&self) {
        for group in self.groups.lock().values() {
            group.state.lock().partitions.iter_mut().for_each(PartitionState::begin_again);
        }
    }

    /// Forgets the group, unless it has members. `false` when it has.
    pub(crate) fn delete(&self, name: &str) -> bool {
        let mut groups = self.groups.lock();
        let deletable = groups.get(name).is_none_or(|group| group.state.lock().members.is_empty());
        if deletable {
            groups.remove(name);
        }
        deletable
    }
}

/// One membership: a consumer that joins again is another member of the same instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberId(u64);

#[derive(Debug)]
pub(crate) struct Group {
    /// Changes with every change of the membership, so that a member need not lock to see that there is none.
    generation: AtomicU64,
    last_epoch: Arc<AtomicU64>,
    state: Mutex<GroupState>,
}

#[derive(Debug)]
struct GroupState {
    next_member: u64,
    /// In the order of joining.
    members: Vec<(MemberId, u128)>,
    partitions: Vec<PartitionState>,
}

#[derive(Clone, Debug, Default)]
struct PartitionState {
    committed: Option<Offset>,
    owner: Option<MemberId>,
    /// The consumer that had it last, and the epoch that began with it.
    last_instance: Option<u128>,
    epoch: u64,
}

impl PartitionState {
    /// The group's place is where the offsets begin again.
    fn begin_again(&mut self) {
        self.committed = self.committed.map(|_| Offset::ZERO);
    }
}

impl Group {
    fn new(partitions: u32, last_epoch: &Arc<AtomicU64>) -> Self {
        let partitions = vec![PartitionState::default(); partitions as usize];
        let state = GroupState { next_member: 0, members: Vec::new(), partitions };
        Self { generation: AtomicU64::new(0), last_epoch: Arc::clone(last_epoch), state: Mutex::new(state) }
    }

    fn join(&self, instance: u128) -> MemberId {
        let mut state = self.state.lock();
        let member = MemberId(state.next_member);
        state.next_member += 1;
        state.members.push((member, instance));
        self.rebalance(&mut state);
        member
    }

    pub(crate) fn leave(&self, member: MemberId) {
        let mut state = self.state.lock();
        state.members.retain(|&(other, _)| other != member);
        self.rebalance(&mut state);
    }

    /// Gives partition number n to member number n, round and round.
    fn rebalance(&self, state: &mut GroupState) {
        let GroupState { members, partitions, .. } = state;
        for (nth, partition) in partitions.iter_mut().enumerate() {
            let owner = (!members.is_empty()).then(|| members[nth % members.len()]);
            partition.owner = owner.map(|(member, _)| member);
            if let Some((_, instance)) = owner {
                if partition.last_instance.replace(instance) != Some(instance) {
                    partition.epoch = self.last_epoch.fetch_add(1, Ordering::Relaxed) + 1;
                }
            }
        }
        self.generation.fetch_add(1, Ordering::Release);
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The partitions of a member, with the generation that they belong to.
    pub(crate) fn assignments(&self, member: MemberId) -> Assignments {
        let state = self.state.lock();
        let owned = state.partitions.iter().zip(0..).filter(|(partition, _)| partition.owner == Some(member));
        let assigned =
            owned.map(|(state, nth)| Assignment { partition: PartitionId(nth), epoch: state.epoch });
        Assignments { generation: self.generation(), partitions: assigned.collect() }
    }

    pub(crate) fn committed(&self) -> Vec<Option<Offset>> {
        self.state.lock().partitions.iter().map(|partition| partition.committed).collect()
    }

    /// Stores the committed offset, unless the partition is not the member's (any more).
    pub(crate) fn commit(&self, member: MemberId, partition: PartitionId, next: Offset) -> bool {
        let mut state = self.state.lock();
        let owned =
            state.partitions.get_mut(partition.0 as usize).filter(|state| state.owner == Some(member));
        owned.map(|state| state.committed = Some(next)).is_some()
    }

    /// Stores where the group begins in these partitions, where it has no place: all at once, so that of two members that
    /// do this one prevails. `false` for a partition that there is not.
    pub(crate) fn initialise(&self, places: &[(PartitionId, Offset)]) -> Vec<bool> {
        let mut state = self.state.lock();
        let mut store = |&(partition, start): &(PartitionId, Offset)| {
            let state = state.partitions.get_mut(partition.0 as usize);
            state.map(|state| state.committed.get_or_insert(start)).is_some()
        };
        places.iter().map(&mut store).collect()
    }
}
