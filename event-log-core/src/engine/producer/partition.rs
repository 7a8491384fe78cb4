//! Everything of one partition that is accepted and not resolved, and what is known of the partition itself.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

use super::effects::Effects;
use super::entry::{Entry, unknown};
use super::moment::Moment;
use super::recovery::{ReadBack, Unresolved};
use super::request::Request;
use crate::engine::backoff::doubled;
use crate::engine::transport::{Landmark, Message, SendError};
use crate::error::{AppendErrorKind, Error};
use crate::limits;
use crate::position::{Offset, PartitionId};
use crate::state::Recovered;

/// Events in the order in which they were accepted: those in flight, then those to be resent, then those that wait.
pub(super) struct PartitionQueue<E> {
    waiting: VecDeque<Entry<E>>,
    in_flight: Option<Request<E>>,
    /// Requests that came back. Only the first may have arrived.
    resend: VecDeque<Request<E>>,
    /// The connection of a request that had no answer is being closed: it may still arrive.
    is_closing: bool,
    /// The last event that was acknowledged, by which the partition is recognised.
    acknowledged: Option<Landmark>,
    /// Everything of ours that is unconfirmed is at this offset or behind it. `None` as long as the log has not said where the
    /// partition ends.
    unconfirmed_from: Option<Offset>,
    /// When the partition was known to end there; `None` when others may have appended for long.
    marked_at: Option<Instant>,
    /// When a request of ours was last known to be over: where the partition ended before that says nothing.
    quiet_since: Option<Moment>,
    /// How many requests there were.
    requests: u64,
    /// How often in a row a request was given up because it was not answered.
    given_up: u32,
    /// How long answers take: the longest lately.
    answers_take: Duration,
    /// The partition is among those that the queue has something to take of.
    pub(super) is_ready: bool,
}

impl<E> Default for PartitionQueue<E> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            in_flight: None,
            resend: VecDeque::new(),
            is_closing: false,
            acknowledged: None,
            unconfirmed_from: None,
            marked_at: None,
            quiet_since: None,
            requests: 0,
            given_up: 0,
            answers_take: Duration::ZERO,
            is_ready: false,
        }
    }
}

impl<E> PartitionQueue<E> {
    pub(super) fn push(&mut self, entry: Entry<E>) {
        self.waiting.push_back(entry);
    }

    /// Whether there is something to send, and nothing in flight or to be read back that it has to wait for.
    pub(super) fn has_next(&self) -> bool {
        self.in_flight.is_none()
            && !self.is_closing
            && match self.resend.front() {
                Some(request) => !request.may_have_arrived,
                None => !self.waiting.is_empty(),
            }
    }

    /// Whether it is to be asked where the partition ends before the next request is sent: what is known of it is so old that
    /// reading back from there could take long. What may have arrived has to be found from where it may be. And what was given up
    /// while it waited for the answer makes do with less each time: it would wait in vain again and again.
    fn needs_mark(&self, now: Instant) -> bool {
        let is_certain =
            !self.resend.iter().any(|request| request.may_have_arrived || request.may_be_under_way());
        let waits = self.resend.front().map_or(0, |request| request.waits);
        let interval = doubled(limits::MARK_INTERVAL, limits::LONGEST_WAIT, waits.saturating_add(1));
        let is_old = match self.marked_at {
            Some(at) => now.duration_since(at) >= interval,
            None => waits < limits::MARK_WAITS,
        };
        is_certain && is_old
    }

    /// Others have appended since, or events that passed the queue by.
    pub(super) const fn forget_mark(&mut self, now: Moment) {
        (self.marked_at, self.quiet_since) = (None, Some(now));
    }

    /// Whether requests came back.
    pub(super) fn is_to_resend(&self) -> bool {
        !self.resend.is_empty()
    }

    /// The sequence number of the first event that is not resolved.
    pub(super) fn first_sequence(&self) -> Option<u64> {
        let requests = self.in_flight.iter().chain(&self.resend);
        requests.filter_map(Request::first_sequence).next().or_else(|| self.first_waiting())
    }

    /// The sequence number of the first event that waits.
    pub(super) fn first_waiting(&self) -> Option<u64> {
        self.waiting.front().map(|entry| entry.sequence)
    }

    pub(super) fn pop_waiting(&mut self) -> Option<Entry<E>> {
        self.waiting.pop_front()
    }

    /// Puts the next request in flight: one that came back, or of as many events that wait as fit into it. Returns
    /// what to send, and how many events and bytes wait no longer.
    pub(super) fn take(
        &mut self,
        events: usize,
        bytes: usize,
        may_ask: bool,
    ) -> Option<(Taken, usize, usize)> {
        let mark =
            (may_ask && self.needs_mark(Instant::now())).then_some(MarkWanted { after: self.quiet_since });
        let patience = self.patience();
        let taken = |request: &Request<E>| {
            let oldest = request.oldest();
            Taken { messages: request.messages(), mark, patience, oldest }
        };
        self.requests += 1;
        if let Some(mut request) = self.resend.pop_front() {
            request.number = self.requests;
            return Some((taken(self.in_flight.insert(request)), 0, 0));
        }
        let mut left = bytes;
        let fits = |entry: &&Entry<E>| {
            let fits = entry.bytes() <= left;
            left = left.saturating_sub(entry.bytes());
            fits
        };
        let count = self.waiting.iter().take(events).take_while(fits).count();
        let entries: Vec<_> = self.waiting.drain(..count.max(1).min(self.waiting.len())).collect();
        if entries.is_empty() {
            return None;
        }
        if self.waiting.is_empty() && self.waiting.capacity() > limits::REQUEST_EVENTS {
            // It had a batch, or an outage, and may never have another.
            self.waiting = VecDeque::new();
        }
        let (events, bytes) = (entries.len(), entries.iter().map(Entry::bytes).sum());
        Some((taken(self.in_flight.insert(Request::new(self.requests, entries))), events, bytes))
    }

    /// For how long a request is waited for when another connection is lost: twice as long as it has to be.
    fn patience(&self) -> Duration {
        let first = limits::LOST_GRACE.max(2 * self.answers_take);
        doubled(first, limits::LOST_GRACE_MAX, self.given_up.saturating_add(1))
    }

    /// The request in flight is sent now: from here on it may have arrived, if sending it is given up.
    pub(super) fn begin(&mut self) {
        if let Some(request) = &mut self.in_flight {
            (request.may_have_arrived, request.sent_at, request.waits) = (true, Some(Instant::now()), 0);
        }
    }

    /// Takes the answer to the request in flight. An error says that the connection is lost.
    pub(super) fn complete(
        &mut self,
        result: Result<Option<Offset>, SendError>,
        now: Moment,
        effects: &mut Effects<E>,
    ) -> Result<(), Error> {
        let Some(mut request) = self.in_flight.take() else { return Ok(()) };
        request.may_have_arrived = false;
        self.quiet_since = Some(now);
        if !matches!(result, Err(SendError::Lost { .. })) {
            self.given_up = 0;
            let took = request.sent_at.map_or(Duration::ZERO, |sent_at| now.at.duration_since(sent_at));
            // What was slow for once is forgotten by and by.
            self.answers_take = took.max(self.answers_take / 2);
        }
        match result {
            Ok(base) => {
                if let Some(last) = request.last_at(base) {
                    self.unconfirmed_from = Some(last.offset.next());
                    self.acknowledged = Some(last);
                    self.marked_at = Some(now.at);
                }
                let (entries, messages) = request.into_parts();
                effects.acked = Some((entries, base));
                effects.messages.push(messages);
                Ok(())
            }
            Err(SendError::Refused(error)) => {
                // If it had company each event gets its own answer: one that the log does not like must not take the
                // others with it.
                match request.split() {
                    Ok(alone) => alone.into_iter().rev().for_each(|one| self.resend.push_front(one)),
                    Err(request) => {
                        let (entries, messages) = request.into_parts();
                        effects.messages.push(messages);
                        if let Some(entry) = entries.into_iter().next() {
                            let kind = entry.refusal(error);
                            effects.failed.push((entry, kind));
                        }
                    }
                }
                Ok(())
            }
            Err(SendError::Lost { error, may_have_taken_effect }) => {
                request.may_have_arrived = may_have_taken_effect;
                self.is_closing = may_have_taken_effect;
                self.resend.push_front(request);
                Err(error)
            }
        }
    }

    /// When its oldest event that is not in flight was accepted.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let waiting = self.waiting.front().map(|entry| entry.accepted_at);
        self.resend.iter().filter_map(Request::oldest).chain(waiting).min()
    }

    /// Fails what was accepted at `horizon` or before and is not in flight. Returns how many events and bytes
    /// wait no longer.
    pub(super) fn expire(
        &mut self,
        horizon: Instant,
        expiry: Duration,
        effects: &mut Effects<E>,
    ) -> (usize, usize) {
        for request in &mut self.resend {
            if request.oldest().is_none_or(|oldest| oldest > horizon) {
                continue;
            }
            let sent = request.may_have_arrived;
            let (failed, mut gone) = (&mut effects.failed, Vec::new());
            let messages = request.filter(|entry| {
                if entry.accepted_at > horizon {
                    return Some(entry);
                }
                if sent {
                    gone.push(entry.id);
                }
                let unsure = sent || entry.may_be_under_way;
                let kind = if unsure { unknown() } else { AppendErrorKind::Expired(expiry) };
                failed.push((entry, kind));
                None
            });
            gone.into_iter().for_each(|id| request.forget(id));
            effects.messages.push(messages);
        }
        self.resend.retain(|request| !request.is_empty());
        let count = self.waiting.partition_point(|entry| entry.accepted_at <= horizon);
        let bytes = self.waiting.iter().take(count).map(Entry::bytes).sum();
        let expired = self.waiting.drain(..count);
        effects.failed.extend(expired.map(|entry| (entry, AppendErrorKind::Expired(expiry))));
        (count, bytes)
    }

    /// Those who wait for the outcome of an event that was taken learn that it is in the reconnect buffer.
    pub(super) fn mark_taken_buffered(&mut self, wakers: &mut Vec<Waker>) {
        let requests = self.in_flight.iter_mut().chain(&mut self.resend);
        requests.for_each(|request| request.mark_buffered(wakers));
    }

    /// The same for an event that waits.
    pub(super) fn mark_waiting_buffered(&mut self, wakers: &mut Vec<Waker>) {
        wakers.extend(self.waiting.iter_mut().filter_map(Entry::mark_buffered));
    }

    /// How many events were taken and are not resolved.
    pub(super) fn taken(&self) -> usize {
        self.in_flight.iter().chain(&self.resend).map(Request::len).sum()
    }

    /// The request in flight is not waited for any longer, and may still arrive if it was sent.
    pub(super) fn give_up_in_flight(&mut self) {
        if let Some(mut request) = self.in_flight.take() {
            if request.may_have_arrived {
                self.given_up = self.given_up.saturating_add(1);
                self.is_closing = true;
            } else {
                request.waits = request.waits.saturating_add(1);
            }
            self.resend.push_front(request);
        }
    }

    /// The connection of a request that had no answer is closed: what has not arrived by now does not.
    pub(super) fn closed(&mut self, now: Moment) {
        self.is_closing = false;
        self.quiet_since = Some(now);
    }

    /// Whether a request may still arrive, although none is in flight: its connection is to be closed.
    pub(super) const fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Takes everything out, unresolved, each with why it fails.
    pub(super) fn end(&mut self, effects: &mut Effects<E>) -> Vec<(Entry<E>, AppendErrorKind)> {
        let mut ended = Vec::new();
        for request in self.in_flight.take().into_iter().chain(std::mem::take(&mut self.resend)) {
            let sent = request.may_have_arrived;
            let (entries, messages) = request.into_parts();
            effects.messages.push(messages);
            ended.extend(entries.into_iter().map(|entry| {
                let unsure = sent || entry.may_be_under_way;
                (entry, if unsure { unknown() } else { AppendErrorKind::Closed })
            }));
        }
        ended.extend(self.waiting.drain(..).map(|entry| (entry, AppendErrorKind::Closed)));
        ended
    }

    /// Whether this is the first request, and has to be read back.
    pub(super) fn is_unresolved(&self, number: u64) -> bool {
        self.resend.front().is_some_and(|request| request.may_have_arrived && request.number == number)
    }

    /// What has to be read back, if the first request may have arrived, and cannot do so any more.
    pub(super) fn unresolved(&self, partition: PartitionId) -> Option<Unresolved> {
        if self.is_closing {
            return None;
        }
        let request = self.resend.front().filter(|request| request.may_have_arrived)?;
        let (mut ids, mut events) = (HashMap::new(), 0);
        for id in request.ids() {
            *ids.entry(id).or_default() += 1;
            events += 1;
        }
        // Where the log has not said that when the first request was sent, it may be anywhere.
        let from = self.unconfirmed_from.unwrap_or(Offset::ZERO);
        let (number, acknowledged) = (request.number, self.acknowledged);
        Some(Unresolved { partition, number, ids, events, from, acknowledged })
    }

    /// Resolves what was found of the request with this number, and keeps what is to be sent again.
    pub(super) fn recovered(&mut self, number: u64, seen: ReadBack, effects: &mut Effects<E>) -> Recovered {
        let mut recovered = Recovered::default();
        // All of its events may have expired meanwhile, and another request may be the first.
        if !self.is_unresolved(number) {
            return recovered;
        }
        let Self { resend, unconfirmed_from, acknowledged, .. } = self;
        let Some(request) = resend.front_mut() else { return recovered };
        let ReadBack { mut found, incomplete, truncated_to } = seen;
        if let Some(low) = truncated_to {
            (*unconfirmed_from, *acknowledged) = (Some(low), None);
        }
        request.may_have_arrived = false;
        for id in request.take_gone() {
            found.get_mut(&id).and_then(VecDeque::pop_front);
        }
        let (found_in_log, failed) = (&mut effects.found, &mut effects.failed);
        let messages =
            request.filter(|mut entry| match found.get_mut(&entry.id).and_then(VecDeque::pop_front) {
                Some(offset) => {
                    if *unconfirmed_from < Some(offset.next()) {
                        *unconfirmed_from = Some(offset.next());
                        *acknowledged = Some(Landmark { offset, id: entry.id });
                    }
                    found_in_log.push((entry, offset));
                    recovered.found += 1;
                    None
                }
                // It may have been appended and then removed by retention before it could be read.
                None if incomplete => {
                    failed.push((entry, unknown()));
                    recovered.unknown += 1;
                    None
                }
                None => {
                    entry.may_be_under_way = true;
                    recovered.sent_again += 1;
                    Some(entry)
                }
            });
        effects.messages.push(messages);
        resend.retain(|request| !request.is_empty());
        // Others may have appended meanwhile.
        self.marked_at = None;
        recovered
    }

    /// The partition ended here at that time. If nothing of ours may be in the log unconfirmed, what is sent from now on is
    /// behind that.
    pub(super) fn ends_at(&mut self, high: Offset, asked_at: Moment) {
        let requests = || self.in_flight.iter().chain(&self.resend);
        let may_have_arrived = requests().any(|request| request.may_have_arrived);
        if may_have_arrived || self.is_closing || self.quiet_since.is_some_and(|quiet| asked_at < quiet) {
            return;
        }
        // What is under way from an earlier attempt may be anywhere behind what is known, unless that is behind the end.
        let is_certain = !requests().any(Request::may_be_under_way);
        let is_news = self.unconfirmed_from.is_none_or(|from| high < from || is_certain && from < high);
        if is_news {
            // What others did to the partition while nothing was open, a purge too, is of no concern to what comes.
            (self.unconfirmed_from, self.acknowledged) = (Some(high), None);
        }
        if self.unconfirmed_from == Some(high) {
            self.marked_at = Some(asked_at.at);
        }
    }
}

/// A request to be sent.
pub(in crate::engine) struct Taken {
    /// Shared with the queue.
    pub(in crate::engine) messages: Arc<[Message]>,
    /// It is to be asked first where the partition ends.
    pub(in crate::engine) mark: Option<MarkWanted>,
    /// For how long it is waited for when another connection is lost.
    pub(in crate::engine) patience: Duration,
    /// When the oldest of its events was accepted.
    pub(in crate::engine) oldest: Option<Instant>,
}

/// A question for where a partition ends.
#[derive(Clone, Copy)]
pub(in crate::engine) struct MarkWanted {
    /// An answer to an earlier question says nothing.
    pub(super) after: Option<Moment>,
}
