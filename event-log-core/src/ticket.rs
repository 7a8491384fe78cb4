//! The promise of one outcome, and its other side.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use crate::error::AppendError;
#[cfg(feature = "engine")]
use crate::error::AppendErrorKind;
#[cfg(feature = "engine")]
use crate::event::EventId;
#[cfg(feature = "engine")]
use crate::receipt::AppendAck;
use crate::receipt::{Outcome, Receipt};

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
    Waiting(Waiting<E>),
    Taken,
}

/// What a ticket and its promise share: one allocation for an event on its way.
struct Slot<E> {
    /// The event, until it goes back or is not needed any more.
    event: Option<E>,
    end: End<E>,
    /// The event is in the reconnect buffer, and whoever waits for a receipt has not been told.
    buffered: bool,
    waker: Option<Waker>,
}

enum End<E> {
    Open,
    Resolved(Outcome<E>),
    /// Resolved and taken out, or never resolved.
    Gone,
}

/// What a ticket that waits has come to.
enum News<E> {
    Outcome(Outcome<E>),
    Buffered,
}

/// The ticket's hold of what it shares. That it exists is how the promise knows that somebody cares.
struct Waiting<E>(Arc<Mutex<Slot<E>>>);

impl<E> Waiting<E> {
    fn poll(&self, cx: &Context<'_>) -> Poll<News<E>> {
        let mut slot = self.0.lock();
        if let Some(news) = slot.news() {
            return Poll::Ready(news);
        }
        match &mut slot.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl<E> Slot<E> {
    fn news(&mut self) -> Option<News<E>> {
        match std::mem::replace(&mut self.end, End::Gone) {
            End::Resolved(outcome) => Some(News::Outcome(outcome)),
            End::Open => {
                self.end = End::Open;
                std::mem::take(&mut self.buffered).then_some(News::Buffered)
            }
            End::Gone => unreachable!("a log dropped the promise of a ticket without resolving it"),
        }
    }
}

impl<E> Ticket<E> {
    /// A ticket whose outcome is known already; for implementors of logs.
    pub const fn resolved(outcome: Outcome<E>) -> Self {
        Self { state: TicketState::Resolved(outcome) }
    }

    /// A ticket and the [`Promise`] that resolves it; for implementors of logs.
    pub fn pending() -> (Promise<E>, Self) {
        Self::with(None)
    }

    fn with(event: Option<E>) -> (Promise<E>, Self) {
        let slot = Slot { event, end: End::Open, buffered: false, waker: None };
        let slot = Arc::new(Mutex::new(slot));
        (Promise { slot: Some(Arc::clone(&slot)) }, Self { state: TicketState::Waiting(Waiting(slot)) })
    }

    /// Takes the outcome if it is there already.
    ///
    /// # Errors
    ///
    /// Hands the ticket back when there is no outcome yet.
    pub fn try_outcome(mut self) -> Result<Outcome<E>, Self> {
        match std::mem::replace(&mut self.state, TicketState::Taken) {
            TicketState::Resolved(outcome) => Ok(outcome),
            TicketState::Taken => Err(self),
            TicketState::Waiting(waiting) => {
                let news = waiting.0.lock().news();
                match news {
                    Some(News::Outcome(outcome)) => Ok(outcome),
                    Some(News::Buffered) | None => Err(Self { state: TicketState::Waiting(waiting) }),
                }
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
            TicketState::Resolved(outcome) => outcome.map(Receipt::Acked),
            TicketState::Waiting(waiting) => match poll_fn(|cx| waiting.poll(cx)).await {
                News::Outcome(outcome) => outcome.map(Receipt::Acked),
                News::Buffered => Ok(Receipt::Buffered(Self { state: TicketState::Waiting(waiting) })),
            },
            TicketState::Taken => unreachable!("a ticket that was polled to its end cannot be moved from"),
        }
    }
}

#[cfg(feature = "engine")]
impl<E> Ticket<E> {
    /// The promise holds the event too.
    pub(crate) fn holding(event: E) -> (Promise<E>, Self) {
        Self::with(Some(event))
    }
}

impl<E> Unpin for Ticket<E> {}

impl<E> Future for Ticket<E> {
    type Output = Outcome<E>;

    /// # Panics
    ///
    /// When polled again after it has returned the outcome, like any future; and when the log breaks the
    /// rule of [`Promise`].
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let TicketState::Waiting(waiting) = &self.state {
            loop {
                match waiting.poll(cx) {
                    Poll::Ready(News::Outcome(outcome)) => {
                        self.state = TicketState::Taken;
                        return Poll::Ready(outcome);
                    }
                    // Whoever awaits the outcome itself need not know.
                    Poll::Ready(News::Buffered) => {}
                    Poll::Pending => return Poll::Pending,
                }
            }
        }
        match std::mem::replace(&mut self.state, TicketState::Taken) {
            TicketState::Resolved(outcome) => Poll::Ready(outcome),
            _ => panic!("the ticket was polled after it had returned the outcome"),
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
    /// `None` once it is resolved.
    slot: Option<Arc<Mutex<Slot<E>>>>,
}

impl<E> Promise<E> {
    /// Resolves the ticket.
    ///
    /// # Errors
    ///
    /// Hands the outcome back when nobody holds the ticket any more.
    pub fn resolve(mut self, outcome: Outcome<E>) -> Result<(), Outcome<E>> {
        match self.end(|_| End::Resolved(outcome)) {
            Some(End::Resolved(outcome)) => Err(outcome),
            _ => Ok(()),
        }
    }

    /// Tells whoever waits in [`Ticket::receipt`] that the event is in the reconnect buffer: the outcome comes later,
    /// through the same ticket.
    pub fn tell_buffered(&mut self) {
        let Some(shared) = &self.slot else { return };
        let mut slot = shared.lock();
        slot.buffered = true;
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether nobody holds the ticket any more.
    #[must_use]
    pub fn is_orphaned(&self) -> bool {
        self.slot.as_ref().is_none_or(|shared| Arc::strong_count(shared) == 1)
    }

    /// Ends it and wakes whoever waits; what was decided comes back when nobody holds the ticket.
    fn end(&mut self, decide: impl FnOnce(&mut Option<E>) -> End<E>) -> Option<End<E>> {
        let orphaned = self.is_orphaned();
        let shared = self.slot.take()?;
        let mut slot = shared.lock();
        let end = decide(&mut slot.event);
        if orphaned {
            return Some(end);
        }
        slot.end = end;
        let waker = slot.waker.take();
        // An event that is in the log goes with the ticket of whoever waits for it: it is freed by many threads, and not
        // by the one that has the next events to send. If nobody waits it would only lie there.
        let unneeded = if waker.is_none() { slot.event.take() } else { None };
        drop(slot);
        drop(unneeded);
        drop(shared);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }
}

/// For a promise that holds the event. Once it is resolved, nothing of this does anything more.
#[cfg(feature = "engine")]
impl<E> Promise<E> {
    /// Resolves the ticket: the event is in the log.
    pub(crate) fn commit(&mut self, committed: AppendAck) {
        // Nobody waiting for good news is fine.
        drop(self.end(|_| End::Resolved(Ok(committed))));
    }

    /// Resolves the ticket with the event that the promise holds, or hands it back when nobody holds the ticket.
    pub(crate) fn fail(&mut self, id: EventId, failure: AppendErrorKind) -> Option<AppendError<E>> {
        let failed = |event: &mut Option<E>| match event.take() {
            Some(event) => End::Resolved(Err(AppendError::new(event, id, failure))),
            None => End::Gone,
        };
        match self.end(failed) {
            Some(End::Resolved(outcome)) => outcome.err(),
            _ => None,
        }
    }

    /// Takes the event that the promise holds out again. Nobody may await the ticket any more.
    pub(crate) fn withdraw(&mut self) -> Option<E> {
        let shared = self.slot.take()?;
        shared.lock().event.take()
    }
}

impl<E> Drop for Promise<E> {
    /// Whoever waits for what never comes is told so, with a panic: see the rule.
    fn drop(&mut self) {
        self.end(|_| End::Gone);
    }
}

impl<E> fmt::Debug for Promise<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Promise").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::AppendErrorKind;
    use crate::event::EventId;
    use crate::position::{Offset, PartitionId, Position};
    use crate::receipt::AppendAck;

    fn committed() -> AppendAck {
        AppendAck::new(EventId::from_u128(1), PartitionId(2), Some(Offset(3)))
    }

    #[tokio::test]
    async fn a_ticket_follows_its_event_into_the_buffer() {
        let (mut promise, ticket) = Ticket::<()>::pending();
        promise.tell_buffered();
        promise.tell_buffered();
        promise.resolve(Ok(committed())).unwrap();
        assert_eq!(ticket.await.unwrap(), committed());
    }

    #[tokio::test]
    async fn a_receipt_comes_at_the_moment_of_buffering() {
        let (mut promise, ticket) = Ticket::<()>::pending();
        promise.tell_buffered();
        let receipt = ticket.receipt().await.unwrap();
        assert!(receipt.is_buffered());
        promise.resolve(Ok(committed())).unwrap();
        assert_eq!(receipt.acked().await.unwrap().position(), Some(Position::new(PartitionId(2), Offset(3))));
    }

    #[tokio::test]
    async fn an_outcome_nobody_waits_for_comes_back() {
        let (promise, ticket) = Ticket::<u8>::pending();
        drop(ticket);
        assert!(promise.is_orphaned());
        let error = AppendError::new(9, EventId::from_u128(1), AppendErrorKind::Unknown(None));
        assert_eq!(promise.resolve(Err(error)).unwrap_err().unwrap_err().into_event(), 9);
    }

    #[test]
    fn try_outcome_hands_the_ticket_back_until_there_is_one() {
        let (mut promise, ticket) = Ticket::<()>::pending();
        let ticket = ticket.try_outcome().unwrap_err();
        promise.tell_buffered();
        promise.resolve(Ok(committed())).unwrap();
        assert_eq!(ticket.try_outcome().unwrap().unwrap(), committed());
    }
}
