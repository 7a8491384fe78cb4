//! The producer's side of a log, and what is common to all who use it.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::consumer::{ConsumerOptions, EventConsumer};
use crate::error::{AppendError, BatchError, Error, SubmitError};
use crate::event::{EventId, Partitionable};
use crate::receipt::Receipt;
use crate::state::StateReceiver;
use crate::ticket::Ticket;
use crate::watermark::{Lag, Watermarks};

/// A typed, partitioned, durable log of events.
///
/// What every backend promises stands in the [contract](crate::contract), clause by clause.
///
/// Object-safe: applications hold an `Arc<dyn EventLog<E>>` and choose the backend in one place. The
/// conveniences are in [`EventLogExt`](crate::EventLogExt), so that a backend has nothing to override twice.
///
/// # Order
///
/// Events of one key are read in the order in which they were submitted, also across a lost connection, a
/// full buffer and a retry. `submit` counts when it is called, `append` and `append_batch` when their future
/// is first polled.
///
/// # Outcomes
///
/// Every event that is accepted ends in exactly one of three ways: **acknowledged** at a position; **not
/// appended**, with the event handed back; or **unknown**, with the event handed back, when the log was
/// closed (or a deadline passed) while it could not be learnt whether a request had arrived.
#[async_trait]
pub trait EventLog<E: Partitionable + Serialize>: Send + Sync {
    /// Accepts an event without ever blocking or awaiting: for synchronous code, and for pipelining.
    ///
    /// # Errors
    ///
    /// Turns the event away, with the event, when it is too large or cannot be encoded, when the log is
    /// closed, or when the queue is full (while connected, and while away unless the overflow policy makes
    /// room by dropping the oldest).
    fn submit(&self, event: E) -> Result<Ticket<E>, SubmitError<E>>;

    /// Appends an event and waits until it is in the log; or, while the log is away, until it is in the
    /// reconnect buffer, which is at once.
    ///
    /// While connected and the queue is full it waits for space: that is the backpressure.
    ///
    /// # Errors
    ///
    /// When the event was turned away, was not appended, or its outcome is unknown. The event is in the error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the event either appended or not. Before it is first polled, and while it
    /// waits for space, the event is certainly not appended; once it is queued it will be, as if by
    /// [`submit`](Self::submit). Later appends are not affected.
    async fn append(&self, event: E) -> Result<Receipt<E>, AppendError<E>>;

    /// Appends events in one go, and waits as [`append`](Self::append) does. The receipts are in the order
    /// of the events.
    ///
    /// A batch is taken whole or not at all: if one event cannot be accepted, none is queued. It is not a
    /// transaction: once accepted, each event has its own outcome. While the log is away, a batch that
    /// is larger than the buffer ([`ProducerConfig::buffer_events`](crate::ProducerConfig::buffer_events)) is refused as
    /// [`Full`](crate::SubmitErrorKind::Full); [`append_all`](crate::EventLogExt::append_all) takes any number.
    ///
    /// # Errors
    ///
    /// With the outcome of every event, when one of them did not end in a receipt.
    ///
    /// # Cancel safety
    ///
    /// As for [`append`](Self::append).
    async fn append_batch(&self, events: Vec<E>) -> Result<Vec<Receipt<E>>, BatchError<E>>;

    /// Opens a consumer: a member of `group`, with the group's committed cursor to start from.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] for an empty or overlong group name, and whatever keeps the backend from
    /// being reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future may leave a member that the backend forgets as it forgets a dead one.
    async fn consumer_with(
        &self,
        group: &str,
        options: ConsumerOptions,
    ) -> Result<Box<dyn EventConsumer<E>>, Error>
    where
        E: DeserializeOwned;

    /// The low and high watermark of every partition.
    ///
    /// # Errors
    ///
    /// When the backend cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only asks.
    async fn watermarks(&self) -> Result<Watermarks, Error>;

    /// How far `group` is behind, in every partition. A group that never committed lags by everything.
    ///
    /// # Errors
    ///
    /// When the backend cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only asks.
    async fn lag(&self, group: &str) -> Result<Lag, Error>;

    /// Forgets the committed cursor of a group that is gone for good, so that it no longer holds anything
    /// back. Forgetting an unknown group changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when the group still has members, and when the backend cannot be asked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the group deleted or not; calling it again is safe.
    async fn delete_group(&self, group: &str) -> Result<(), Error>;

    /// The connection and the buffer, as they change. A receiver that is kept blocks nothing.
    fn state(&self) -> StateReceiver;

    /// Waits until every ticket issued before the call is resolved.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] when the log was closed meanwhile; the tickets are resolved then too.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    async fn flush(&self) -> Result<(), Error>;

    /// Accepts nothing more, sends what is queued until `deadline` has passed, and resolves every ticket.
    ///
    /// Closing again waits for the first close and returns `Ok`. When it returns the log's task has ended, and its
    /// connections, files or locks are released with the last handle.
    ///
    /// # Errors
    ///
    /// With what could not be sent. Each event comes back exactly once: in its ticket's error when somebody
    /// holds the ticket, else here.
    ///
    /// # Cancel safety
    ///
    /// The log is closing from the first poll on, whether or not anybody waits.
    async fn close(&self, deadline: Duration) -> Result<(), CloseError<E>>;
}

/// What [`close`](EventLog::close) could not send.
pub struct CloseError<E> {
    /// Events that are certainly not in the log and whose tickets nobody held.
    pub not_appended: Vec<(EventId, E)>,
    /// Events of which it is not known whether they are in the log, and whose tickets nobody held.
    pub unknown: Vec<(EventId, E)>,
    /// How many more events came back through their tickets.
    pub returned_by_ticket: usize,
}

impl<E> Default for CloseError<E> {
    fn default() -> Self {
        Self { not_appended: Vec::new(), unknown: Vec::new(), returned_by_ticket: 0 }
    }
}

impl<E> CloseError<E> {
    /// How many events there are in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.not_appended.len() + self.unknown.len() + self.returned_by_ticket
    }

    /// Always false: the log is closed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        false
    }

    /// Whether one of the events may be in the log all the same.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        !self.unknown.is_empty()
    }

    /// Whether everything was sent.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<E> fmt::Debug for CloseError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CloseError")
            .field("not_appended", &self.not_appended.len())
            .field("unknown", &self.unknown.len())
            .field("returned_by_ticket", &self.returned_by_ticket)
            .finish()
    }
}

impl<E> fmt::Display for CloseError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the log closed with {} events unsent", self.len())
    }
}

impl<E> StdError for CloseError<E> {}

macro_rules! forward_event_log {
    ($($pointer:ty),*) => {$(
        #[async_trait]
        impl<E, L> EventLog<E> for $pointer
        where
            E: Partitionable + Serialize + Send + 'static,
            L: EventLog<E> + ?Sized,
        {
            fn submit(&self, event: E) -> Result<Ticket<E>, SubmitError<E>> {
                (**self).submit(event)
            }

            async fn append(&self, event: E) -> Result<Receipt<E>, AppendError<E>> {
                (**self).append(event).await
            }

            async fn append_batch(&self, events: Vec<E>) -> Result<Vec<Receipt<E>>, BatchError<E>> {
                (**self).append_batch(events).await
            }

            async fn consumer_with(
                &self,
                group: &str,
                options: ConsumerOptions,
            ) -> Result<Box<dyn EventConsumer<E>>, Error>
            where
                E: DeserializeOwned,
            {
                (**self).consumer_with(group, options).await
            }

            async fn watermarks(&self) -> Result<Watermarks, Error> {
                (**self).watermarks().await
            }

            async fn lag(&self, group: &str) -> Result<Lag, Error> {
                (**self).lag(group).await
            }

            async fn delete_group(&self, group: &str) -> Result<(), Error> {
                (**self).delete_group(group).await
            }

            fn state(&self) -> StateReceiver {
                (**self).state()
            }

            async fn flush(&self) -> Result<(), Error> {
                (**self).flush().await
            }

            async fn close(&self, deadline: Duration) -> Result<(), CloseError<E>> {
                (**self).close(deadline).await
            }
        }
    )*};
}

forward_event_log!(Arc<L>, Box<L>);
