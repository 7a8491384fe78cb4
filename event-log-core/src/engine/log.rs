//! The handle: hands encoded events to the log or to the queue.

use std::fmt;
use std::panic::catch_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::runtime::Handle;
use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::clock::{Clock, IdGenerator, SystemClock, contain_clock, random_seed, seed_of_handle};
use super::consumer::{Consumer, within};
use super::producer::batch::Batch;
use super::producer::closing::Claim;
use super::producer::encode::{Encoder, Prepared};
use super::producer::entry::Entry;
use super::producer::queue::{Admission, WhenFull};
use super::producer::shared::Shared;
use super::producer::writer::Writer;
use super::transport::Transport;
use crate::codec::Codec;
use crate::config::{Overflow, ProducerConfig};
use crate::consumer::{ConsumerOptions, EventConsumer};
use crate::contain::report;
use crate::error::{AppendError, AppendErrorKind, BatchError, Error, SubmitError, SubmitErrorKind};
use crate::event::Partitionable;
use crate::limits;
use crate::log::{CloseError, EventLog};
use crate::position::PartitionId;
use crate::receipt::{AppendAck, Receipt};
use crate::state::{Connection, StateReceiver};
use crate::ticket::Ticket;
use crate::waking::contain_wakes;
use crate::watermark::{Lag, PartitionLag, Watermarks};

/// What a [`TransportLog`] is opened with, besides its transport.
pub struct LogBuilder<E> {
    codec: Arc<dyn Codec<E>>,
    config: ProducerConfig,
    clock: Arc<dyn Clock>,
    seed: Option<u64>,
    handle: Option<u64>,
}

/// Handles that this process has opened without a number.
static HANDLES: AtomicU64 = AtomicU64::new(0);

impl<E> LogBuilder<E> {
    /// With this codec and the default settings.
    pub fn new(codec: Arc<dyn Codec<E>>) -> Self {
        Self {
            codec,
            config: ProducerConfig::default(),
            clock: Arc::new(SystemClock),
            seed: None,
            handle: None,
        }
    }

    /// Settings of the producing side.
    #[must_use]
    pub fn config(mut self, config: ProducerConfig) -> Self {
        self.config = config;
        self
    }

    /// The clock of event ids. The default is [`SystemClock`].
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = contain_clock(clock);
        self
    }

    /// The seed of everything that is left to chance: event ids and jitter. The default is random. Two handles with one
    /// seed make different ids, see [`handle`](Self::handle).
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The number of this handle among all that are opened with the same seed: no two may have the same one, because
    /// their ids would be the same. The default counts the handles of the process; a backend that counts them itself
    /// makes ids that are repeatable.
    #[must_use]
    pub fn handle(mut self, number: u64) -> Self {
        self.handle = Some(number);
        self
    }

    /// Opens the log: connects, and starts the writer on the current runtime. The log and its consumers may be used from
    /// any thread, in a runtime or outside of one, as long as this runtime lives: when it ends, so does the log.
    ///
    /// # Errors
    ///
    /// When the settings or the topology are wrong, or the credentials are refused. A log that merely cannot
    /// be reached is opened all the same, in the state [`Connection::Reconnecting`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future opens nothing.
    pub async fn open<T: Transport>(self, transport: Arc<T>) -> Result<TransportLog<E, T>, Error>
    where
        E: Partitionable + Serialize + Send + 'static,
    {
        self.config.validate()?;
        let partitions = transport.properties().partitions;
        if partitions == 0 || partitions > limits::MAX_PARTITIONS {
            let problem = format!("{partitions} is not between 1 and {}", limits::MAX_PARTITIONS);
            return Err(Error::invalid("partitions", problem));
        }
        let runtime = Handle::try_current().map_err(|error| Error::Backend {
            retryable: false,
            may_have_taken_effect: false,
            error: Box::new(error),
        })?;
        check_timer()?;
        let (session, connection) = match transport.connect().await {
            Ok(session) => (Some(session), Connection::Connected),
            Err(error) if error.is_retryable() => {
                let since = self.clock.now();
                let last_error = Some(Arc::new(error));
                (None, Connection::Reconnecting { since, attempt: 0, next_attempt: None, last_error })
            }
            Err(error) => return Err(error),
        };
        let handle = self.handle.unwrap_or_else(|| HANDLES.fetch_add(1, Ordering::Relaxed));
        let seed = seed_of_handle(self.seed.unwrap_or_else(random_seed), handle);
        let shared = Shared::new(
            self.config,
            partitions,
            Arc::clone(&self.clock),
            seed,
            connection,
            !transport.properties().reads_ahead,
        );
        let shared = Arc::new(shared);
        let ids = IdGenerator::new(shared.chance.next_u64());
        let limit = shared.config.max_event_bytes;
        let encoder = Encoder::new(self.codec, self.clock, ids, &*transport, limit);
        let writer = Writer::new(Arc::clone(&shared), Arc::clone(&transport));
        runtime.spawn(writer.run(session));
        Ok(TransportLog { inner: Arc::new(Inner { shared, transport, encoder, runtime }) })
    }
}

/// An [`EventLog`] over a [`Transport`]. Clones are handles of the same log; the last one dropped ends it.
pub struct TransportLog<E, T: Transport> {
    inner: Arc<Inner<E, T>>,
}

struct Inner<E, T: Transport> {
    shared: Arc<Shared<E>>,
    transport: Arc<T>,
    encoder: Encoder<E>,
    /// The runtime that the log was opened on.
    runtime: Handle,
}

impl<E, T: Transport> Clone for TransportLog<E, T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<E, T: Transport> fmt::Debug for TransportLog<E, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportLog")
            .field("state", &self.inner.shared.state().current())
            .finish_non_exhaustive()
    }
}

impl<E, T: Transport> Drop for Inner<E, T> {
    fn drop(&mut self) {
        if self.shared.is_closed() {
            return;
        }
        let buffered = self.shared.buffered();
        report(|| {
            if buffered > 0 {
                let message = "the last handle of a log was dropped without close: events are given up";
                tracing::warn!(buffered, "{message}");
            } else {
                tracing::debug!("the last handle of a log was dropped without close");
            }
        });
        self.shared.give_up(Instant::now());
    }
}

impl<E, T: Transport> Inner<E, T> {
    /// Appends at once if the log is in this process and nothing is queued.
    fn append_fast(&self, prepared: Prepared<E>) -> Result<AppendAck, Prepared<E>> {
        if !self.shared.has_fast_path() {
            return Err(prepared);
        }
        let Prepared { event, partition, message, now } = prepared;
        let id = message.id;
        match self.transport.try_append(partition, now, std::iter::once(message)) {
            Ok(offset) => Ok(AppendAck::new(id, partition, Some(offset))),
            Err(mut message) => {
                let Some(message) = message.next() else { unreachable!("the message came back untouched") };
                Err(Prepared { event, partition, message, now })
            }
        }
    }
}

impl<E: Send + 'static, T: Transport> Inner<E, T> {
    /// Of these events, those that were rejected had a turn for nothing.
    fn give_turns_back<'a>(&self, errors: impl IntoIterator<Item = &'a AppendError<E>>)
    where
        E: Partitionable,
    {
        let is_rejected = |error: &&AppendError<E>| matches!(error.kind(), AppendErrorKind::Rejected(_));
        let events = errors.into_iter().filter(is_rejected).map(AppendError::event);
        events.for_each(|event| self.encoder.give_turn_back(event));
    }

    /// Offers events to the queue, and waits for space as long as the policy says. Returns whether they are
    /// in the reconnect buffer, so that their outcome is not to be waited for.
    async fn offer<G>(&self, entries: G, when_full: WhenFull) -> bool
    where
        G: AsRef<[Entry<E>]> + IntoIterator<Item = Entry<E>> + Into<Vec<Entry<E>>>,
    {
        match self.shared.offer(entries, when_full) {
            Admission::Queued { buffered } => return buffered,
            Admission::Rejected(entries, reason) => reject(entries, &reason),
            Admission::Waiting { number, left } => {
                let room = Waiter { shared: &self.shared, number };
                let Overflow::Block { deadline } = self.shared.config.overflow else {
                    drop(left.await);
                    return false;
                };
                let timeout = {
                    // The timer is that of the log's runtime: the caller may have none.
                    let _runtime = self.runtime.enter();
                    tokio::time::timeout(deadline, left)
                };
                if contain_wakes(timeout).await.is_err() {
                    reject(room.leave(), &SubmitErrorKind::Full);
                }
            }
        }
        false
    }
}

/// Events of a call that waits for space. If the call is dropped meanwhile they leave with it, so that the room
/// never holds more than the calls under way.
struct Waiter<'a, E> {
    shared: &'a Shared<E>,
    number: u64,
}

impl<E> Waiter<'_, E> {
    /// What has not been let in yet.
    fn leave(&self) -> Vec<Entry<E>> {
        self.shared.give_up_waiting(self.number).unwrap_or_default()
    }
}

impl<E> Drop for Waiter<'_, E> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

fn reject<E>(entries: Vec<Entry<E>>, reason: &SubmitErrorKind) {
    for entry in entries {
        entry.fail(AppendErrorKind::Rejected(reason.clone()));
    }
}

#[async_trait]
impl<E, T> EventLog<E> for TransportLog<E, T>
where
    E: Partitionable + Serialize + Send + 'static,
    T: Transport,
{
    fn submit(&self, event: E) -> Result<Ticket<E>, SubmitError<E>> {
        let inner = &*self.inner;
        let prepared = match inner.append_fast(inner.encoder.prepare(event)?) {
            Ok(committed) => return Ok(Ticket::resolved(Ok(committed))),
            Err(prepared) => prepared,
        };
        let (entry, ticket) = prepared.into_entry();
        match inner.shared.offer([entry], WhenFull::Reject) {
            Admission::Queued { .. } | Admission::Waiting { .. } => Ok(ticket),
            Admission::Rejected(entries, reason) => match entries.into_iter().find_map(Entry::into_event) {
                Some(event) => {
                    inner.encoder.give_turn_back(&event);
                    Err(SubmitError { event, kind: reason })
                }
                None => Ok(ticket),
            },
        }
    }

    async fn append(&self, event: E) -> Result<Receipt<E>, AppendError<E>> {
        let inner = &*self.inner;
        let prepared = match inner.encoder.prepare(event) {
            Ok(prepared) => prepared,
            Err(error) => {
                consume_budget().await;
                return Err(error.into());
            }
        };
        let prepared = match inner.append_fast(prepared) {
            Ok(committed) => {
                // A loop of appends leaves others on its thread their turn.
                consume_budget().await;
                return Ok(Receipt::Acked(committed));
            }
            Err(prepared) => prepared,
        };
        let (entry, ticket) = prepared.into_entry();
        let receipt = if inner.offer([entry], WhenFull::Wait).await {
            Ok(Receipt::Buffered(ticket))
        } else {
            ticket.receipt().await
        };
        inner.give_turns_back(receipt.as_ref().err());
        // As above: nothing of this need have waited.
        consume_budget().await;
        receipt
    }

    async fn append_batch(&self, events: Vec<E>) -> Result<Vec<Receipt<E>>, BatchError<E>> {
        let inner = &*self.inner;
        let mut batch = match Batch::prepare(&inner.encoder, events) {
            Ok(batch) => batch,
            Err(error) => {
                consume_budget().await;
                return Err(error);
            }
        };
        if inner.shared.has_fast_path() {
            batch.append_fast(&*inner.transport);
        }
        if let Some(receipts) = batch.receipts() {
            consume_budget().await;
            return Ok(receipts);
        }
        // Taken whole or not at all: what is left of a batch that was begun does not wait for space, nor is it rejected for want
        // of it.
        let when_full = if batch.is_begun() { WhenFull::Exceed } else { WhenFull::Wait };
        let (entries, batch) = batch.into_queued();
        let buffered = inner.offer(entries, when_full).await;
        let receipts = batch.wait(buffered).await;
        let failures = receipts.as_ref().err().into_iter().flat_map(BatchError::failures);
        inner.give_turns_back(failures.map(|(_, error)| error));
        consume_budget().await;
        receipts
    }

    async fn consumer_with(
        &self,
        group: &str,
        options: ConsumerOptions,
    ) -> Result<Box<dyn EventConsumer<E>>, Error>
    where
        E: DeserializeOwned,
    {
        consume_budget().await;
        check_group(group)?;
        let inner = &self.inner;
        if inner.shared.is_closed() {
            return Err(Error::Closed);
        }
        let instance =
            u128::from(inner.shared.chance.next_u64()) << 64 | u128::from(inner.shared.chance.next_u64());
        let (transport, codec) = (Arc::clone(&inner.transport), inner.encoder.codec());
        let runtime = inner.runtime.clone();
        let opening = Consumer::open(transport, codec, runtime, group, instance, options);
        Ok(Box::new(within(&inner.runtime, opening).await?))
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        consume_budget().await;
        self.inner.transport.watermarks().await
    }

    async fn lag(&self, group: &str) -> Result<Lag, Error> {
        consume_budget().await;
        check_group(group)?;
        // In this order: a lag is rather too large than negative.
        let partitions: Vec<_> = (0..self.inner.transport.properties().partitions).map(PartitionId).collect();
        let committed = self.inner.transport.committed(group, &partitions).await?;
        let watermarks = self.inner.transport.watermarks().await?;
        let mut committed = committed.into_iter();
        let lag = watermarks.iter().map(|(_, marks)| {
            let place = committed.next().transpose()?.flatten();
            Ok(PartitionLag::new(place, marks))
        });
        Ok(Lag::new(lag.collect::<Result<_, Error>>()?))
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        consume_budget().await;
        check_group(group)?;
        self.inner.transport.delete_group(group).await
    }

    fn state(&self) -> StateReceiver {
        self.inner.shared.state()
    }

    async fn flush(&self) -> Result<(), Error> {
        self.inner.shared.flush().await;
        if self.inner.shared.is_closed() { Err(Error::Closed) } else { Ok(()) }
    }

    async fn close(&self, deadline: Duration) -> Result<(), CloseError<E>> {
        let shared = &self.inner.shared;
        let now = Instant::now();
        // A deadline beyond the calendar is one that is not reached.
        shared.close(now.checked_add(deadline).unwrap_or(now + limits::LONGEST_WAIT));
        let claim = shared.claim_leftover();
        shared.wait_for_end().await;
        // The call that had it may have been dropped.
        let claim = claim.or_else(|| shared.claim_leftover());
        let leftover = claim.map(Claim::take).unwrap_or_default();
        if leftover.is_empty() { Ok(()) } else { Err(leftover) }
    }
}

/// The runtime must have a timer: without one the writer could not wait to reconnect.
fn check_timer() -> Result<(), Error> {
    let sleep = || tokio::time::sleep(Duration::ZERO).now_or_never();
    catch_unwind(sleep)
        .map(drop)
        .map_err(|_| Error::invalid("runtime", "has no timer: build it with `enable_time`"))
}

fn check_group(group: &str) -> Result<(), Error> {
    if group.is_empty() {
        return Err(Error::invalid("group", "must have a name"));
    }
    if group.len() > limits::GROUP_NAME_BYTES {
        return Err(Error::invalid("group", format!("must have at most {} bytes", limits::GROUP_NAME_BYTES)));
    }
    Ok(())
}
