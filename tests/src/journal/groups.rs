//! Groups: their places are in a file, their members in memory.

use std::collections::HashMap;
use std::io;

use event_log_core::engine::{Assignment, Assignments, CommitMode};
use event_log_core::{Offset, PartitionId};

use super::JournalBug;
use super::disk::Disk;
use super::frame::{self, Parts};

const FILE: &str = "groups";
const PLACE: u8 = 0;
const DELETED: u8 = 1;
const ALL_FORGOTTEN: u8 = 2;

#[derive(Debug)]
pub(super) struct Groups {
    groups: HashMap<String, Group>,
    partitions: usize,
    /// Counts generations, epochs and members. It begins elsewhere each time that the folder is opened, so that no
    /// number comes again.
    numbers: u64,
    bug: Option<JournalBug>,
}

#[derive(Debug, Default)]
struct Group {
    places: Vec<Option<Offset>>,
    /// Member and instance, in the order of joining.
    members: Vec<(u64, u128)>,
    owners: Vec<Owner>,
    generation: u64,
}

#[derive(Clone, Debug, Default)]
struct Owner {
    member: Option<u64>,
    /// The consumer that had the partition last.
    instance: Option<u128>,
    epoch: u64,
}

impl Groups {
    /// Reads the file. `boot` is another number each time.
    pub(super) fn open(
        disk: &mut Disk,
        partitions: usize,
        boot: u64,
        bug: Option<JournalBug>,
    ) -> io::Result<Self> {
        let mut opened = Self { groups: HashMap::new(), partitions, numbers: boot << 32, bug };
        let bytes = disk.read(FILE)?;
        let mut at = 0;
        while let Some(body) = frame::body(&bytes[at..], true) {
            opened.replay(body);
            at += frame::HEAD + body.len();
        }
        if at < bytes.len() {
            disk.truncate(FILE, at as u64)?;
        }
        Ok(opened)
    }

    fn replay(&mut self, body: &[u8]) -> Option<()> {
        let mut parts = Parts(body);
        match parts.byte()? {
            PLACE => {
                let group = parts.text()?;
                let (partition, place) = (parts.u32()? as usize, Offset(parts.u64()?));
                let known = self.group(&group).places.get_mut(partition)?;
                let grows = known.is_none_or(|known| known < place);
                if grows || self.bug != Some(JournalBug::PlacesOnlyGrowOnDisk) {
                    *self.group(&group).places.get_mut(partition)? = Some(place);
                }
            }
            DELETED => drop(self.groups.remove(&parts.text()?)),
            ALL_FORGOTTEN => self.forget_places(),
            _ => {}
        }
        Some(())
    }

    fn write(&self, disk: &mut Disk, body: &[u8]) -> io::Result<()> {
        disk.append(FILE, &frame::frame(body))?;
        if self.bug == Some(JournalBug::NoSyncOfCommits) { Ok(()) } else { disk.sync(FILE) }
    }

    /// The name as it is stored.
    pub(super) fn name(&self, group: &str) -> String {
        if self.bug == Some(JournalBug::NamesFolded) {
            return group.to_lowercase().replace(|letter: char| !letter.is_alphanumeric(), "_");
        }
        group.to_owned()
    }

    fn group(&mut self, name: &str) -> &mut Group {
        let count = self.partitions;
        let new =
            || Group { places: vec![None; count], owners: vec![Owner::default(); count], ..Group::default() };
        self.groups.entry(name.to_owned()).or_insert_with(new)
    }

    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(super) fn join(&mut self, group: &str, instance: u128) -> u64 {
        let member = self.number();
        self.group(group).members.push((member, instance));
        self.rebalance(group);
        member
    }

    pub(super) fn leave(&mut self, group: &str, member: u64) {
        self.group(group).members.retain(|(other, _)| *other != member);
        self.rebalance(group);
    }

    /// Every connection is cut.
    pub(super) fn evict_all(&mut self) {
        let names: Vec<_> = self.groups.keys().cloned().collect();
        for name in names {
            self.group(&name).members.clear();
            self.rebalance(&name);
        }
    }

    /// Partition number n goes to member number n, round and round.
    fn rebalance(&mut self, name: &str) {
        let (generation, same) = (self.number(), self.bug == Some(JournalBug::EpochNeverChanges));
        let Group { members, owners, generation: current, .. } = self.group(name);
        for (nth, owner) in owners.iter_mut().enumerate() {
            let next = (!members.is_empty()).then(|| members[nth % members.len()]);
            owner.member = next.map(|(member, _)| member);
            if let Some((_, instance)) = next
                && owner.instance.replace(instance) != Some(instance)
                && !same
            {
                owner.epoch = generation;
            }
        }
        *current = generation;
    }

    pub(super) fn generation(&mut self, group: &str) -> u64 {
        self.group(group).generation
    }

    pub(super) fn assignments(&mut self, group: &str, member: u64) -> Assignments {
        let Group { owners, generation, .. } = self.group(group);
        let owned = owners.iter().zip(0..).filter(|(owner, _)| owner.member == Some(member));
        let assigned =
            owned.map(|(owner, nth)| Assignment { partition: PartitionId(nth), epoch: owner.epoch });
        Assignments { generation: *generation, partitions: assigned.collect() }
    }

    pub(super) fn places(&self, group: &str) -> Vec<Option<Offset>> {
        self.groups.get(group).map_or_else(|| vec![None; self.partitions], |group| group.places.clone())
    }

    /// Stores a place, and syncs it. `false` when the partition is not the member's.
    pub(super) fn commit(
        &mut self,
        disk: &mut Disk,
        (name, member): (&str, u64),
        (partition, place): (PartitionId, Offset),
        mode: CommitMode,
    ) -> io::Result<bool> {
        let (nth, bug) = (partition.0 as usize, self.bug);
        let Group { places, owners, .. } = self.group(name);
        let (Some(known), Some(owner)) = (places.get_mut(nth), owners.get(nth)) else { return Ok(false) };
        let is_owner = owner.member == Some(member) || bug == Some(JournalBug::CommitsForOthers);
        match mode {
            CommitMode::Replace if !is_owner => return Ok(false),
            CommitMode::Initialise if known.is_some() && bug != Some(JournalBug::InitialiseReplaces) => {
                return Ok(true);
            }
            CommitMode::Replace | CommitMode::Initialise => *known = Some(place),
        }
        if bug != Some(JournalBug::CommitsInMemory) {
            let mut body = vec![PLACE];
            frame::put(&mut body, name.as_bytes());
            body.extend(partition.0.to_le_bytes());
            body.extend(place.0.to_le_bytes());
            self.write(disk, &body)?;
        }
        Ok(true)
    }

    /// Forgets a group. `false` when it has members.
    pub(super) fn delete(&mut self, disk: &mut Disk, name: &str) -> io::Result<bool> {
        if self.groups.get(name).is_some_and(|group| !group.members.is_empty()) {
            return Ok(false);
        }
        if self.groups.remove(name).is_some() && self.bug != Some(JournalBug::DeletionInMemory) {
            let mut body = vec![DELETED];
            frame::put(&mut body, name.as_bytes());
            self.write(disk, &body)?;
        }
        Ok(true)
    }

    /// The offsets begin again, so that no place means anything any more.
    pub(super) fn forget_all(&mut self, disk: &mut Disk) -> io::Result<()> {
        self.forget_places();
        self.write(disk, &[ALL_FORGOTTEN])
    }

    fn forget_places(&mut self) {
        self.groups.values_mut().for_each(|group| group.places.fill(None));
    }
}
