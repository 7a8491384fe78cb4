//! The consumer's side of a log.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::dead_letter::DeadLetter;
use crate::error::{CommitError, Error};
use crate::log::EventLog;
use crate::position::{Cursor, SeekPosition};
use crate::record::EventBatch;

/// One member of a consumer group.
///
/// What every backend promises stands in the [contract](crate::contract#c-consume), clause by clause.
///
/// A single member has every partition; several share them, and when one leaves or dies its uncommitted
/// records go to the others. Dropping a consumer leaves the group without committing.
#[async_trait]
pub trait EventConsumer<E>: Send {
    /// Waits for records: returns as soon as at least one is there, or something to report, with at most `max_count`
    /// records; without either only when `timeout` has passed. A zero timeout polls once.
    ///
    /// A batch may hold [notices](EventBatch::notices) and no records. A partition that is faulty, slow, or waits for a letter
    /// to be parked keeps none of the others waiting, beyond
    /// [`limits::MERGE_PATIENCE`](crate::limits::MERGE_PATIENCE).
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the log was away until the timeout: the consumer rejoins on its own, so polling again is
    /// right. [`Error::Timeout`] when an answer was still in flight: the next poll continues with it.
    /// [`Error::Poisoned`] with [`PoisonPolicy::Halt`], once the other partitions have nothing to deliver: the log is asked for
    /// news of them once, and answers of it that are under way, and a connection that is lost, are waited for as in any other
    /// poll. A fault of one partition is a [`Notice`](crate::Notice) instead.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a record is taken from the log only by a poll that returns it, and a fetch, a join or a letter that is
    /// in flight when the future is dropped continues with the next poll.
    async fn poll(&mut self, max_count: usize, timeout: Duration) -> Result<EventBatch<E>, Error>;

    /// Stores for the group that everything before `up_to` is done: usually
    /// [`batch.cursor()`](EventBatch::cursor).
    ///
    /// It stores, partition by partition, any place that this consumer has reached since it got the partition, or that it
    /// sought. `Ok` means that each is stored, or that the group is farther already: committing twice, or an older cursor,
    /// changes nothing. The stored place moves back only after the consumer has sought back.
    ///
    /// # Errors
    ///
    /// [`CommitError`] names what was stored and, per partition, why the rest was not. What comes from before a seek, a
    /// truncation or a revocation, or names a partition of another member, concerns its partition alone. The cursor of another
    /// consumer or another topic, and one beyond what was delivered, is a mistake of the caller: then nothing is stored. After
    /// two commits in a row that lost the connection the next ones fail at once, with an error that says until when: commits
    /// must leave slow fetches their time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves each partition's offset stored or not; committing again is safe.
    async fn commit(&mut self, up_to: &Cursor) -> Result<(), CommitError>;

    /// Moves this consumer. The committed cursor of the group stays until the next commit. An offset beyond the end of its
    /// partition is reported with the next poll, as [`Notice::Truncated`](crate::Notice::Truncated), and reading continues
    /// at the earliest record; it changes nothing of what the group has committed.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when the position names a partition that the log does not have, or that belongs to another
    /// member, or looks back from the end over more than
    /// [`limits::FROM_END_RECORDS`](crate::limits::FROM_END_RECORDS); [`Error::Unavailable`] when the backend cannot be asked,
    /// or has not said yet where the group stands in one of the partitions of this consumer, which would not be moved. The
    /// consumer stays where it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the consumer has moved only when the future has returned.
    async fn seek(&mut self, to: SeekPosition) -> Result<(), Error>;

    /// The high watermark of each partition that this consumer has: where [`SeekPosition::End`] would go. One that is lower
    /// than where the consumer stands shows that the partition was truncated, which a later poll tells
    /// ([`Notice::Truncated`](crate::Notice::Truncated)), also if the partition has grown since.
    ///
    /// # Errors
    ///
    /// When the backend cannot be asked.
    async fn end(&mut self) -> Result<Cursor, Error>;

    /// The next offset to be delivered, of each partition that this consumer has.
    fn position(&self) -> &Cursor;

    /// The group's place, as far as this consumer knows: what was stored when it got the partition, and what it stored
    /// itself. A group that has never committed stands where it started.
    fn committed(&self) -> &Cursor;

    /// The name of the group.
    fn group(&self) -> &str;

    /// Leaves the group and waits until the others know. Nothing is committed.
    ///
    /// # Errors
    ///
    /// When the backend could not be told; it finds out by itself as if the consumer had died.
    async fn leave(self: Box<Self>) -> Result<(), Error>;
}

/// How a consumer starts and what it does with records that cannot be decoded.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConsumerOptions {
    /// Where the group starts if it is new. The first member resolves it for every partition and stores that as the
    /// group's place; for later members, for a restart, and for partitions that come later it has no meaning any more. The
    /// default is the beginning: a new group misses nothing.
    pub start: SeekPosition,
    /// What to do with a record that cannot be decoded.
    pub poison: PoisonPolicy,
}

impl ConsumerOptions {
    /// The defaults, with this start.
    #[must_use]
    pub fn starting_at(start: SeekPosition) -> Self {
        Self { start, ..Self::default() }
    }

    /// The same with this policy for records that cannot be decoded.
    #[must_use]
    pub fn poison(mut self, policy: PoisonPolicy) -> Self {
        self.poison = policy;
        self
    }
}

/// What a consumer does with a record that cannot be decoded; a decoder that panics counts too. Each concerns the partition
/// of the record alone.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum PoisonPolicy {
    /// Hand it over as it is, in its place: the application decides. The default, since nothing is lost.
    #[default]
    Deliver,
    /// Pass over it with a [`Notice::Skipped`](crate::Notice::Skipped).
    Skip,
    /// Append it to this log, then pass over it with a [`Notice::Parked`](crate::Notice::Parked). Its partition waits until
    /// the letter is acknowledged; a letter that cannot be appended is a [`Notice::Fault`](crate::Notice::Fault) and is
    /// tried again, ever more rarely. A record whose letter the log refuses for good (it is too large, say) is handed over
    /// as with [`Deliver`](Self::Deliver).
    Park(Arc<dyn EventLog<DeadLetter>>),
    /// Fail with [`Error::Poisoned`] until the application seeks past it. Other partitions are delivered first.
    Halt,
}

impl fmt::Debug for PoisonPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deliver => "Deliver",
            Self::Skip => "Skip",
            Self::Park(_) => "Park(..)",
            Self::Halt => "Halt",
        })
    }
}

#[async_trait]
impl<E, C> EventConsumer<E> for Box<C>
where
    E: Send + 'static,
    C: EventConsumer<E> + ?Sized,
{
    async fn poll(&mut self, max_count: usize, timeout: Duration) -> Result<EventBatch<E>, Error> {
        (**self).poll(max_count, timeout).await
    }

    async fn commit(&mut self, up_to: &Cursor) -> Result<(), CommitError> {
        (**self).commit(up_to).await
    }

    async fn seek(&mut self, to: SeekPosition) -> Result<(), Error> {
        (**self).seek(to).await
    }

    async fn end(&mut self) -> Result<Cursor, Error> {
        (**self).end().await
    }

    fn position(&self) -> &Cursor {
        (**self).position()
    }

    fn committed(&self) -> &Cursor {
        (**self).committed()
    }

    fn group(&self) -> &str {
        (**self).group()
    }

    async fn leave(self: Box<Self>) -> Result<(), Error> {
        (*self).leave().await
    }
}
