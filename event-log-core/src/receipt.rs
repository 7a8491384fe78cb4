//! What a producer gets: where its event is, or that it waits in the reconnect buffer.

use crate::error::AppendError;
use crate::event::EventId;
use crate::position::{Offset, PartitionId, Position};
use crate::ticket::Ticket;

/// An event that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AppendAck {
    /// The id that the event carries in the log.
    pub id: EventId,
    /// The partition it went to.
    pub partition: PartitionId,
    /// The offset that the log assigned, or `None` when the log confirmed the event without saying where
    /// it is. It is never computed by the client.
    pub offset: Option<Offset>,
}

impl AppendAck {
    /// For implementors of logs.
    #[must_use]
    pub const fn new(id: EventId, partition: PartitionId, offset: Option<Offset>) -> Self {
        Self { id, partition, offset }
    }

    /// Where the event is, as far as the log has said.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        self.offset.map(|offset| Position::new(self.partition, offset))
    }
}

/// How an append ends: committed, or with the event handed back as *not appended* or *unknown*.
pub type Outcome<E> = Result<AppendAck, AppendError<E>>;

/// What [`append`](crate::EventLog::append) returns: the event is in the log, or it is safe in the reconnect
/// buffer because the log is away.
#[derive(Debug)]
#[must_use = "a buffered event is not in the log yet"]
pub enum Receipt<E> {
    /// The event is in the log.
    Acked(AppendAck),
    /// The log is away and the event waits in the buffer. The ticket has its outcome.
    Buffered(Ticket<E>),
}

impl<E> Receipt<E> {
    /// Where the event is; `None` while it waits in the buffer, or when the log did not say.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Acked(committed) => committed.position(),
            Self::Buffered(_) => None,
        }
    }

    /// Whether the event waits in the buffer.
    #[must_use]
    pub const fn is_buffered(&self) -> bool {
        matches!(self, Self::Buffered(_))
    }

    /// Waits until the event is in the log; at once when it is already.
    ///
    /// # Errors
    ///
    /// When it turned out not to be appended, or unknown; the event is in the error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the receipt, and changes nothing about the event.
    pub async fn acked(self) -> Outcome<E> {
        match self {
            Self::Acked(committed) => Ok(committed),
            Self::Buffered(ticket) => ticket.await,
        }
    }
}
