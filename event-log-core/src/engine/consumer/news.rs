//! Waiting for news of partitions that were read to their ends.

use std::sync::Arc;
use std::task::{Context, Poll};

use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::partition::PartitionReader;
use super::{Call, Consumer};
use crate::engine::task::Task;
use crate::engine::transport::{GroupMember, KnownEnd, Transport};
use crate::position::PartitionId;

/// A question for news that is under way.
pub(super) struct Waiting {
    pub(super) task: Task<Vec<PartitionId>>,
    /// What it waits for a change of.
    pub(super) ends: Vec<KnownEnd>,
    pub(super) deadline: Instant,
}

impl<E, T> Consumer<E, T>
where
    E: DeserializeOwned + Send + 'static,
    T: Transport,
{
    /// Waits for news of what was read to its end. True when there is some.
    pub(super) fn poll_news(&mut self, cx: &mut Context<'_>, call: &mut Call, is_late: bool) -> bool {
        let Some(member) = self.membership.member().filter(|_| self.membership.is_assigned()) else {
            return false;
        };
        // Those whose answers are under way are no reason not to hear of the others.
        let idle = self.readers.iter().filter(|reader| !reader.has_more());
        let ends: Vec<_> = idle.filter_map(PartitionReader::known_end).collect();
        // Without any it waits for other partitions, or none at all, to be the member's.
        let looks = !ends.is_empty() || self.readers.is_empty();
        // Behind the deadline the answers in flight are waited for, and nothing else.
        if is_late && (call.has_looked || !looks) {
            self.waiting = None;
            return false;
        }
        let deadline = call.deadline;
        // One from an earlier poll goes on, unless it would end too late for this one, or waits for something else.
        let (member, known) = (Arc::clone(member), self.membership.generation());
        // Both are sorted by partition.
        let is_asked = |waiting: &Waiting| {
            let mut asked = waiting.ends.iter();
            ends.iter().all(|end| asked.any(|one| one == end))
        };
        self.waiting.take_if(|waiting| waiting.deadline > deadline || !is_asked(waiting));
        let waiting = self.waiting.get_or_insert_with(|| {
            let asked = ends.clone();
            let task = Task::inline(async move { member.wait(&asked, known, deadline).await });
            Waiting { task, ends, deadline }
        });
        let Poll::Ready(news) = waiting.task.poll(cx) else { return false };
        self.waiting = None;
        let mut news = match news {
            Ok(news) => news,
            Err(error) => {
                self.membership.disconnect(error, Instant::now());
                self.disconnected(None);
                return true;
            }
        };
        call.has_looked |= looks;
        self.membership.is_fresh = false;
        news.sort_unstable();
        let has_news = |reader: &&mut PartitionReader| news.binary_search(&reader.partition()).is_ok();
        self.readers.iter_mut().filter(has_news).for_each(PartitionReader::look_again);
        true
    }
}
