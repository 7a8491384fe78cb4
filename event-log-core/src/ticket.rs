//! The promise of one outcome, and its other side.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use parking_lot::Mutex;

use crate::contain::contain;
use crate::error::AppendError;
#[cfg(feature = "engine")]
use crate::error::AppendErrorKind;
#[cfg(feature = "engine")]
use crate::event::EventId;
use crate::receipt::{AppendAck, Outcome, Receipt};
use crate::turn::{poll_turn, take_turn};

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
    /// The outcome was returned. Where the event is in the log is remembered.
    Taken(Option<AppendAck>),
}

/// What a ticket and its promise share: one allocation for an event on its way.
struct Slot<E> {
    /// The event, until it goes back or is not needed any more.
    event: Option<E>,
    end: End<E>,
    /// The event has been in the reconnect buffer.
    buffered: bool,
    waker: Option<Waker>,
}

enum End<E> {
    Open,
    Resolved(Outcome<E>),
    /// Resolved and taken out.
    Gone,
}

/// What a ticket that waits has come to.
enum News<E> {
    Outcome(Outcome<E>),
    Buffered,
}

/// What is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Outcome,
    Receipt,
}

/// The ticket's hold of what it shares. That it exists is how the promise knows that somebody cares.
struct Waiting<E>(Arc<Mutex<Slot<E>>>);

impl<E> Waiting<E> {
    /// The waker is cloned and dropped while the slot is not locked: that is code of the executor.
    fn poll(&self, cx: &Context<'_>, until: Until) -> Poll<News<E>> {
        {
            let mut slot = self.0.lock();
            if let Some(news) = slot.news(until) {
                return Poll::Ready(news);
            }
            if slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
        }
        let waker = cx.waker().clone();
        let mut slot = self.0.lock();
        let news = slot.news(until);
        let former = if news.is_none() { slot.waker.replace(waker) } else { slot.waker.take() };
        drop(slot);
        drop(former);
        news.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<E> Slot<E> {
    fn news(&mut self, until: Until) -> Option<News<E>> {
        match std::mem::replace(&mut self.end, End::Gone) {
            End::Resolved(outcome) => Some(News::Outcome(outcome)),
            end => {
                self.end = end;
                (self.buffered && until == Until::Receipt).then_some(News::Buffered)
            }
        }
    }
}

impl<E> Ticket<E> {
    /// A ticket whose outcome is known already; for implementors of logs.
    pub const fn resolved(outcome: Outcome<E>) -> Self {
        Self { state: TicketState::Resolved(outcome) }
    }

    /// A ticket and the [`Promise`] that resolves it, which holds the event; for implementors of logs.
    pub fn pending(event: E) -> (Promise<E>, Self) {
        let slot = Slot { event: Some(event), end: End::Open, buffered: false, waker: None };
        let slot = Arc::new(Mutex::new(slot));
        (Promise { slot: Some(Arc::clone(&slot)) }, Self { state: TicketState::Waiting(Waiting(slot)) })
    }

    /// Takes the outcome if it is there already. An [`AppendAck`] that the ticket has returned before it returns again.
    ///
    /// # Errors
    ///
    /// Hands the ticket back when there is no outcome yet.
    pub fn try_outcome(mut self) -> Result<Outcome<E>, Self> {
        match std::mem::replace(&mut self.state, TicketState::Taken(None)) {
            TicketState::Resolved(outcome) => Ok(outcome),
            TicketState::Taken(Some(ack)) => {
                self.state = TicketState::Taken(Some(ack));
                Ok(Ok(ack))
            }
            TicketState::Taken(None) => Err(self),
            TicketState::Waiting(waiting) => {
                let news = waiting.0.lock().news(Until::Outcome);
                match news {
                    Some(News::Outcome(outcome)) => Ok(outcome),
                    Some(News::Buffered) | None => Err(Self { state: TicketState::Waiting(waiting) }),
                }
            }
        }
    }

    /// Whether the event went into the reconnect buffer, and has no outcome yet: the log was away. It may be back meanwhile,
    /// with the event among what is still to be sent.
    #[must_use]
    pub fn is_buffered(&self) -> bool {
        match &self.state {
            TicketState::Waiting(waiting) => {
                let slot = waiting.0.lock();
                slot.buffered && matches!(slot.end, End::Open)
            }
            TicketState::Resolved(_) | TicketState::Taken(_) => false,
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
    ///
    /// # Panics
    ///
    /// When the ticket has returned a failure before, with the event in it. An [`AppendAck`] it returns again.
    pub async fn receipt(self) -> Result<Receipt<E>, AppendError<E>> {
        take_turn().await;
        match self.state {
            TicketState::Resolved(outcome) => outcome.map(Receipt::Acked),
            TicketState::Waiting(waiting) => match poll_fn(|cx| waiting.poll(cx, Until::Receipt)).await {
                News::Outcome(outcome) => outcome.map(Receipt::Acked),
                News::Buffered => Ok(Receipt::Buffered(Self { state: TicketState::Waiting(waiting) })),
            },
            TicketState::Taken(Some(ack)) => Ok(Receipt::Acked(ack)),
            TicketState::Taken(None) => panic!("{TAKEN}"),
        }
    }
}

const TAKEN: &str = "the ticket was asked again after it had returned the failure of its event";

impl<E> Unpin for Ticket<E> {}

impl<E> Future for Ticket<E> {
    type Output = Outcome<E>;

    /// # Panics
    ///
    /// When polled again after it has returned a failure. An [`AppendAck`] it returns again.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        ready!(poll_turn(cx));
        let outcome = match std::mem::replace(&mut self.state, TicketState::Taken(None)) {
            TicketState::Resolved(outcome) => outcome,
            TicketState::Waiting(waiting) => match waiting.poll(cx, Until::Outcome) {
                Poll::Ready(News::Outcome(outcome)) => outcome,
                Poll::Ready(News::Buffered) | Poll::Pending => {
                    self.state = TicketState::Waiting(waiting);
                    return Poll::Pending;
                }
            },
            TicketState::Taken(Some(ack)) => Ok(ack),
            TicketState::Taken(None) => panic!("{TAKEN}"),
        };
        self.state = TicketState::Taken(outcome.as_ref().ok().copied());
        Poll::Ready(outcome)
    }
}

impl<E> fmt::Debug for Ticket<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            TicketState::Resolved(Ok(committed)) => return f.debug_tuple("Ticket").field(committed).finish(),
            TicketState::Resolved(Err(error)) => return f.debug_tuple("Ticket").field(error).finish(),
            TicketState::Waiting(_) => "waiting",
            TicketState::Taken(_) => "taken",
        };
        f.debug_tuple("Ticket").field(&state).finish()
    }
}

/// The other side of a [`Ticket`], held by the log. It holds the event: dropping it resolves the ticket as unknown.
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
        if let Some(waker) = self.mark_buffered() {
            contain(|| waker.wake());
        }
    }

    /// The same, but the waker is left to the caller.
    pub(crate) fn mark_buffered(&mut self) -> Option<Waker> {
        let mut slot = self.slot.as_ref()?.lock();
        slot.buffered = true;
        slot.waker.take()
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
            drop(slot);
            // With the waker of a task that does not wait any more.
            contain(move || drop(shared));
            return Some(end);
        }
        slot.end = end;
        let waker = slot.waker.take();
        // An event that is in the log goes with the ticket of whoever waits for it: it is freed by many threads, and not
        // by the one that has the next events to send. If nobody waits it would only lie there.
        let unneeded = if waker.is_none() { slot.event.take() } else { None };
        drop(slot);
        // The code of the event and of the executor.
        contain(move || drop((unneeded, shared)));
        if let Some(waker) = waker {
            contain(|| waker.wake());
        }
        None
    }
}

/// For a promise that holds the event. Once it is resolved, nothing of this does anything more.
#[cfg(feature = "engine")]
impl<E> Promise<E> {
    /// Resolves the ticket: the event is in the log.
    pub(crate) fn commit(&mut self, committed: AppendAck) {
        // The event goes too when there is no ticket.
        let orphaned = self.is_orphaned();
        let event = if orphaned { self.withdraw() } else { None };
        contain(move || drop(event));
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
        let event = shared.lock().event.take();
        contain(move || drop(shared));
        event
    }
}

impl<E> Drop for Promise<E> {
    fn drop(&mut self) {
        let unknown = |event: &mut Option<E>| match event.take() {
            Some(event) => End::Resolved(Err(AppendError::abandoned(event))),
            None => End::Gone,
        };
        let unheld = self.end(unknown);
        contain(move || drop(unheld));
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
        let (mut promise, ticket) = Ticket::pending(());
        promise.tell_buffered();
        promise.tell_buffered();
        promise.resolve(Ok(committed())).unwrap();
        assert_eq!(ticket.await.unwrap(), committed());
    }

    #[tokio::test]
    async fn a_receipt_comes_at_the_moment_of_buffering() {
        let (mut promise, ticket) = Ticket::pending(());
        promise.tell_buffered();
        let receipt = ticket.receipt().await.unwrap();
        assert!(receipt.is_buffered());
        promise.resolve(Ok(committed())).unwrap();
        assert_eq!(receipt.acked().await.unwrap().position(), Some(Position::new(PartitionId(2), Offset(3))));
    }

    #[tokio::test]
    async fn an_outcome_nobody_waits_for_comes_back() {
        let (promise, ticket) = Ticket::pending(9_u8);
        drop(ticket);
        assert!(promise.is_orphaned());
        let error = AppendError::new(9, EventId::from_u128(1), AppendErrorKind::Unknown(None));
        assert_eq!(promise.resolve(Err(error)).unwrap_err().unwrap_err().into_event(), 9);
    }

    #[tokio::test]
    async fn looking_for_an_outcome_leaves_the_receipt() {
        let (mut promise, mut ticket) = Ticket::pending(());
        promise.tell_buffered();
        assert!(futures::FutureExt::now_or_never(&mut ticket).is_none());
        let ticket = ticket.try_outcome().unwrap_err();
        assert!(ticket.receipt().await.unwrap().is_buffered());
    }

    #[tokio::test]
    async fn a_promise_that_is_dropped_hands_the_event_back_as_unknown() {
        let (promise, ticket) = Ticket::pending(7);
        drop(promise);
        let error = ticket.await.unwrap_err();
        assert!(error.may_have_taken_effect() && error.into_event() == 7);
    }

    #[tokio::test]
    async fn a_ticket_that_has_returned_an_ack_returns_it_again() {
        let (promise, mut ticket) = Ticket::pending(());
        promise.resolve(Ok(committed())).unwrap();
        assert_eq!((&mut ticket).await.unwrap(), committed());
        assert_eq!(ticket.receipt().await.unwrap().position(), committed().position());
    }

    #[test]
    fn try_outcome_hands_the_ticket_back_until_there_is_one() {
        let (mut promise, ticket) = Ticket::pending(());
        let ticket = ticket.try_outcome().unwrap_err();
        promise.tell_buffered();
        promise.resolve(Ok(committed())).unwrap();
        assert_eq!(ticket.try_outcome().unwrap().unwrap(), committed());
    }
}
