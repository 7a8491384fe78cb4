//! Conveniences for everybody who uses a log, on top of the two traits: no backend can forget one.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{self, BoxFuture, MaybeDone, maybe_done};
use futures::stream::{self, BoxStream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::consumer::{ConsumerOptions, EventConsumer};
use crate::error::{AppendError, AppendErrorKind, Error, SubmitError, SubmitErrorKind};
use crate::event::Partitionable;
use crate::limits;
use crate::log::EventLog;
use crate::position::{Cursor, Offset, PartitionId};
use crate::receipt::{Outcome, Receipt};
use crate::record::{EventBatch, Notice};

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
                Ok(ticket) => {
                    let outcome = ticket.await;
                    // A loop of appends leaves others on its thread their turn.
                    #[cfg(feature = "engine")]
                    tokio::task::coop::consume_budget().await;
                    outcome
                }
                Err(SubmitError { event, kind: SubmitErrorKind::Full }) => {
                    self.append(event).await?.acked().await
                }
                Err(rejected) => Err(rejected.into()),
            }
        }
    }

    /// Appends all events that `events` yields, waits until every one is in the log, and returns how many that were.
    ///
    /// They are drawn in chunks of [`limits::REQUEST_EVENTS`]. One chunk is under way while the next one is handed over,
    /// and no more than these two are held, however many events there are.
    ///
    /// # Errors
    ///
    /// With how many events were appended and with every event that was drawn and was not. After a failure nothing more
    /// is drawn: the rest is still in `events`.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the events that were drawn appended or not, in each partition a prefix of them; those
    /// that were not drawn are still in `events`.
    fn append_all<I>(&self, events: &mut I) -> impl Future<Output = Result<u64, AppendAllError<E>>> + Send
    where
        I: Iterator<Item = E> + Send,
    {
        async move {
            let mut result = AppendAllError { appended: 0, failures: Vec::new() };
            let mut under_way: Option<MaybeDone<BoxFuture<'_, AppendAllError<E>>>> = None;
            loop {
                let chunk: Vec<E> = match result.failures.is_empty() {
                    true => events.take(limits::REQUEST_EVENTS).collect(),
                    false => Vec::new(),
                };
                let next = (!chunk.is_empty()).then(|| maybe_done(append_chunk(self, chunk).boxed()));
                let is_last = next.is_none();
                let former = std::mem::replace(&mut under_way, next);
                if let Some(next) = &mut under_way {
                    // The first poll hands it over, in order; its outcome is waited for in the next round.
                    future::poll_fn(|cx| Poll::Ready(next.poll_unpin(cx).is_ready())).await;
                }
                if let Some(mut former) = former {
                    (&mut former).await;
                    result.add(Pin::new(&mut former).take_output());
                }
                if is_last {
                    return if result.failures.is_empty() { Ok(result.appended) } else { Err(result) };
                }
            }
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
    fn add(&mut self, other: Option<Self>) {
        if let Some(other) = other {
            self.appended += other.appended;
            self.failures.extend(other.failures);
        }
    }

    /// The failure that the others followed from.
    fn cause(&self) -> Option<&AppendError<E>> {
        let follows = |error: &&AppendError<E>| {
            matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::BatchRefused))
        };
        self.failures.iter().find(|error| !follows(error)).or(self.failures.first())
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
        self.cause().map(|error| error.kind() as &(dyn StdError + 'static))
    }
}

/// Appends a chunk, as one batch or, if the queue can never hold it, one event after the other.
async fn append_chunk<E, L>(log: &L, chunk: Vec<E>) -> AppendAllError<E>
where
    E: Partitionable + Serialize + Send + 'static,
    L: EventLog<E> + ?Sized,
{
    let mut result = AppendAllError { appended: 0, failures: Vec::new() };
    let outcomes = match log.append_batch(chunk).await {
        Ok(receipts) => receipts.into_iter().map(Ok).collect(),
        Err(error) => error.into_outcomes(),
    };
    let is_full = |outcome: &Result<Receipt<E>, AppendError<E>>| matches!(outcome, Err(error) if matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::Full)));
    let singly = outcomes.iter().all(|outcome| outcome.is_ok() || is_full(outcome));
    for outcome in outcomes {
        let outcome = match outcome {
            Ok(receipt) => receipt.acked().await,
            Err(error) if singly && result.failures.is_empty() => log.append_acked(error.into_event()).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(_) => result.appended += 1,
            Err(error) => result.failures.push(error),
        }
    }
    result
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
    /// Partitions that go to other members meanwhile are not waited for.
    fn until_caught_up(&mut self, max_count: usize) -> BoxStream<'_, Result<EventBatch<E>, Error>> {
        stream::unfold((Some(self), None::<CatchUp>), move |(consumer, target)| async move {
            let consumer = consumer?;
            let target = match target {
                Some(target) => target,
                None => match consumer.end().await {
                    Ok(end) => CatchUp::new(end, consumer.position()),
                    Err(error) => return Some((Err(error), (None, None))),
                },
            };
            while !target.is_reached(consumer.position()) {
                match consumer.poll(max_count, STREAM_POLL).await {
                    Ok(batch) if batch.is_empty() && batch.notices.is_empty() => {}
                    Err(error) if !error.is_retryable() => return Some((Err(error), (None, None))),
                    // What was to be caught up with is gone with the offsets that were counted then.
                    Ok(batch) if is_truncated(&batch) => return Some((Ok(batch), (Some(consumer), None))),
                    item => return Some((item, (Some(consumer), Some(target)))),
                }
            }
            None
        })
        .boxed()
    }
}

impl<E: Send + 'static, C: EventConsumer<E> + ?Sized> EventConsumerExt<E> for C {}

fn is_truncated<E>(batch: &EventBatch<E>) -> bool {
    batch.notices.iter().any(|notice| matches!(notice, Notice::Truncated { .. }))
}

/// Where a reader that catches up has to come.
struct CatchUp {
    end: Cursor,
    /// Partitions that ended before where the reader stood: they were truncated, which it has not noticed yet.
    truncated: Vec<PartitionId>,
}

impl CatchUp {
    fn new(end: Cursor, position: &Cursor) -> Self {
        let is_truncated = |&(partition, next): &(PartitionId, Offset)| {
            // In one that is empty there is nothing to notice, and nothing to catch up with.
            end.get(partition).is_some_and(|end| Offset::ZERO < end && end < next)
        };
        let truncated = position.iter().filter(is_truncated).map(|(partition, _)| partition).collect();
        Self { end, truncated }
    }

    fn is_reached(&self, position: &Cursor) -> bool {
        position.iter().all(|(partition, next)| {
            self.end.get(partition) <= Some(next) && !self.truncated.contains(&partition)
        })
    }
}
