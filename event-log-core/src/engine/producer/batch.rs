//! A batch on its way: sorted by partition once, so that each partition is visited once.

use std::ops::Range;

use bytes::Bytes;
use tokio::time::Instant;

use super::blocks::{BLOCK_BYTES, SHARED_BYTES};
use super::encode::{Encoder, own_id};
use super::entry::Entry;
use crate::engine::transport::{Message, Transport};
use crate::error::{AppendError, BatchError, SubmitError, SubmitErrorKind};
use crate::event::{EventId, Partitionable};
use crate::headers::Headers;
use crate::position::{Offset, PartitionId, Timestamp};
use crate::receipt::{AppendAck, Receipt};
use crate::ticket::Ticket;

/// Events of one batch, encoded. Everything per event is in the order of the batch, unless it says otherwise.
pub(in crate::engine) struct Batch<E> {
    events: Vec<E>,
    ids: Vec<EventId>,
    /// Empty where no event has any: most batches need not carry them.
    headers: Vec<Headers>,
    payloads: Payloads,
    partitions: Vec<PartitionId>,
    /// The places of the batch, sorted by partition.
    order: Vec<u32>,
    /// When it was handed in.
    now: Timestamp,
    /// Where the events that went directly are.
    offsets: Vec<Option<Offset>>,
}

impl<E: Partitionable> Batch<E> {
    pub(in crate::engine) fn prepare(encoder: &Encoder<E>, events: Vec<E>) -> Result<Self, BatchError<E>> {
        let payloads = match Payloads::encode(encoder, &events) {
            Ok(payloads) => payloads,
            Err((at, reason)) => return Err(refuse_batch(events, at, &reason)),
        };
        let mut headers = Vec::new();
        for (at, event) in events.iter().enumerate() {
            match encoder.headers(event) {
                Ok(one) if one.is_empty() && headers.is_empty() => {}
                Ok(one) => {
                    headers.resize(at, Headers::new());
                    headers.push(one);
                }
                Err(kind) => return Err(refuse_batch(events, at, &kind)),
            }
        }
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let now = encoder.now();
        let fresh = encoder.fresh_ids(now, count);
        let ids = events.iter().zip(fresh).map(|(event, id)| own_id(event).unwrap_or(id)).collect();
        let partitions: Vec<_> = events.iter().map(|event| encoder.partition(event)).collect();
        let order = by_partition(&partitions, encoder.partitions());
        Ok(Self { ids, headers, payloads, partitions, order, now, offsets: vec![None; events.len()], events })
    }

    /// Appends what the transport takes at once.
    pub(in crate::engine) fn append_fast<T: Transport>(&mut self, transport: &T) {
        let Self { ids, headers, payloads, partitions, order, now, offsets, .. } = self;
        let partition_at = |at: u32| partitions[at as usize];
        for places in order.chunk_by(|&a, &b| partition_at(a) == partition_at(b)) {
            let partition = partition_at(places[0]);
            let message = |&at: &u32| {
                let at = at as usize;
                let headers = headers.get(at).cloned().unwrap_or_default();
                Message { id: ids[at], headers, payload: payloads.get(at) }
            };
            let group = places.iter().map(message);
            let Ok(base) = transport.try_append(partition, *now, group) else { continue };
            for (&at, nth) in places.iter().zip(0..) {
                offsets[at as usize] = Some(Offset(base.0.saturating_add(nth)));
            }
        }
    }

    /// Whether some of it went directly.
    pub(in crate::engine) fn is_begun(&self) -> bool {
        self.offsets.iter().any(Option::is_some)
    }

    /// The receipts, if everything went directly.
    pub(in crate::engine) fn receipts(&self) -> Option<Vec<Receipt<E>>> {
        if self.offsets.contains(&None) {
            return None;
        }
        let placed = self.ids.iter().zip(&self.partitions).zip(&self.offsets);
        let receipt = |((&id, &partition), &offset): ((&EventId, &PartitionId), &Option<Offset>)| {
            Receipt::Acked(AppendAck::new(id, partition, offset))
        };
        Some(placed.map(receipt).collect())
    }

    /// The entries to queue, in the order of the batch, and what is left to wait for.
    pub(in crate::engine) fn into_queued(self) -> (Vec<Entry<E>>, QueuedBatch<E>) {
        let mut entries = Vec::with_capacity(self.events.len());
        // Asked once: the clock is read faster than an event is encoded, but not by much.
        let accepted_at = Instant::now();
        let placed = self.events.into_iter().enumerate().zip(self.ids).zip(self.partitions).zip(self.offsets);
        let headers = self.headers.into_iter().chain(std::iter::repeat_with(Headers::new));
        let placed = placed.zip(headers);
        let pending = placed.map(|(((((at, event), id), partition), offset), headers)| {
            if offset.is_some() {
                return Ok(AppendAck::new(id, partition, offset));
            }
            let message = Message { id, headers, payload: self.payloads.get(at) };
            let (entry, ticket) = Entry::new(event, message, partition, accepted_at);
            entries.push(entry);
            Err(ticket)
        });
        let pending = pending.collect();
        (entries, QueuedBatch { pending })
    }
}

/// The encodings of a batch. Short ones share pages, of no more bytes than [`BLOCK_BYTES`]: a log that retains one of them keeps
/// its page.
struct Payloads {
    pages: Vec<Bytes>,
    places: Vec<Payload>,
}

enum Payload {
    Page(usize, Range<usize>),
    Own(Bytes),
}

impl Payloads {
    /// The encodings of all events, or the place of the first that has none and why.
    fn encode<E>(encoder: &Encoder<E>, events: &[E]) -> Result<Self, (usize, SubmitErrorKind)>
    where
        E: Partitionable,
    {
        let mut places = Vec::with_capacity(events.len());
        let (mut pages, mut page, mut long) = (Vec::new(), Vec::with_capacity(BLOCK_BYTES), 0);
        for (at, event) in events.iter().enumerate() {
            if let Some(payload) = encoder.encoded(event) {
                places.push(Payload::Own(payload.map_err(|reason| (at, reason))?));
                continue;
            }
            // Events of a batch are most often alike: behind a long one the next is encoded where it can stay.
            if long > 0 {
                let mut own = Vec::with_capacity(long + long / 8);
                encoder.encode(event, &mut own).map_err(|reason| (at, reason))?;
                if own.len() > SHARED_BYTES {
                    long = own.len();
                    places.push(Payload::Own(own.into()));
                    continue;
                }
                long = 0;
                places.push(Payload::Own(Bytes::copy_from_slice(&own)));
                continue;
            }
            let start = page.len();
            encoder.encode(event, &mut page).map_err(|reason| (at, reason))?;
            let length = page.len() - start;
            if length > SHARED_BYTES {
                long = length;
                places.push(Payload::Own(Bytes::copy_from_slice(&page[start..])));
                page.truncate(start);
                continue;
            }
            places.push(Payload::Page(pages.len(), start..page.len()));
            if page.len() + SHARED_BYTES > BLOCK_BYTES {
                pages.push(Bytes::copy_from_slice(&page));
                page.clear();
            }
        }
        pages.push(Bytes::copy_from_slice(&page));
        Ok(Self { pages, places })
    }

    fn get(&self, at: usize) -> Bytes {
        match &self.places[at] {
            Payload::Page(page, range) => self.pages[*page].slice(range.clone()),
            Payload::Own(payload) => payload.clone(),
        }
    }
}

/// A batch of which something is in the queue.
pub(in crate::engine) struct QueuedBatch<E> {
    pending: Vec<Result<AppendAck, Ticket<E>>>,
}

impl<E> QueuedBatch<E> {
    /// Waits for every outcome, or for none when the events are in the reconnect buffer.
    pub(in crate::engine) async fn wait(self, buffered: bool) -> Result<Vec<Receipt<E>>, BatchError<E>> {
        let mut outcomes = Vec::with_capacity(self.pending.len());
        for pending in self.pending {
            outcomes.push(match pending {
                Ok(committed) => Ok(Receipt::Acked(committed)),
                Err(ticket) if buffered => Ok(Receipt::Buffered(ticket)),
                Err(ticket) => ticket.receipt().await,
            });
        }
        if outcomes.iter().any(Result::is_err) {
            return Err(BatchError::new(outcomes));
        }
        Ok(outcomes.into_iter().flatten().collect())
    }
}

/// The places of a batch sorted by partition, within a partition as they came: a counting sort.
fn by_partition(partitions: &[PartitionId], count: u32) -> Vec<u32> {
    let mut starts = vec![0_u32; count as usize + 1];
    for partition in partitions {
        starts[partition.0 as usize + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut order = vec![0; partitions.len()];
    for (at, partition) in (0..).zip(partitions) {
        let next = &mut starts[partition.0 as usize];
        order[*next as usize] = at;
        *next += 1;
    }
    order
}

/// Every event of a refused batch comes back: the offender with its reason, the others because of it.
fn refuse_batch<E>(events: Vec<E>, offender: usize, reason: &SubmitErrorKind) -> BatchError<E> {
    let refuse = |(at, event)| {
        let reason = if at == offender { reason.clone() } else { SubmitErrorKind::BatchRefused };
        Err(AppendError::from(SubmitError { event, kind: reason }))
    };
    BatchError::new(events.into_iter().enumerate().map(refuse).collect())
}
