//! The storage of one partition: records in segments, oldest first.
//!
//! A segment never moves once it is allocated, so that an append costs the same whatever is retained, and
//! retention frees whole segments.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use event_log_core::engine::{FetchRequest, FetchResponse, Message, StoredMessage, contain};
use event_log_core::{EventId, Headers, Offset, PartitionWatermarks, Timestamp};

use crate::retention::Retention;

/// Records of one segment: 64 KiB of them, payloads not counted.
const SEGMENT_RECORDS: usize = 1_024;

/// A record as it is kept. Its offset follows from its place in the segment.
#[derive(Debug)]
struct Kept {
    id: EventId,
    timestamp: Timestamp,
    headers: Headers,
    payload: Bytes,
}

/// Records with successive offsets: behind a gap another segment begins.
#[derive(Debug)]
struct Segment {
    /// The offset of the first.
    first: Offset,
    records: VecDeque<Kept>,
}

impl Segment {
    fn new(first: Offset) -> Self {
        Self { first, records: VecDeque::with_capacity(SEGMENT_RECORDS) }
    }

    /// The offset behind the last record.
    fn end(&self) -> Offset {
        Offset(self.first.0 + self.records.len() as u64)
    }

    fn takes(&self, offset: Offset) -> bool {
        self.records.len() < self.records.capacity() && self.end() == offset
    }

    /// The place of an offset, or of the next one that is there.
    fn place(&self, offset: Offset) -> usize {
        usize::try_from(offset.0.saturating_sub(self.first.0)).unwrap_or(usize::MAX)
    }
}

/// Records that were removed, until the lock of their partition has been released: a payload may be the application's, and
/// so is the code that frees it. Most often it is one record, which takes no allocation.
#[derive(Debug, Default)]
#[must_use]
pub(crate) struct Removed {
    first: Option<Kept>,
    more: Option<Box<RemovedMore>>,
}

#[derive(Debug, Default)]
struct RemovedMore {
    records: Vec<Kept>,
    segments: VecDeque<Segment>,
}

impl Removed {
    fn record(&mut self, record: Kept) {
        match &self.first {
            None => self.first = Some(record),
            Some(_) => self.more.get_or_insert_default().records.push(record),
        }
    }

    fn segments(segments: VecDeque<Segment>) -> Self {
        Self { first: None, more: Some(Box::new(RemovedMore { records: Vec::new(), segments })) }
    }
}

impl Drop for Removed {
    fn drop(&mut self) {
        // Each by itself, so that one that panics leaves the others to be freed.
        let free = |record: Kept| contain(|| drop(record));
        if let Some(first) = self.first.take() {
            free(first);
        }
        if let Some(more) = self.more.take() {
            let segments = more.segments.into_iter().flat_map(|segment| segment.records);
            more.records.into_iter().chain(segments).for_each(free);
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// In the order of their offsets. None is empty.
    segments: VecDeque<Segment>,
    records: u64,
    /// The low watermark: one past the last record that was removed. A gap behind it is no loss.
    low: Offset,
    /// What the next append gets, but for the gap: the high watermark.
    next: Offset,
    /// Offsets that the next append leaves out.
    gap: u64,
    /// How often the offsets have begun again.
    incarnation: u64,
    /// The time of the last append: time never goes back within a partition.
    latest: Timestamp,
}

impl Partition {
    /// Appends messages and returns the offset of the first; the others follow it without a gap.
    pub(crate) fn append(&mut self, messages: impl Iterator<Item = Message>, now: Timestamp) -> Offset {
        let base = self.next_offset();
        (self.next, self.gap) = (base, 0);
        self.latest = self.latest.max(now);
        let timestamp = self.latest;
        // Each record is made where it stays: moved through an iterator it would be copied several times.
        messages.for_each(|Message { id, headers, payload }| {
            let has_space = self.segments.back().is_some_and(|segment| segment.takes(self.next));
            if !has_space {
                self.segments.push_back(Segment::new(self.next));
            }
            if let Some(segment) = self.segments.back_mut() {
                segment.records.push_back(Kept { id, timestamp, headers, payload });
                self.records += 1;
                self.next = self.next.next();
            }
        });
        base
    }

    /// Leaves a gap before the next append.
    pub(crate) fn skip_offsets(&mut self, count: u64) {
        self.gap = self.gap.saturating_add(count);
    }

    /// Uses up offsets behind the last record. Returns the high watermark.
    pub(crate) fn trailing_gap(&mut self, count: u64) -> Offset {
        self.next = Offset(self.next.0.saturating_add(count));
        self.next
    }

    pub(crate) const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    pub(crate) const fn next_offset(&self) -> Offset {
        Offset(self.next.0.saturating_add(self.gap))
    }

    pub(crate) fn watermarks(&self) -> PartitionWatermarks {
        // A gap at the end is not there until an append makes it one: the high watermark is what a reader
        // that has read everything stands at.
        PartitionWatermarks { low: self.low, high: self.next }
    }

    pub(crate) fn fetch(&self, request: FetchRequest) -> FetchResponse {
        let FetchRequest { from, after, max_records, max_bytes, .. } = request;
        let truncated = after.is_some_and(|known| {
            let there = self.iter_from(known.offset).next().filter(|&(offset, _)| offset == known.offset);
            there.is_some_and(|(_, record)| record.id != known.id)
        });
        let mut bytes = 0_usize;
        let mut records = Vec::with_capacity(max_records.min(self.after(from)));
        let PartitionWatermarks { low, high } = self.watermarks();
        let mut scanned_to = Some(high.max(from));
        for (offset, record) in self.iter_from(from) {
            bytes = bytes.saturating_add(record.payload.len().saturating_add(record.headers.bytes()));
            if records.len() >= max_records || (bytes > max_bytes && !records.is_empty()) {
                scanned_to = Some(offset);
                break;
            }
            let &Kept { id, timestamp, ref headers, ref payload } = record;
            let (headers, payload) = (headers.clone(), payload.clone());
            records.push(StoredMessage { offset, id, timestamp, headers, payload });
        }
        FetchResponse {
            records,
            low: Some(low),
            high: Some(high),
            truncated,
            incarnation: Some(self.incarnation),
            scanned_to,
        }
    }

    /// The first offset that was appended at `timestamp` or later, else the high watermark.
    pub(crate) fn offset_at(&self, timestamp: Timestamp) -> Offset {
        let is_before = |record: &Kept| record.timestamp < timestamp;
        let ends_before = |segment: &Segment| segment.records.back().is_some_and(is_before);
        let segment = self.segments.get(self.segments.partition_point(ends_before));
        segment.map_or_else(
            || self.watermarks().high,
            |segment| Offset(segment.first.0 + segment.records.partition_point(is_before) as u64),
        )
    }

    /// Removes what retention no longer keeps.
    pub(crate) fn trim(&mut self, retention: &Retention, now: Timestamp, removed: &mut Removed) {
        while let Some(oldest) = self.segments.front().and_then(|segment| segment.records.front()) {
            let too_many = retention.max_records.is_some_and(|max| self.records > max);
            let age = Duration::from_micros(now.0.saturating_sub(oldest.timestamp.0));
            if !too_many && retention.max_age.is_none_or(|max| age <= max) {
                return;
            }
            self.remove_oldest(removed);
        }
    }

    /// Removes everything; the offsets go on.
    pub(crate) fn purge(&mut self) -> Removed {
        self.low = self.next;
        self.records = 0;
        Removed::segments(std::mem::take(&mut self.segments))
    }

    /// Removes everything; the offsets begin again at 0.
    pub(crate) fn begin_again(&mut self) -> Removed {
        self.incarnation += 1;
        self.next = Offset::ZERO;
        self.gap = 0;
        self.purge()
    }

    fn remove_oldest(&mut self, removed: &mut Removed) {
        let Some(segment) = self.segments.front_mut() else {
            return;
        };
        if let Some(record) = segment.records.pop_front() {
            segment.first = segment.first.next();
            self.low = segment.first;
            self.records -= 1;
            removed.record(record);
        }
        if segment.records.is_empty() {
            // The next offset must survive the last record.
            self.segments.pop_front();
        }
    }

    /// At most this many records are at `from` or behind it; for sizing.
    fn after(&self, from: Offset) -> usize {
        // No more than there are records, however wide the gaps between them.
        usize::try_from(self.next.0.saturating_sub(from.0).min(self.records)).unwrap_or(usize::MAX)
    }

    /// The records from an offset on, with theirs.
    fn iter_from(&self, from: Offset) -> impl Iterator<Item = (Offset, &Kept)> {
        let at = self.segments.partition_point(|segment| segment.end() <= from);
        self.segments.range(at..).flat_map(move |segment| {
            let place = segment.place(from);
            (segment.first.0 + place as u64..).map(Offset).zip(segment.records.range(place..))
        })
    }
}
