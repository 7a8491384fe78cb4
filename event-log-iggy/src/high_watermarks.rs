//! The high watermarks of all partitions, as far as this handle knows them.

use event_log_core::{Offset, PartitionId};
use tokio::sync::watch;

/// The producer takes them from confirmations, consumers from the answers to their fetches, and the consumer that holds the
/// [watch](crate::watch) from the server's description of the topic.
///
/// They wake consumers and spare requests, and decide nothing: what is in the log is known from reading it.
#[derive(Debug)]
pub(crate) struct HighWatermarks {
    known: watch::Sender<KnownEnds>,
}

/// What is known.
#[derive(Clone, Debug, Default)]
pub(crate) struct KnownEnds {
    /// One past the last record, by partition.
    ends: Vec<Offset>,
    /// How often a partition has turned out to end before where it used to.
    truncations: u64,
    /// When the topic was created, as the server said last.
    incarnation: Option<u64>,
}

impl KnownEnds {
    /// Where the partition ends at least, unless it has been truncated since.
    pub(crate) fn end(&self, partition: PartitionId) -> Offset {
        self.ends.get(partition.0 as usize).copied().unwrap_or_default()
    }

    pub(crate) const fn truncations(&self) -> u64 {
        self.truncations
    }
}

impl HighWatermarks {
    pub(crate) fn new(partitions: u32) -> Self {
        let ends = vec![Offset::ZERO; partitions as usize];
        Self { known: watch::Sender::new(KnownEnds { ends, truncations: 0, incarnation: None }) }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<KnownEnds> {
        self.known.subscribe()
    }

    /// What is known now. Cloned, because holding the borrow of a `watch` would block updates.
    pub(crate) fn snapshot(&self) -> KnownEnds {
        self.known.borrow().clone()
    }

    pub(crate) fn end(&self, partition: PartitionId) -> Offset {
        self.known.borrow().end(partition)
    }

    /// A request that was made when the known end was `before` has shown that the partition reaches `end`; `base` is where
    /// its own records begin, for an append, and the end itself otherwise. A base before the known end shows that the
    /// partition was truncated. An end that became known after the request was made may be newer, and is kept.
    pub(crate) fn observe(&self, partition: PartitionId, before: Offset, base: Offset, end: Offset) {
        self.known.send_if_modified(|known| {
            let Some(known_end) = known.ends.get_mut(partition.0 as usize) else { return false };
            if base < before && *known_end == before {
                *known_end = end;
                known.truncations += 1;
                return true;
            }
            let is_news = *known_end < end;
            *known_end = end.max(*known_end);
            is_news
        });
    }

    /// The server has answered where all partitions end, to a request that was made when `before` was known. What became
    /// known in between may be newer, and is kept.
    pub(crate) fn refresh(
        &self,
        before: &KnownEnds,
        incarnation: u64,
        ends: impl IntoIterator<Item = Offset>,
    ) {
        self.known.send_if_modified(|known| {
            let recreated = known.incarnation.is_some_and(|known| known != incarnation);
            if recreated && known.incarnation != before.incarnation {
                // Another request has shown a newer topic while this one was answered.
                return false;
            }
            known.incarnation = Some(incarnation);
            if recreated {
                known.ends = ends.into_iter().collect();
                known.truncations += 1;
                return true;
            }
            let (mut news, mut fell) = (false, false);
            for ((end, now), before) in known.ends.iter_mut().zip(ends).zip(&before.ends) {
                if now > *end {
                    *end = now;
                    news = true;
                } else if now < *before && now < *end {
                    *end = now;
                    fell = true;
                }
            }
            known.truncations += u64::from(fell);
            news || fell
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: PartitionId = PartitionId(0);

    #[test]
    fn news_wakes_and_no_news_does_not() {
        let ends = HighWatermarks::new(1);
        let mut waiting = ends.subscribe();
        ends.observe(P, Offset(0), Offset(0), Offset(3));
        assert!(waiting.has_changed().unwrap());
        waiting.mark_unchanged();
        // It was asked before the other was known.
        ends.observe(P, Offset(0), Offset(0), Offset(2));
        ends.refresh(&ends.snapshot(), 1, [Offset(3)]);
        assert!(!waiting.has_changed().unwrap());
        assert_eq!(ends.end(P), Offset(3));
    }

    #[test]
    fn an_answer_that_is_older_than_an_append_takes_nothing_back() {
        let ends = HighWatermarks::new(1);
        ends.observe(P, Offset(0), Offset(0), Offset(3));
        let before = ends.snapshot();
        ends.observe(P, Offset(3), Offset(3), Offset(5));
        ends.refresh(&before, 1, [Offset(4)]);
        assert_eq!(ends.end(P), Offset(5));
        assert_eq!(ends.snapshot().truncations(), 0);
    }

    #[test]
    fn an_append_before_the_end_says_that_it_was_cut() {
        let ends = HighWatermarks::new(1);
        ends.observe(P, Offset(0), Offset(0), Offset(3));
        ends.observe(P, Offset(3), Offset(3), Offset(5));
        assert_eq!((ends.end(P), ends.snapshot().truncations()), (Offset(5), 0));
        ends.observe(P, Offset(5), Offset(0), Offset(5));
        assert_eq!((ends.end(P), ends.snapshot().truncations()), (Offset(5), 1));
    }

    #[test]
    fn a_topic_that_was_created_again_is_news_although_it_is_as_long() {
        let ends = HighWatermarks::new(1);
        ends.refresh(&ends.snapshot(), 1, [Offset(5)]);
        let before = ends.snapshot();
        ends.refresh(&before, 2, [Offset(5)]);
        assert_eq!((ends.end(P), ends.snapshot().truncations()), (Offset(5), 1));
        // An answer from before says nothing of the new topic.
        ends.refresh(&before, 1, [Offset(9)]);
        assert_eq!((ends.end(P), ends.snapshot().truncations()), (Offset(5), 1));
    }

    #[test]
    fn a_partition_that_was_cut_is_news() {
        let ends = HighWatermarks::new(1);
        ends.observe(P, Offset(0), Offset(0), Offset(5));
        let mut waiting = ends.subscribe();
        waiting.mark_unchanged();
        ends.refresh(&ends.snapshot(), 1, [Offset(1)]);
        assert!(waiting.has_changed().unwrap());
        assert_eq!((ends.end(P), ends.snapshot().truncations()), (Offset(1), 1));
    }
}
