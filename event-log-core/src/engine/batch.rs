//! A batch on its way: sorted by partition once, so that each partition is visited once.

use bytes::Bytes;

use super::entry::Entry;
use super::log::{Inner, with_scratch};
use super::transport::{Message, Transport};
use crate::error::{AppendError, BatchError, RejectReason, Rejected};
use crate::event::{EventId, Partitionable};
use crate::position::{Offset, PartitionId};
use crate::receipt::{Committed, Receipt, Ticket};

/// Events of one batch, encoded.
pub(super) struct Batch<E> {
    /// In the order of the batch.
    events: Vec<E>,
    /// Sorted by partition; within a partition in the order of the batch.
    unsent: Vec<Unsent>,
    /// What went directly, in the order of the batch.
    committed: Vec<Option<Committed>>,
}

struct Unsent {
    /// The place in the batch.
    at: usize,
    partition: PartitionId,
    message: Message,
}

impl<E: Partitionable> Batch<E> {
    pub(super) fn prepare<T: Transport>(inner: &Inner<E, T>, events: Vec<E>) -> Result<Self, BatchError<E>> {
        let places: Vec<_> = events.iter().map(|event| inner.partition(event)).collect();
        let order = by_partition(&places, inner.transport.partitions());
        let mut ends = Vec::with_capacity(events.len());
        let encoded = with_scratch(|scratch| {
            for &at in &order {
                inner
                    .encode(&events[at], scratch)
                    .map_err(|reason| (at, reason))?;
                ends.push(scratch.len());
            }
            // One allocation for the whole batch, of exactly its length.
            Ok(Bytes::copy_from_slice(scratch))
        });
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err((at, reason)) => return Err(refuse_batch(events, at, &reason)),
        };
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        let ids: Vec<EventId> = inner.ids.generate(inner.clock.now(), count).collect();
        let mut start = 0;
        let unsent = order.into_iter().zip(ends).map(|(at, end)| {
            let payload = encoded.slice(start..end);
            start = end;
            let id = events[at].event_id().unwrap_or(ids[at]);
            Unsent {
                at,
                partition: places[at],
                message: Message { id, payload },
            }
        });
        Ok(Self {
            unsent: unsent.collect(),
            committed: vec![None; events.len()],
            events,
        })
    }

    /// Appends what the transport takes at once; the rest stays unsent.
    pub(super) fn append_direct<T: Transport>(&mut self, transport: &T) {
        let mut unsent = std::mem::take(&mut self.unsent).into_iter().peekable();
        while let Some(partition) = unsent.peek().map(|first| first.partition) {
            let mut places = Vec::new();
            let mut messages = Vec::new();
            while let Some(Unsent { at, message, .. }) = unsent.next_if(|next| next.partition == partition) {
                places.push((at, message.id));
                messages.push(message);
            }
            match transport.try_append(partition, messages.into_iter()) {
                Ok(base) => {
                    for ((at, id), offset) in places.into_iter().zip(base.0..) {
                        self.committed[at] = Some(Committed::new(id, partition, Some(Offset(offset))));
                    }
                }
                Err(messages) => {
                    let back = places.into_iter().zip(messages);
                    self.unsent.extend(back.map(|((at, _), message)| Unsent {
                        at,
                        partition,
                        message,
                    }));
                }
            }
        }
    }

    /// The receipts, if everything went directly.
    pub(super) fn receipts(&self) -> Option<Vec<Receipt<E>>> {
        let all = self.unsent.is_empty();
        all.then(|| {
            self.committed
                .iter()
                .flatten()
                .map(|&committed| Receipt::Committed(committed))
                .collect()
        })
    }

    /// The entries to queue, in the order of the batch, and what is left to wait for.
    pub(super) fn into_queued(self) -> (Vec<Entry<E>>, QueuedBatch<E>) {
        let mut unsent = self.unsent;
        unsent.sort_unstable_by_key(|unsent| unsent.at);
        let mut unsent = unsent.into_iter().peekable();
        let mut entries = Vec::with_capacity(unsent.len());
        let mut pending = Vec::with_capacity(self.events.len());
        for ((at, event), committed) in self.events.into_iter().enumerate().zip(self.committed) {
            if let Some(Unsent {
                partition, message, ..
            }) = unsent.next_if(|next| next.at == at)
            {
                let (entry, ticket) = Entry::new(event, message, partition);
                entries.push(entry);
                pending.push(Err(ticket));
            } else if let Some(committed) = committed {
                pending.push(Ok(committed));
            }
        }
        (entries, QueuedBatch { pending })
    }
}

/// A batch of which something is in the queue.
pub(super) struct QueuedBatch<E> {
    pending: Vec<Result<Committed, Ticket<E>>>,
}

impl<E> QueuedBatch<E> {
    /// Waits for every outcome, or for none when the events are in the reconnect buffer.
    pub(super) async fn wait(self, buffered: bool) -> Result<Vec<Receipt<E>>, BatchError<E>> {
        let mut outcomes = Vec::with_capacity(self.pending.len());
        for pending in self.pending {
            outcomes.push(match pending {
                Ok(committed) => Ok(Receipt::Committed(committed)),
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
fn by_partition(places: &[PartitionId], partitions: u32) -> Vec<usize> {
    let mut starts = vec![0_usize; partitions as usize + 1];
    for partition in places {
        starts[partition.0 as usize + 1] += 1;
    }
    for at in 1..starts.len() {
        starts[at] += starts[at - 1];
    }
    let mut order = vec![0; places.len()];
    for (at, partition) in places.iter().enumerate() {
        let next = &mut starts[partition.0 as usize];
        order[*next] = at;
        *next += 1;
    }
    order
}

/// Every event of a refused batch comes back: the offender with its reason, the others because of it.
fn refuse_batch<E>(events: Vec<E>, offender: usize, reason: &RejectReason) -> BatchError<E> {
    let refuse = |(at, event)| {
        let reason = if at == offender {
            reason.clone()
        } else {
            RejectReason::BatchRefused
        };
        Err(AppendError::from(Rejected { event, reason }))
    };
    BatchError::new(events.into_iter().enumerate().map(refuse).collect())
}
