//! Conveniences for everybody who uses a log, on top of the two traits: no backend can forget one.

use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::consumer::{ConsumerOptions, EventConsumer};
use crate::error::{BatchError, Error, SubmitError, SubmitErrorKind};
use crate::event::Partitionable;
use crate::limits;
use crate::log::EventLog;
use crate::position::Cursor;
use crate::receipt::{AppendAck, Outcome, Receipt};
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
                Ok(ticket) => ticket.await,
                Err(SubmitError { event, kind: SubmitErrorKind::Full }) => {
                    self.append(event).await?.acked().await
                }
                Err(rejected) => Err(rejected.into()),
            }
        }
    }

    /// Appends all events, in requests of [`limits::REQUEST_EVENTS`], and waits until every one is in the
    /// log. Memory stays bounded however many there are: the events are drawn as they are sent.
    ///
    /// # Errors
    ///
    /// With the outcomes of the first chunk in which an event failed; the chunks before it are committed,
    /// and nothing after it was drawn.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves a prefix of the events appended.
    fn append_all<I>(&self, events: I) -> impl Future<Output = Result<Vec<AppendAck>, BatchError<E>>> + Send
    where
        I: IntoIterator<Item = E> + Send,
        I::IntoIter: Send,
    {
        async move {
            let mut events = events.into_iter();
            let mut committed = Vec::with_capacity(events.size_hint().0);
            loop {
                let chunk: Vec<E> = events.by_ref().take(limits::REQUEST_EVENTS).collect();
                if chunk.is_empty() {
                    return Ok(committed);
                }
                committed.extend(all_committed(self.append_batch(chunk).await?).await?);
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

async fn all_committed<E>(receipts: Vec<Receipt<E>>) -> Result<Vec<AppendAck>, BatchError<E>> {
    let mut outcomes = Vec::with_capacity(receipts.len());
    for receipt in receipts {
        outcomes.push(receipt.acked().await);
    }
    if outcomes.iter().any(Result::is_err) {
        let outcomes = outcomes.into_iter().map(|outcome| outcome.map(Receipt::Acked)).collect();
        return Err(BatchError::new(outcomes));
    }
    Ok(outcomes.into_iter().flatten().collect())
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
        stream::unfold((Some(self), None::<Cursor>), move |(consumer, end)| async move {
            let consumer = consumer?;
            let end = match end {
                Some(end) => end,
                None => match consumer.end().await {
                    Ok(end) => end,
                    Err(error) => return Some((Err(error), (None, None))),
                },
            };
            while consumer.position().iter().any(|(partition, next)| end.get(partition) > Some(next)) {
                match consumer.poll(max_count, STREAM_POLL).await {
                    Ok(batch) if batch.is_empty() && batch.notices.is_empty() => {}
                    Err(error) if !error.is_retryable() => return Some((Err(error), (None, None))),
                    // What was to be caught up with is gone with the offsets that were counted then.
                    Ok(batch) if is_truncated(&batch) => return Some((Ok(batch), (Some(consumer), None))),
                    item => return Some((item, (Some(consumer), Some(end)))),
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
