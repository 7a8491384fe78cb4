//! Finding out, over a new connection, what became of requests that were lost with an old one.
//!
//! Requests to one partition follow one another, so whatever an ambiguous request left in the log is behind
//! the last confirmed offset of that partition. The writer reads from there to the high watermark, looks for
//! the ids of its own events, resolves what it finds and sends only the rest.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use tokio::task::coop::consume_budget;
use tokio::time::Instant;

use super::entry::unknown;
use super::flow::Flow;
use super::writer::Writer;
use crate::engine::transport::{FetchRequest, ProducerConnection, Transport};
use crate::error::Error;
use crate::event::EventId;
use crate::position::{Offset, PartitionId};
use crate::state::Recovered;
use crate::watermark::PartitionWatermarks;

impl<E: Send + 'static, T: Transport> Writer<E, T> {
    /// Finds out what became of the requests that may have arrived.
    pub(super) async fn recover(&mut self, connection: &mut T::Producer) -> Result<(), Error> {
        let watermarks = self.transport.watermarks().await?;
        for partition in self.partitions() {
            let flow = self.flow(partition);
            if let Some(recovered) = flow.recover(connection, partition, watermarks.get(partition)).await? {
                self.shared.recovered(recovered);
                self.hold(partition);
            }
        }
        for (partition, marks) in watermarks.iter() {
            if let Some(flow) = self.flows.get_mut(partition.0 as usize) {
                flow.ends_at(marks.high);
            }
        }
        self.marked_at = Instant::now();
        Ok(())
    }
}

impl<E> Flow<E> {
    /// Finds out what became of the first request, if it may have arrived.
    async fn recover<S: ProducerConnection>(
        &mut self,
        connection: &mut S,
        partition: PartitionId,
        marks: Option<PartitionWatermarks>,
    ) -> Result<Option<Recovered>, Error> {
        let Some(request) = self.requests.front().filter(|request| request.may_have_arrived) else {
            return Ok(None);
        };
        let ours = request.ids().collect();
        // A request is only sent after a first connection has filled this in.
        let from = self.unconfirmed_from.unwrap_or(Offset::ZERO);
        let marks = marks.unwrap_or(PartitionWatermarks { low: from, high: from });
        // It was purged, or lost its tail: anything of ours may be anywhere in what is left, or gone.
        let truncated = marks.high < from || !is_known_again(connection, partition, self.confirmed).await?;
        let from = if truncated { marks.low } else { from };
        let mut seen = read_back(connection, partition, &ours, from..marks.high).await?;
        if truncated {
            seen.incomplete = true;
            self.unconfirmed_from = Some(from);
            self.confirmed = None;
        }
        Ok(Some(self.settle(seen)))
    }

    /// Resolves what was seen of the first request, and keeps what is to be sent again.
    fn settle(&mut self, seen: ReadBack) -> Recovered {
        let Self { requests, unconfirmed_from, confirmed } = self;
        let mut recovered = Recovered::default();
        let Some(request) = requests.front_mut() else { return recovered };
        request.may_have_arrived = false;
        let ReadBack { mut found, incomplete } = seen;
        request.filter(|mut entry| match found.get_mut(&entry.id).and_then(VecDeque::pop_front) {
            Some(offset) => {
                if *unconfirmed_from < Some(offset.next()) {
                    *unconfirmed_from = Some(offset.next());
                    *confirmed = Some((offset, entry.id));
                }
                entry.commit(Some(offset));
                recovered.found += 1;
                None
            }
            // It may have been appended and then removed by retention before anybody could look.
            None if incomplete => {
                entry.fail(unknown());
                recovered.unknown += 1;
                None
            }
            None => {
                entry.may_be_under_way = true;
                recovered.sent_again += 1;
                Some(entry)
            }
        });
        requests.retain(|request| !request.is_empty());
        recovered
    }

    /// Nothing of ours is unconfirmed, and the partition ends here.
    pub(super) fn begins_at(&mut self, high: Offset) {
        if self.unconfirmed_from.is_some_and(|from| high < from) {
            self.confirmed = None;
        }
        self.unconfirmed_from = Some(high);
    }

    /// The partition ends here: nothing that is unconfirmed is behind it.
    fn ends_at(&mut self, high: Offset) {
        if self.unconfirmed_from.is_some_and(|from| high < from) {
            self.confirmed = None;
        }
        self.unconfirmed_from = Some(self.unconfirmed_from.map_or(high, |from| from.min(high)));
    }
}

/// Whether a partition still has the last event that was confirmed, where it was. One that was purged and has grown
/// again has another there.
async fn is_known_again<S: ProducerConnection>(
    connection: &mut S,
    partition: PartitionId,
    confirmed: Option<(Offset, EventId)>,
) -> Result<bool, Error> {
    let Some((offset, id)) = confirmed else { return Ok(true) };
    let request = FetchRequest { max_records: 1, ..FetchRequest::new(partition, offset) };
    let fetched = connection.fetch(request).await?;
    // Nothing there is no sign of it: retention may have been there first.
    Ok(fetched.records.first().is_none_or(|record| record.offset != offset || record.id == id))
}

/// What reading back has shown.
struct ReadBack {
    /// By id: an event that was handed in twice with an id of its own is there twice.
    found: HashMap<EventId, VecDeque<Offset>>,
    /// Part of what had to be read was no longer retained.
    incomplete: bool,
}

/// How often an empty answer from before the high watermark is asked again, and how long to wait between.
pub(in crate::engine) const EMPTY_ANSWERS: usize = 100;
pub(in crate::engine) const EMPTY_ANSWER_WAIT: Duration = Duration::from_millis(10);

/// Looks for our events in these offsets of a partition.
async fn read_back<S: ProducerConnection>(
    connection: &mut S,
    partition: PartitionId,
    ours: &HashSet<EventId>,
    offsets: Range<Offset>,
) -> Result<ReadBack, Error> {
    let mut seen = ReadBack { found: HashMap::with_capacity(ours.len()), incomplete: false };
    let (mut next, mut empty) = (offsets.start, 0);
    while next < offsets.end {
        consume_budget().await;
        let fetched = connection.fetch(FetchRequest::new(partition, next)).await?;
        if let Some(low) = fetched.low.filter(|&low| low > next) {
            seen.incomplete = true;
            next = low;
        }
        let scanned_to = fetched.scanned_to.filter(|&scanned_to| scanned_to > next);
        let read_to = fetched.records.last().map(|last| last.offset.next()).max(scanned_to);
        let Some(read_to) = read_to else {
            // No proof of the end: faults of the log look like this too.
            empty += 1;
            if empty > EMPTY_ANSWERS {
                return Err(Error::Unavailable(Some("the log does not return what it says it has".into())));
            }
            tokio::time::sleep(EMPTY_ANSWER_WAIT).await;
            continue;
        };
        next = next.max(read_to);
        let found = fetched.records.iter().filter(|record| ours.contains(&record.id));
        for record in found {
            // The first copies are ours in the order of the request; the first is the one that consumers deliver.
            seen.found.entry(record.id).or_default().push_back(record.offset);
        }
    }
    Ok(seen)
}
