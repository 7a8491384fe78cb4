//! What is done with an event on its caller's own thread: its encoding, its id, its partition.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use tokio::time::Instant;

use super::blocks::Blocks;
use super::entry::Entry;
use crate::codec::{Codec, CodecError};
use crate::contain::contained;
use crate::engine::clock::{Clock, IdGenerator};
use crate::engine::transport::{Message, Transport};
use crate::error::{SubmitError, SubmitErrorKind};
use crate::event::{EventId, Partitionable};
use crate::headers::Headers;
use crate::partitioner::partition_of;
use crate::position::{PartitionId, Timestamp};
use crate::ticket::Ticket;

/// An event with its place, encoded.
pub(in crate::engine) struct Prepared<E> {
    pub(in crate::engine) event: E,
    pub(in crate::engine) partition: PartitionId,
    pub(in crate::engine) message: Message,
    /// When it was handed in.
    pub(in crate::engine) now: Timestamp,
}

impl<E> Prepared<E> {
    pub(in crate::engine) fn into_entry(self) -> (Entry<E>, Ticket<E>) {
        Entry::new(self.event, self.message, self.partition, Instant::now())
    }
}

thread_local! {
    /// Where events are encoded before their length is known. Taken while in use, so that an event whose
    /// `Serialize` appends to a log itself finds an empty one.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A longer scratch buffer is given back to the allocator.
const SCRATCH_BYTES: usize = 1 << 20;

fn with_scratch<T>(encode: impl FnOnce(&mut Vec<u8>) -> T) -> T {
    // It is gone while the thread ends, whose other variables may still hand in what they have gathered.
    let mut scratch = SCRATCH.try_with(Cell::take).unwrap_or_default();
    let result = encode(&mut scratch);
    if scratch.capacity() <= SCRATCH_BYTES {
        scratch.clear();
        let _ = SCRATCH.try_with(|kept| kept.set(scratch));
    }
    result
}

/// Everything that preparing an event takes. Shared by all handles, and none waits for a lock.
pub(in crate::engine) struct Encoder<E> {
    codec: Arc<dyn Codec<E>>,
    clock: Arc<dyn Clock>,
    ids: IdGenerator,
    partitions: u32,
    /// The longest encoding, in bytes.
    limit: usize,
    /// Where the next event without a key goes.
    keyless: AtomicU32,
    /// `None` for a log that keeps the payloads that it gets: each must be an allocation of its own.
    blocks: Option<Blocks>,
}

impl<E> Encoder<E> {
    pub(in crate::engine) fn new(
        codec: Arc<dyn Codec<E>>,
        clock: Arc<dyn Clock>,
        ids: IdGenerator,
        transport: &impl Transport,
        limit: usize,
    ) -> Self {
        let blocks = (!transport.properties().keeps_payloads).then(Blocks::default);
        Self {
            codec,
            clock,
            ids,
            partitions: transport.properties().partitions,
            limit,
            keyless: AtomicU32::new(0),
            blocks,
        }
    }

    pub(in crate::engine) fn codec(&self) -> Arc<dyn Codec<E>> {
        Arc::clone(&self.codec)
    }

    pub(in crate::engine) const fn partitions(&self) -> u32 {
        self.partitions
    }

    /// The time, which is asked once for each call.
    pub(in crate::engine) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Ids for events that are submitted now and bring none.
    pub(in crate::engine) fn fresh_ids(
        &self,
        now: Timestamp,
        count: u32,
    ) -> impl Iterator<Item = EventId> + use<E> {
        self.ids.generate(now, count)
    }
}

/// The id that the event brings. Zero is none: it is what a message has that came without.
pub(in crate::engine) fn own_id<E: Partitionable>(event: &E) -> Option<EventId> {
    event.event_id().filter(|id| id.as_u128() != 0)
}

impl<E: Partitionable> Encoder<E> {
    /// Appends the encoding of `event` to `out`, within the limits.
    pub(in crate::engine) fn encode(&self, event: &E, out: &mut Vec<u8>) -> Result<(), SubmitErrorKind> {
        let start = out.len();
        self.codec.encode(event, out).map_err(SubmitErrorKind::Encode)?;
        self.check_length(out.len() - start)
    }

    /// The encoding of `event` if it is at hand already, within the limits.
    pub(in crate::engine) fn encoded(&self, event: &E) -> Option<Result<Bytes, SubmitErrorKind>> {
        let payload = self.codec.encoded(event)?;
        Some(self.check_length(payload.len()).map(|()| contained(payload)))
    }

    /// The headers of the event, and those of the codec.
    #[inline]
    pub(in crate::engine) fn headers(&self, event: &E) -> Result<Headers, SubmitErrorKind> {
        let (mut headers, more) = (event.headers(), self.codec.headers(event));
        if more.is_empty() {
            return Ok(headers);
        }
        match headers.extend(&more) {
            Ok(()) => Ok(headers),
            Err(error) => Err(SubmitErrorKind::Encode(CodecError::new(error))),
        }
    }

    fn copy(&self, bytes: &[u8]) -> Bytes {
        self.blocks.as_ref().map_or_else(|| Bytes::copy_from_slice(bytes), |blocks| blocks.copy(bytes))
    }

    fn check_length(&self, bytes: usize) -> Result<(), SubmitErrorKind> {
        let limit = self.limit;
        match bytes {
            0 => Err(SubmitErrorKind::Encode(CodecError::new("the encoding is empty"))),
            bytes if bytes > limit => Err(SubmitErrorKind::TooLarge { bytes, limit }),
            _ => Ok(()),
        }
    }

    /// The partition of its key; without one, the next in turn.
    pub(in crate::engine) fn partition(&self, event: &E) -> PartitionId {
        match event.partition_key() {
            Some(key) => partition_of(key, self.partitions),
            None => PartitionId(self.keyless.fetch_add(1, Ordering::Relaxed) % self.partitions),
        }
    }

    /// An event was rejected: if it has no key, its turn is that of the next one. Otherwise a caller of which every second
    /// event is rejected would have all of them in one partition.
    pub(in crate::engine) fn give_turn_back(&self, event: &E) {
        if event.partition_key().is_none() {
            self.keyless.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(in crate::engine) fn prepare(&self, event: E) -> Result<Prepared<E>, SubmitError<E>> {
        let copy = || with_scratch(|out| self.encode(&event, out).map(|()| self.copy(out)));
        let payload = self.encoded(&event).unwrap_or_else(copy);
        let payload = match payload {
            Ok(payload) => payload,
            Err(reason) => return Err(SubmitError { event, kind: reason }),
        };
        let now = self.now();
        let headers = match self.headers(&event) {
            Ok(headers) => headers,
            Err(kind) => return Err(SubmitError { event, kind }),
        };
        let id = own_id(&event).or_else(|| self.fresh_ids(now, 1).next());
        let Some(id) = id else { unreachable!("one id was asked for") };
        Ok(Prepared {
            partition: self.partition(&event),
            message: Message { id, headers, payload },
            now,
            event,
        })
    }
}
