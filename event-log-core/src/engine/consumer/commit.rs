//! Committing: what a cursor means for each partition, and storing it.

use std::collections::VecDeque;

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::Consumer;
use super::membership::{Joined, Membership};
use super::partition::PartitionReader;
use crate::engine::backoff::doubled;
use crate::engine::transport::{CommitMode, GroupMember, Transport};
use crate::error::{CommitError, CommitErrorKind, Error};
use crate::limits;
use crate::position::{Cursor, Epoch, Offset, PartitionId};

/// How an epoch of a reader ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndedBy {
    Revocation,
    Truncation,
    Seek,
}

/// What is remembered of an epoch that is over, for cursors from it.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndedEpoch {
    pub(super) epoch: Epoch,
    pub(super) by: EndedBy,
    /// What would have been delivered next.
    pub(super) next: Offset,
    /// That was behind the end of the partition.
    pub(super) stood_beyond: bool,
    /// What the group had committed then.
    pub(super) committed: Option<Offset>,
}

/// Whether storing the place of a partition loses the connection, and all that is in flight with it.
#[derive(Clone, Copy, Default)]
pub(super) struct CommitLosses {
    /// How often it was begun since it was answered: the connection was lost meanwhile, or the caller went away. It is stored by
    /// itself next.
    unanswered: u32,
    /// How often it has lost the connection by itself, and how often it was answered since.
    losses: u32,
    answers: u32,
    /// Not before this.
    not_before: Option<Instant>,
}

impl CommitLosses {
    pub(super) const fn begins(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    fn answered(&mut self) {
        (self.unanswered, self.answers) = (0, self.answers.saturating_add(1));
        // One that loses a connection now and then does so again.
        if self.answers >= self.losses.saturating_mul(16) {
            *self = Self::default();
        }
    }

    /// It was the only one in flight. The others need time for themselves, and more of it each time.
    fn lost(&mut self, now: Instant) {
        let before = self.losses;
        (self.losses, self.answers) = (before.saturating_add(1), 0);
        self.not_before =
            (before > 0).then(|| now + doubled(limits::READER_RETRY, limits::LOST_RETRY_MAX, before));
    }

    /// Whether it is stored by itself, and how late: those last that are known to lose the connection.
    fn alone(&self) -> Option<(u32, u32)> {
        (self.unanswered > 0 || self.losses > 0).then_some((self.losses, self.unanswered))
    }

    /// Why nothing is to be stored now.
    fn check(&self, now: Instant) -> Result<(), Error> {
        let Some(at) = self.not_before.filter(|&at| now < at) else { return Ok(()) };
        let (count, wait) = (self.losses, at - now);
        let problem = format!("{count} commits have lost the connection, the next is made in {wait:?}");
        Err(Error::Unavailable(Some(problem.into())))
    }
}

/// What a cursor asks for.
#[derive(Default)]
struct Plan {
    places: Vec<(PartitionId, Offset)>,
    failures: Vec<(PartitionId, CommitErrorKind)>,
    /// It is no cursor of this consumer: nothing of it is stored.
    is_mixed_up: bool,
}

/// What one entry of a cursor asks for.
enum Verdict {
    Store,
    /// It is stored already, or a later place is.
    Nothing,
    Late(CommitErrorKind),
    MixedUp(CommitErrorKind),
}

impl<E, T> Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    pub(super) async fn commit_up_to(&mut self, up_to: &Cursor) -> Result<(), CommitError> {
        // A partition that is not known of may have come to the log since the handle was opened, or the cursor is of another log.
        // As long as that is not known nothing of it is stored. Of what was read by a consumer it is known.
        let unvouched = up_to.iter_read().filter(|(_, _, epoch)| epoch.is_none());
        let greatest = unvouched.map(|(partition, _, _)| partition).max();
        if let Err(error) = self.know_of(greatest).await {
            let partitions = up_to.iter().map(|(partition, _)| partition);
            let failures = partitions.zip(error.repeated().map(CommitErrorKind::Failed));
            return finish(Cursor::new(), failures.collect());
        }
        // Before anything else is awaited, so that a mixed-up cursor stores nothing at all.
        let plan = self.plan(up_to);
        if plan.is_mixed_up || plan.places.is_empty() {
            return finish(Cursor::new(), plan.failures);
        }
        let plan = self.postpone(plan, Instant::now());
        if plan.places.is_empty() {
            return finish(Cursor::new(), plan.failures);
        }
        if let Err(error) = self.settle_until(Membership::is_assigned).await {
            return finish(Cursor::new(), fail_all(plan, error));
        }
        let unknown = self.resolve_doubts(&plan.places).await;
        // The partitions may be others by now.
        let Plan { mut places, mut failures, .. } = self.postpone(self.plan(up_to), Instant::now());
        places.retain(|(partition, _)| unknown.iter().all(|(unknown, _)| unknown != partition));
        failures.extend(
            unknown.into_iter().map(|(partition, error)| (partition, CommitErrorKind::Failed(error))),
        );
        let Some(member) = self.membership.member().cloned() else {
            let plan = Plan { places, failures, is_mixed_up: false };
            return finish(Cursor::new(), fail_all(plan, Error::Unavailable(None)));
        };
        let mut stored = Cursor::new();
        let mut requests = self.requests(places).into_iter();
        for places in requests.by_ref() {
            if !self.store(&member, &places, &mut stored, &mut failures).await {
                break;
            }
        }
        let rest = Plan { places: requests.flatten().collect(), failures, is_mixed_up: false };
        let failures = fail_all(rest, Error::Unavailable(None));
        finish(stored, failures)
    }

    /// Without what has lost the connection lately: that fails at once, and the rest is stored.
    fn postpone(&self, mut plan: Plan, now: Instant) -> Plan {
        for reader in &self.readers {
            let is_it = |&(partition, _): &(PartitionId, Offset)| partition == reader.partition();
            if let (Some(at), Err(error)) = (plan.places.iter().position(is_it), reader.commits.check(now)) {
                let (partition, _) = plan.places.remove(at);
                plan.failures.push((partition, CommitErrorKind::Failed(error)));
            }
        }
        plan
    }

    /// One request for all, but for those during which the connection was lost: each of them is stored by itself, those last that
    /// are known to lose it.
    fn requests(&self, places: Vec<(PartitionId, Offset)>) -> Vec<Vec<(PartitionId, Offset)>> {
        let losses = |&(partition, _): &(PartitionId, Offset)| {
            let reader = self.readers.iter().find(|reader| reader.partition() == partition);
            reader.and_then(|reader| reader.commits.alone())
        };
        let (mut suspects, together): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|place| losses(place).is_some());
        suspects.sort_by_key(losses);
        let together = (!together.is_empty()).then_some(together);
        together.into_iter().chain(suspects.into_iter().map(|place| vec![place])).collect()
    }

    /// Stores these in one request, and notes what is stored and why the rest is not. False when the connection is lost.
    async fn store(
        &mut self,
        member: &Joined<T::Member>,
        places: &[(PartitionId, Offset)],
        stored: &mut Cursor,
        failures: &mut Vec<(PartitionId, CommitErrorKind)>,
    ) -> bool {
        // Until the answer is there the places may be stored or not, also if this future is dropped.
        self.each_reader(places, PartitionReader::begins_to_commit);
        let answers = member.commit(places, CommitMode::Replace).await;
        let now = Instant::now();
        let mut is_lost = false;
        for (&(partition, next), answer) in places.iter().zip(answers) {
            let is_certain = !matches!(&answer, Err(CommitErrorKind::Failed(error)) if may_be_stored(error));
            let has_lost = matches!(&answer, Err(CommitErrorKind::Failed(Error::Unavailable(_))));
            is_lost |= has_lost;
            self.each_reader(&[(partition, next)], |reader, next| {
                match &answer {
                    Ok(()) => reader.stored(next),
                    Err(_) if is_certain => reader.commit_in_doubt = false,
                    Err(_) => {}
                }
                if !has_lost {
                    reader.commits.answered();
                } else if places.len() == 1 {
                    reader.commits.lost(now);
                }
            });
            match answer {
                Ok(()) => stored.set(partition, next),
                Err(kind) => failures.push((partition, kind)),
            }
        }
        if is_lost {
            self.membership.disconnect(Error::Unavailable(None), now);
            self.disconnected();
        }
        self.show_cursors();
        !is_lost
    }

    /// Asks where the group stands in those of these partitions of which it is in doubt. Returns those of which it stays so.
    async fn resolve_doubts(&mut self, places: &[(PartitionId, Offset)]) -> Vec<(PartitionId, Error)> {
        let named = |reader: &PartitionReader| places.iter().any(|&(one, _)| one == reader.partition());
        let mut unknown = Vec::new();
        let is_in_doubt = |reader: &&PartitionReader| reader.commit_in_doubt && named(reader);
        let doubtful: Vec<_> =
            self.readers.iter().filter(is_in_doubt).map(PartitionReader::partition).collect();
        if doubtful.is_empty() {
            return unknown;
        }
        let committed = match self.transport.committed(&self.group, &doubtful).await {
            Ok(committed) => committed,
            // It delays no partition of which nothing is in doubt.
            Err(error) => return doubtful.into_iter().zip(error.repeated()).collect(),
        };
        let in_doubt = self.readers.iter_mut().filter(|reader| doubtful.contains(&reader.partition()));
        for (reader, place) in in_doubt.zip(committed) {
            match place {
                Ok(place) => reader.set_committed(place),
                Err(error) => unknown.push((reader.partition(), error)),
            }
        }
        unknown
    }

    fn each_reader(
        &mut self,
        places: &[(PartitionId, Offset)],
        mut change: impl FnMut(&mut PartitionReader, Offset),
    ) {
        for reader in &mut self.readers {
            if let Some(&(_, next)) = places.iter().find(|&&(partition, _)| partition == reader.partition()) {
                change(reader, next);
            }
        }
    }

    fn plan(&self, up_to: &Cursor) -> Plan {
        let mut plan = Plan::default();
        for (partition, next, epoch) in up_to.iter_read() {
            match self.verdict(partition, next, epoch) {
                Verdict::Store => plan.places.push((partition, next)),
                Verdict::Nothing => {}
                Verdict::Late(kind) => plan.failures.push((partition, kind)),
                Verdict::MixedUp(kind) => {
                    plan.is_mixed_up = true;
                    plan.failures.push((partition, kind));
                }
            }
        }
        if plan.is_mixed_up {
            plan.failures.retain(|(_, kind)| kind.is_mix_up());
        }
        plan
    }

    /// What becomes of one partition of a cursor. The offset of an epoch that is over is late, not wrong.
    fn verdict(&self, partition: PartitionId, next: Offset, epoch: Option<Epoch>) -> Verdict {
        let reader = self.readers.iter().find(|reader| reader.partition() == partition);
        if let Some(reader) = reader.filter(|reader| epoch.is_none_or(|epoch| epoch == reader.epoch())) {
            let reached = self.reached.get(&partition).copied().unwrap_or_default();
            // An offset without an epoch may be from one that is over, or where the application has sent the reader then.
            let mut ended = self.ended.get(&partition).into_iter().flatten();
            let is_late = epoch.is_none() && (next <= reached || ended.any(|ended| ended.next == next));
            return match verdict_of(reader, next, reached) {
                Verdict::MixedUp(_) if is_late => Verdict::Late(CommitErrorKind::Superseded),
                verdict => verdict,
            };
        }
        let Some(epoch) = epoch else {
            if partition.0 >= self.partitions {
                return Verdict::MixedUp(CommitErrorKind::Foreign);
            }
            let is_arriving = self.membership.is_arriving(partition);
            let unplaced = CommitErrorKind::Failed(Error::Unavailable(None));
            return Verdict::Late(if is_arriving { unplaced } else { CommitErrorKind::Revoked });
        };
        let ended = self.ended.get(&partition).into_iter().flatten().find(|ended| ended.epoch == epoch);
        let Some(ended) = ended else {
            // Of this consumer, and longer ago than is remembered; or of another.
            let is_own = self.epochs.has_drawn(epoch);
            let late = Verdict::Late(CommitErrorKind::Superseded);
            return if is_own { late } else { Verdict::MixedUp(CommitErrorKind::Foreign) };
        };
        // The group may have gone back since: what it had committed then says nothing where this consumer knows better.
        let committed = match reader {
            // It is not known, and to find out would not make this cursor any newer.
            Some(reader) if reader.commit_in_doubt => None,
            Some(reader) => reader.committed(),
            // What was known when it went, which may be in a later epoch.
            None => self.ended.get(&partition).and_then(VecDeque::back).and_then(|last| last.committed),
        };
        match ended.by {
            EndedBy::Truncation => Verdict::Late(CommitErrorKind::Superseded),
            _ if reader.is_some_and(PartitionReader::is_truncated) => {
                Verdict::Late(CommitErrorKind::Superseded)
            }
            _ if committed >= Some(next) => Verdict::Nothing,
            EndedBy::Revocation => Verdict::Late(CommitErrorKind::Revoked),
            EndedBy::Seek => Verdict::Late(CommitErrorKind::Superseded),
        }
    }
}

/// What a commit of this offset asks of a reader that has read it, or has not. Earlier epochs have `reached` so far.
fn verdict_of(reader: &PartitionReader, next: Offset, reached: Offset) -> Verdict {
    let (stands_beyond, committed) = (reader.stands_beyond(), reader.committed());
    // Where it was sent in vain is no place that it has reached.
    let delivered = if stands_beyond { reached.max(committed.unwrap_or_default()) } else { reader.next() };
    if next > delivered && next != reader.next() {
        return Verdict::MixedUp(CommitErrorKind::BeyondDelivered { asked: next, delivered });
    }
    // The place is in a log that is gone, or where there is nothing: a group with this place would pass over what comes.
    if reader.is_truncated() || stands_beyond && next == reader.next() {
        return Verdict::Late(CommitErrorKind::Superseded);
    }
    match committed {
        // It is asked for first.
        _ if reader.commit_in_doubt => Verdict::Store,
        Some(committed) if next == committed => Verdict::Nothing,
        // Back only on purpose: to where a seek went back, or to what was delivered since.
        Some(committed) if next < committed && !(reader.is_rewound() && reader.since() <= next) => {
            Verdict::Nothing
        }
        // Of what it has left.
        _ if stands_beyond => Verdict::Late(CommitErrorKind::Superseded),
        _ => Verdict::Store,
    }
}

fn may_be_stored(error: &Error) -> bool {
    error.may_have_taken_effect() || matches!(error, Error::Unavailable(_))
}

/// None of the places is stored. The error is told with the first of them.
fn fail_all(plan: Plan, error: Error) -> Vec<(PartitionId, CommitErrorKind)> {
    let Plan { places, mut failures, .. } = plan;
    let partitions = places.into_iter().map(|(partition, _)| partition);
    failures.extend(partitions.zip(error.repeated().map(CommitErrorKind::Failed)));
    failures
}

fn finish(stored: Cursor, mut failures: Vec<(PartitionId, CommitErrorKind)>) -> Result<(), CommitError> {
    failures.sort_by_key(|&(partition, _)| partition);
    if failures.is_empty() { Ok(()) } else { Err(CommitError::new(stored, failures)) }
}
