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
    /// Since when it is not in flight: where the partition ended before that says nothing of it.
    pub(super) since: Option<Instant>,
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
    /// It is to be asked first where that ends.
    needs_end: bool,
    /// What the partition retained when the connection was new.
    low: Offset,
    /// Which incarnation of the partition has answered.
    incarnation: Option<u64>,
    /// The record before those, by which the partition is recognised.
    landmark: Option<Landmark>,
    /// It was recognised, over the connection that there is.
    is_recognised: bool,
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
    fn new(unresolved: Unresolved, marks: Option<PartitionWatermarks>) -> Self {
        let mut reading = Self {
            offsets: unresolved.from..unresolved.from,
            needs_end: true,
            low: unresolved.from,
            incarnation: None,
            landmark: unresolved.acknowledged,
            is_recognised: false,
            seen: ReadBack { found: HashMap::new(), incomplete: false, truncated_to: None },
            found: 0,
            is_under_way: false,
            retry_at: None,
            empty: 0,
            failures: 0,
            failing_since: None,
            unresolved,
        };
        if let Some(marks) = marks {
            reading.goes_on(marks);
        }
        reading
    }

    /// It begins, or goes on over a new connection, in a partition with these bounds. What was read was read; it may have been
    /// truncated since.
    fn goes_on(&mut self, marks: PartitionWatermarks) {
        (self.offsets.end, self.low, self.needs_end) = (marks.high, marks.low, false);
        self.is_recognised = false;
        if marks.high < self.offsets.start {
            self.is_truncated();
        }
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
        let is_recognised = self.is_recognised || self.landmark.is_none();
        !self.needs_end && is_recognised && (self.offsets.is_empty() || self.found >= self.unresolved.events)
    }

    /// What is to be recognised where there is nothing to read that would show it.
    fn unrecognised(&self) -> Option<Landmark> {
        self.landmark.filter(|_| self.offsets.is_empty() && !self.is_recognised)
    }

    fn request(&self) -> Read {
        if self.needs_end {
            return Read::Ask(self.partition());
        }
        let after = self.landmark;
        Read::Fetch(match self.unrecognised() {
            Some(landmark) => {
                FetchRequest { after, max_records: 1, ..FetchRequest::new(self.partition(), landmark.offset) }
            }
            None => FetchRequest { after, ..FetchRequest::new(self.partition(), self.offsets.start) },
        })
    }

    fn answered(&mut self, answer: &FetchResponse, now: Instant) {
        if self.note_truncation(answer) {
            return;
        }
        let unrecognised = self.unrecognised();
        let asked = unrecognised.map_or(self.offsets.start, |landmark| landmark.offset);
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
        self.is_recognised = true;
        if unrecognised.is_none() {
            self.scanned(answer);
        }
    }

    /// Whether the partition is another than the one that the request was sent to, or has lost its tail. It may be so since the
    /// connection was made.
    fn note_truncation(&mut self, answer: &FetchResponse) -> bool {
        let known = self.incarnation;
        self.incarnation = answer.incarnation.or(known);
        let begins_again = known.is_some() && known != self.incarnation;
        let has_another = self.unrecognised().is_some_and(|landmark| {
            let there = answer.records.first().filter(|record| record.offset == landmark.offset);
            there.is_some_and(|record| record.id != landmark.id)
        });
        let ends_before = answer.high.is_some_and(|high| high < self.offsets.start);
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
        if let Some(last) = answer.records.last() {
            self.landmark = Some(Landmark { offset: last.offset, id: last.id });
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

    /// What it has found out.
    fn seen(self) -> ReadBack {
        // Where all was found, nothing else matters.
        let is_complete = self.offsets.is_empty() || self.found >= self.unresolved.events;
        let incomplete = self.seen.incomplete || !is_complete || self.needs_end;
        ReadBack { incomplete, ..self.seen }
    }

    /// Whether it has failed for so long that the rest of the request is given up as unknown.
    fn is_hopeless(&self, now: Instant) -> bool {
        // The time alone may have been that of an outage.
        self.failures >= limits::READ_BACK_FAILURES
            && self.failing_since.is_some_and(|since| now.duration_since(since) >= limits::READ_BACK_PATIENCE)
    }
}

/// The next question of a reading.
pub(super) enum Read {
    /// Where the partition ends.
    Ask(PartitionId),
    Fetch(FetchRequest),
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
        asked_at: Instant,
        now: Instant,
    ) -> Vec<(PartitionId, ReadBack)> {
        let mut known = std::mem::take(&mut self.all);
        let mut complete = Vec::new();
        for one in unresolved {
            let nothing = PartitionWatermarks { low: one.from, high: one.from };
            let marks = marks.get(one.partition).unwrap_or(nothing);
            // It may have arrived since that was asked.
            let is_late = one.since.is_some_and(|since| asked_at < since);
            let is_same = |reading: &Reading| {
                let before = &reading.unresolved;
                // Some of them may have expired meanwhile.
                before.partition == one.partition
                    && before.from == one.from
                    && one.ids.keys().all(|id| before.ids.contains_key(id))
            };
            let reading = match known.iter().position(is_same) {
                Some(at) => {
                    let mut reading = known.swap_remove(at);
                    reading.goes_on(marks);
                    reading.needs_end |= is_late;
                    reading
                }
                None => Reading::new(one, Some(marks).filter(|_| !is_late)),
            };
            if reading.is_complete() || reading.is_hopeless(now) {
                complete.push((reading.partition(), reading.seen()));
            } else {
                self.all.push(reading);
            }
        }
        complete
    }

    /// A request has come back beside others that are in flight.
    pub(super) fn add(&mut self, unresolved: Unresolved) {
        self.forget(unresolved.partition);
        self.all.push(Reading::new(unresolved, None));
    }

    /// The next question, if one is due. Of each partition one is under way at a time, and each has its turn.
    pub(super) fn next_request(&mut self, now: Instant) -> Option<Read> {
        let is_due = |reading: &Reading| !reading.is_under_way && reading.retry_at.is_none_or(|at| at <= now);
        let at = self.all.iter().position(is_due)?;
        let mut reading = self.all.remove(at);
        (reading.is_under_way, reading.retry_at) = (true, None);
        let request = reading.request();
        self.all.push(reading);
        Some(request)
    }

    /// Takes the answer to the question where a partition ends. Returns what has come of it, if that is known.
    ///
    /// # Errors
    ///
    /// When the connection is lost.
    pub(super) fn asked(
        &mut self,
        partition: PartitionId,
        answer: Result<Watermarks, Error>,
        now: Instant,
    ) -> Result<Option<ReadBack>, Error> {
        let nothing = Err(Error::Unavailable(Some("the log does not say where the partition ends".into())));
        let marks = answer.and_then(|marks| marks.get(partition).map_or(nothing, Ok));
        self.take_answer(partition, marks, now, |reading, marks| reading.goes_on(marks))
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
        self.take_answer(partition, answer, now, |reading, answer| reading.answered(&answer, now))
    }

    fn take_answer<A>(
        &mut self,
        partition: PartitionId,
        answer: Result<A, Error>,
        now: Instant,
        take: impl FnOnce(&mut Reading, A),
    ) -> Result<Option<ReadBack>, Error> {
        let mut lost = None;
        let mut seen = None;
        if let Some(at) = self.all.iter().position(|reading| reading.partition() == partition) {
            let reading = &mut self.all[at];
            reading.is_under_way = false;
            match answer {
                Ok(answer) => take(reading, answer),
                Err(error) => {
                    reading.failed(&error, now);
                    lost = matches!(error, Error::Unavailable(_) | Error::Timeout(_)).then_some(error);
                }
            }
            if reading.is_complete() || reading.is_hopeless(now) {
                seen = Some(self.all.swap_remove(at).seen());
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

    /// The connection is lost. What is under way is asked again over the next one, unless it never gets an answer.
    pub(super) fn interrupted(&mut self, now: Instant) {
        for reading in self.all.iter_mut().filter(|reading| reading.is_under_way) {
            reading.is_under_way = false;
            reading.failures = reading.failures.saturating_add(1);
            reading.failing_since.get_or_insert(now);
        }
    }

    pub(super) fn is_reading(&self) -> bool {
        !self.all.is_empty()
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
