//! What the writer has of one partition, and what it knows of it.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::entry::{Entry, unknown};
use super::request::Request;
use crate::engine::transport::{Message, SendError};
use crate::error::{AppendErrorKind, Error};
use crate::event::EventId;
use crate::position::Offset;

pub(super) struct Flow<E> {
    /// In the order in which they are to be sent. Only the first may be under way, or have been.
    pub(super) requests: VecDeque<Request<E>>,
    /// Everything of ours that is unconfirmed is at this offset or behind it. `None` until the first connection.
    pub(super) unconfirmed_from: Option<Offset>,
    /// The last event that was confirmed, by which the partition is known again.
    pub(super) confirmed: Option<(Offset, EventId)>,
}

impl<E> Default for Flow<E> {
    fn default() -> Self {
        Self { requests: VecDeque::new(), unconfirmed_from: None, confirmed: None }
    }
}

impl<E> Flow<E> {
    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// How many events there are, and the sequence number of the first.
    pub(super) fn held(&self) -> (usize, u64) {
        let events = self.requests.iter().map(Request::len).sum();
        (events, self.requests.front().and_then(Request::first_sequence).unwrap_or_default())
    }

    /// When its oldest event was accepted.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.requests.iter().filter_map(Request::oldest).min()
    }

    /// Those who wait learn that their event is in the reconnect buffer.
    pub(super) fn tell_buffered(&mut self) {
        self.requests.iter_mut().for_each(Request::tell_buffered);
    }

    /// Takes the answer to the first request. An error says that the connection is lost.
    pub(super) fn answered(
        &mut self,
        messages: Vec<Message>,
        result: Result<Option<Offset>, SendError>,
    ) -> Result<(), Error> {
        let Some(mut request) = self.requests.pop_front() else { return Ok(()) };
        request.come_back(messages);
        match result {
            Ok(base) => {
                if let Some((last, id)) = request.confirm(base) {
                    self.unconfirmed_from = Some(last.next());
                    self.confirmed = Some((last, id));
                }
                Ok(())
            }
            Err(SendError::Refused(error)) => {
                // If it had company each event gets its own answer: one that the log does not like must not take the
                // others with it.
                for alone in request.refuse(error).into_iter().rev() {
                    self.requests.push_front(alone);
                }
                Ok(())
            }
            Err(SendError::Lost { error, may_have_taken_effect }) => {
                request.may_have_arrived = may_have_taken_effect;
                self.requests.push_front(request);
                Err(error)
            }
        }
    }

    /// Hands back what was accepted too long ago.
    pub(super) fn expire(&mut self, now: Instant, expiry: Duration) {
        for request in &mut self.requests {
            let sent = request.may_have_arrived;
            request.filter(|entry| {
                if now.duration_since(entry.accepted_at) < expiry {
                    return Some(entry);
                }
                let unsure = sent || entry.may_be_under_way;
                entry.fail(if unsure { unknown() } else { AppendErrorKind::Expired(expiry) });
                None
            });
        }
        self.requests.retain(|request| !request.is_empty());
    }

    /// Takes everything out, unresolved, each with whether it may be in the log.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (Entry<E>, bool)> + use<E> {
        std::mem::take(&mut self.requests).into_iter().flat_map(|request| {
            let sent = request.may_have_arrived;
            request.into_entries().map(move |entry| {
                let sent = sent || entry.may_be_under_way;
                (entry, sent)
            })
        })
    }
}
