//! Committing: what a cursor means for each lane, and storing it.

use serde::de::DeserializeOwned;

use super::Consumer;
use crate::engine::transport::{CommitMode, GroupMember, Transport};
use crate::error::{CommitError, CommitErrorKind, Error};
use crate::position::{Cursor, Offset, PartitionId};

impl<E, T> Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    pub(super) async fn commit_up_to(&mut self, up_to: &Cursor) -> Result<(), CommitError> {
        // Asked before anything else, so that a mixed-up cursor stores nothing at all.
        let asked = self.offsets_to_store(up_to)?;
        let mut failures = self.revoked_of(up_to);
        let mut stored = Cursor::new();
        for (at, &(partition, next)) in asked.iter().enumerate() {
            match self.store(partition, next).await {
                Ok(()) => stored.set(partition, next),
                Err(failure) => {
                    let lost = matches!(failure, CommitErrorKind::Failed(Error::Unavailable(_)));
                    failures.push((partition, failure));
                    if lost {
                        // One attempt to join again per commit is enough: the others fail alike.
                        let rest = asked[at + 1..].iter();
                        failures.extend(rest.map(|&(partition, _)| {
                            (partition, CommitErrorKind::Failed(Error::Unavailable(None)))
                        }));
                        break;
                    }
                }
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(CommitError::new(stored, failures)) }
    }

    /// What the cursor asks to store, per partition: only what was delivered, and only what changes something.
    fn offsets_to_store(&self, up_to: &Cursor) -> Result<Vec<(PartitionId, Offset)>, CommitError> {
        let (mut asked, mut failures) = (Vec::new(), Vec::new());
        for lane in &self.lanes {
            let Some(next) = up_to.get(lane.partition()) else {
                continue;
            };
            match lane.to_store(next) {
                Ok(Some(next)) => asked.push((lane.partition(), next)),
                Ok(None) => {}
                // It was delivered when we had the partition before: no mix-up, but a cursor that has come too late.
                Err(_) if self.had_delivered(lane.partition(), next) => {}
                Err(delivered) => {
                    failures.push((
                        lane.partition(),
                        CommitErrorKind::BeyondDelivered { asked: next, delivered },
                    ));
                }
            }
        }
        if failures.is_empty() { Ok(asked) } else { Err(CommitError::new(Cursor::new(), failures)) }
    }

    /// The partitions of the cursor that have gone to others with records that it would commit: they will be
    /// read again there, and whoever commits them has to know.
    fn revoked_of(&self, up_to: &Cursor) -> Vec<(PartitionId, CommitErrorKind)> {
        let covers = |partition, next| {
            let lane = self.lanes.iter().find(|lane| lane.partition() == partition);
            lane.is_some_and(|lane| lane.delivers() && lane.to_store(next).is_ok())
        };
        let revoked = self.revoked.iter().filter(|&(&partition, revoked)| {
            up_to.get(partition).is_some_and(|next| next > revoked.committed && !covers(partition, next))
        });
        revoked.map(|(&partition, _)| (partition, CommitErrorKind::Revoked)).collect()
    }

    /// Whether everything before `next` was delivered before the partition was taken from us.
    fn had_delivered(&self, partition: PartitionId, next: Offset) -> bool {
        self.revoked.get(&partition).is_some_and(|revoked| next <= revoked.delivered)
    }

    async fn store(&mut self, partition: PartitionId, next: Offset) -> Result<(), CommitErrorKind> {
        self.connected().await.map_err(CommitErrorKind::Failed)?;
        // Joining again may have brought a new lane, which has delivered nothing.
        let still_ours = self.lanes.iter().position(|lane| lane.partition() == partition);
        let Some(at) = still_ours.filter(|&at| self.lanes[at].to_store(next) == Ok(Some(next))) else {
            return Err(CommitErrorKind::Revoked);
        };
        let Some(member) = self.member.as_mut() else {
            return Err(CommitErrorKind::Failed(Error::Unavailable(None)));
        };
        let stored = member.commit(&[(partition, next)], CommitMode::Replace).await.pop();
        if let Some(Err(failure)) = stored {
            if let CommitErrorKind::Failed(error) = &failure {
                self.note_lost(error);
            }
            return Err(failure);
        }
        self.lanes[at].stored(next);
        self.committed.set(partition, next);
        if let Some(revoked) = self.revoked.get_mut(&partition) {
            revoked.committed = revoked.committed.max(next);
        }
        Ok(())
    }
}
