//! Committing: what a cursor means for each partition, and storing it.

use serde::de::DeserializeOwned;

use super::Consumer;
use super::partition::{EndedBy, PartitionReader};
use crate::engine::transport::{CommitMode, GroupMember, Transport};
use crate::error::{CommitError, CommitErrorKind, Error};
use crate::position::{Cursor, Epoch, Offset, PartitionId};

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
        // Before anything is awaited, so that a mixed-up cursor stores nothing at all.
        let plan = self.plan(up_to);
        if plan.is_mixed_up || plan.places.is_empty() {
            return finish(Cursor::new(), plan.failures);
        }
        if let Err(error) = self.prepare(&plan.places).await {
            return finish(Cursor::new(), fail_all(plan, error));
        }
        // The partitions may be others by now.
        let Plan { places, mut failures, .. } = self.plan(up_to);
        let Some(member) = self.membership.member().cloned() else {
            let plan = Plan { places, failures, is_mixed_up: false };
            return finish(Cursor::new(), fail_all(plan, Error::Unavailable(None)));
        };
        // Until the answer is there the places may be stored or not, also if this future is dropped.
        self.each_reader(&places, |reader, _| reader.commit_in_doubt = true);
        let answers = member.commit(&places, CommitMode::Replace).await;
        let mut stored = Cursor::new();
        let mut lost = None;
        for (&(partition, next), answer) in places.iter().zip(answers) {
            let is_certain = !matches!(&answer, Err(CommitErrorKind::Failed(error)) if may_be_stored(error));
            self.each_reader(&[(partition, next)], |reader, next| match &answer {
                Ok(()) => reader.stored(next),
                Err(_) if is_certain => reader.commit_in_doubt = false,
                Err(_) => {}
            });
            match answer {
                Ok(()) => stored.set(partition, next),
                Err(kind) => {
                    lost =
                        lost.or(matches!(kind, CommitErrorKind::Failed(Error::Unavailable(_))).then_some(()));
                    failures.push((partition, kind));
                }
            }
        }
        if lost.is_some() {
            self.membership.disconnect(Error::Unavailable(None), tokio::time::Instant::now());
            self.disconnected();
        }
        self.show_cursors();
        finish(stored, failures)
    }

    /// Sees to it that the member is connected, that its partitions are known, and where the group stands in these.
    async fn prepare(&mut self, places: &[(PartitionId, Offset)]) -> Result<(), Error> {
        self.settle().await?;
        let is_in_doubt = |reader: &PartitionReader| {
            reader.commit_in_doubt && places.iter().any(|&(partition, _)| partition == reader.partition())
        };
        if self.readers.iter().any(is_in_doubt) {
            let mut committed = self.transport.committed(&self.group).await?;
            for reader in &mut self.readers {
                let place = committed.get_mut(reader.partition().0 as usize);
                if let Some(place) = place.map(|place| std::mem::replace(place, Ok(None))) {
                    if reader.commit_in_doubt {
                        reader.set_committed(place?);
                    }
                }
            }
        }
        Ok(())
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
        if partition.0 >= self.transport.properties().partitions {
            return Verdict::MixedUp(CommitErrorKind::Foreign);
        }
        let reader = self.readers.iter().find(|reader| reader.partition() == partition);
        if let Some(reader) = reader.filter(|reader| epoch.is_none_or(|epoch| epoch == reader.epoch())) {
            return verdict_of(reader, next);
        }
        let Some(epoch) = epoch else { return Verdict::Late(CommitErrorKind::Revoked) };
        let ended = self.ended.get(&partition).into_iter().flatten().find(|ended| ended.epoch == epoch);
        let Some(ended) = ended else { return Verdict::MixedUp(CommitErrorKind::Foreign) };
        let committed = reader.and_then(PartitionReader::committed).max(ended.committed);
        match ended.by {
            EndedBy::Truncation => Verdict::Late(CommitErrorKind::Superseded),
            _ if committed >= Some(next) => Verdict::Nothing,
            EndedBy::Revocation => Verdict::Late(CommitErrorKind::Revoked),
            EndedBy::Seek => Verdict::Late(CommitErrorKind::Superseded),
        }
    }
}

/// What a commit of this offset asks of a reader that has read it, or has not.
fn verdict_of(reader: &PartitionReader, next: Offset) -> Verdict {
    if next > reader.next() {
        return Verdict::MixedUp(CommitErrorKind::BeyondDelivered { asked: next, delivered: reader.next() });
    }
    match reader.committed() {
        Some(committed) if next == committed && !reader.commit_in_doubt => Verdict::Nothing,
        // Back only on purpose: to where a seek went back, or to what was delivered since.
        Some(committed) if next < committed && !(reader.is_rewound() && reader.since() <= next) => {
            Verdict::Nothing
        }
        _ => Verdict::Store,
    }
}

fn may_be_stored(error: &Error) -> bool {
    error.may_have_taken_effect() || matches!(error, Error::Unavailable(_))
}

/// None of the places is stored. The error is told with the first of them.
fn fail_all(plan: Plan, error: Error) -> Vec<(PartitionId, CommitErrorKind)> {
    let Plan { places, mut failures, .. } = plan;
    let retryable = error.is_retryable();
    let mut error = Some(error);
    failures.extend(places.into_iter().map(|(partition, _)| {
        let error =
            error.take().unwrap_or_else(|| if retryable { Error::Unavailable(None) } else { Error::Closed });
        (partition, CommitErrorKind::Failed(error))
    }));
    failures
}

fn finish(stored: Cursor, mut failures: Vec<(PartitionId, CommitErrorKind)>) -> Result<(), CommitError> {
    failures.sort_by_key(|&(partition, _)| partition);
    if failures.is_empty() { Ok(()) } else { Err(CommitError::new(stored, failures)) }
}
