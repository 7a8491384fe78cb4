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
    /// Waits for records: returns as soon as at least one is there, with at most `max_count`; empty only
    /// when `timeout` has passed. A zero timeout polls once.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] when the log was away until the timeout: the consumer rejoins by itself, so
    /// polling again is right. A fault of one partition is a [`Notice`](crate::Notice) instead.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a record is taken from the log only by a poll that returns it. With
    /// [`PoisonPolicy::Park`], dropping the future may append a letter that is appended again, with the same
    /// id, by the next poll.
    async fn poll(&mut self, max_count: usize, timeout: Duration) -> Result<EventBatch<E>, Error>;

    /// Stores for the group that everything before `up_to` is done: usually
    /// [`batch.cursor()`](EventBatch::cursor).
    ///
    /// Only what this consumer has delivered is stored. A partition that it has delivered nothing of since
    /// it got it, or since it last sought, is not touched. Committing twice, or an older cursor, changes
    /// nothing; only after seeking back on purpose does the stored cursor move back.
    ///
    /// # Errors
    ///
    /// [`CommitError`] names what was stored and, per partition, why the rest was not.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves each partition's offset stored or not; committing again is safe.
    async fn commit(&mut self, up_to: &Cursor) -> Result<(), CommitError>;

    /// Moves this consumer. The committed cursor of the group stays until the next commit.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when the position names a partition that the log does not have, and
    /// whatever keeps the backend from being asked; the consumer stays where it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the consumer has moved only when the future has returned.
    async fn seek(&mut self, to: SeekPosition) -> Result<(), Error>;

    /// The high watermark of each partition that this consumer has: where [`SeekPosition::End`] would go.
    ///
    /// # Errors
    ///
    /// When the backend cannot be asked.
    async fn end(&mut self) -> Result<Cursor, Error>;

    /// The next offset to be delivered, of each partition that this consumer has.
    fn position(&self) -> &Cursor;

    /// What the group has committed, as far as this consumer knows: what was stored when it got the
    /// partition, and what it stored itself.
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
    /// Where to start, partition by partition, when the group has never committed. It is resolved once, as
    /// the consumer opens. The default is the beginning: a new group misses nothing.
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

/// What a consumer does with a record that cannot be decoded. None of them stops the partition, but
/// [`Halt`](Self::Halt), which says so.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum PoisonPolicy {
    /// Hand it over as it is, in its place: the application decides. The default, since nothing is lost.
    #[default]
    Deliver,
    /// Pass over it with a [`Notice::Skipped`](crate::Notice::Skipped).
    Skip,
    /// Append it to this log, then pass over it with a [`Notice::Parked`](crate::Notice::Parked). The
    /// consumer does not pass before the letter is committed.
    Park(Arc<dyn EventLog<DeadLetter>>),
    /// Fail with [`Error::Poisoned`] until the application seeks past it.
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
