//! Finding out, over a new connection, what became of requests that were lost with an old one.
//!
//! Requests to one partition follow one another, so whatever an ambiguous request left in the log is behind the last
//! confirmed offset of that partition. The writer reads from there, until it has found all events of the request or has
//! reached the high watermark; the queue resolves what was found and sends only the rest.
//!
//! Each partition is read back for itself, a fetch at a time, while the others are sent to: one that cannot be read keeps
//! none of them away.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use tokio::time::Instant;

use crate::contain::report;
use crate::engine::backoff::doubled;
use crate::engine::scan::{EMPTY_ANSWER_WAIT, EMPTY_ANSWERS};
use crate::engine::transport::{FetchRequest, FetchResponse, Landmark};
use crate::error::Error;
use crate::event::EventId;
use crate::limits;
use crate::position::{Offset, PartitionId};
use crate::watermark::{PartitionWatermarks, Watermarks};

/// A request that may have arrived.
pub(super) struct Unresolved {
    pub(super) partition: PartitionId,
    /// The ids of its events, and how many of them have each.
    pub(super) ids: HashMap<EventId, usize>,
    pub(super) events: usize,
    /// Everything of it is at this offset or behind it.
    pub(super) from: Offset,
    /// The last event that was acknowledged before.
    pub(super) acknowledged: Option<Landmark>,
}

/// What reading back has shown.
pub(super) struct ReadBack {
    /// By id: an event that was handed in twice with an id of its own is there twice.
    pub(super) found: HashMap<EventId, VecDeque<Offset>>,
    /// Part of what had to be read was no longer retained, or cannot be read.
    pub(super) incomplete: bool,
    /// The partition was truncated: what is left of it begins here.
    pub(super) truncated_to: Option<Offset>,
}

/// The reading back of one partition.
struct Reading {
    unresolved: Unresolved,
    /// What is still to be read.
    offsets: Range<Offset>,
    /// What the partition retained when the connection was new.
    low: Offset,
    /// Which incarnation of the partition has answered.
    incarnation: Option<u64>,
    /// It is to be seen first whether this is still there.
    landmark: Option<Landmark>,
    seen: ReadBack,
    /// How many of the events were found.
    found: usize,
    /// A fetch is under way.
    is_under_way: bool,
    /// Not before this.
    retry_at: Option<Instant>,
    /// How many empty answers, and how many errors, there were in a row, and since when.
    empty: u32,
    failures: u32,
    failing_since: Option<Instant>,
}

impl Reading {
    fn new(unresolved: Unresolved, marks: PartitionWatermarks) -> Self {
        let mut reading = Self {
            offsets: unresolved.from..marks.high,
            low: marks.low,
            incarnation: None,
            landmark: unresolved.acknowledged,
            seen: ReadBack { found: HashMap::new(), incomplete: false, truncated_to: None },
            found: 0,
            is_under_way: false,
            retry_at: None,
            empty: 0,
            failures: 0,
            failing_since: None,
            unresolved,
        };
        if marks.high < reading.unresolved.from {
            reading.is_truncated();
        }
        reading
    }

    /// Goes on over a new connection. What was read was read; it may have been truncated since.
    fn resumed(mut self, marks: PartitionWatermarks) -> Self {
        if marks.high < self.offsets.start {
            let (failures, failing_since) = (self.failures, self.failing_since);
            return Self { failures, failing_since, ..Self::new(self.unresolved, marks) };
        }
        self.offsets.end = marks.high;
        self.low = marks.low;
        if self.seen.truncated_to.is_none() {
            self.landmark = self.unresolved.acknowledged;
        }
        self
    }

    /// It was purged, or lost its tail: anything of ours may be anywhere in what is left, or gone.
    fn is_truncated(&mut self) {
        self.landmark = None;
        self.offsets.start = self.low;
        self.seen = ReadBack { found: HashMap::new(), incomplete: true, truncated_to: Some(self.low) };
        self.found = 0;
    }

    const fn partition(&self) -> PartitionId {
        self.unresolved.partition
    }

    fn is_complete(&self) -> bool {
        self.landmark.is_none() && (self.offsets.is_empty() || self.found >= self.unresolved.events)
    }

    fn request(&self) -> FetchRequest {
        match self.landmark {
            Some(landmark) => FetchRequest {
                after: Some(landmark),
                max_records: 1,
                ..FetchRequest::new(self.partition(), landmark.offset)
            },
            None => FetchRequest::new(self.partition(), self.offsets.start),
        }
    }

    fn answered(&mut self, answer: &FetchResponse, now: Instant) {
        if self.note_truncation(answer) {
            return;
        }
        let asked = self.landmark.map_or(self.offsets.start, |landmark| landmark.offset);
        let read_to =
            answer.records.last().map(|last| last.offset.next()).max(answer.scanned_to).max(answer.low);
        if read_to.is_none_or(|read_to| read_to <= asked) {
            self.empty += 1;
            if self.empty > EMPTY_ANSWERS {
                self.empty = 0;
                let reason = "the log returns no records below its high watermark";
                self.failed(&Error::Unavailable(Some(reason.into())), now);
            } else {
                self.retry_at = Some(now + EMPTY_ANSWER_WAIT);
            }
            return;
        }
        (self.empty, self.failures, self.failing_since) = (0, 0, None);
        // Nothing at a landmark is no sign of another log: retention may have been there first.
        if self.landmark.take().is_none() {
            self.scanned(answer);
        }
    }

    /// Whether the partition is another than the one that the request was sent to, or has lost its tail. It may be so since the
    /// connection was made.
    fn note_truncation(&mut self, answer: &FetchResponse) -> bool {
        let known = self.incarnation;
        self.incarnation = answer.incarnation.or(known);
        let begins_again = known.is_some() && known != self.incarnation;
        let has_another = self.landmark.is_some_and(|landmark| {
            let there = answer.records.first().filter(|record| record.offset == landmark.offset);
            there.is_some_and(|record| record.id != landmark.id)
        });
        let first = self.landmark.map_or(self.offsets.start, |landmark| landmark.offset.next());
        let ends_before = answer.high.is_some_and(|high| high < first);
        if answer.truncated || begins_again || has_another || ends_before {
            self.low = answer.low.unwrap_or_default();
            self.offsets.end = answer.high.unwrap_or(self.offsets.end);
            self.is_truncated();
            return true;
        }
        // It ends there now, and not where it did when the connection was made.
        self.offsets.end = answer.high.map_or(self.offsets.end, |high| self.offsets.end.min(high));
        false
    }

    fn scanned(&mut self, answer: &FetchResponse) {
        if let Some(low) = answer.low.filter(|&low| low > self.offsets.start) {
            self.seen.incomplete = true;
            self.offsets.start = low;
        }
        let (ids, end) = (&self.unresolved.ids, self.offsets.end);
        for record in answer.records.iter().take_while(|record| record.offset < end) {
            let Some(&count) = ids.get(&record.id) else { continue };
            let found = self.seen.found.entry(record.id).or_default();
            // The first copies are ours in the order of the request; the first is the one that consumers deliver.
            if found.len() < count {
                found.push_back(record.offset);
                self.found += 1;
            }
        }
        let read_to = answer.records.last().map(|last| last.offset.next()).max(answer.scanned_to);
        self.offsets.start = read_to.unwrap_or_default().max(self.offsets.start);
    }

    /// A fetch has failed: it is made again, ever more rarely.
    fn failed(&mut self, error: &Error, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        self.retry_at = Some(now + doubled(limits::READER_RETRY, limits::READER_RETRY_MAX, self.failures));
        let (error, partition) = (error as &dyn std::error::Error, self.partition().0);
        report(|| tracing::warn!(error, partition, "what became of a request could not be read back"));
    }

    /// Whether it has failed for so long that the rest of the request is given up as unknown.
    fn is_hopeless(&self, now: Instant) -> bool {
        // The time alone may have been that of an outage.
        self.failures >= limits::READ_BACK_FAILURES
            && self.failing_since.is_some_and(|since| now.duration_since(since) >= limits::READ_BACK_PATIENCE)
    }
}

/// The partitions that are being read back.
#[derive(Default)]
pub(super) struct Readings {
    all: Vec<Reading>,
}

impl Readings {
    /// What there is to read over a new connection. What an earlier one has read is not read again. Returns where nothing
    /// needs to be read.
    pub(super) fn begin(
        &mut self,
        unresolved: Vec<Unresolved>,
        marks: &Watermarks,
    ) -> Vec<(PartitionId, ReadBack)> {
        let mut known = std::mem::take(&mut self.all);
        let mut complete = Vec::new();
        for one in unresolved {
            let nothing = PartitionWatermarks { low: one.from, high: one.from };
            let marks = marks.get(one.partition).unwrap_or(nothing);
            let is_same = |reading: &Reading| {
                let before = &reading.unresolved;
                // Some of them may have expired meanwhile.
                before.partition == one.partition
                    && before.from == one.from
                    && one.ids.keys().all(|id| before.ids.contains_key(id))
            };
            let reading = match known.iter().position(is_same) {
                Some(at) => known.swap_remove(at).resumed(marks),
                None => Reading::new(one, marks),
            };
            if reading.is_complete() {
                complete.push((reading.partition(), reading.seen));
            } else {
                self.all.push(reading);
            }
        }
        complete
    }

    /// The next fetch to make, if one is due. Of each partition one is under way at a time, and each has its turn.
    pub(super) fn next_request(&mut self, now: Instant) -> Option<FetchRequest> {
        let is_due = |reading: &Reading| !reading.is_under_way && reading.retry_at.is_none_or(|at| at <= now);
        let at = self.all.iter().position(is_due)?;
        let mut reading = self.all.remove(at);
        (reading.is_under_way, reading.retry_at) = (true, None);
        let request = reading.request();
        self.all.push(reading);
        Some(request)
    }

    /// Takes the answer to a fetch. Returns what has come of the partition, when that is known.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub(super) fn answered(
        &mut self,
        partition: PartitionId,
        answer: Result<FetchResponse, Error>,
        now: Instant,
    ) -> Result<Option<ReadBack>, Error> {
        let mut lost = None;
        let mut seen = None;
        if let Some(at) = self.all.iter().position(|reading| reading.partition() == partition) {
            let reading = &mut self.all[at];
            reading.is_under_way = false;
            match answer {
                Ok(answer) => reading.answered(&answer, now),
                Err(error) => {
                    reading.failed(&error, now);
                    lost = matches!(error, Error::Unavailable(_) | Error::Timeout(_)).then_some(error);
                }
            }
            if reading.is_complete() || reading.is_hopeless(now) {
                let Reading { seen: found, offsets, .. } = self.all.swap_remove(at);
                let incomplete = found.incomplete || !offsets.is_empty();
                seen = Some(ReadBack { incomplete, ..found });
            }
        }
        match (seen, lost) {
            // What has come of it is told first. The connection is found to be lost by whatever is sent over it next.
            (Some(seen), _) => Ok(Some(seen)),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// There is nothing left to find out of a partition: the request has expired.
    pub(super) fn forget(&mut self, partition: PartitionId) {
        self.all.retain(|reading| reading.partition() != partition);
    }

    /// The connection is lost. Fetches that are under way are made again over the next one.
    pub(super) fn interrupted(&mut self) {
        self.all.iter_mut().for_each(|reading| reading.is_under_way = false);
    }

    /// Whether the last fetch of a partition has failed.
    pub(super) fn have_failed(&self) -> bool {
        self.all.iter().any(|reading| reading.failures > 0)
    }

    /// Whether a partition waits for a fetch, and when it is due.
    pub(super) fn next_due(&self, now: Instant) -> Option<Instant> {
        let waiting = self.all.iter().filter(|reading| !reading.is_under_way);
        waiting.map(|reading| reading.retry_at.unwrap_or(now)).min()
    }
}
