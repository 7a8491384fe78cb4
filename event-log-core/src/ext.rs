//! Conveniences for those who use a log, on top of the two traits: no backend can forget one.

use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::consumer::{ConsumerOptions, EventConsumer};
use crate::error::{AppendError, Error, SubmitError, SubmitErrorKind};
use crate::event::Partitionable;
use crate::limits;
use crate::log::EventLog;
use crate::position::{Cursor, Offset, PartitionId};
use crate::receipt::Outcome;
use crate::record::{EventBatch, Notice};
use crate::ticket::Ticket;
use crate::turn::take_turn;

/// More ways to append and to open a consumer, for every [`EventLog`].
pub trait EventLogExt<E>: EventLog<E>
where
    E: Partitionable + Serialize + Send + 'static,
{
    /// Opens a consumer with the default options: from what the group has committed, else from the
    /// beginning, and records that cannot be decoded are delivered as such.
    ///
    /// # Errors
    ///
    /// As for [`EventLog::consumer_with`].
    fn consumer(&self, group: &str) -> impl Future<Output = Result<Box<dyn EventConsumer<E>>, Error>> + Send
    where
        E: DeserializeOwned,
    {
        async move { self.consumer_with(group, ConsumerOptions::default()).await }
    }

    /// Appends an event and waits until it is in the log, through a lost connection if need be.
    ///
    /// # Errors
    ///
    /// As for [`EventLog::append`].
    ///
    /// # Cancel safety
    ///
    /// As for [`EventLog::append`].
    fn append_acked(&self, event: E) -> impl Future<Output = Outcome<E>> + Send {
        async move {
            // `submit` needs no future on the heap. Only where it finds no space is it `append` that waits for it.
            match self.submit(event) {
                Ok(ticket) => ticket.await,
                Err(SubmitError { event, kind: SubmitErrorKind::Full }) => {
                    self.append(event).await?.acked().await
                }
                Err(rejected) => {
                    take_turn().await;
                    Err(rejected.into())
                }
            }
        }
    }

    /// Appends all events that `events` yields, waits until every one is in the log, and returns how many that were.
    ///
    /// They are handed over one after the other, and up to [`limits::APPEND_ALL_UNDER_WAY`] are under way at a time: memory
    /// stays bounded, and the log is kept busy. While the log is away it is one at a time, so that none of them drops another
    /// out of the reconnect buffer.
    ///
    /// # Errors
    ///
    /// With how many events were appended and with every event that was drawn and was not. Outcomes are looked at in the order
    /// in which the events were drawn; once one of them is a failure nothing more is drawn: the rest is still in `events`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the events that were drawn appended or not: in each partition a prefix of them, unless one of
    /// them is refused, expires or is dropped from the buffer. Those that were not drawn are still in `events`.
    fn append_all<I>(&self, events: &mut I) -> impl Future<Output = Result<u64, AppendAllError<E>>> + Send
    where
        I: Iterator<Item = E> + Send,
    {
        async move {
            let mut appending = AppendingAll {
                log: self,
                under_way: VecDeque::new(),
                result: AppendAllError { appended: 0, failures: Vec::new() },
            };
            while appending.result.failures.is_empty() {
                let Some(event) = events.next() else { break };
                appending.hand_over(event).await;
            }
            appending.wait_for_all_but(0).await;
            let result = appending.result;
            if result.failures.is_empty() { Ok(result.appended) } else { Err(result) }
        }
    }
}

impl<E, L> EventLogExt<E> for L
where
    E: Partitionable + Serialize + Send + 'static,
    L: EventLog<E> + ?Sized,
{
}

/// What [`append_all`](EventLogExt::append_all) could not append.
#[non_exhaustive]
pub struct AppendAllError<E> {
    /// How many events are in the log.
    pub appended: u64,
    /// Every event that was drawn and not appended, or of which that is unknown, in the order in which they were drawn.
    pub failures: Vec<AppendError<E>>,
}

impl<E> AppendAllError<E> {
    fn add(&mut self, outcome: Outcome<E>) {
        match outcome {
            Ok(_) => self.appended += 1,
            Err(error) => self.failures.push(error),
        }
    }
}

impl<E> AppendAllError<E> {
    /// Whether appending the failed events again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.failures.first().is_some_and(AppendError::is_retryable)
    }

    /// Whether a failed event may be in the log all the same.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        self.failures.iter().any(AppendError::may_have_taken_effect)
    }
}

impl<E> fmt::Debug for AppendAllError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppendAllError")
            .field("appended", &self.appended)
            .field("failures", &self.failures)
            .finish()
    }
}

impl<E> fmt::Display for AppendAllError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} events were not appended after {}", self.failures.len(), self.appended)
    }
}

impl<E> StdError for AppendAllError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.failures.first().map(|error| error.kind() as &(dyn StdError + 'static))
    }
}

/// Events on their way, handed over in the order in which they were drawn.
struct AppendingAll<'a, E, L: ?Sized> {
    log: &'a L,
    /// Oldest first.
    under_way: VecDeque<Ticket<E>>,
    result: AppendAllError<E>,
}

impl<E, L> AppendingAll<'_, E, L>
where
    E: Partitionable + Serialize + Send + 'static,
    L: EventLog<E> + ?Sized,
{
    /// Hands over an event. Nothing overtakes it: where there is no space it waits for those before it.
    async fn hand_over(&mut self, event: E) {
        take_turn().await;
        let mut event = event;
        loop {
            self.reap();
            // Into a buffer that may drop its oldest event goes one at a time. While the log is away all are buffered, and so is
            // the oldest that has no outcome.
            if self.under_way.front().is_some_and(Ticket::is_buffered) {
                self.wait_for_all_but(0).await;
                if !self.result.failures.is_empty() {
                    return self
                        .result
                        .failures
                        .push(SubmitError { event, kind: SubmitErrorKind::Full }.into());
                }
            }
            match self.log.submit(event) {
                Ok(ticket) => {
                    let most = if ticket.is_buffered() { 0 } else { limits::APPEND_ALL_UNDER_WAY };
                    self.under_way.push_back(ticket);
                    return self.wait_for_all_but(most).await;
                }
                Err(SubmitError { event: back, kind: SubmitErrorKind::Full }) => event = back,
                Err(rejected) => {
                    self.wait_for_all_but(0).await;
                    return self.result.failures.push(rejected.into());
                }
            }
            if self.under_way.is_empty() {
                // Others fill the queue: the event waits for space as the policy says.
                let outcome = self.log.append_acked(event).await;
                return self.result.add(outcome);
            }
            self.wait_for_all_but(self.under_way.len() - 1).await;
            if !self.result.failures.is_empty() {
                self.wait_for_all_but(0).await;
                let kind = SubmitErrorKind::Full;
                return self.result.failures.push(SubmitError { event, kind }.into());
            }
        }
    }

    /// Takes what has an outcome from the front.
    fn reap(&mut self) {
        while let Some(outcome) = self.under_way.front_mut().and_then(FutureExt::now_or_never) {
            self.under_way.pop_front();
            self.result.add(outcome);
        }
    }

    /// Waits for the oldest until no more than `most` are under way.
    async fn wait_for_all_but(&mut self, most: usize) {
        while self.under_way.len() > most {
            let Some(ticket) = self.under_way.front_mut() else { return };
            let outcome = ticket.await;
            self.under_way.pop_front();
            self.result.add(outcome);
        }
    }
}

/// A stream's poll is renewed this often; it only bounds how long a poll is open, not how soon it returns.
const STREAM_POLL: Duration = Duration::from_secs(60);

/// More ways to read, for every [`EventConsumer`].
///
/// Both streams yield whole [batches](EventBatch) rather than single records, because a batch carries what
/// must not get lost on the way: the notices, and the cursor to commit. They borrow the consumer, so it can
/// be used directly again once the stream is dropped, and dropping one loses no record.
pub trait EventConsumerExt<E: Send + 'static>: EventConsumer<E> {
    /// Everything from here on, as it comes, in batches of at most `max_count` records.
    ///
    /// Retryable errors are yielded and the stream goes on; any other error is yielded and ends it.
    fn stream(&mut self, max_count: usize) -> BoxStream<'_, Result<EventBatch<E>, Error>> {
        stream::unfold(Some(self), move |consumer| async move {
            let consumer = consumer?;
            loop {
                match consumer.poll(max_count, STREAM_POLL).await {
                    Ok(batch) if batch.is_empty() && batch.notices.is_empty() => {}
                    Err(error) if !error.is_retryable() => return Some((Err(error), None)),
                    item => return Some((item, Some(consumer))),
                }
            }
        })
        .boxed()
    }

    /// Everything from here up to the high watermark of this moment; then the stream ends, and the consumer
    /// stands where live reading continues without a gap or a repeat.
    ///
    /// Partitions that go to other members meanwhile are not waited for, nor is what the log loses meanwhile.
    fn until_caught_up(&mut self, max_count: usize) -> BoxStream<'_, Result<EventBatch<E>, Error>> {
        stream::unfold((Some(self), Target::Unknown), move |(consumer, mut target)| async move {
            let consumer = consumer?;
            let mut awaits_notices = true;
            loop {
                let known = match target {
                    Target::Known(known) => known,
                    unsure => match consumer.end().await {
                        Ok(end) => unsure.becomes_known(end, consumer.position(), awaits_notices),
                        Err(error) if error.is_retryable() => {
                            // The log is away, and a poll waits for it. What comes is a part of what there is to catch up
                            // with. What was known before is asked for again soon enough, and its failure is not all that
                            // there is to tell.
                            let was_known = matches!(unsure, Target::AtMost(_));
                            let patience = if was_known { STREAM_POLL } else { limits::REJOIN_INTERVAL };
                            match consumer.poll(max_count, patience).await {
                                Ok(batch) if is_truncated(&batch) => {
                                    return Some((Ok(batch), (Some(consumer), Target::Unknown)));
                                }
                                Ok(batch) if !(batch.is_empty() && batch.notices.is_empty()) => {
                                    return Some((Ok(batch), (Some(consumer), unsure)));
                                }
                                // It may have come without any waiting, as it would again.
                                Err(error) if !error.is_retryable() => {
                                    return Some((Err(error), (None, unsure)));
                                }
                                Ok(_) if was_known => {
                                    target = unsure;
                                    continue;
                                }
                                _ => return Some((Err(error), (Some(consumer), unsure))),
                            }
                        }
                        Err(error) => return Some((Err(error), (None, unsure))),
                    },
                };
                if !known.is_of(consumer.position()) {
                    // What has gone may be on its way back, as when the connection was lost. The end is known when it has come.
                    target = Target::AtMost(known.end);
                    continue;
                }
                if known.is_reached(consumer.position()) {
                    return None;
                }
                let behind = known.behind(consumer.position());
                match consumer.poll(max_count, STREAM_POLL).await {
                    // Nothing for so long: the end may be another by now, and so may the log.
                    Ok(batch) if batch.is_empty() && batch.notices.is_empty() => {
                        (awaits_notices, target) = (false, Target::AtMost(known.end));
                    }
                    Err(error) if !error.is_retryable() => {
                        return Some((Err(error), (None, Target::Unknown)));
                    }
                    // What was to be caught up with is gone with the offsets that were counted then.
                    Ok(batch) if is_truncated(&batch) => {
                        return Some((Ok(batch), (Some(consumer), Target::Unknown)));
                    }
                    Ok(batch) => {
                        // What is waited for may be lost, and others keep every poll from saying that nothing comes. One
                        // that came or went is read from what is there now, and not told of its truncation.
                        let is_certain =
                            known.truncated.is_empty() && known.behind(consumer.position()) != behind;
                        let target =
                            if is_certain { Target::Known(known) } else { Target::AtMost(known.end) };
                        return Some((Ok(batch), (Some(consumer), target)));
                    }
                    item => return Some((item, (Some(consumer), Target::Known(known)))),
                }
            }
        })
        .boxed()
    }
}

impl<E: Send + 'static, C: EventConsumer<E> + ?Sized> EventConsumerExt<E> for C {}

fn is_truncated<E>(batch: &EventBatch<E>) -> bool {
    batch.notices.iter().any(|notice| matches!(notice, Notice::Truncated { .. }))
}

/// What is known of where a reader that catches up has to come.
enum Target {
    Unknown,
    /// No farther than this, and perhaps not so far any more: the log may have lost its tail since it was asked.
    AtMost(Cursor),
    Known(CatchUp),
}

impl Target {
    /// The log has said where it ends now. What was appended since it was asked first is not caught up with.
    fn becomes_known(self, now: Cursor, position: &Cursor, awaits_notices: bool) -> CatchUp {
        let mut known = CatchUp::new(now, position, awaits_notices);
        if let Self::AtMost(mut end) = self {
            for (partition, now) in known.end.iter() {
                if end.get(partition).is_some_and(|end| now < end) {
                    end.set(partition, now);
                }
            }
            known.end = end;
        }
        known
    }
}

/// Where a reader that catches up has to come.
struct CatchUp {
    /// The partitions that it had when that was asked.
    partitions: Vec<PartitionId>,
    end: Cursor,
    /// Partitions that ended before where the reader stood: they were truncated, which it has not noticed yet.
    truncated: Vec<PartitionId>,
}

impl CatchUp {
    fn new(end: Cursor, position: &Cursor, awaits_notices: bool) -> Self {
        let is_truncated = |&(partition, next): &(PartitionId, Offset)| {
            // In one that is empty there is nothing to notice, and nothing to catch up with.
            awaits_notices && end.get(partition).is_some_and(|end| Offset::ZERO < end && end < next)
        };
        let truncated = position.iter().filter(is_truncated).map(|(partition, _)| partition).collect();
        let partitions = position.iter().map(|(partition, _)| partition).collect();
        Self { partitions, end, truncated }
    }

    /// Whether the reader has the same partitions.
    fn is_of(&self, position: &Cursor) -> bool {
        position.iter().map(|(partition, _)| partition).eq(self.partitions.iter().copied())
    }

    fn is_reached(&self, position: &Cursor) -> bool {
        self.truncated.iter().all(|&partition| position.get(partition).is_none())
            && self.behind(position).is_empty()
    }

    /// The partitions that end farther on than the reader stands in them, and where that is.
    fn behind(&self, position: &Cursor) -> Vec<(PartitionId, Offset)> {
        position.iter().filter(|&(partition, next)| self.end.get(partition) > Some(next)).collect()
    }
}
