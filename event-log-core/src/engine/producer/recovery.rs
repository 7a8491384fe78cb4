//! Finding out, over a new connection, what became of requests that were lost with an old one.
//!
//! Requests to one partition follow one another, so whatever an ambiguous request left in the log is behind the last
//! confirmed offset of that partition. The writer reads from there, until it has found all events of the request or has
//! reached the high watermark; the queue resolves what was found and sends only the rest.
//!
//! Each request is read back for itself, a fetch at a time, while the other partitions are sent to: one that cannot be read
//! keeps none of them away. A question goes on when a connection is lost, as requests do; its answer counts as long as it is
//! the one that its reading waits for. Where the partitions end is asked for all that need it at once, and over none of the
//! connections that requests go over.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use crate::contain::report;
use crate::engine::backoff::doubled;
use crate::engine::scan::{EMPTY_ANSWER_WAIT, EMPTY_ANSWERS};
use crate::engine::suspicion::Suspicion;
use crate::engine::transport::{FetchRequest, FetchResponse, Landmark};
use crate::error::Error;
use crate::event::EventId;
use crate::limits;
use crate::position::{Offset, PartitionId};
use crate::watermark::{PartitionWatermarks, Watermarks};

/// A request that was lost: its partition and its number.
pub(super) type Lost = (PartitionId, u64);

/// A request that may have arrived.
pub(super) struct Unresolved {
    pub(super) partition: PartitionId,
    pub(super) number: u64,
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

/// The reading back of one request.
struct Reading {
    unresolved: Unresolved,
    /// What is still to be read.
    offsets: Range<Offset>,
    /// It is to be asked first where that ends, and how often that had no answer.
    needs_end: bool,
    unanswered: u32,
    /// What the partition retained when it was asked where it ends.
    low: Offset,
    /// Which incarnation of the partition has answered.
    incarnation: Option<u64>,
    /// The record before those, by which the partition is recognised.
    landmark: Option<Landmark>,
    /// It was recognised.
    is_recognised: bool,
    seen: ReadBack,
    /// How many of the events were found.
    found: usize,
    /// The number of the question that is under way. An answer to another one is of no use any more.
    asking: Option<u64>,
    /// Not before this.
    retry_at: Option<Instant>,
    /// How many empty answers, and how many errors, there were in a row, and since when; and how often there was no answer.
    empty: u32,
    failures: u32,
    failing_since: Option<Instant>,
    interruptions: u32,
}

impl Reading {
    fn new(unresolved: Unresolved) -> Self {
        Self {
            offsets: unresolved.from..Offset(u64::MAX),
            needs_end: true,
            unanswered: 0,
            low: unresolved.from,
            incarnation: None,
            landmark: unresolved.acknowledged,
            is_recognised: false,
            seen: ReadBack { found: HashMap::new(), incomplete: false, truncated_to: None },
            found: 0,
            asking: None,
            retry_at: None,
            empty: 0,
            failures: 0,
            failing_since: None,
            interruptions: 0,
            unresolved,
        }
    }

    /// The partition has these bounds now. What was read was read, unless it was truncated since. Where it ended when that was
    /// first asked after the request was over is far enough: what others append behind that is none of ours.
    fn is_bounded(&mut self, marks: PartitionWatermarks) {
        (self.offsets.end, self.low) = (self.offsets.end.min(marks.high), marks.low);
        (self.needs_end, self.unanswered) = (false, 0);
        if marks.high < self.offsets.start {
            self.is_truncated();
        }
    }

    /// It was not said where the partition ends. Nothing is given up for that: it is asked again, ever more rarely.
    fn is_unbounded(&mut self, now: Instant) {
        self.unanswered = self.unanswered.saturating_add(1);
        self.retry_at = Some(now + doubled(limits::READER_RETRY, limits::READER_RETRY_MAX, self.unanswered));
    }

    /// It was purged, or lost its tail: anything of ours may be anywhere in what is left, or gone.
    fn is_truncated(&mut self) {
        // What is under way would be the answer to another question.
        self.asking = None;
        self.landmark = None;
        self.offsets.start = self.low;
        self.seen = ReadBack { found: HashMap::new(), incomplete: true, truncated_to: Some(self.low) };
        self.found = 0;
    }

    const fn lost(&self) -> Lost {
        (self.unresolved.partition, self.unresolved.number)
    }

    const fn partition(&self) -> PartitionId {
        self.unresolved.partition
    }

    /// All of its events were found, or all was read that had to be, in the partition that the request was sent to.
    fn is_complete(&self) -> bool {
        let is_recognised = self.is_recognised || self.landmark.is_none();
        let is_read = !self.needs_end && is_recognised && self.offsets.is_empty();
        is_read || self.found >= self.unresolved.events
    }

    /// What is to be recognised where there is nothing to read that would show it.
    fn unrecognised(&self) -> Option<Landmark> {
        self.landmark.filter(|_| self.offsets.is_empty() && !self.is_recognised)
    }

    /// Whether it waits for nothing that is under way, and when it is due.
    fn due(&self, now: Instant) -> Option<Instant> {
        self.asking.is_none().then(|| self.retry_at.unwrap_or(now))
    }

    fn is_fetch_due(&self, now: Instant) -> bool {
        !self.needs_end && self.due(now).is_some_and(|at| at <= now)
    }

    fn next_fetch(&self) -> FetchRequest {
        let after = self.landmark;
        match self.unrecognised() {
            Some(landmark) => {
                FetchRequest { after, max_records: 1, ..FetchRequest::new(self.partition(), landmark.offset) }
            }
            None => FetchRequest { after, ..FetchRequest::new(self.partition(), self.offsets.start) },
        }
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
                (self.empty, self.needs_end) = (0, true);
                let reason = "the log returns no records below its high watermark";
                self.failed(&Error::Unavailable(Some(reason.into())), now);
            } else {
                self.retry_at = Some(now + EMPTY_ANSWER_WAIT);
            }
            return;
        }
        (self.empty, self.failures, self.failing_since, self.interruptions) = (0, 0, None, 0);
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

    /// What it has found out. Where all was found, nothing else matters.
    fn seen(self) -> ReadBack {
        let incomplete = self.seen.incomplete || !self.is_complete();
        ReadBack { incomplete, ..self.seen }
    }

    /// Whether it has failed for so long that the rest of the request is given up as unknown.
    fn is_hopeless(&self, now: Instant) -> bool {
        // The time alone may have been that of an outage.
        self.failures >= limits::READ_BACK_FAILURES
            && self.failing_since.is_some_and(|since| now.duration_since(since) >= limits::READ_BACK_PATIENCE)
    }
}

/// The next fetch of a reading.
pub(super) struct Read {
    /// No other question has the same.
    pub(super) number: u64,
    /// For how long it is waited for when its connection, or another one, is lost.
    pub(super) patience: Duration,
    pub(super) request: FetchRequest,
    /// It is made over a connection of its own.
    pub(super) is_isolated: bool,
}

/// The requests that are being read back, one of a partition at most.
#[derive(Default)]
pub(super) struct Readings {
    all: Vec<Reading>,
    /// How many questions there were.
    questions: u64,
    /// Of which partitions fetches were lost with their connections.
    suspicions: HashMap<PartitionId, Suspicion>,
}

/// A request that is read back, and what is known of it, if that is all.
pub(super) type Seen = (Lost, Option<ReadBack>);

/// What has come of a fetch. An error says that its connection is lost.
pub(super) type Progress = Result<Seen, Error>;

impl Readings {
    /// What there is to read back, with a new connection. What was read is not read again, nor is asked again what is known.
    pub(super) fn begin(&mut self, unresolved: Vec<Unresolved>) {
        let mut known = std::mem::take(&mut self.all);
        for one in unresolved {
            let is_same = |reading: &Reading| reading.lost() == (one.partition, one.number);
            self.all.push(match known.iter().position(is_same) {
                Some(at) => known.swap_remove(at),
                None => Reading::new(one),
            });
        }
    }

    /// A request has come back beside others that are in flight.
    pub(super) fn add(&mut self, unresolved: Unresolved) {
        self.all.retain(|reading| reading.partition() != unresolved.partition);
        self.all.push(Reading::new(unresolved));
    }

    /// The next fetch, if one is due. Of each request one question is under way at a time, and each has its turn.
    pub(super) fn next_fetch(&mut self, now: Instant) -> Option<Read> {
        let at = self.all.iter().position(|reading| reading.is_fetch_due(now))?;
        let mut reading = self.all.remove(at);
        self.questions += 1;
        (reading.asking, reading.retry_at) = (Some(self.questions), None);
        let times = reading.interruptions.saturating_add(1);
        let patience = doubled(limits::LOST_GRACE, limits::LOST_GRACE_MAX, times);
        let suspicion = self.suspicions.get(&reading.partition());
        let is_isolated = suspicion.is_some_and(|suspicion| suspicion.isolates());
        let fetch = Read { number: self.questions, patience, request: reading.next_fetch(), is_isolated };
        self.all.push(reading);
        Some(fetch)
    }

    /// The number of the question where the partitions end, if it is due for one of them: for all of those.
    pub(super) fn next_question(&mut self, now: Instant) -> Option<u64> {
        let (number, mut is_needed) = (self.questions + 1, false);
        for reading in self.all.iter_mut().filter(|reading| reading.needs_end) {
            if reading.due(now).is_some_and(|at| at <= now) {
                (reading.asking, reading.retry_at, is_needed) = (Some(number), None, true);
            }
        }
        self.questions += u64::from(is_needed);
        is_needed.then_some(number)
    }

    /// Takes the answer to that question. Returns what has come of the requests that waited for it.
    pub(super) fn bounded(
        &mut self,
        number: u64,
        answer: &Result<Watermarks, Error>,
        now: Instant,
    ) -> Vec<Seen> {
        let (waited, others): (Vec<_>, _) =
            std::mem::take(&mut self.all).into_iter().partition(|reading| reading.asking == Some(number));
        self.all = others;
        if let Err(error) = &answer {
            let error = error as &dyn std::error::Error;
            report(|| tracing::warn!(error, "the log does not say where partitions end"));
        }
        let taken = |mut reading: Reading| {
            reading.asking = None;
            match answer.as_ref().ok().and_then(|marks| marks.get(reading.partition())) {
                Some(marks) => reading.is_bounded(marks),
                None => reading.is_unbounded(now),
            }
            self.keep(reading, now)
        };
        waited.into_iter().map(taken).collect()
    }

    /// Goes on with a reading, unless it is over.
    fn keep(&mut self, reading: Reading, now: Instant) -> Seen {
        let lost = reading.lost();
        if reading.is_complete() || reading.is_hopeless(now) {
            return (lost, Some(reading.seen()));
        }
        self.all.push(reading);
        (lost, None)
    }

    /// Takes the answer to a fetch; `None` when nothing waits for it any more.
    pub(super) fn answered(
        &mut self,
        number: u64,
        answer: Result<FetchResponse, Error>,
        now: Instant,
    ) -> Option<Progress> {
        self.take_answer(number, answer, now, |reading, answer| reading.answered(&answer, now))
    }

    /// There was no answer for long after a connection was lost. It is asked again.
    pub(super) fn interrupted(&mut self, number: u64, now: Instant) -> Option<Progress> {
        self.take_answer(number, Ok(()), now, |reading, ()| {
            reading.interruptions = reading.interruptions.saturating_add(1);
            reading.failures = reading.failures.saturating_add(1);
            reading.failing_since.get_or_insert(now);
        })
    }

    /// What has come of the request is told before anything else: that the connection is lost is found out again by whatever is
    /// sent over it next.
    fn take_answer<A>(
        &mut self,
        number: u64,
        answer: Result<A, Error>,
        now: Instant,
        take: impl FnOnce(&mut Reading, A),
    ) -> Option<Progress> {
        let at = self.all.iter().position(|reading| reading.asking == Some(number))?;
        let mut reading = self.all.remove(at);
        reading.asking = None;
        let (interruptions, suspicion) =
            (reading.interruptions, self.suspicions.entry(reading.partition()).or_default());
        let failure = match answer {
            Ok(answer) => {
                take(&mut reading, answer);
                None
            }
            Err(error) => {
                reading.failed(&error, now);
                Some(error)
            }
        };
        match failure {
            Some(Error::Unavailable(_) | Error::Timeout(_)) => suspicion.lost(),
            _ if reading.interruptions > interruptions => suspicion.lost(),
            _ => suspicion.answered(),
        }
        Some(match (self.keep(reading, now), failure) {
            ((_, None), Some(error @ (Error::Unavailable(_) | Error::Timeout(_)))) => Err(error),
            (seen, _) => Ok(seen),
        })
    }

    /// There is nothing left to find out of a request: it has expired.
    pub(super) fn forget(&mut self, lost: Lost) {
        self.all.retain(|reading| reading.lost() != lost);
    }

    pub(super) fn is_reading(&self) -> bool {
        !self.all.is_empty()
    }

    /// Of how many requests a fetch is due.
    pub(super) fn fetches_due(&self, now: Instant) -> usize {
        self.all.iter().filter(|reading| reading.is_fetch_due(now)).count()
    }

    /// When the next fetch is due.
    pub(super) fn next_fetch_due(&self, now: Instant) -> Option<Instant> {
        self.all.iter().filter(|reading| !reading.needs_end).filter_map(|reading| reading.due(now)).min()
    }

    /// When the next question where the partitions end is due.
    pub(super) fn next_question_due(&self, now: Instant) -> Option<Instant> {
        self.all.iter().filter(|reading| reading.needs_end).filter_map(|reading| reading.due(now)).min()
    }
}
