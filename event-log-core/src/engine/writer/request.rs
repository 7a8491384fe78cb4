//! What the writer sends: one request per partition and round, over one connection or several at a time.

use futures::future::join_all;
use tokio::time::Instant;

use crate::engine::entry::Entry;
use crate::engine::transport::{Message, SendError, Session};
use crate::error::Error;
use crate::event::EventId;
use crate::position::{Offset, PartitionId};

/// Events of one partition that go out together.
pub(super) struct Request<E> {
    pub(super) partition: PartitionId,
    entries: Vec<Entry<E>>,
    /// The messages of the entries.
    messages: Vec<Message>,
    /// It was sent, and how that ended is not known (yet).
    pub(super) may_have_arrived: bool,
    /// What the log said to it, if that was an answer.
    answer: Option<Answer>,
}

enum Answer {
    /// In the log; where the last of its events is, if the log said so.
    Confirmed(Option<(Offset, EventId)>),
    Refused(Error),
}

impl<E> Request<E> {
    pub(super) fn with_capacity(partition: PartitionId, events: usize) -> Self {
        let (entries, messages) = (Vec::with_capacity(events), Vec::with_capacity(events));
        Self { partition, entries, messages, may_have_arrived: false, answer: None }
    }

    pub(super) fn push(&mut self, mut entry: Entry<E>) {
        self.messages.push(entry.take_message());
        self.entries.push(entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
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

    /// Sends it, and resolves its tickets if it is confirmed. The connection is lost if there is an error.
    async fn send<S: Session>(&mut self, session: &mut S) -> Result<(), Error> {
        // Said before the request goes out: if this future is dropped meanwhile, it stays true.
        self.may_have_arrived = true;
        match session.send(self.partition, &self.messages).await {
            Ok(base) => {
                self.confirm(base);
                Ok(())
            }
            Err(SendError::Lost { error, may_have_taken_effect }) => {
                self.may_have_arrived = may_have_taken_effect;
                Err(error)
            }
            Err(SendError::Refused(error)) => {
                self.may_have_arrived = false;
                self.answer = Some(Answer::Refused(error));
                Ok(())
            }
        }
    }

    fn confirm(&mut self, base: Option<Offset>) {
        self.may_have_arrived = false;
        let last = self.messages.last().map(|last| last.id);
        let end = base.map(|base| Offset(base.0 + self.messages.len() as u64 - 1));
        self.answer = Some(Answer::Confirmed(end.zip(last)));
        for (entry, nth) in self.entries.drain(..).zip(0..) {
            entry.commit(base.map(|base| Offset(base.0 + nth)));
        }
    }

    /// Where its last event is, if it was confirmed, and the log said so.
    pub(super) const fn confirmed(&self) -> Option<(Offset, EventId)> {
        match self.answer {
            Some(Answer::Confirmed(last)) => last,
            _ => None,
        }
    }

    /// What is still to be sent of it. If the log refused it, and it had company, each event gets its own answer: one
    /// that the log does not like must not take the others with it.
    pub(super) fn rest(mut self) -> Vec<Self> {
        match self.answer.take() {
            Some(Answer::Refused(error)) => {
                if self.entries.len() > 1 {
                    return self.entries.into_iter().zip(self.messages).map(Self::of_one).collect();
                }
                if let Some(entry) = self.entries.pop() {
                    drop(entry.refuse(error));
                }
                Vec::new()
            }
            _ if self.entries.is_empty() => Vec::new(),
            _ => vec![self],
        }
    }

    fn of_one((entry, message): (Entry<E>, Message)) -> Self {
        let partition = entry.partition;
        Self { entries: vec![entry], messages: vec![message], ..Self::with_capacity(partition, 0) }
    }
}

/// Sends requests over connections, those of one partition in order over one of them, and waits for all answers. When a
/// connection is lost the requests behind it are not sent; what the others have sent is answered all the same.
pub(super) async fn send_all<'a, E: Send + 'a, S: Session>(
    requests: impl Iterator<Item = &'a mut Request<E>>,
    sessions: &mut [S],
) -> Result<(), Error> {
    let mut shares: Vec<Vec<&mut Request<E>>> = sessions.iter().map(|_| Vec::new()).collect();
    let mut homes: Vec<PartitionId> = Vec::new();
    for request in requests {
        let known = homes.iter().position(|home| *home == request.partition);
        let home = known.unwrap_or_else(|| {
            homes.push(request.partition);
            homes.len() - 1
        });
        let count = shares.len();
        shares[home % count].push(request);
    }
    let sending = sessions.iter_mut().zip(shares).map(|(session, share)| send_share(session, share));
    let results = join_all(sending).await;
    results.into_iter().collect()
}

async fn send_share<E: Send, S: Session>(session: &mut S, share: Vec<&mut Request<E>>) -> Result<(), Error> {
    for request in share {
        request.send(session).await?;
    }
    Ok(())
}
