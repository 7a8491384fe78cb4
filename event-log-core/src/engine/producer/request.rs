//! What the writer sends: events of one partition that go out together.

use tokio::time::Instant;

use super::entry::Entry;
use crate::engine::transport::{Message, ProducerConnection, SendError};
use crate::error::Error;
use crate::event::EventId;
use crate::position::{Offset, PartitionId};

pub(super) struct Request<E> {
    entries: Vec<Entry<E>>,
    /// The messages of the entries; elsewhere while it is under way.
    messages: Vec<Message>,
    /// It was sent, and how that ended is not known (yet).
    pub(super) may_have_arrived: bool,
}

impl<E> Request<E> {
    pub(super) fn new(mut entries: Vec<Entry<E>>) -> Self {
        let messages = entries.iter_mut().map(Entry::take_message).collect();
        Self { entries, messages, may_have_arrived: false }
    }

    /// `None` when there is nothing in it.
    pub(super) fn partition(&self) -> Option<PartitionId> {
        self.entries.first().map(|entry| entry.partition)
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

    pub(super) fn ids(&self) -> impl Iterator<Item = EventId> {
        self.entries.iter().map(|entry| entry.id)
    }

    /// Of its oldest event, when it was accepted.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.entries.iter().map(|entry| entry.accepted_at).min()
    }

    /// Those who wait learn that their event is in the reconnect buffer.
    pub(super) fn tell_buffered(&mut self) {
        self.entries.iter_mut().for_each(Entry::tell_buffered);
    }

    /// Keeps those of its events that `decide` gives back.
    pub(super) fn filter(&mut self, mut decide: impl FnMut(Entry<E>) -> Option<Entry<E>>) {
        let messages = std::mem::take(&mut self.messages);
        for (entry, message) in std::mem::take(&mut self.entries).into_iter().zip(messages) {
            if let Some(entry) = decide(entry) {
                self.entries.push(entry);
                self.messages.push(message);
            }
        }
    }

    /// Takes its events out without an answer.
    pub(super) fn into_entries(self) -> impl Iterator<Item = Entry<E>> {
        self.entries.into_iter()
    }

    /// What is to be sent. From now on it may have arrived: if sending it is given up, that stays true.
    pub(super) fn start(&mut self) -> Vec<Message> {
        self.may_have_arrived = true;
        std::mem::take(&mut self.messages)
    }

    /// It was answered.
    pub(super) fn come_back(&mut self, messages: Vec<Message>) {
        self.messages = messages;
        self.may_have_arrived = false;
    }

    /// It is in the log, its first event there. Returns where its last event is, if the log said so.
    pub(super) fn confirm(self, base: Option<Offset>) -> Option<(Offset, EventId)> {
        let last = self.entries.last().map(|last| last.id);
        let end = base.map(|base| Offset(base.0 + self.entries.len() as u64 - 1));
        for (entry, nth) in self.entries.into_iter().zip(0..) {
            entry.commit(base.map(|base| Offset(base.0 + nth)));
        }
        end.zip(last)
    }

    /// The log does not take it. What is to be sent of it all the same, if it is not one event: each of them alone.
    pub(super) fn refuse(mut self, error: Error) -> Vec<Self> {
        if self.entries.len() > 1 {
            return self.entries.into_iter().zip(self.messages).map(Self::of_one).collect();
        }
        if let Some(entry) = self.entries.pop() {
            entry.refuse(error);
        }
        Vec::new()
    }

    fn of_one((entry, message): (Entry<E>, Message)) -> Self {
        Self { entries: vec![entry], messages: vec![message], may_have_arrived: false }
    }
}

/// A request that was sent, with everything that comes back.
pub(super) struct Sent<S> {
    pub(super) connection: S,
    pub(super) partition: PartitionId,
    pub(super) messages: Vec<Message>,
    pub(super) result: Result<Option<Offset>, SendError>,
}

/// Sends a request over a connection, and has both until it is answered.
pub(super) async fn send<S: ProducerConnection>(
    mut connection: S,
    partition: PartitionId,
    messages: Vec<Message>,
) -> Sent<S> {
    let result = connection.send(partition, &messages).await;
    Sent { connection, partition, messages, result }
}
