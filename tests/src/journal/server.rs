//! The process that has the folder open: what is in memory goes when it is killed.

use std::io;
use std::sync::Arc;

use event_log_core::engine::{Clock, FetchRequest, FetchResponse, KnownEnd, Message};
use event_log_core::{Error, Offset, PartitionId, Watermarks};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::JournalBug;
use super::disk::Disk;
use super::frame;
use super::groups::Groups;
use super::partition::Partition;
use super::plan::{self, Plan};

const TOPIC: &str = "topic";

pub(super) struct Server {
    state: Mutex<State>,
    pub(super) changed: Notify,
    pub(super) clock: Arc<dyn Clock>,
    bug: Option<JournalBug>,
}

pub(super) struct State {
    disk: Disk,
    partitions: Vec<Partition>,
    pub(super) groups: Groups,
    pub(super) plan: Plan,
    /// Whether connections can be made.
    pub(super) up: bool,
    /// Connections of an earlier number are cut.
    pub(super) connections: u64,
}

impl Server {
    pub(super) fn new(clock: Arc<dyn Clock>, bug: Option<JournalBug>) -> io::Result<Self> {
        let mut disk = Disk::new()?;
        let groups = Groups::open(&mut disk, 0, 0, bug)?;
        let (partitions, plan) = (Vec::new(), Plan::default());
        let state = State { disk, partitions, groups, plan, up: true, connections: 0 };
        Ok(Self { state: Mutex::new(state), changed: Notify::new(), clock, bug })
    }

    /// Looks at the state, or changes it without a need to wake anything.
    pub(super) fn look<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// Changes the state, and wakes what waits for that.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = self.look(change);
        self.changed.notify_waiters();
        result
    }

    /// Makes the topic, or verifies it.
    pub(super) fn topic(&self, partitions: u32) -> Result<(), Error> {
        self.change(|state| {
            if state.partitions.is_empty() {
                state.disk.append(TOPIC, &frame::frame(&partitions.to_le_bytes())).map_err(failed)?;
                state.disk.sync(TOPIC).map_err(failed)?;
                return state.open(self.bug).map_err(failed);
            }
            let found = state.partitions.len();
            if found == partitions as usize {
                return Ok(());
            }
            let (expected, found) = (partitions.to_string(), found.to_string());
            Err(Error::TopologyMismatch { property: "partitions", expected, found })
        })
    }

    /// Kills the process and starts it again. Before that, something may happen to the files.
    pub(super) fn kill(
        &self,
        meanwhile: impl FnOnce(&mut Disk, &[Partition]) -> io::Result<()>,
    ) -> io::Result<()> {
        self.change(|state| {
            state.cut();
            state.plan = Plan::default();
            meanwhile(&mut state.disk, &state.partitions)?;
            state.open(self.bug)?;
            state.up = true;
            Ok(())
        })
    }

    pub(super) fn lose_power(&self) -> io::Result<()> {
        self.kill(|disk, _| disk.lose_power())
    }
}

impl State {
    /// Reads everything from the files.
    fn open(&mut self, bug: Option<JournalBug>) -> io::Result<()> {
        let bytes = self.disk.read(TOPIC)?;
        let count = frame::body(&bytes, true).and_then(|body| body.first_chunk::<4>());
        let count = count.map_or(0, |count| u32::from_le_bytes(*count));
        // Each opening leaves a byte behind, so that the next one has another number.
        let boot = self.disk.append("boots", b".")?;
        self.disk.sync("boots")?;
        self.groups = Groups::open(&mut self.disk, count as usize, boot, bug)?;
        let open = |nth| Partition::open(&mut self.disk, PartitionId(nth), bug);
        self.partitions = (0..count).map(open).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Cuts every connection.
    pub(super) fn cut(&mut self) {
        (self.up, self.connections) = (false, self.connections + 1);
        self.groups.evict_all();
    }

    pub(super) fn partitions(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn partition(&mut self, partition: PartitionId) -> Option<(&mut Partition, &mut Disk)> {
        let partition = self.partitions.get_mut(partition.0 as usize)?;
        Some((partition, &mut self.disk))
    }

    pub(super) fn with_groups<T>(&mut self, with: impl FnOnce(&mut Groups, &mut Disk) -> T) -> T {
        with(&mut self.groups, &mut self.disk)
    }

    pub(super) fn append(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
        clock: &dyn Clock,
    ) -> io::Result<Offset> {
        let (partition, disk) = self.partition(partition).ok_or(io::ErrorKind::NotFound)?;
        partition.append(disk, messages, clock.now())
    }

    pub(super) fn deliver_held(&mut self, clock: &dyn Clock) -> io::Result<()> {
        for (partition, messages) in std::mem::take(&mut self.plan.held) {
            self.append(partition, &messages, clock)?;
        }
        Ok(())
    }

    pub(super) fn fetch(&mut self, request: FetchRequest) -> Result<FetchResponse, Error> {
        if plan::draw_of(&mut self.plan.fail_fetches, request.partition) {
            return Err(injected());
        }
        let empty = plan::draw(&mut self.plan.empty_fetches);
        let (partition, disk) = self.partition(request.partition).ok_or_else(injected)?;
        let mut answer = partition.fetch(disk, request).map_err(failed)?;
        if empty {
            (answer.records, answer.scanned_to) = (Vec::new(), None);
        }
        Ok(answer)
    }

    pub(super) fn watermarks(&self) -> Watermarks {
        Watermarks::new(self.partitions.iter().map(Partition::watermarks).collect())
    }

    pub(super) fn has_moved(&self, known: &KnownEnd) -> bool {
        self.partitions.get(known.partition.0 as usize).is_some_and(|partition| {
            let incarnation = partition.incarnation();
            partition.watermarks().high != known.end
                || known.incarnation.is_some_and(|known| known != incarnation)
        })
    }

    pub(super) fn purge(&mut self) -> io::Result<()> {
        self.partitions.iter_mut().try_for_each(|partition| partition.purge(&mut self.disk))
    }

    pub(super) fn begin_again(&mut self) -> io::Result<()> {
        self.partitions.iter_mut().try_for_each(|partition| partition.begin_again(&mut self.disk))?;
        self.groups.forget_all(&mut self.disk)
    }
}

pub(super) fn failed(error: io::Error) -> Error {
    Error::Backend { retryable: false, may_have_taken_effect: true, error: Box::new(error) }
}

pub(super) fn injected() -> Error {
    let error = Box::new(io::Error::other("an injected fault"));
    Error::Backend { retryable: true, may_have_taken_effect: false, error }
}
