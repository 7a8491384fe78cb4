//! What a producer gets: the eventual, single outcome of one append.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::sync::oneshot;

use crate::error::{AppendError, AppendFailure};
use crate::event::EventId;
use crate::position::{Offset, PartitionId, Position};

/// An event that is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// The id that the event carries in the log.
    pub id: EventId,
    /// The partition it went to.
    pub partition: PartitionId,
    /// The offset that the log assigned, or `None` when the log confirmed the event without saying where
    /// it is. It is never computed by the client.
    pub offset: Option<Offset>,
}

impl Committed {
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
pub type Outcome<E> = Result<Committed, AppendError<E>>;

/// The promise of one outcome, from [`submit`](crate::EventLog::submit).
///
/// Await it for the [`Outcome`]. It resolves exactly once, at the latest when the log is closed or its last
/// handle dropped, and dropping it changes nothing about the event.
///
/// # Cancel safety
///
/// Awaiting `&mut ticket` is cancel safe: the outcome stays in the ticket until it has been returned.
#[must_use = "a ticket is the only way to learn what became of the event; drop it on purpose with `drop`"]
pub struct Ticket<E> {
    state: TicketState<E>,
}

enum TicketState<E> {
    Resolved(Outcome<E>),
    Waiting(oneshot::Receiver<Signal<E>>),
    Taken,
}

/// What comes through the channel of a ticket.
enum Signal<E> {
    Outcome(Outcome<E>),
    /// The log went away: the event stays in the reconnect buffer, and its outcome comes through this
    /// channel instead. It lets `append` return at that moment, and costs nothing while the log is there.
    Buffered(oneshot::Receiver<Signal<E>>),
}

impl<E> Ticket<E> {
    /// A ticket whose outcome is known already; for implementors of logs.
    pub const fn resolved(outcome: Outcome<E>) -> Self {
        Self { state: TicketState::Resolved(outcome) }
    }

    /// A ticket and the [`Promise`] that resolves it; for implementors of logs.
    pub fn pending() -> (Promise<E>, Self) {
        let (sender, receiver) = oneshot::channel();
        (Promise { sender }, Self { state: TicketState::Waiting(receiver) })
    }

    /// Takes the outcome if it is there already.
    ///
    /// # Errors
    ///
    /// Hands the ticket back when there is no outcome yet.
    pub fn try_outcome(mut self) -> Result<Outcome<E>, Self> {
        loop {
            match std::mem::replace(&mut self.state, TicketState::Taken) {
                TicketState::Resolved(outcome) => return Ok(outcome),
                TicketState::Taken => return Err(self),
                TicketState::Waiting(mut receiver) => match receiver.try_recv() {
                    Ok(Signal::Outcome(outcome)) => return Ok(outcome),
                    Ok(Signal::Buffered(next)) => self.state = TicketState::Waiting(next),
                    Err(_) => {
                        self.state = TicketState::Waiting(receiver);
                        return Err(self);
                    }
                },
            }
        }
    }

    /// Waits until the outcome is known, or until the event is known to sit in the reconnect buffer.
    ///
    /// # Errors
    ///
    /// When the event was not appended or its outcome is unknown; the event is in the error.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the ticket, and changes nothing about the event.
    pub async fn receipt(self) -> Result<Receipt<E>, AppendError<E>> {
        match self.state {
            TicketState::Resolved(outcome) => outcome.map(Receipt::Committed),
            TicketState::Waiting(receiver) => match receiver.await {
                Ok(Signal::Outcome(outcome)) => outcome.map(Receipt::Committed),
                Ok(Signal::Buffered(next)) => {
                    Ok(Receipt::Buffered(Self { state: TicketState::Waiting(next) }))
                }
                Err(_) => unreachable!("{ABANDONED}"),
            },
            TicketState::Taken => unreachable!("a ticket that was polled to its end cannot be moved from"),
        }
    }
}

const ABANDONED: &str = "a log dropped the promise of a ticket without resolving it";

impl<E> Unpin for Ticket<E> {}

impl<E> Future for Ticket<E> {
    type Output = Outcome<E>;

    /// # Panics
    ///
    /// When polled again after it has returned the outcome, like any future; and when the log breaks the
    /// rule of [`Promise`].
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let next = match &mut self.state {
                TicketState::Waiting(receiver) => match ready!(Pin::new(receiver).poll(cx)) {
                    Ok(Signal::Outcome(outcome)) => TicketState::Resolved(outcome),
                    Ok(Signal::Buffered(next)) => TicketState::Waiting(next),
                    Err(_) => unreachable!("{ABANDONED}"),
                },
                TicketState::Resolved(_) | TicketState::Taken => {
                    let TicketState::Resolved(outcome) =
                        std::mem::replace(&mut self.state, TicketState::Taken)
                    else {
                        panic!("the ticket was polled after it had returned the outcome");
                    };
                    return Poll::Ready(outcome);
                }
            };
            self.state = next;
        }
    }
}

impl<E> fmt::Debug for Ticket<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            TicketState::Resolved(Ok(committed)) => return f.debug_tuple("Ticket").field(committed).finish(),
            TicketState::Resolved(Err(error)) => return f.debug_tuple("Ticket").field(error).finish(),
            TicketState::Waiting(_) => "waiting",
            TicketState::Taken => "taken",
        };
        f.debug_tuple("Ticket").field(&state).finish()
    }
}

/// The other side of a [`Ticket`], held by the log. The rule: it is resolved, never just dropped, because
/// only the log can hand the event back.
pub struct Promise<E> {
    sender: oneshot::Sender<Signal<E>>,
}

impl<E> Promise<E> {
    /// Resolves the ticket.
    ///
    /// # Errors
    ///
    /// Hands the outcome back when nobody holds the ticket any more.
    pub fn resolve(self, outcome: Outcome<E>) -> Result<(), Outcome<E>> {
        self.sender.send(Signal::Outcome(outcome)).map_err(|signal| match signal {
            Signal::Outcome(outcome) => outcome,
            Signal::Buffered(_) => unreachable!("an outcome was sent"),
        })
    }

    /// Tells whoever waits in [`Ticket::receipt`] that the event is in the reconnect buffer, and returns
    /// the promise that resolves the ticket from now on.
    #[must_use]
    pub fn buffered(self) -> Self {
        let (sender, receiver) = oneshot::channel();
        // When nobody holds the ticket the new promise is as orphaned as the old one.
        let _ = self.sender.send(Signal::Buffered(receiver));
        Self { sender }
    }

    /// Whether nobody holds the ticket any more.
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        self.sender.is_closed()
    }
}

impl<E> fmt::Debug for Promise<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").finish_non_exhaustive()
    }
}

/// What [`append`](crate::EventLog::append) returns: the event is in the log, or it is safe in the reconnect
/// buffer because the log is away.
#[derive(Debug)]
#[must_use = "a buffered event is not in the log yet"]
pub enum Receipt<E> {
    /// The event is in the log.
    Committed(Committed),
    /// The log is away and the event waits in the buffer. The ticket has its outcome.
    Buffered(Ticket<E>),
}

impl<E> Receipt<E> {
    /// Where the event is; `None` while it waits in the buffer, or when the log did not say.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match self {
            Self::Committed(committed) => committed.position(),
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
    pub async fn committed(self) -> Outcome<E> {
        match self {
            Self::Committed(committed) => Ok(committed),
            Self::Buffered(ticket) => ticket.await,
        }
    }
}

/// The failure of an event whose log went away for good while its fate was open.
pub(crate) const fn unknown() -> AppendFailure {
    AppendFailure::Unknown(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed() -> Committed {
        Committed::new(EventId::from_u128(1), PartitionId(2), Some(Offset(3)))
    }

    #[tokio::test]
    async fn a_ticket_follows_its_event_into_the_buffer() {
        let (promise, ticket) = Ticket::<()>::pending();
        let promise = promise.buffered().buffered();
        promise.resolve(Ok(committed())).unwrap();
        assert_eq!(ticket.await.unwrap(), committed());
    }

    #[tokio::test]
    async fn a_receipt_comes_at_the_moment_of_buffering() {
        let (promise, ticket) = Ticket::<()>::pending();
        let promise = promise.buffered();
        let receipt = ticket.receipt().await.unwrap();
        assert!(receipt.is_buffered());
        promise.resolve(Ok(committed())).unwrap();
        assert_eq!(
            receipt.committed().await.unwrap().position(),
            Some(Position::new(PartitionId(2), Offset(3)))
        );
    }

    #[tokio::test]
    async fn an_outcome_nobody_waits_for_comes_back() {
        let (promise, ticket) = Ticket::<u8>::pending();
        drop(ticket);
        assert!(promise.is_orphaned());
        let error = AppendError::new(9, EventId::from_u128(1), unknown());
        assert_eq!(promise.resolve(Err(error)).unwrap_err().unwrap_err().into_event(), 9);
    }

    #[test]
    fn try_outcome_hands_the_ticket_back_until_there_is_one() {
        let (promise, ticket) = Ticket::<()>::pending();
        let ticket = ticket.try_outcome().unwrap_err();
        promise.buffered().resolve(Ok(committed())).unwrap();
        assert_eq!(ticket.try_outcome().unwrap().unwrap(), committed());
    }
}
