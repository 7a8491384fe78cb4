//! The connection of a consumer: joining, knowing its partitions, and where each of them begins.
//!
//! Each question is a [`Task`] that goes on until it is answered. What a dropped poll has found out is not asked again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::start;
use crate::engine::task::{Task, poll_task};
use crate::engine::transport::{Assignment, Assignments, GroupMember, Transport};
use crate::error::Error;
use crate::limits;
use crate::position::{Offset, PartitionId, SeekPosition};
use crate::record::Notice;
use crate::watermark::Watermarks;

/// The answer to *where does the group stand*.
struct Places {
    by_partition: Vec<Result<Option<Offset>, Error>>,
    /// What the partitions retain.
    marks: Watermarks,
    /// The group had no place, and what does not hold of the start that it was given.
    started: Vec<Notice>,
}

pub(super) struct Membership<T: Transport> {
    transport: Arc<T>,
    group: Arc<str>,
    /// Where the group starts if it has no place, because it was deleted.
    start: SeekPosition,
    /// A start is being stored, or was by half.
    is_starting: Arc<AtomicBool>,
    /// The same through all reconnections of this consumer.
    instance: u128,
    member: Option<Arc<T::Member>>,
    joining: Option<Task<Result<T::Member, Error>>>,
    /// Not before this.
    rejoin_at: Option<Instant>,
    /// The caller's first attempt to join after a loss waits for nothing: most losses are of a connection, not of the
    /// broker. Those that follow in the same call are [`limits::REJOIN_INTERVAL`] apart.
    may_join_at_once: bool,
    /// Why the connection was lost, until a caller was told.
    lost: Option<Error>,
    /// The generation of the assignment that is known.
    generation: Option<u64>,
    asking: Option<Task<Result<Option<Assignments>, Error>>>,
    /// The assignment was asked for since the caller came.
    pub(super) is_fresh: bool,
    /// Partitions of this member that have no reader yet.
    arriving: Vec<Assignment>,
    placing: Option<Task<Result<Places, Error>>>,
    place_at: Option<Instant>,
}

/// What has changed.
pub(super) enum Change {
    /// The connection was lost.
    Lost,
    /// These partitions belong to the member, and no others.
    Assigned(Vec<Assignment>),
    /// Where the group stands in some partitions, and why it is not known of others, which are asked for again.
    Placed { places: Vec<Place>, faults: Vec<(PartitionId, Error)>, started: Vec<Notice> },
    /// Trying again does not help.
    Failed(Error),
}

/// Where the group stands in one partition.
pub(super) struct Place {
    pub(super) assignment: Assignment,
    pub(super) committed: Option<Offset>,
    pub(super) low: Offset,
}

impl<T: Transport> Membership<T> {
    pub(super) fn new(transport: Arc<T>, group: Arc<str>, start: SeekPosition, instance: u128) -> Self {
        Self {
            transport,
            group,
            start,
            is_starting: Arc::default(),
            instance,
            member: None,
            joining: None,
            rejoin_at: None,
            may_join_at_once: true,
            lost: None,
            generation: None,
            asking: None,
            is_fresh: false,
            arriving: Vec::new(),
            placing: None,
            place_at: None,
        }
    }

    /// A member that has just joined.
    pub(super) fn joined(&mut self, member: T::Member) {
        self.member = Some(Arc::new(member));
    }

    pub(super) const fn member(&self) -> Option<&Arc<T::Member>> {
        self.member.as_ref()
    }

    pub(super) const fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// Whether the partitions of the member are known as of now.
    pub(super) fn is_assigned(&self) -> bool {
        self.member.is_some() && self.is_fresh && self.asking.is_none()
    }

    /// Whether the partition is the member's, and it is not known where the group stands in it.
    pub(super) fn is_arriving(&self, partition: PartitionId) -> bool {
        self.arriving.iter().any(|one| one.partition == partition)
    }

    /// Whether everything that can be known without waiting longer is known.
    pub(super) fn is_settled(&self) -> bool {
        self.is_assigned() && self.placing.is_none()
    }

    /// A partition of this member of which it is not known where the group stands: it has no reader yet.
    pub(super) fn unplaced(&self) -> Option<PartitionId> {
        self.arriving.first().map(|one| one.partition)
    }

    /// When something has to be done although no task has ended.
    pub(super) fn alarm(&self) -> Option<Instant> {
        if self.member.is_none() {
            return self.rejoin_at;
        }
        self.place_at.filter(|_| !self.arriving.is_empty())
    }

    /// The error that tells why there is no connection.
    pub(super) fn take_lost(&mut self) -> Option<Error> {
        if self.member.is_some() {
            return None;
        }
        Some(self.lost.take().unwrap_or(Error::Unavailable(None)))
    }

    /// Asks for the assignment, after joining at once if the connection was lost.
    pub(super) fn ask_now(&mut self) {
        (self.is_fresh, self.rejoin_at, self.may_join_at_once) = (false, None, true);
    }

    pub(super) const fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// The connection is of no use any more.
    pub(super) fn disconnect(&mut self, error: Error, now: Instant) {
        (self.member, self.asking, self.generation) = (None, None, None);
        self.lost = Some(error);
        let wait = if self.may_join_at_once { Duration::ZERO } else { limits::REJOIN_INTERVAL };
        self.rejoin_at = Some(now + wait);
    }

    /// Does what can be done without waiting, up to the first change.
    pub(super) fn step(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Change> {
        if self.member.is_none() {
            match self.poll_join(cx, now) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) if error.is_retryable() => {
                    self.disconnect(error, now);
                    return None;
                }
                Poll::Ready(Err(error)) => return Some(Change::Failed(error)),
                Poll::Pending => return None,
            }
        }
        if let Some(change) = self.poll_assignments(cx, now) {
            return Some(change);
        }
        self.poll_places(cx, now)
    }

    fn poll_join(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<Result<(), Error>> {
        if self.rejoin_at.is_some_and(|at| now < at) {
            return Poll::Pending;
        }
        self.rejoin_at = None;
        self.may_join_at_once = false;
        let joining = self.joining.get_or_insert_with(|| {
            let (transport, group) = (Arc::clone(&self.transport), Arc::clone(&self.group));
            let instance = self.instance;
            Task::inline(async move { transport.join(&group, instance).await })
        });
        let Poll::Ready(joined) = joining.poll(cx) else { return Poll::Pending };
        self.joining = None;
        self.joined(joined.and_then(|joined| joined)?);
        self.is_fresh = false;
        Poll::Ready(Ok(()))
    }

    fn poll_assignments(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Change> {
        if !self.is_fresh && self.asking.is_none() {
            let member = Arc::clone(self.member.as_ref()?);
            let known = self.generation;
            self.asking = Some(Task::inline(async move { member.assignments(known).await }));
        }
        match poll_task(&mut self.asking, cx)?.and_then(|answer| answer) {
            Ok(None) => {
                self.is_fresh = true;
                None
            }
            Ok(Some(assignments)) => {
                self.is_fresh = true;
                self.generation = Some(assignments.generation);
                Some(Change::Assigned(assignments.partitions))
            }
            Err(error) if error.is_retryable() => {
                self.disconnect(error, now);
                Some(Change::Lost)
            }
            Err(error) => Some(Change::Failed(error)),
        }
    }

    /// These are to be read, and have no reader. What is under way concerns the ones before.
    pub(super) fn arrive(&mut self, arriving: Vec<Assignment>) {
        let known: BTreeSet<_> = self.arriving.iter().map(|one| (one.partition, one.epoch)).collect();
        if arriving.iter().any(|one| !known.contains(&(one.partition, one.epoch))) {
            (self.placing, self.place_at) = (None, None);
        }
        self.arriving = arriving;
    }

    fn poll_places(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Change> {
        if self.placing.is_none() && !self.arriving.is_empty() && self.place_at.is_none_or(|at| at <= now) {
            let (transport, group) = (Arc::clone(&self.transport), Arc::clone(&self.group));
            let (member, start) = (Arc::clone(self.member.as_ref()?), self.start.clone());
            let is_starting = Arc::clone(&self.is_starting);
            self.placing = Some(Task::inline(async move {
                places(&*transport, &member, &group, &start, &is_starting).await
            }));
            self.place_at = None;
        }
        let Places { mut by_partition, marks, started } =
            match poll_task(&mut self.placing, cx)?.and_then(|answer| answer) {
                Ok(answer) => answer,
                Err(error @ Error::Unavailable(_)) => {
                    self.disconnect(error, now);
                    return Some(Change::Lost);
                }
                // Those that are read already go on.
                Err(error) => {
                    self.place_at = Some(now + limits::READER_RETRY_MAX);
                    let partition = self.arriving.first()?.partition;
                    return Some(Change::Placed {
                        places: Vec::new(),
                        faults: vec![(partition, error)],
                        started: Vec::new(),
                    });
                }
            };
        let (mut placed, mut faults) = (Vec::new(), Vec::new());
        for assignment in std::mem::take(&mut self.arriving) {
            let partition = assignment.partition;
            let marks = marks.get(partition).unwrap_or_default();
            let place = by_partition
                .get_mut(partition.0 as usize)
                .map_or(Ok(None), |place| std::mem::replace(place, Ok(None)));
            match place {
                // A partition that came to the log after the group had started: all of it is news.
                Ok(committed) => placed.push(Place { assignment, committed, low: marks.low }),
                Err(error) => {
                    faults.push((partition, error));
                    self.arriving.push(assignment);
                }
            }
        }
        self.place_at = (!faults.is_empty()).then(|| now + limits::READER_RETRY_MAX);
        Some(Change::Placed { places: placed, faults, started })
    }
}

/// Where the group stands. One without any place was deleted since this consumer was opened, and starts anew.
async fn places<T: Transport>(
    transport: &T,
    member: &T::Member,
    group: &str,
    start: &SeekPosition,
    is_starting: &AtomicBool,
) -> Result<Places, Error> {
    let (places, marks) = futures::future::join(transport.committed(group), transport.watermarks()).await;
    let (mut by_partition, marks, mut started) = (places?, marks?, Vec::new());
    if is_starting.load(Relaxed) || by_partition.iter().all(|place| matches!(place, Ok(None))) {
        is_starting.store(true, Relaxed);
        started = start::ensure(transport, member, group, start).await?;
        is_starting.store(false, Relaxed);
        by_partition = transport.committed(group).await?;
    }
    Ok(Places { by_partition, marks, started })
}
