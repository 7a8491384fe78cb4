//! Waiting for news of partitions that were read to their ends.
//!
//! A question goes on while it is for anything that is still waited for. What it is not for, because it came meanwhile, is asked
//! for by a second one beside it, and that one is replaced whenever something else comes: so there are two at most, and the
//! older one is always answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::partition::PartitionReader;
use super::{Call, Consumer};
use crate::engine::backoff::doubled;
use crate::engine::task::Task;
use crate::engine::transport::{GroupMember, KnownEnd, Transport};
use crate::error::Error;
use crate::limits;
use crate::position::PartitionId;

/// What is asked for news, and when it is asked again.
#[derive(Default)]
pub(super) struct News {
    /// What is under way, the older question first.
    waiting: VecDeque<Waiting>,
    /// Not before this: the log has said before its time that there is nothing.
    again_at: Option<Instant>,
    /// The same, where a question would be asked but for that.
    due: Option<Instant>,
    /// How often it has done so in a row.
    in_vain: u32,
    /// What the last answer with news was told of. The same again says that fetching has brought none.
    told: Vec<KnownEnd>,
}

/// A question for news that is under way.
struct Waiting {
    task: Task<Vec<PartitionId>>,
    /// What it waits for a change of, sorted by partition.
    ends: Vec<KnownEnd>,
    asked_at: Instant,
    deadline: Instant,
}

impl Waiting {
    /// Whether it waits for this one.
    fn is_for(&self, end: &KnownEnd) -> bool {
        let place = self.ends.binary_search_by_key(&end.partition, |one| one.partition);
        place.is_ok_and(|at| self.ends[at] == *end)
    }

    /// Whether its answer is from after that call began. Of one that was asked before, that is known when it has waited until its
    /// deadline.
    fn is_look_of(&self, call: &Call, now: Instant) -> bool {
        self.asked_at >= call.began || (call.began..=now).contains(&self.deadline)
    }
}

impl News {
    pub(super) fn is_asked_for(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// When a question is due although no task has ended.
    pub(super) const fn alarm(&self) -> Option<Instant> {
        self.due
    }

    /// What was asked does not hold any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }

    /// The first answer that is there, and what was asked.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<(Result<Vec<PartitionId>, Error>, Waiting)> {
        for nth in 0..self.waiting.len() {
            if let Poll::Ready(news) = self.waiting[nth].task.poll(cx) {
                return Some((news, self.waiting.remove(nth)?));
            }
        }
        None
    }

    /// Ends what would end too late for a call, or is for nothing that is waited for. Returns what no question is for then.
    fn keep_for(&mut self, ends: &[KnownEnd], deadline: Instant) -> Vec<KnownEnd> {
        let is_of_use = |waiting: &Waiting| {
            waiting.deadline <= deadline && (ends.is_empty() || ends.iter().any(|end| waiting.is_for(end)))
        };
        self.waiting.retain(is_of_use);
        let is_open =
            |waiting: &VecDeque<Waiting>, end: &&KnownEnd| !waiting.iter().any(|one| one.is_for(end));
        let open = ends.iter().filter(|end| is_open(&self.waiting, end)).count();
        if open > 0 {
            self.waiting.truncate(1);
        }
        ends.iter().filter(|end| is_open(&self.waiting, end)).copied().collect()
    }

    /// A caller has come who may wait for less long than it is until the question.
    pub(super) const fn ask_now(&mut self) {
        (self.again_at, self.in_vain) = (None, 0);
    }

    /// An answer may come early, and says nothing then; or it tells of news that no fetch brings. One that comes at once is not
    /// asked for again at once, or waiting would keep the processor busy, and the log.
    fn answered(&mut self, asked: Waiting, has_news: bool, now: Instant) {
        let is_early = !has_news && now < asked.deadline && now < asked.asked_at + limits::NEWS_RETRY_MAX;
        let is_in_vain = is_early || has_news && self.told == asked.ends;
        self.told = if has_news { asked.ends } else { Vec::new() };
        self.in_vain = if is_in_vain { self.in_vain.saturating_add(1) } else { 0 };
        self.again_at =
            is_in_vain.then(|| now + doubled(limits::NEWS_RETRY, limits::NEWS_RETRY_MAX, self.in_vain));
    }
}

impl<E, T> Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    /// Waits for news of what was read to its end. True when there is some.
    pub(super) fn poll_news(&mut self, cx: &mut Context<'_>, call: &mut Call, now: Instant) -> bool {
        self.news.due = None;
        // It goes on beside the question whose the partitions are. What comes of that is asked for by the next one.
        let Some(member) = self.membership.reading() else { return false };
        // Those whose answers are under way are no reason not to hear of the others.
        let idle = self.readers.iter().filter(|reader| !reader.has_more());
        let mut ends: Vec<_> = idle.filter_map(PartitionReader::known_end).collect();
        // A call that is over, or ends with an error as soon as the others have nothing, waits for answers in flight and looks
        // once at each. Without any it waits for other partitions, or none at all, to be the member's.
        let is_ending = call.is_halted || now >= call.deadline;
        let deadline = if call.is_halted { now } else { call.deadline };
        if is_ending {
            ends.retain(|end| !call.has_looked_at(end));
        }
        let has_looked =
            call.looks_by_fetching || ends.is_empty() && (call.has_asked || !self.readers.is_empty());
        // Those from an earlier poll are heard first: news is news, however late it comes and whatever else was to be waited for.
        let mut answer = self.news.poll(cx);
        if answer.is_none() {
            if is_ending && has_looked {
                self.news.forget();
                return false;
            }
            let open = self.news.keep_for(&ends, deadline);
            if !open.is_empty() || self.news.waiting.is_empty() {
                self.news.due = self.news.again_at.filter(|&at| now < at);
                if self.news.due.is_some() {
                    return false;
                }
                let (member, known, asked) = (Arc::clone(member), self.membership.generation(), open.clone());
                let task = Task::inline(async move { member.wait(&asked, known, deadline).await });
                self.news.waiting.push_back(Waiting { task, ends: open, asked_at: now, deadline });
                answer = self.news.poll(cx);
            }
        }
        let Some((news, asked)) = answer else { return false };
        let mut news = match news {
            Ok(news) => news,
            Err(error) => {
                self.membership.disconnect(error, Instant::now());
                self.disconnected();
                return true;
            }
        };
        if asked.is_look_of(call, now) {
            call.has_asked = true;
            call.looked_at.extend(asked.ends.iter().map(|end| (end.partition, *end)));
        }
        self.news.answered(asked, !news.is_empty(), Instant::now());
        self.membership.is_fresh = false;
        news.sort_unstable();
        let has_news = |reader: &&mut PartitionReader| news.binary_search(&reader.partition()).is_ok();
        self.readers.iter_mut().filter(has_news).for_each(PartitionReader::look_again);
        true
    }
}
