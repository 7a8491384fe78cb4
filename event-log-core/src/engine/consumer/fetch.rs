//! The half of a [`PartitionReader`](super::partition::PartitionReader) that awaits: one piece of work at a time, which
//! goes on until it ends, whatever becomes of the poll that began it.
//!
//! ```text
//!            ┌────────── empty answer, fault: retry later ──────────┐
//!            ▼                                                      │
//!  Idle ─► Fetching ─► records ─► (look back for copies) ─► buffer ─┤
//!            │                                                      │
//!            └─► truncated ─► buffer drained ─► Resuming ───────────┘
//! ```

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::known::Known;
use super::look_back::LookBack;
use super::membership::Joined;
use crate::engine::backoff::doubled;
use crate::engine::suspicion::Suspicion;
use crate::engine::task::Task;
use crate::engine::transport::{
    FetchRequest, FetchResponse, GroupMember, KnownEnd, Landmark, ProducerConnection, StoredMessage,
    Transport,
};
use crate::error::Error;
use crate::event::EventId;
use crate::limits;
use crate::position::{Offset, PartitionId, Timestamp};
use crate::record::Notice;

pub(super) struct Fetch {
    partition: PartitionId,
    /// The next offset to fetch.
    from: Offset,
    /// The record that was fetched last, by which the partition is recognised.
    last_read: Option<Landmark>,
    /// Of the log that the partition is of. What was fetched before a truncation is delivered first.
    pub(super) known: Known,
    /// How many records to fetch at least.
    stride: usize,
    /// How many records the last answer had.
    last_len: usize,
    work: Work,
    /// When the work under way began, restarts and further steps of it included.
    busy_since: Option<Instant>,
    /// One fetch is due, although nothing is known to be there.
    look_again: bool,
    /// Not before this.
    retry_at: Option<Instant>,
    /// How often it has failed in a row.
    failures: u32,
    /// Whether it loses connections.
    suspicion: Suspicion,
    /// What is in flight is so over a connection of its own.
    is_isolated: bool,
    /// When that began for the last time, and that it lost its connection.
    isolated_at: Option<Instant>,
    has_lost_its_own: bool,
    /// What the window of ids has to know of before anything is delivered.
    look_back: LookBack,
    /// What was fetched, while the window gets to know what is before it.
    held: Option<FetchResponse>,
}

/// A fetch under way.
type Answering = Task<Result<FetchResponse, Unanswered>>;

/// Why there was no answer.
struct Unanswered {
    error: Error,
    /// There was no connection of its own to be had.
    is_unconnected: bool,
}

impl From<Error> for Unanswered {
    fn from(error: Error) -> Self {
        Self { error, is_unconnected: false }
    }
}

/// An isolated fetch that outlives its reader: the next one of its partition may begin at the same place.
pub(super) struct Isolated {
    from: Offset,
    work: Answering,
}

enum Work {
    None,
    Fetching(Answering),
    LookingBack(Answering),
    Resuming(Task<Result<Resume, Error>>),
    /// It was in flight when the connection was lost.
    Lost,
}

/// Where to continue in a partition that was truncated.
struct Resume {
    at: Offset,
    committed: Option<Offset>,
}

/// Whom to ask, and for how much.
pub(super) struct Source<'a, T: Transport> {
    pub(super) transport: &'a Arc<T>,
    pub(super) member: &'a Arc<Joined<T::Member>>,
    pub(super) group: &'a Arc<str>,
    pub(super) runtime: &'a Handle,
    pub(super) reads_ahead: bool,
    pub(super) now: Instant,
    /// How many records are missing of what a poll wants.
    pub(super) wanted: usize,
    /// What is buffered is not too long.
    pub(super) has_room: bool,
    /// There may be one more connection that is of one fetch alone.
    pub(super) may_isolate: bool,
}

impl<T: Transport> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Transport> Copy for Source<'_, T> {}

/// What a step has come to.
pub(super) enum Step {
    /// There is nothing to do.
    Idle,
    /// Work is under way.
    Pending,
    /// The next records, which may be none, and what retention has removed before them.
    Records {
        records: Vec<StoredMessage>,
        missing: Option<Notice>,
    },
    /// Records from before those that are to be delivered, oldest first.
    Seen(Vec<(EventId, Offset)>),
    /// The partition was truncated, and reading continues there.
    Truncated {
        resumed_at: Offset,
        committed: Option<Offset>,
    },
    Failed(Error),
    /// The connection is lost.
    Lost(Error),
}

impl Fetch {
    pub(super) fn new(partition: PartitionId, from: Offset) -> Self {
        Self {
            partition,
            from,
            last_read: None,
            known: Known::nothing(),
            stride: limits::PREFETCH_RECORDS,
            last_len: 0,
            work: Work::None,
            busy_since: None,
            look_again: true,
            retry_at: None,
            failures: 0,
            suspicion: Suspicion::default(),
            is_isolated: false,
            isolated_at: None,
            has_lost_its_own: false,
            look_back: LookBack::default(),
            held: None,
        }
    }

    pub(super) const fn from(&self) -> Offset {
        self.from
    }

    /// The window has to see what is before `next`, as far back as it remembers.
    pub(super) fn look_back(&mut self, next: Offset) {
        self.look_back = LookBack::before(next);
    }

    /// Where the partition ends; what is not fetched yet is not news either.
    pub(super) fn known_end(&self) -> KnownEnd {
        let end = self.known.high().max(self.from);
        KnownEnd { partition: self.partition, end, incarnation: self.known.incarnation() }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.from < self.known.high() || self.known.is_truncated() || self.held.is_some()
    }

    pub(super) const fn is_busy(&self) -> bool {
        !matches!(self.work, Work::None) || self.look_again && self.retry_at.is_none()
    }

    pub(super) const fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Until when others wait for this work. What has failed before is not waited for.
    pub(super) fn prompt_until(&self) -> Option<Instant> {
        let since = self.busy_since.filter(|_| self.failures == 0 && !self.suspicion.isolates())?;
        Some(since + limits::MERGE_PATIENCE)
    }

    pub(super) fn is_prompt(&self, now: Instant) -> bool {
        self.prompt_until().is_some_and(|until| now < until)
    }

    pub(super) const fn look_again(&mut self) {
        self.look_again = true;
    }

    /// Whether it is in flight over a connection of its own.
    pub(super) const fn is_isolated(&self) -> bool {
        self.is_isolated
    }

    /// It is not made before there may be one more connection.
    pub(super) const fn waits_for_isolation(&self) -> bool {
        self.suspicion.isolates() && matches!(self.work, Work::None)
    }

    pub(super) const fn isolated_at(&self) -> Option<Instant> {
        self.isolated_at
    }

    /// It has lost the last connection of its own.
    pub(super) const fn has_lost_its_own(&self) -> bool {
        self.has_lost_its_own
    }

    /// What goes on when its reader ends.
    pub(super) fn into_isolated(self) -> (Suspicion, Option<Isolated>) {
        let isolated = match self.work {
            Work::Fetching(work) if self.is_isolated => Some(Isolated { from: self.from, work }),
            _ => None,
        };
        (self.suspicion, isolated)
    }

    /// Goes on with what is known of the partition from before it had this reader, and what is under way.
    pub(super) fn resume_isolated(&mut self, suspicion: Suspicion, isolated: Option<Isolated>) {
        self.suspicion = suspicion;
        if let Some(Isolated { work, .. }) = isolated.filter(|isolated| isolated.from == self.from) {
            (self.work, self.is_isolated) = (Work::Fetching(work), true);
        }
    }

    /// The member's connection is lost, with what is in flight over it. Anything else goes on.
    pub(super) fn disconnected(&mut self) {
        self.look_again = true;
        match self.work {
            Work::Resuming(_) => {}
            Work::Fetching(_) | Work::LookingBack(_) if self.is_isolated => {}
            Work::None => self.busy_since = None,
            Work::Fetching(_) | Work::LookingBack(_) | Work::Lost => {
                self.suspicion.lost();
                (self.work, self.busy_since) = (Work::None, None);
            }
        }
    }

    /// The partition was asked where it ends. Where reading has come farther it was truncated, and may be as long again by the
    /// next answer: that it was is kept until it is told. What is on its way may be of the log as it is, and would be taken for
    /// what follows.
    pub(super) fn ends_at(&mut self, high: Offset) {
        if self.known.is_truncated() {
            return;
        }
        self.known.reaches(self.from);
        self.known.ends_at(high);
        if self.known.is_truncated() {
            (self.work, self.is_isolated, self.busy_since, self.held) = (Work::None, false, None, None);
        }
    }

    /// Forgets what is known of where reading was.
    pub(super) fn move_to(&mut self, from: Offset) {
        let Self { partition, known, suspicion, isolated_at, has_lost_its_own, .. } = *self;
        *self = Self { known, suspicion, isolated_at, has_lost_its_own, ..Self::new(partition, from) };
    }

    /// Does what can be done without waiting, up to the first result.
    pub(super) fn step<T: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        source: &Source<'_, T>,
        buffered: usize,
        last: Option<Timestamp>,
    ) -> Step {
        if matches!(self.work, Work::None) {
            if self.retry_at.is_some_and(|at| source.now < at) {
                return Step::Idle;
            }
            if self.suspicion.isolates() && !source.may_isolate && !self.known.is_truncated() {
                self.retry_at = None;
                return Step::Idle;
            }
            match self.next_work(source, buffered, last) {
                Work::None => {
                    (self.busy_since, self.retry_at) = (None, None);
                    return Step::Idle;
                }
                work => self.work = work,
            }
            self.is_isolated =
                self.suspicion.isolates() && matches!(self.work, Work::Fetching(_) | Work::LookingBack(_));
            if self.is_isolated {
                self.isolated_at = Some(source.now);
            }
            self.retry_at = None;
            self.busy_since.get_or_insert(source.now);
        }
        match &mut self.work {
            Work::None | Work::Lost => Step::Idle,
            Work::Fetching(task) => match flat(task.poll(cx)) {
                Poll::Pending => Step::Pending,
                Poll::Ready(answer) => self.answered(answer, source.now, Self::fetched),
            },
            Work::LookingBack(task) => match flat(task.poll(cx)) {
                Poll::Pending => Step::Pending,
                Poll::Ready(answer) => self.answered(answer, source.now, Self::looked_back),
            },
            Work::Resuming(task) => match flat(task.poll(cx)) {
                Poll::Pending => Step::Pending,
                // It was not asked over the member's connection.
                Poll::Ready(answer) => self.done(answer, source.now, Self::resumed),
            },
        }
    }

    fn next_work<T: Transport>(
        &self,
        source: &Source<'_, T>,
        buffered: usize,
        last: Option<Timestamp>,
    ) -> Work {
        if self.known.is_truncated() {
            return if buffered == 0 { self.resume(source, last) } else { Work::None };
        }
        let request = FetchRequest::new(self.partition, self.from);
        if let (Some(_), Some(unseen)) = (&self.held, self.look_back.unseen()) {
            let max_records = usize::try_from(unseen.end - unseen.start).unwrap_or(usize::MAX);
            let max_records = max_records.min(limits::FETCH_RECORDS);
            return Work::LookingBack(
                self.fetch(source, FetchRequest { from: Offset(unseen.start), max_records, ..request }),
            );
        }
        let is_wanted = source.wanted > 0 && (self.is_behind() || self.look_again);
        // One answer is being delivered, and the next one is on its way.
        let is_ahead = source.reads_ahead && self.is_behind() && buffered <= self.last_len;
        if !source.has_room || !is_wanted && !is_ahead {
            return Work::None;
        }
        // What is fetched in a moment is fetched when it is wanted: it stays in the caches of the processor until then.
        let stride = if source.reads_ahead { self.stride } else { limits::PREFETCH_RECORDS };
        let max_records = source.wanted.max(stride);
        Work::Fetching(self.fetch(source, FetchRequest { after: self.last_read, max_records, ..request }))
    }

    fn fetch<T: Transport>(&self, source: &Source<'_, T>, request: FetchRequest) -> Answering {
        if self.suspicion.isolates() {
            let transport = Arc::clone(source.transport);
            return begin(source, async move {
                let unconnected = |error| Unanswered { error, is_unconnected: true };
                let connection = transport.connect().await.map_err(unconnected)?;
                Ok(connection.fetch(request).await?)
            });
        }
        let member = Arc::clone(source.member);
        begin(source, async move { Ok(member.fetch(request).await?) })
    }

    fn resume<T: Transport>(&self, source: &Source<'_, T>, last: Option<Timestamp>) -> Work {
        let (transport, group) = (Arc::clone(source.transport), Arc::clone(source.group));
        let partition = self.partition;
        Work::Resuming(begin(source, async move {
            let at = match last {
                Some(last) => transport.offsets_at(&[(partition, last)]).await?.pop().unwrap_or_default(),
                None => transport.watermarks().await?.get(partition).unwrap_or_default().low,
            };
            let committed = transport.committed(&group, &[partition]).await?.pop().unwrap_or(Ok(None))?;
            Ok(Resume { at, committed })
        }))
    }

    /// Ends a fetch.
    fn answered(
        &mut self,
        answer: Result<FetchResponse, Unanswered>,
        now: Instant,
        take: impl FnOnce(&mut Self, FetchResponse, Instant) -> Step,
    ) -> Step {
        let is_isolated = std::mem::take(&mut self.is_isolated);
        match answer {
            Err(Unanswered { error, is_unconnected: true }) => {
                self.work = Work::None;
                self.suspicion.cannot_be_isolated();
                self.failures = self.failures.saturating_add(1);
                // It costs the others their connection, if that is what it does: later each time, and not when they do it.
                let wait = doubled(limits::READER_RETRY, limits::UNISOLATED_RETRY_MAX, self.failures);
                self.retry_after(now, wait + wait * (self.partition.0 % 8) / 8);
                return Step::Failed(error);
            }
            Err(Unanswered { error: error @ Error::Unavailable(_), .. }) if !is_isolated => {
                self.work = Work::Lost;
                return Step::Lost(error);
            }
            Err(Unanswered { error: Error::Unavailable(_), .. }) => {
                self.suspicion.lost();
                self.has_lost_its_own = true;
            }
            _ => {
                self.suspicion.answered();
                self.has_lost_its_own = false;
            }
        }
        self.done(answer.map_err(|unanswered| unanswered.error), now, take)
    }

    /// Ends the work under way.
    fn done<A>(
        &mut self,
        answer: Result<A, Error>,
        now: Instant,
        take: impl FnOnce(&mut Self, A, Instant) -> Step,
    ) -> Step {
        self.work = Work::None;
        match answer {
            Ok(answer) => {
                self.failures = 0;
                take(self, answer, now)
            }
            Err(error) => self.failed(error, now),
        }
    }

    fn failed(&mut self, error: Error, now: Instant) -> Step {
        self.failures = self.failures.saturating_add(1);
        self.retry_after(now, doubled(limits::READER_RETRY, limits::READER_RETRY_MAX, self.failures));
        Step::Failed(error)
    }

    fn retry_after(&mut self, now: Instant, wait: Duration) {
        (self.retry_at, self.busy_since) = (Some(now + wait), None);
    }

    fn fetched(&mut self, answer: FetchResponse, now: Instant) -> Step {
        if self.note_truncation(&answer) {
            return Step::Records { records: Vec::new(), missing: None };
        }
        if self.look_back.unseen().is_some() && !answer.records.is_empty() {
            self.held = Some(answer);
            return Step::Seen(Vec::new());
        }
        self.accept(answer, now)
    }

    /// Whether the partition was truncated since it was read last.
    fn note_truncation(&mut self, answer: &FetchResponse) -> bool {
        let is_truncated = self.known.note(answer);
        if is_truncated {
            self.held = None;
        }
        is_truncated
    }

    fn accept(&mut self, answer: FetchResponse, now: Instant) -> Step {
        let FetchResponse { records, scanned_to, low, .. } = answer;
        let asked = self.from;
        self.look_again = false;
        let began = self.busy_since.take();
        if let Some(last) = records.last() {
            self.last_read = Some(Landmark { offset: last.offset, id: last.id });
            self.from = last.offset.next();
        }
        self.from = self.from.max(scanned_to.unwrap_or_default()).max(low.unwrap_or_default());
        self.last_len = records.len();
        if self.is_behind() {
            self.stride = limits::READ_AHEAD_RECORDS.min(self.stride * 2);
            if self.from == asked {
                // An empty answer is no proof of the end: it is asked again, soon.
                self.retry_after(now, limits::READER_RETRY);
            } else if records.is_empty() {
                // It is still looking for a record. What is fetched behind one is another fetch, and is waited for as long.
                self.busy_since = began;
            }
        }
        let partition = self.partition;
        let missing = low.filter(|&low| low > asked).map(|low| Notice::Missing {
            partition,
            from: asked,
            resumed_at: low,
        });
        Step::Records { records, missing }
    }

    fn looked_back(&mut self, answer: FetchResponse, now: Instant) -> Step {
        if self.note_truncation(&answer) {
            return Step::Records { records: Vec::new(), missing: None };
        }
        match self.look_back.take(answer) {
            Some(seen) => Step::Seen(seen),
            // An empty answer is no proof that there is nothing.
            None => {
                self.retry_after(now, limits::READER_RETRY);
                Step::Seen(Vec::new())
            }
        }
    }

    fn resumed(&mut self, Resume { at, committed }: Resume, _: Instant) -> Step {
        self.known.resumed(at);
        Step::Truncated { resumed_at: at, committed }
    }

    /// What was held back while the window got to know what is before it, once it does.
    pub(super) fn release(&mut self, now: Instant) -> Option<Step> {
        if self.look_back.unseen().is_some() {
            return None;
        }
        let held = self.held.take()?;
        Some(self.accept(held, now))
    }
}

/// Begins work that may take long in the background, and other work where its owner polls it.
fn begin<T: Transport, A: Send + 'static>(
    source: &Source<'_, T>,
    work: impl Future<Output = A> + Send + 'static,
) -> Task<A> {
    if source.reads_ahead { Task::spawned(source.runtime, work) } else { Task::inline(work) }
}

fn flat<A, F: From<Error>>(answer: Poll<Result<Result<A, F>, Error>>) -> Poll<Result<A, F>> {
    answer.map(|answer| answer.unwrap_or_else(|error| Err(error.into())))
}
