//! The consuming side.

use std::time::Duration;

use event_log_core::conformance::Probe;
use event_log_core::engine::Clock;
use event_log_core::{
    CommitError, CommitErrorKind, ConsumerOptions, Cursor, Error, EventBatch, EventConsumer, EventLog,
    Offset, PartitionId, Position, Record, SeekPosition, Timestamp,
};
use futures::FutureExt;

use super::{World, name};
use crate::model::history::{Committing, Content, Marks, Reading, Seen, What};
use crate::model::op::{Op, Seek, Start, Which};

/// A consumer and what the application remembers of it.
pub(super) struct Member {
    pub(super) number: usize,
    pub(super) consumer: Box<dyn EventConsumer<Probe>>,
    /// The cursors of its batches.
    cursors: Vec<Cursor>,
    /// Whether its connection was ever cut.
    pub(super) was_cut: bool,
}

impl World {
    pub(super) async fn consume(&mut self, op: &Op) {
        match op {
            Op::Join(group, slot, start) => self.join(*group, *slot, *start).await,
            Op::Leave(group, slot, politely) => self.leave(*group, *slot, *politely).await,
            Op::Poll(group, slot, max, millis) => {
                self.poll(*group, *slot, *max, Some(Duration::from_millis(*millis))).await;
            }
            Op::Glance(group, slot, max) => {
                self.poll(*group, *slot, *max, None).await;
            }
            Op::Commit(group, slot, which) => self.commit(*group, *slot, which).await,
            Op::Seek(group, slot, to) => self.seek(*group, *slot, to).await,
            Op::DeleteGroup(group) => self.delete_group(*group).await,
            _ => {}
        }
    }

    pub(super) async fn join(&mut self, group: usize, slot: usize, start: Start) {
        self.leave(group, slot, false).await;
        let start = match start {
            Start::Beginning => SeekPosition::Beginning,
            Start::End => SeekPosition::End,
            Start::FromEnd(count) => SeekPosition::FromEnd(count),
        };
        let before = self.marks().await;
        let opened = self.log.consumer_with(&name(group), ConsumerOptions::starting_at(start.clone())).await;
        let after = self.marks().await;
        let consumer = self.consumers;
        self.consumers += 1;
        let mut reading =
            Reading { before, after, result: Ok(()), position: Cursor::new(), committed: Cursor::new() };
        match opened {
            Ok(opened) => {
                (reading.position, reading.committed) =
                    (opened.position().clone(), opened.committed().clone());
                let member =
                    Member { number: consumer, consumer: opened, cursors: Vec::new(), was_cut: false };
                self.members[group][slot] = Some(member);
            }
            Err(error) => reading.result = Err(is_unavailable(&error)),
        }
        self.saw(What::Joined { consumer, group, start, reading });
    }

    pub(super) async fn leave(&mut self, group: usize, slot: usize, politely: bool) {
        if let Some(member) = self.members[group][slot].take() {
            if politely {
                // When the broker cannot be told it is as if the consumer had died.
                let _ = member.consumer.leave().await;
            } else {
                drop(member.consumer);
            }
            self.saw(What::Left { consumer: member.number });
        }
    }

    /// Polls; without a timeout only once, and drops the future then. Returns how many records came.
    pub(super) async fn poll(
        &mut self,
        group: usize,
        slot: usize,
        max: usize,
        timeout: Option<Duration>,
    ) -> usize {
        let before = self.marks().await;
        let Some(member) = &mut self.members[group][slot] else { return 0 };
        let result = match timeout {
            Some(timeout) => member.consumer.poll(max, timeout).await.map(Some),
            None => match member.consumer.poll(max, Duration::from_millis(150)).now_or_never() {
                Some(result) => result.map(Some),
                None => Ok(None),
            },
        };
        if let Ok(Some(batch)) = &result {
            member.cursors.push(batch.cursor().clone());
        }
        let mut count = 0;
        let result = result.map(|batch| {
            batch.map(|batch| {
                count = batch.len();
                let EventBatch { records, notices, .. } = &batch;
                let seen = records.iter().map(seen).collect();
                let (_, cursor) = (notices.len(), batch.cursor().clone());
                (seen, batch.notices.into_iter().map(Into::into).collect(), cursor)
            })
        });
        let number = member.number;
        let reading = self.reading(before, result, group, slot).await;
        self.saw(What::Polled { consumer: number, max, reading });
        count
    }

    pub(super) async fn commit(&mut self, group: usize, slot: usize, which: &Which) {
        let before = self.marks().await;
        let Some(member) = &mut self.members[group][slot] else { return };
        let up_to = match which {
            Which::Batch(age) => {
                let at = member.cursors.len().checked_sub(1 + age);
                at.map(|at| member.cursors[at].clone())
            }
            Which::Ahead(partition, by) => {
                let mut cursor = member.consumer.position().clone();
                let known: Vec<_> = cursor.iter().collect();
                let one = known.get(*partition as usize % known.len().max(1)).copied();
                one.map(|(partition, next)| cursor.set(partition, Offset(next.0 + by))).map(|()| cursor)
            }
        };
        let Some(up_to) = up_to else { return };
        let result = member.consumer.commit(&up_to).await;
        let number = member.number;
        let result = Ok(result.err().as_ref().map(committing).unwrap_or_default());
        let reading = self.reading(before, result, group, slot).await;
        let stored = self.log.lag(&name(group)).await.ok();
        let stored = stored.map(|lag| lag.iter().map(|(_, lag)| lag.committed).collect());
        self.saw(What::Committed { consumer: number, up_to, reading, stored });
    }

    async fn seek(&mut self, group: usize, slot: usize, to: &Seek) {
        let before = self.marks().await;
        let now = self.clock.now();
        let Some(member) = &mut self.members[group][slot] else { return };
        let to = match to {
            Seek::Beginning => SeekPosition::Beginning,
            Seek::End => SeekPosition::End,
            Seek::Position(partition, offset) => {
                SeekPosition::Position(Position::new(PartitionId(*partition), Offset(*offset)))
            }
            Seek::Batch(age) => {
                let at = member.cursors.len().checked_sub(1 + age);
                SeekPosition::Cursor(at.map(|at| member.cursors[at].clone()).unwrap_or_default())
            }
            Seek::Ago(ago) => SeekPosition::Timestamp(Timestamp::saturating_sub(now, *ago)),
            Seek::FromEnd(count) => SeekPosition::FromEnd(*count),
        };
        let result = member.consumer.seek(to.clone()).await;
        let number = member.number;
        let reading = self.reading(before, result, group, slot).await;
        self.saw(What::Sought { consumer: number, to, reading });
    }

    async fn reading<T>(
        &self,
        before: Marks,
        result: Result<T, Error>,
        group: usize,
        slot: usize,
    ) -> Reading<T> {
        let after = self.marks().await;
        let consumer = self.members[group][slot].as_ref().map(|member| &member.consumer);
        let position = consumer.map(|consumer| consumer.position().clone()).unwrap_or_default();
        let committed = consumer.map(|consumer| consumer.committed().clone()).unwrap_or_default();
        let result = result.map_err(|error| is_unavailable(&error));
        Reading { before, after, result, position, committed }
    }

    /// Deletes a group; not while a member is there that may have been cut off, because then nobody outside
    /// can say whether the broker still counts it.
    async fn delete_group(&mut self, group: usize) {
        if self.members[group].iter().flatten().any(|member| member.was_cut) {
            return;
        }
        let done = match self.log.delete_group(&name(group)).await {
            Ok(()) => Some(true),
            Err(error) if is_unavailable(&error) => None,
            Err(_) => Some(false),
        };
        self.saw(What::Deleted { group, done });
    }
}

const fn is_unavailable(error: &Error) -> bool {
    matches!(error, Error::Unavailable(_))
}

pub(super) fn seen(record: &Record<Probe>) -> Seen {
    let content = match &record.event {
        Ok(probe) => Content::Event(probe.number),
        Err(undecodable) => Content::Bytes(undecodable.payload.to_vec()),
    };
    Seen { position: record.position, id: record.id, timestamp: record.timestamp, content }
}

fn committing(error: &CommitError) -> Committing {
    let mut committing = Committing { stored: error.stored().clone(), ..Committing::default() };
    for (partition, failure) in error.failures() {
        match failure {
            CommitErrorKind::BeyondDelivered { asked, delivered } => {
                committing.beyond.push((*partition, *asked, *delivered));
            }
            CommitErrorKind::Revoked => committing.revoked.push(*partition),
            CommitErrorKind::Superseded => committing.superseded.push(*partition),
            CommitErrorKind::Foreign => committing.foreign.push(*partition),
            CommitErrorKind::Failed(error) => committing.failed.push((*partition, is_unavailable(error))),
            _ => committing.failed.push((*partition, false)),
        }
    }
    committing
}
