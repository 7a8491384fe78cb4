//! The connection of a consumer: joining, knowing its partitions, and where each of them begins.
//!
//! Each question is a [`Task`] that goes on until it is answered. What a dropped poll has found out is not asked again.

use std::ops::Deref;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

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
    /// In the order of the question.
    places: Vec<Result<Option<Offset>, Error>>,
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
    /// The same through all reconnections of this consumer.
    instance: u128,
    connection: Option<Connection<T>>,
    /// The end of the membership that was lost last, until the next one is begun.
    ending: Option<oneshot::Receiver<()>>,
    joining: Option<Task<Result<T::Member, Error>>>,
    /// Not before this.
    rejoin_at: Option<Instant>,
    /// The caller's first attempt to join after a loss waits for nothing: most losses are of a connection, not of the
    /// broker. Those that follow in the same call are [`limits::REJOIN_INTERVAL`] apart.
    may_join_at_once: bool,
    /// Why the connection was lost, until a caller was told.
    lost: Option<Error>,
    /// The assignment was asked for since the caller came.
    pub(super) is_fresh: bool,
    /// Partitions of this member that have no reader yet.
    arriving: Vec<Assignment>,
}

/// One member, and all that is asked on its behalf: a question that went on would keep the member in its group, with partitions
/// that are not read.
struct Connection<T: Transport> {
    member: Arc<Joined<T::Member>>,
    /// Closed when the membership is over.
    ended: oneshot::Receiver<()>,
    /// The generation of the assignment that is known.
    generation: Option<u64>,
    asking: Option<Task<Result<Option<Assignments>, Error>>>,
    /// What is being asked may be answered as of before the caller came who must know for certain.
    is_old: bool,
    placing: Option<Task<Result<Places, Error>>>,
    /// What that is asked for. Partitions that come meanwhile are asked for afterwards: their places may have moved since.
    to_place: Vec<Assignment>,
    /// Not before this.
    place_at: Option<Instant>,
}

/// A membership, which is over when the last call over it has let go of it.
pub(super) struct Joined<M> {
    member: M,
    /// Dropped behind the member, which has left its group then.
    _ends: oneshot::Sender<()>,
}

impl<M> Deref for Joined<M> {
    type Target = M;

    fn deref(&self) -> &M {
        &self.member
    }
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
    pub(super) committed: Offset,
    pub(super) low: Offset,
}

impl<T: Transport> Membership<T> {
    pub(super) fn new(transport: Arc<T>, group: Arc<str>, start: SeekPosition, instance: u128) -> Self {
        Self {
            transport,
            group,
            start,
            instance,
            connection: None,
            ending: None,
            joining: None,
            rejoin_at: None,
            may_join_at_once: true,
            lost: None,
            is_fresh: false,
            arriving: Vec::new(),
        }
    }

    /// A member that has just joined.
    pub(super) fn joined(&mut self, member: T::Member) {
        let (ends, ended) = oneshot::channel();
        self.connection = Some(Connection {
            member: Arc::new(Joined { member, _ends: ends }),
            ended,
            generation: None,
            asking: None,
            is_old: false,
            placing: None,
            to_place: Vec::new(),
            place_at: None,
        });
    }

    pub(super) fn member(&self) -> Option<&Arc<Joined<T::Member>>> {
        self.connection.as_ref().map(|connection| &connection.member)
    }

    /// The member, once it is known over its connection whose the partitions are: over one that was lost nothing is read.
    pub(super) fn reading(&self) -> Option<&Arc<Joined<T::Member>>> {
        let connection = self.connection.as_ref()?;
        connection.generation.is_some().then_some(&connection.member)
    }

    pub(super) fn generation(&self) -> Option<u64> {
        self.connection.as_ref().and_then(|connection| connection.generation)
    }

    /// Whether the partitions of the member are known as of now.
    pub(super) fn is_assigned(&self) -> bool {
        self.is_fresh && self.connection.as_ref().is_some_and(|connection| connection.asking.is_none())
    }

    /// Whether the partition is the member's, and it is not known where the group stands in it.
    pub(super) fn is_arriving(&self, partition: PartitionId) -> bool {
        self.arriving.iter().any(|one| one.partition == partition)
    }

    /// Whether everything that can be known without waiting longer is known.
    pub(super) fn is_settled(&self) -> bool {
        self.is_assigned() && self.connection.as_ref().is_some_and(|connection| connection.placing.is_none())
    }

    /// One of these partitions of this member of which it is not known where the group stands: it has no reader yet.
    pub(super) fn unplaced(&self, matters: impl Fn(PartitionId) -> bool) -> Option<PartitionId> {
        self.arriving.iter().map(|one| one.partition).find(|&partition| matters(partition))
    }

    /// When something has to be done although no task has ended.
    pub(super) fn alarm(&self) -> Option<Instant> {
        match &self.connection {
            None => self.rejoin_at,
            Some(connection) => connection.place_at.filter(|_| !self.arriving.is_empty()),
        }
    }

    /// The error that tells why there is no connection.
    pub(super) fn take_lost(&mut self) -> Option<Error> {
        if self.connection.is_some() {
            return None;
        }
        Some(self.lost.take().unwrap_or(Error::Unavailable(None)))
    }

    /// Asks for the assignment, after joining at once if the connection was lost. A question that is under way will do.
    pub(super) fn ask_now(&mut self) {
        (self.is_fresh, self.rejoin_at, self.may_join_at_once) = (false, None, true);
    }

    /// The same, for an answer that is as of now: one to a question that is under way may have been on its way for an hour.
    pub(super) fn ask_anew(&mut self) {
        self.ask_now();
        if let Some(connection) = &mut self.connection {
            connection.is_old = connection.asking.is_some();
        }
    }

    pub(super) const fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// The connection is of no use any more, nor is what was asked over it.
    pub(super) fn disconnect(&mut self, error: Error, now: Instant) {
        if let Some(connection) = self.connection.take() {
            self.ending = Some(connection.ended);
        }
        self.lost = Some(error);
        let wait = if self.may_join_at_once { Duration::ZERO } else { limits::REJOIN_INTERVAL };
        self.rejoin_at = Some(now + wait);
    }

    /// Does what can be done without waiting, up to the first change.
    pub(super) fn step(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Change> {
        if self.connection.is_none() {
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
            let (instance, ending) = (self.instance, self.ending.take());
            Task::inline(async move {
                // Fetches that were ended hold the membership that they are of until the runtime has dropped them, which is
                // their next await. As long as it lasts the group would share its partitions between that one and this one,
                // and a transport that remembers the epochs of an instance has nothing to remember yet. A fetch that blocks
                // its thread has no next await, and ends within a deadline of its transport's that is none of this consumer's:
                // it is not waited for any longer than this, and the group sees two members until then.
                if let Some(ending) = ending {
                    let _ = timeout(limits::ENDING_PATIENCE, ending).await;
                }
                transport.join(&group, instance).await
            })
        });
        let Poll::Ready(joined) = joining.poll(cx) else { return Poll::Pending };
        self.joining = None;
        self.joined(joined.and_then(|joined| joined)?);
        self.is_fresh = false;
        Poll::Ready(Ok(()))
    }

    fn poll_assignments(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Change> {
        let connection = self.connection.as_mut()?;
        if !self.is_fresh && connection.asking.is_none() {
            let (member, known) = (Arc::clone(&connection.member), connection.generation);
            connection.asking = Some(Task::inline(async move { member.assignments(known).await }));
        }
        let answer = poll_task(&mut connection.asking, cx)?.and_then(|answer| answer);
        self.is_fresh = answer.is_ok() && !std::mem::take(&mut connection.is_old);
        match answer {
            // It is asked once more, unless that was as of now.
            Ok(None) => self.poll_assignments(cx, now),
            Ok(Some(assignments)) => {
                connection.generation = Some(assignments.generation);
                Some(Change::Assigned(assignments.partitions))
            }
            Err(error) if error.is_retryable() => {
                self.disconnect(error, now);
                Some(Change::Lost)
            }
            Err(error) => Some(Change::Failed(error)),
        }
    }

    /// These are to be read, and have no reader.
    pub(super) fn arrive(&mut self, arriving: Vec<Assignment>) {
        if let Some(connection) = &mut self.connection {
            if arriving.iter().any(|one| !self.arriving.contains(one)) {
                connection.place_at = None;
            }
        }
        self.arriving = arriving;
    }

    fn poll_places(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Change> {
        // What was to be placed over the connection before may be another member's by now.
        let connection = self.connection.as_mut().filter(|connection| connection.generation.is_some())?;
        let is_due = connection.place_at.is_none_or(|at| at <= now);
        if connection.placing.is_none() && !self.arriving.is_empty() && is_due {
            let (transport, group) = (Arc::clone(&self.transport), Arc::clone(&self.group));
            let (member, start) = (Arc::clone(&connection.member), self.start.clone());
            let partitions: Vec<_> = self.arriving.iter().map(|one| one.partition).collect();
            connection.placing =
                Some(Task::inline(
                    async move { places(&*transport, &member, &group, &partitions, &start).await },
                ));
            (connection.to_place, connection.place_at) = (self.arriving.clone(), None);
        }
        let (mut placed, mut faults, mut started) = (Vec::new(), Vec::new(), Vec::new());
        match poll_task(&mut connection.placing, cx)?.and_then(|answer| answer) {
            // Those that are read already go on, and each of the others says why it does not. That the log cannot be asked for
            // places does not say that the member's connection is lost.
            Err(error) => {
                let asked = self.arriving.iter().filter(|one| connection.to_place.contains(one));
                faults.extend(asked.map(|one| one.partition).zip(error.repeated()));
            }
            Ok(answer) => {
                for (&assignment, place) in connection.to_place.iter().zip(answer.places) {
                    // It may have gone meanwhile.
                    let Some(at) = self.arriving.iter().position(|one| *one == assignment) else { continue };
                    let low = answer.marks.get(assignment.partition).unwrap_or_default().low;
                    match place.and_then(|place| place.ok_or_else(without_a_place)) {
                        Ok(committed) => {
                            self.arriving.remove(at);
                            placed.push(Place { assignment, committed, low });
                        }
                        Err(error) => faults.push((assignment.partition, error)),
                    }
                }
                started = answer.started;
            }
        }
        connection.place_at = (!faults.is_empty()).then(|| now + limits::READER_RETRY_MAX);
        Some(Change::Placed { places: placed, faults, started })
    }
}

fn without_a_place() -> Error {
    let error = "the group has no place in the partition yet".into();
    Error::Backend { retryable: true, may_have_taken_effect: false, error }
}

/// Where the group stands in these partitions. One that has no place in some was deleted since this consumer was opened, or is being started, and
/// is started first: completely. If that fails, those partitions in which the group has a place have no part in it.
async fn places<T: Transport>(
    transport: &T,
    member: &T::Member,
    group: &str,
    partitions: &[PartitionId],
    start: &SeekPosition,
) -> Result<Places, Error> {
    let asked = futures::future::join(transport.committed(group, partitions), transport.watermarks()).await;
    let (mut places, marks, mut started) = (asked.0?, asked.1?, Vec::new());
    if start::is_missing(&places) {
        let stands = match start::ensure(transport, member, group, partitions, start).await {
            Ok(notices) => {
                started = notices;
                transport.committed(group, partitions).await
            }
            Err(error) => Err(error),
        };
        match stands {
            Ok(answer) => places = answer,
            // But what is to be told of the start is not asked for again.
            Err(error @ Error::Unavailable(_)) if started.is_empty() => return Err(error),
            Err(error) => {
                let missing = places.iter_mut().filter(|place| matches!(place, Ok(None)));
                missing.zip(error.repeated()).for_each(|(place, error)| *place = Err(error));
            }
        }
    }
    Ok(Places { places, marks, started })
}
