//! One call of poll: what is looked at in which order, what is waited for, and when it ends.

use std::collections::BTreeMap;
use std::task::{Context, Poll};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::partition::PartitionReader;
use super::{Consumer, merge};
use crate::contain::contain;
use crate::engine::transport::{KnownEnd, Transport};
use crate::error::Error;
use crate::limits;
use crate::position::PartitionId;
use crate::record::EventBatch;

/// How often a poll looks again before it lets others have their turn.
const ROUNDS: u32 = 64;

/// One call of `poll`.
pub(super) struct Call {
    max_count: usize,
    timeout: Duration,
    pub(super) began: Instant,
    pub(super) deadline: Instant,
    /// Until when answers in flight are waited for.
    overtime: Instant,
    /// Fetching costs no more than asking whether there is anything to fetch.
    pub(super) looks_by_fetching: bool,
    /// Since the call began the log was asked for news, and has said that there is nothing more of these partitions.
    pub(super) has_asked: bool,
    pub(super) looked_at: BTreeMap<PartitionId, KnownEnd>,
    /// A partition is halted: the call ends with that as soon as the others have nothing to deliver.
    pub(super) is_halted: bool,
    /// A reader could go on at once, and leaves the others their turn first.
    is_unfinished: bool,
}

impl Call {
    pub(super) fn new(max_count: usize, timeout: Duration) -> Self {
        let began = Instant::now();
        let deadline = began + timeout.min(limits::LONGEST_WAIT);
        Self {
            max_count: max_count.min(limits::FETCH_RECORDS),
            timeout,
            began,
            deadline,
            overtime: deadline + limits::POLL_OVERTIME,
            looks_by_fetching: false,
            has_asked: false,
            looked_at: BTreeMap::new(),
            is_halted: false,
            is_unfinished: false,
        }
    }

    pub(super) fn has_looked_at(&self, end: &KnownEnd) -> bool {
        self.looked_at.get(&end.partition) == Some(end)
    }
}

impl<E, T> Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    pub(super) fn poll_batch(
        &mut self,
        cx: &mut Context<'_>,
        call: &mut Call,
    ) -> Poll<Result<EventBatch<E>, Error>> {
        for _ in 0..ROUNDS {
            let now = Instant::now();
            let is_late = now >= call.deadline;
            self.drive_membership(cx, now)?;
            // Where there is always something to deliver, and nothing is waited for, the others are asked for all the same.
            let asks_beside = self.reads_ahead && self.readers.iter().any(PartitionReader::has_more);
            let has_news = (self.news.is_asked_for() || asks_beside) && self.poll_news(cx, call, now);
            if has_news {
                self.drive_membership(cx, now)?;
            }
            // After the news, so that what they are of is being fetched; and what is at hand waits for no news.
            call.is_unfinished = self.drive_readers(cx, call.max_count, now);
            let held_until = self.held_until(now);
            if held_until.is_none() || is_late {
                let merged = self.merge(call.max_count, now);
                if !merged.records.is_empty() || !merged.notices.is_empty() || !self.notices.is_empty() {
                    if self.reads_ahead && merged.records.is_empty() && !self.news.is_asked_for() {
                        // Where there is always something to tell, too.
                        self.poll_news(cx, call, now);
                    }
                    return Poll::Ready(Ok(self.batch(merged)));
                }
                call.is_halted = merged.halted.is_some();
                if let Some(error) = merged.halted {
                    if !self.may_bring(call, now) {
                        return Poll::Ready(Err(error));
                    }
                    // It is met again.
                    contain(|| drop(error));
                }
                if merged.has_begun_work {
                    continue;
                }
            }
            if is_late {
                if !self.is_open(call) {
                    return Poll::Ready(Ok(self.batch(merge::Merged::default())));
                }
                if self.is_given_up(call, now) {
                    let lost = self.membership.take_lost();
                    return Poll::Ready(Err(lost.unwrap_or(Error::Timeout(call.timeout))));
                }
            }
            if has_news || self.poll_news(cx, call, now) || call.is_unfinished {
                continue;
            }
            let call_alarm = if is_late { call.overtime } else { call.deadline };
            let is_reading = self.membership.reading().is_some();
            let alarms = self.readers.iter().filter_map(|reader| reader.alarm(is_reading));
            let alarms = alarms.chain(held_until).chain(self.membership.alarm()).chain(self.news.alarm());
            let due = alarms.chain([call_alarm]).min();
            if self.set_alarm(cx, due) {
                continue;
            }
            return Poll::Pending;
        }
        // Whatever it is that always has news: others on this thread have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether it is not known yet that there is nothing: the log has to answer first.
    fn is_open(&self, call: &Call) -> bool {
        let is_unanswered =
            !self.membership.is_settled() || self.readers.iter().any(PartitionReader::is_unanswered);
        // What is retried later is not in flight, and of what has more already there is nothing to be asked.
        let is_unknown = |reader: &PartitionReader| {
            !reader.has_more() && reader.known_end().is_some_and(|end| !call.has_looked_at(&end))
        };
        is_unanswered || call.is_unfinished || !call.looks_by_fetching && self.readers.iter().any(is_unknown)
    }

    /// Whether a call that is late waits for no answer any more.
    fn is_given_up(&self, call: &Call, now: Instant) -> bool {
        let is_down = self.membership.member().is_none() && !self.membership.is_joining();
        now >= call.overtime || is_down
    }

    /// Whether partitions that are not halted may have something to deliver before the call ends. Without a connection that is
    /// not known, which is what the call says in the end.
    fn may_bring(&self, call: &Call, now: Instant) -> bool {
        self.membership.member().is_none() || self.is_open(call) && now < call.overtime
    }

    /// Until when the merge waits for answers that may bring older records than those that are there. A notice waits no longer
    /// than a record.
    fn held_until(&mut self, now: Instant) -> Option<Instant> {
        let prompt = self.readers.iter().filter(|reader| reader.may_be_older(now));
        let until = prompt.filter_map(PartitionReader::prompt_until).max();
        let has_something =
            || !self.notices.is_empty() || self.readers.iter().any(|reader| reader.head().is_some());
        if until.is_none() || !has_something() {
            self.held_since = None;
            return until;
        }
        // However many of them become prompt one after the other.
        let since = *self.held_since.get_or_insert(now);
        until.map(|until| until.min(since + limits::MERGE_PATIENCE)).filter(|&until| now < until)
    }

    /// Wakes the task at that time. True when that is now.
    pub(super) fn set_alarm(&mut self, cx: &mut Context<'_>, due: Option<Instant>) -> bool {
        let Some(due) = due else { return false };
        let alarm = self.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        alarm.as_mut().poll(cx).is_ready()
    }

    fn batch(&mut self, merged: merge::Merged<E>) -> EventBatch<E> {
        self.held_since = None;
        for reader in &self.readers {
            self.position.set_read(reader.partition(), reader.next(), reader.epoch());
        }
        let mut notices = self.notices.take();
        notices.extend(merged.notices);
        // It is met again.
        contain(|| drop(merged.halted));
        EventBatch::new(merged.records, notices, self.position.clone())
    }
}
