//! What the writer sends: events of one partition that go out together.

use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;

use super::entry::Entry;
use crate::engine::transport::{Landmark, Message};
use crate::event::EventId;
use crate::position::Offset;

pub(super) struct Request<E> {
    /// Each time that it is put in flight it has another one, which no other request of its partition has.
    pub(super) number: u64,
    entries: Vec<Entry<E>>,
    /// The messages of the entries, shared with the connection that sends them.
    messages: Arc<[Message]>,
    /// It was sent, and how that ended is not known (yet).
    pub(super) may_have_arrived: bool,
    /// When it was sent last.
    pub(super) sent_at: Option<Instant>,
    /// How often it was given up while it waited for where the partition ends.
    pub(super) waits: u32,
    /// The ids of events that have expired since it was sent, if another of its events has the same: what is found first of such
    /// an id in the log is theirs.
    gone: Vec<EventId>,
}

impl<E> Request<E> {
    pub(super) fn new(number: u64, mut entries: Vec<Entry<E>>) -> Self {
        let messages = entries.iter_mut().map(Entry::take_message).collect();
        Self { number, entries, messages, may_have_arrived: false, sent_at: None, waits: 0, gone: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn first_sequence(&self) -> Option<u64> {
        self.entries.first().map(|entry| entry.sequence)
    }

    /// Whether an earlier request with one of its events may still arrive.
    pub(super) fn may_be_under_way(&self) -> bool {
        self.entries.iter().any(|entry| entry.may_be_under_way)
    }

    /// The ids of what may have arrived.
    pub(super) fn ids(&self) -> impl Iterator<Item = EventId> {
        self.gone.iter().copied().chain(self.entries.iter().map(|entry| entry.id))
    }

    /// The event with this id has expired.
    pub(super) fn forget(&mut self, id: EventId) {
        if self.entries.iter().any(|entry| entry.id == id) {
            self.gone.push(id);
        }
    }

    pub(super) fn take_gone(&mut self) -> Vec<EventId> {
        std::mem::take(&mut self.gone)
    }

    /// Of its oldest event, when it was accepted.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.accepted_at).min()
    }

    /// Those who wait learn that their event is in the reconnect buffer.
    pub(super) fn mark_buffered(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.entries.iter_mut().filter_map(Entry::mark_buffered));
    }

    /// Keeps those of its events that `decide` gives back. Returns the messages of all, which are dropped outside of the lock.
    #[must_use]
    pub(super) fn filter(&mut self, mut decide: impl FnMut(Entry<E>) -> Option<Entry<E>>) -> Arc<[Message]> {
        let mut messages = Vec::new();
        for (entry, message) in std::mem::take(&mut self.entries).into_iter().zip(self.messages.iter()) {
            if let Some(entry) = decide(entry) {
                self.entries.push(entry);
                messages.push(message.clone());
            }
        }
        std::mem::replace(&mut self.messages, messages.into())
    }

    /// Takes its events and their messages out. Dropping either runs code of the application.
    pub(super) fn into_parts(self) -> (Vec<Entry<E>>, Arc<[Message]>) {
        (self.entries, self.messages)
    }

    pub(super) fn messages(&self) -> Arc<[Message]> {
        Arc::clone(&self.messages)
    }

    /// Where its last event is when its first is at `base`.
    pub(super) fn last_at(&self, base: Option<Offset>) -> Option<Landmark> {
        let (base, last) = (base?, self.entries.last()?);
        Some(Landmark { offset: Offset(base.0.saturating_add(self.entries.len() as u64 - 1)), id: last.id })
    }

    /// Each event as a request of its own, or the request again if it has only one.
    pub(super) fn split(self) -> Result<Vec<Self>, Self> {
        if self.entries.len() == 1 {
            return Err(self);
        }
        let number = self.number;
        let alone = |(entry, message): (_, &Message)| Self {
            number,
            entries: vec![entry],
            messages: [message.clone()].into(),
            may_have_arrived: false,
            sent_at: None,
            waits: 0,
            gone: Vec::new(),
        };
        Ok(self.entries.into_iter().zip(self.messages.iter()).map(alone).collect())
    }
}
