//! One topic: its partitions, its groups, and everybody who waits for it.
//!
//! Each partition has a lock of its own; nothing is locked across partitions but the groups, which appends
//! do not touch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_log_core::engine::{Clock, FetchRequest, FetchResponse, KnownEnd, Message, StoredMessage};
use event_log_core::{Offset, PartitionId, PartitionWatermarks, Position, Timestamp, Watermarks};
use parking_lot::{Mutex, MutexGuard};

use crate::arrivals::Arrivals;
use crate::broker::Content;
use crate::fault_state::{FaultState, Plan};
use crate::groups::Groups;
use crate::partition::{Partition, Removed};
use crate::retention::Retention;

pub(crate) struct Topic {
    name: Arc<str>,
    partitions: Box<[Mutex<Partition>]>,
    /// The high watermarks, for a glance without the lock.
    high: Box<[AtomicU64]>,
    pub(crate) retention: Retention,
    pub(crate) groups: Groups,
    pub(crate) arrivals: Arrivals,
    pub(crate) faults: FaultState,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Topic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Topic").field("partitions", &self.partitions.len()).finish_non_exhaustive()
    }
}

impl Topic {
    pub(crate) fn new(name: &str, partitions: u32, retention: Retention, clock: Arc<dyn Clock>) -> Self {
        Self {
            name: name.into(),
            partitions: (0..partitions).map(|_| Mutex::default()).collect(),
            high: (0..partitions).map(|_| AtomicU64::new(0)).collect(),
            retention,
            groups: Groups::default(),
            arrivals: Arrivals::default(),
            faults: FaultState::default(),
            clock,
        }
    }

    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(crate) fn partitions(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    pub(crate) fn has_partition(&self, partition: PartitionId) -> bool {
        partition.0 < self.partitions()
    }

    /// Appends whatever the faults say: the request has arrived.
    pub(crate) fn append(&self, partition: PartitionId, messages: impl Iterator<Item = Message>) -> Offset {
        let now = self.clock.now();
        let appending = self.lock(partition);
        self.append_locked(partition, appending, messages, now)
    }

    /// Appends if the connection is still there. It is looked at under the lock, so that nothing arrives once a fault has
    /// cut the connections and seen every lock.
    pub(crate) fn append_over(
        &self,
        partition: PartitionId,
        is_connected: impl FnOnce() -> bool,
        messages: impl Iterator<Item = Message>,
    ) -> Option<Offset> {
        let now = self.clock.now();
        let appending = self.lock(partition);
        is_connected().then(|| self.append_locked(partition, appending, messages, now))
    }

    /// Appends unless a fault is switched on, in which case the messages go the long way.
    pub(crate) fn append_if_clean<I>(
        &self,
        partition: PartitionId,
        now: Timestamp,
        messages: I,
    ) -> Result<Offset, I>
    where
        I: Iterator<Item = Message>,
    {
        let appending = self.lock(partition);
        // Asked under the lock, so that a fault has taken hold everywhere once it has seen every lock.
        if self.faults.appends_are_clean() {
            Ok(self.append_locked(partition, appending, messages, now))
        } else {
            Err(messages)
        }
    }

    /// Appends one message that depends on the offset and the time that it gets.
    pub(crate) fn append_with(
        &self,
        partition: PartitionId,
        message: impl FnOnce(Offset, Timestamp) -> Message,
    ) -> Offset {
        let now = self.clock.now();
        let appending = self.lock(partition);
        let message = message(appending.next_offset(), now);
        self.append_locked(partition, appending, std::iter::once(message), now)
    }

    fn append_locked(
        &self,
        partition: PartitionId,
        mut appending: MutexGuard<'_, Partition>,
        messages: impl Iterator<Item = Message>,
        now: Timestamp,
    ) -> Offset {
        let base = appending.append(messages, now);
        let removed = self.trim(&mut appending, now);
        self.high[partition.0 as usize].store(appending.watermarks().high.0, Ordering::Release);
        drop(appending);
        drop(removed);
        self.arrivals.changed();
        base
    }

    /// The high watermark, or what it was a moment ago, without the lock.
    pub(crate) fn glance(&self, partition: PartitionId) -> Offset {
        Offset(self.high[partition.0 as usize].load(Ordering::Acquire))
    }

    pub(crate) fn fetch(&self, request: FetchRequest) -> FetchResponse {
        self.trimmed(request.partition, |partition| partition.fetch(request))
    }

    pub(crate) fn contents(&self) -> Vec<Content> {
        let partitions = (0..self.partitions()).map(PartitionId);
        let of = |partition| {
            let (max_records, max_bytes) = (usize::MAX, usize::MAX);
            let fetched = self.fetch(FetchRequest {
                max_records,
                max_bytes,
                ..FetchRequest::new(partition, Offset::ZERO)
            });
            let place = move |offset| Position::new(partition, offset);
            fetched.records.into_iter().map(
                move |StoredMessage { offset, id, timestamp, headers, payload }| Content {
                    position: place(offset),
                    id,
                    timestamp,
                    headers,
                    payload,
                },
            )
        };
        partitions.flat_map(of).collect()
    }

    /// Where the partition ends, and its incarnation.
    pub(crate) fn end(&self, partition: PartitionId) -> KnownEnd {
        self.with_partition(partition, |state| KnownEnd {
            partition,
            end: state.watermarks().high,
            incarnation: Some(state.incarnation()),
        })
    }

    pub(crate) fn partition_watermarks(&self, partition: PartitionId) -> PartitionWatermarks {
        self.trimmed(partition, |partition| partition.watermarks())
    }

    pub(crate) fn watermarks(&self) -> Watermarks {
        Watermarks::new(
            (0..self.partitions()).map(|nth| self.partition_watermarks(PartitionId(nth))).collect(),
        )
    }

    pub(crate) fn offset_at(&self, partition: PartitionId, timestamp: Timestamp) -> Offset {
        self.trimmed(partition, |partition| partition.offset_at(timestamp))
    }

    /// Offsets that no record gets, behind the last record.
    pub(crate) fn trailing_gap(&self, partition: PartitionId, count: u64) {
        let high = self.with_partition(partition, |partition| partition.trailing_gap(count));
        self.high[partition.0 as usize].store(high.0, Ordering::Release);
        self.arrivals.changed();
    }

    pub(crate) fn purge(&self) {
        for partition in &self.partitions {
            let removed = partition.lock().purge();
            drop(removed);
        }
        self.arrivals.changed();
    }

    pub(crate) fn begin_again(&self) {
        for (partition, high) in self.partitions.iter().zip(&self.high) {
            let mut partition = partition.lock();
            let removed = partition.begin_again();
            high.store(0, Ordering::Release);
            drop(partition);
            drop(removed);
        }
        self.groups.forget_commits();
        self.arrivals.changed();
    }

    pub(crate) fn switch(&self, change: impl FnOnce(&mut Plan)) {
        self.faults.change(change);
        self.arrivals.changed();
    }

    /// Returns when every append has ended that began before the call.
    pub(crate) fn wait_for_appends(&self) {
        self.partitions.iter().for_each(|partition| drop(partition.lock()));
        self.arrivals.changed();
    }

    pub(crate) fn with_partition<T>(
        &self,
        partition: PartitionId,
        change: impl FnOnce(&mut Partition) -> T,
    ) -> T {
        change(&mut self.lock(partition))
    }

    fn lock(&self, partition: PartitionId) -> MutexGuard<'_, Partition> {
        self.partitions[partition.0 as usize].lock()
    }

    /// Records grow old without anybody doing anything, so that readers trim as well.
    fn trimmed<T>(&self, partition: PartitionId, read: impl FnOnce(&Partition) -> T) -> T {
        // A clock is the application's, and is not asked under a lock.
        let now = self.retention.max_age.is_some().then(|| self.clock.now());
        let (result, removed) = self.with_partition(partition, |partition| {
            let removed = now.map(|now| self.trim(partition, now));
            (read(partition), removed)
        });
        drop(removed);
        result
    }

    /// Removes what retention no longer keeps. It is dropped when the lock has been released.
    fn trim(&self, partition: &mut Partition, now: Timestamp) -> Option<Removed> {
        if self.retention == Retention::FOREVER {
            return None;
        }
        let mut removed = Removed::default();
        partition.trim(&self.retention, now, &mut removed);
        Some(removed)
    }
}
