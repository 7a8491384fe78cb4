//! One accepted event on its way to its one outcome.

use std::task::Waker;

use bytes::Bytes;
use tokio::time::Instant;

use crate::contain::contain;
use crate::engine::transport::Message;
use crate::error::{AppendErrorKind, Error};
use crate::event::EventId;
use crate::headers::Headers;
use crate::log::CloseError;
use crate::position::{Offset, PartitionId};
use crate::receipt::AppendAck;
use crate::ticket::{Promise, Ticket};

/// The sequence number of an event that is not accepted.
pub(in crate::engine) const NOT_ACCEPTED: u64 = u64::MAX;

/// The failure of an event whose log went away for good while its fate was open.
pub(in crate::engine) const fn unknown() -> AppendErrorKind {
    AppendErrorKind::Unknown(None)
}

/// An event that was accepted, with everything that sending it takes and the promise of its outcome.
///
/// Whatever happens to an entry, its ticket is resolved: dropping it unresolved (the runtime was shut down
/// around the writer, say) resolves it as unknown.
pub(in crate::engine) struct Entry<E> {
    pub(in crate::engine) id: EventId,
    pub(in crate::engine) partition: PartitionId,
    /// Empty while the message is in a request.
    payload: Bytes,
    headers: Headers,
    pub(in crate::engine) accepted_at: Instant,
    /// Its number among all accepted events, given by the queue.
    pub(in crate::engine) sequence: u64,
    /// A request with it got lost. It was not there when the log was read back, and is sent again; but that
    /// the lost one never arrives is not certain.
    pub(in crate::engine) may_be_under_way: bool,
    /// Holds the event until it is resolved.
    promise: Promise<E>,
}

impl<E> Entry<E> {
    /// An event that is offered now, with the promise of its outcome.
    pub(in crate::engine) fn new(
        event: E,
        message: Message,
        partition: PartitionId,
        accepted_at: Instant,
    ) -> (Self, Ticket<E>) {
        let (promise, ticket) = Ticket::pending(event);
        let Message { id, headers, payload } = message;
        (
            Self {
                id,
                partition,
                payload,
                headers,
                accepted_at,
                sequence: NOT_ACCEPTED,
                may_be_under_way: false,
                promise,
            },
            ticket,
        )
    }

    pub(in crate::engine) fn bytes(&self) -> usize {
        self.payload.len() + self.headers.bytes()
    }

    /// Takes out what is sent. A payload has one owner at a time: sharing it would cost an allocation.
    pub(in crate::engine) fn take_message(&mut self) -> Message {
        Message {
            id: self.id,
            headers: std::mem::take(&mut self.headers),
            payload: std::mem::take(&mut self.payload),
        }
    }

    pub(in crate::engine) fn commit(mut self, offset: Option<Offset>) {
        self.promise.commit(AppendAck::new(self.id, self.partition, offset));
    }

    /// How it fails when the log refuses it, alone. What was sent before may be in the log all the same.
    pub(in crate::engine) const fn refusal(&self, error: Error) -> AppendErrorKind {
        match self.may_be_under_way {
            true => AppendErrorKind::Unknown(Some(error)),
            false => AppendErrorKind::Refused(error),
        }
    }

    /// Resolves the ticket with the failure. Without a holder the event is dropped, and no failure made for it.
    pub(in crate::engine) fn fail(mut self, failure: AppendErrorKind) {
        if self.promise.is_orphaned() {
            let event = self.promise.withdraw();
            contain(move || drop(event));
        } else {
            self.promise.fail(self.id, failure);
        }
    }

    /// Drops an event that was never accepted.
    pub(in crate::engine) fn discard(mut self) {
        let event = self.promise.withdraw();
        contain(move || drop(event));
    }

    /// Takes the event back out: the entry was never accepted.
    pub(in crate::engine) fn into_event(mut self) -> Option<E> {
        self.promise.withdraw()
    }

    /// Notes that the event is in the reconnect buffer. The waker of the `append` that waits is the caller's to wake.
    pub(in crate::engine) fn mark_buffered(&mut self) -> Option<Waker> {
        self.promise.mark_buffered()
    }

    /// Whether the ticket was dropped.
    pub(in crate::engine) fn is_orphaned(&self) -> bool {
        self.promise.is_orphaned()
    }
}

impl<E> Drop for Entry<E> {
    fn drop(&mut self) {
        self.promise.fail(self.id, unknown());
    }
}

impl<E> CloseError<E> {
    /// Fails an entry and keeps its event unless it went back through its ticket.
    pub(in crate::engine) fn fail(&mut self, mut entry: Entry<E>, failure: AppendErrorKind) {
        let (id, is_unknown) = (entry.id, matches!(failure, AppendErrorKind::Unknown(_)));
        match entry.promise.fail(id, failure) {
            None => self.returned_by_ticket += 1,
            Some(error) if is_unknown => self.unknown.push((id, error.into_event())),
            Some(error) => self.not_appended.push((id, error.into_event())),
        }
    }
}
