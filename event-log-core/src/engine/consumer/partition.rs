//! One partition of one consumer: what has been fetched, and how far delivery has come.
//!
//! The reader is two halves over one buffer. The **fetch** half ([`Fetch`]) fills it and is the only one that awaits; its
//! task survives a poll that is dropped. The **delivery** half empties it, without awaiting. The merge looks at
//! [`head`](PartitionReader::head) and [`may_be_older`](PartitionReader::may_be_older), and at nothing else.

use std::collections::VecDeque;
use std::task::Context;

use tokio::time::Instant;

use super::commit::{CommitLosses, EndedBy, EndedEpoch};
use super::fetch::{Fetch, Isolated, Source, Step};
use super::window::DedupWindow;
use crate::engine::backoff::doubled;
use crate::engine::suspicion::Suspicion;
use crate::engine::task::Task;
use crate::engine::transport::{Assignment, KnownEnd, StoredMessage, Transport};
use crate::error::Error;
use crate::limits;
use crate::position::{Epoch, Epochs, Offset, PartitionId, Position, Timestamp};
use crate::record::Notice;

pub(super) struct PartitionReader {
    assignment: Assignment,
    /// What cursors of this reader carry.
    epoch: Epoch,
    epochs: Epochs,
    fetch: Fetch,
    /// Fetched and not delivered, in offset order.
    buffer: VecDeque<StoredMessage>,
    /// The bytes of the answers that it is made of, by the offset behind each.
    answers: VecDeque<(Offset, usize)>,
    /// The next offset to deliver: everything before it was delivered, passed over, or is no record.
    next: Offset,
    /// Where the epoch began.
    since: Offset,
    /// The group's place, as far as this member knows.
    committed: Option<Offset>,
    /// The epoch began with a seek or a truncation, and nothing was committed in it: a commit may go back.
    may_go_back: bool,
    /// How often the letter of the head could not be appended.
    letter_failures: u32,
    /// A commit was dropped, or failed, when it may have been stored: the group's place has to be asked for.
    pub(super) commit_in_doubt: bool,
    /// The application has sent it behind the end of the partition: it will go on at this offset, the earliest.
    beyond: Option<Offset>,
    /// What that commit was to store, unless the reader has moved since.
    committing: Option<Offset>,
    /// Whether storing its place loses the connection.
    pub(super) commits: CommitLosses,
    /// When the last record was appended that was delivered.
    last_timestamp: Option<Timestamp>,
    window: DedupWindow,
    /// What keeps the head from being delivered.
    pub(super) hold: Hold,
    /// When it delivered last, in turns of its consumer.
    last_turn: u64,
    /// Since which turn its head has waited; `None` without a head.
    waits_since: Option<u64>,
}

/// How a partition behaves towards the connection of its consumer, and what is under way over its own: what outlives its reader.
#[derive(Default)]
pub(super) struct Conduct {
    fetches: Suspicion,
    isolated: Option<Isolated>,
    commits: CommitLosses,
}

/// What becomes of a head that cannot be decoded, while that takes time.
pub(super) enum Hold {
    None,
    /// Its letter is on its way to the dead-letter log.
    Parking(Task<Result<(), Error>>),
    /// Its letter is in the dead-letter log.
    Parked,
    /// Its letter could not be appended, and is tried again then.
    Retry {
        at: Instant,
    },
    /// The dead-letter log refuses its letter: the record is delivered as it is.
    Refused,
    /// The consumer halts here, for the rest of this poll.
    Halted,
}

/// What a reader has to tell its consumer.
#[derive(Default)]
pub(super) struct Report {
    pub(super) notices: Vec<Notice>,
    pub(super) ended: Vec<EndedEpoch>,
    /// The partition was truncated, which is among the notices: what cursors of earlier epochs say is of another log.
    pub(super) is_another_log: bool,
    /// The connection is lost.
    pub(super) lost: Option<Error>,
    /// There is more to do without waiting, once others had their turn.
    pub(super) is_unfinished: bool,
}

impl Report {
    /// Whether there is nothing to tell, except that there is more to do.
    pub(super) fn is_empty(&self) -> bool {
        self.notices.is_empty() && self.ended.is_empty() && !self.is_another_log && self.lost.is_none()
    }
}

/// How many steps a reader takes before it lets others have their turn: each may be an answer without a record.
const STEPS: u32 = 16;

impl PartitionReader {
    /// A reader that begins at `next`, in a partition that retains `low` and what follows.
    pub(super) fn new(
        epochs: Epochs,
        assignment: Assignment,
        committed: Offset,
        low: Offset,
        conduct: Conduct,
    ) -> Self {
        let next = committed;
        let mut fetch = Fetch::new(assignment.partition, next);
        fetch.resume_isolated(conduct.fetches, conduct.isolated);
        if next > low {
            fetch.look_back(next);
        }
        // What is committed was there once.
        fetch.known.reaches(committed);
        Self {
            assignment,
            epoch: epochs.draw(),
            epochs,
            fetch,
            buffer: VecDeque::new(),
            answers: VecDeque::new(),
            next,
            since: next,
            committed: Some(committed),
            may_go_back: false,
            letter_failures: 0,
            commit_in_doubt: false,
            beyond: None,
            committing: None,
            commits: conduct.commits,
            last_timestamp: None,
            window: DedupWindow::default(),
            hold: Hold::None,
            last_turn: 0,
            waits_since: None,
        }
    }

    pub(super) const fn partition(&self) -> PartitionId {
        self.assignment.partition
    }

    pub(super) const fn assignment(&self) -> Assignment {
        self.assignment
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) const fn next(&self) -> Offset {
        self.next
    }

    pub(super) const fn since(&self) -> Offset {
        self.since
    }

    pub(super) const fn committed(&self) -> Option<Offset> {
        self.committed
    }

    /// Whether a commit may go back behind what is committed.
    pub(super) fn is_rewound(&self) -> bool {
        self.may_go_back && self.committed.is_some_and(|committed| self.since < committed)
    }

    /// The group's place is known to be here: it was stored.
    pub(super) const fn stored(&mut self, next: Offset) {
        self.committed = Some(next);
        (self.may_go_back, self.commit_in_doubt) = (false, false);
    }

    /// The letter of the head is appended again later.
    pub(super) fn retry_letter(&mut self, now: Instant) -> Hold {
        self.letter_failures = self.letter_failures.saturating_add(1);
        let wait = doubled(limits::READER_RETRY, limits::LETTER_RETRY_MAX, self.letter_failures);
        Hold::Retry { at: now + wait }
    }

    /// The group's place was asked for.
    pub(super) fn set_committed(&mut self, committed: Option<Offset>) {
        (self.committed, self.commit_in_doubt) = (committed, false);
        if self.committing.take() == committed && committed.is_some() {
            // The commit in doubt was stored, and was what may go back.
            self.may_go_back = false;
        }
    }

    /// Until the answer is there the place may be stored or not, and the connection lost.
    pub(super) const fn begins_to_commit(&mut self, next: Offset) {
        (self.commit_in_doubt, self.committing) = (true, Some(next));
        self.commits.begins();
    }

    /// Where the partition ends; `None` while it is asked anyway, now or later.
    pub(super) fn known_end(&self) -> Option<KnownEnd> {
        let is_asked = self.fetch.is_busy() || self.fetch.retry_at().is_some();
        (!is_asked).then(|| self.fetch.known_end())
    }

    pub(super) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The oldest record that can be delivered now.
    pub(super) fn head(&self) -> Option<&StoredMessage> {
        match self.hold {
            Hold::None | Hold::Parked | Hold::Refused => self.buffer.front(),
            Hold::Parking(_) | Hold::Retry { .. } | Hold::Halted => None,
        }
    }

    pub(super) fn head_mut(&mut self) -> Option<&mut StoredMessage> {
        self.head()?;
        self.buffer.front_mut()
    }

    /// Whether records are expected any moment that may be older than those of others.
    pub(super) fn may_be_older(&self, now: Instant) -> bool {
        self.buffer.is_empty() && self.fetch.is_prompt(now)
    }

    /// Until when [`may_be_older`](Self::may_be_older) can hold.
    pub(super) fn prompt_until(&self) -> Option<Instant> {
        if self.buffer.is_empty() { self.fetch.prompt_until() } else { None }
    }

    /// Whether the partition has more than is buffered, as far as it is known.
    pub(super) fn has_run_dry(&self) -> bool {
        self.buffer.is_empty() && self.fetch.is_behind()
    }

    pub(super) fn has_more(&self) -> bool {
        !self.buffer.is_empty() || self.fetch.is_behind()
    }

    /// Whether it is not known yet if there is anything to deliver.
    pub(super) fn is_unanswered(&self) -> bool {
        self.buffer.is_empty() && self.fetch.is_busy()
    }

    /// When something has to be done although no task has ended.
    pub(super) fn alarm(&self, is_reading: bool) -> Option<Instant> {
        let letter = if let Hold::Retry { at } = self.hold { Some(at) } else { None };
        letter.into_iter().chain(self.fetch.retry_at().filter(|_| is_reading)).min()
    }

    /// One fetch is due, although nothing is known to be there.
    pub(super) const fn look_again(&mut self) {
        self.fetch.look_again();
    }

    /// What it awaits.
    pub(super) const fn fetch(&self) -> &Fetch {
        &self.fetch
    }

    /// The member was lost: what this reader has asked is not answered any more.
    pub(super) fn disconnected(&mut self) {
        self.fetch.disconnected();
    }

    /// How the partition has behaved.
    pub(super) fn into_conduct(self) -> Conduct {
        let (fetches, isolated) = self.fetch.into_isolated();
        Conduct { fetches, isolated, commits: self.commits }
    }

    /// Fetches what is missing of `wanted` records, and what a reader that is behind will want next.
    pub(super) fn advance<T: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        source: &Source<'_, T>,
        wanted: usize,
    ) -> Report {
        let mut report = Report::default();
        if let Some(earliest) = self.beyond {
            let partition = self.partition();
            report.notices.push(Notice::Truncated { partition, from: self.next, resumed_at: earliest });
            report.ended.push(self.ended(EndedBy::Seek));
            self.move_to(earliest);
            // It was sent forwards.
            self.may_go_back = false;
        }
        for _ in 0..STEPS {
            let (wanted, has_room) = (wanted.saturating_sub(self.buffer.len()), self.has_room());
            let source = Source { wanted, has_room, ..*source };
            let (buffered, last) = (self.buffer.len(), self.last_timestamp);
            let released = self.fetch.release(source.now);
            let step = released.unwrap_or_else(|| self.fetch.step(cx, &source, buffered, last));
            if self.fetch.known.take_is_another() {
                // What was read before a seek is of another log than what is read now.
                self.is_of_another_log();
                report.is_another_log = true;
                if !self.fetch.known.is_truncated() {
                    let (partition, from) = (self.partition(), self.next);
                    report.notices.push(Notice::Truncated { partition, from, resumed_at: from });
                }
            }
            match step {
                Step::Idle | Step::Pending => return report,
                Step::Records { records, missing } => {
                    report.notices.extend(missing);
                    if let Some(last) = records.last() {
                        let bytes = records.iter().map(StoredMessage::bytes).sum();
                        self.answers.push_back((last.offset.next(), bytes));
                    }
                    if self.buffer.is_empty() {
                        self.buffer = records.into();
                    } else {
                        self.buffer.extend(records);
                    }
                    self.pass_gap();
                }
                Step::Seen(records) => {
                    for (id, offset) in records {
                        self.window.first_copy(id, offset);
                    }
                }
                Step::Truncated { resumed_at, committed } => {
                    let partition = self.partition();
                    report.notices.push(Notice::Truncated { partition, from: self.next, resumed_at });
                    report.ended.push(self.ended(EndedBy::Truncation));
                    report.is_another_log = true;
                    // A place that is further on than this is stored all the same: a commit may go back behind it.
                    self.committed = committed;
                    let last = self.last_timestamp;
                    self.window.truncate(self.since..self.next);
                    self.move_to(resumed_at);
                    // It may be truncated again before anything is delivered.
                    self.last_timestamp = last;
                }
                Step::Lost(error) => {
                    report.lost = Some(error);
                    return report;
                }
                Step::Failed(error) => {
                    report.notices.push(Notice::Fault { partition: self.partition(), error });
                    return report;
                }
            }
        }
        report.is_unfinished = true;
        report
    }

    /// Whether it may fetch more, however few records it has. An answer counts until all of it is delivered, which costs
    /// nothing for each record.
    fn has_room(&mut self) -> bool {
        while self.answers.front().is_some_and(|&(end, _)| end <= self.next) {
            self.answers.pop_front();
        }
        let bytes: usize = self.answers.iter().map(|&(_, bytes)| bytes).sum();
        bytes < limits::READER_BYTES
    }

    /// Moves over offsets that no record has.
    fn pass_gap(&mut self) {
        if self.buffer.is_empty() {
            self.next = self.next.max(self.fetch.from());
        }
    }

    /// Where the first copy of the head is, if the head is a second one.
    pub(super) fn first_copy(&mut self) -> Option<Position> {
        let head = self.buffer.front()?;
        let first = self.window.first_copy(head.id, head.offset)?;
        Some(Position::new(self.assignment.partition, first))
    }

    /// Takes the head out: it is delivered, or passed over.
    #[inline]
    pub(super) fn take_head(&mut self) -> Option<StoredMessage> {
        let head = self.buffer.pop_front()?;
        (self.next, self.last_timestamp) = (head.offset.next(), Some(head.timestamp));
        self.head_has_gone();
        Some(head)
    }

    #[inline]
    fn head_has_gone(&mut self) {
        if self.letter_failures > 0 || !matches!(self.hold, Hold::None) {
            (self.hold, self.letter_failures) = (Hold::None, 0);
        }
        self.pass_gap();
    }

    /// The head was delivered: nothing of it is left but its place.
    #[inline]
    pub(super) fn pass_head(&mut self) {
        let Some(head) = self.buffer.front() else { return };
        (self.next, self.last_timestamp) = (head.offset.next(), Some(head.timestamp));
        self.buffer.pop_front();
        self.head_has_gone();
    }

    pub(super) const fn last_turn(&self) -> u64 {
        self.last_turn
    }

    pub(super) const fn take_turn(&mut self, turn: u64) {
        (self.last_turn, self.waits_since) = (turn, Some(turn));
    }

    /// Notes whether there is a head that waits for a turn.
    pub(super) fn note_waiting(&mut self, turn: u64) {
        self.waits_since = self.head().map(|_| self.waits_since.unwrap_or(turn));
    }

    /// Since which turn its head has waited, if it has one.
    pub(super) const fn waits_since(&self) -> Option<u64> {
        self.waits_since
    }

    /// What to remember of the epoch that is about to end.
    pub(super) const fn ended(&self, by: EndedBy) -> EndedEpoch {
        let committed = if self.commit_in_doubt { None } else { self.committed };
        let by = if self.is_truncated() { EndedBy::Truncation } else { by };
        EndedEpoch { epoch: self.epoch, by, next: self.next, stood_beyond: self.stands_beyond(), committed }
    }

    /// Whether it was sent to where the partition has nothing, which the next poll will report.
    pub(super) const fn stands_beyond(&self) -> bool {
        self.beyond.is_some()
    }

    /// Whether it stands in a log that is known to be gone, which a later poll will report.
    pub(super) const fn is_truncated(&self) -> bool {
        self.fetch.known.is_truncated()
    }

    /// The partition was asked where it ends, after all that this reader knows of it.
    pub(super) fn ends_at(&mut self, high: Offset) {
        // That it was sent farther says nothing.
        if !self.stands_beyond() {
            self.fetch.ends_at(high);
        }
    }

    /// A truncation that was found out is told where reading goes on after the seek that follows.
    pub(super) fn truncation_is_untold(&mut self) {
        self.fetch.known.is_untold();
    }

    /// Moves because the application says so, to an offset that was found in the log just now.
    pub(super) fn seek_found(&mut self, next: Offset) {
        if self.is_truncated() {
            // What was found is of another log than what was read.
            self.is_of_another_log();
        }
        self.move_to(next);
        // What was there before a truncation is wanted again.
        self.window.forget_truncated();
        self.fetch.known.found(next);
        // As for a group that starts there: a second copy may lie behind it of what lies before it.
        if next > Offset::ZERO {
            self.fetch.look_back(next);
        }
    }

    /// Moves because the application says so, to an offset that it has kept: it may be from before the log was truncated,
    /// or be none of this log, and a second copy may lie behind it of what was handled before it.
    pub(super) fn seek_kept(&mut self, next: Offset, low: Offset, high: Offset) {
        self.move_to(next);
        self.window.forget_truncated();
        self.fetch.known.kept();
        if next > high {
            self.fetch.known.ends_at(high);
        }
        if self.is_truncated() {
            // The offset may be of the log as it was.
            self.is_of_another_log();
        } else if next > high {
            self.beyond = Some(low);
        } else {
            self.fetch.known.reaches(next);
            if next > low {
                self.fetch.look_back(next);
            }
        }
    }

    /// What is known of the partition is not true of what is there now.
    fn is_of_another_log(&mut self) {
        self.window = DedupWindow::default();
        if self.committed.is_some() {
            self.commit_in_doubt = true;
        }
    }

    /// Begins a new epoch.
    fn move_to(&mut self, next: Offset) {
        self.epoch = self.epochs.draw();
        (self.next, self.since) = (next, next);
        (self.last_timestamp, self.beyond) = (None, None);
        (self.hold, self.letter_failures) = (Hold::None, 0);
        (self.may_go_back, self.committing) = (true, None);
        self.buffer.clear();
        self.answers.clear();
        self.fetch.move_to(next);
    }
}
