//! Finding out, over a new connection, what became of requests that were lost with an old one.
//!
//! Requests to one partition follow one another, so whatever an ambiguous request left in the log is behind
//! the last confirmed offset of that partition. The writer reads from there to the high watermark and looks for
//! the ids of its own events; the queue resolves what was found and sends only the rest.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;

use super::shared::Shared;
use crate::engine::scan::{Scan, scan};
use crate::engine::transport::{FetchRequest, Landmark, ProducerConnection, Transport};
use crate::error::Error;
use crate::event::EventId;
use crate::position::{Offset, PartitionId};
use crate::watermark::PartitionWatermarks;

/// A request that may have arrived.
pub(super) struct Unresolved {
    pub(super) partition: PartitionId,
    pub(super) ids: HashSet<EventId>,
    /// Everything of it is at this offset or behind it.
    pub(super) from: Offset,
    /// The last event that was acknowledged before.
    pub(super) acknowledged: Option<Landmark>,
}

/// What reading back has shown.
pub(super) struct ReadBack {
    /// By id: an event that was handed in twice with an id of its own is there twice.
    pub(super) found: HashMap<EventId, VecDeque<Offset>>,
    /// Part of what had to be read was no longer retained.
    pub(super) incomplete: bool,
    /// The partition was truncated: what is left of it begins here.
    pub(super) truncated_to: Option<Offset>,
}

/// Finds out what became of the requests that may have arrived. The queue goes on meanwhile: its events expire.
pub(super) async fn recover<E, T: Transport>(
    shared: &Shared<E>,
    transport: &T,
    connection: &T::Producer,
) -> Result<(), Error> {
    let watermarks = transport.watermarks().await?;
    for unresolved in shared.unresolved() {
        let partition = unresolved.partition;
        let seen = read_unresolved(connection, &unresolved, watermarks.get(partition)).await?;
        shared.recovered(partition, seen);
    }
    shared.ends_at(&watermarks);
    Ok(())
}

async fn read_unresolved<S: ProducerConnection>(
    connection: &S,
    unresolved: &Unresolved,
    marks: Option<PartitionWatermarks>,
) -> Result<ReadBack, Error> {
    let Unresolved { partition, ids, from, acknowledged } = unresolved;
    let (partition, from) = (*partition, *from);
    let marks = marks.unwrap_or(PartitionWatermarks { low: from, high: from });
    // It was purged, or lost its tail: anything of ours may be anywhere in what is left, or gone.
    let truncated = marks.high < from || !is_known_again(connection, partition, *acknowledged).await?;
    let from = if truncated { marks.low } else { from };
    let mut seen = read_back(connection, partition, ids, from..marks.high).await?;
    if truncated {
        seen.incomplete = true;
        seen.truncated_to = Some(from);
    }
    Ok(seen)
}

/// Whether a partition still has the last event that was acknowledged, where it was. One that was purged and has grown
/// again has another there.
async fn is_known_again<S: ProducerConnection>(
    connection: &S,
    partition: PartitionId,
    acknowledged: Option<Landmark>,
) -> Result<bool, Error> {
    let Some(Landmark { offset, id }) = acknowledged else { return Ok(true) };
    let request = FetchRequest { max_records: 1, ..FetchRequest::new(partition, offset) };
    let fetched = connection.fetch(request).await?;
    // Nothing there is no sign of it: retention may have been there first.
    Ok(fetched.records.first().is_none_or(|record| record.offset != offset || record.id == id))
}

/// Looks for our events in these offsets of a partition.
async fn read_back<S: ProducerConnection>(
    connection: &S,
    partition: PartitionId,
    ours: &HashSet<EventId>,
    offsets: Range<Offset>,
) -> Result<ReadBack, Error> {
    let mut found: HashMap<_, VecDeque<_>> = HashMap::with_capacity(ours.len());
    let scanned = scan(
        |request| connection.fetch(request),
        Scan { partition, offsets },
        |record| {
            if ours.contains(&record.id) {
                // The first copies are ours in the order of the request; the first is the one that consumers deliver.
                found.entry(record.id).or_default().push_back(record.offset);
            }
        },
    );
    let incomplete = scanned.await?;
    Ok(ReadBack { found, incomplete, truncated_to: None })
}
