//! Which partitions are worth a fetch.
//!
//! One request asks the server where all partitions end, so that a consumer of many partitions, most of which have nothing
//! new, asks once and not once for each. An end alone is not enough: a partition that was purged, and has grown as long as
//! it was, is recognised only by reading the record that was read last. So each partition is read now and then, and
//! whenever some partition turned out to be truncated.

use event_log_core::engine::KnownEnd;
use event_log_core::{Offset, PartitionId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::high_watermarks::KnownEnds;
use crate::limits;

/// What one member knows of what its readers know, by partition.
#[derive(Debug)]
pub(super) struct News(Mutex<Vec<Partition>>);

#[derive(Clone, Debug, Default)]
struct Partition {
    /// When a fetch was answered last, and how many truncations were known when it was asked.
    read: Option<(Instant, u64)>,
    /// What was news last: the end that the reader knew, the end that was, and when.
    told: Option<(Offset, Offset, Instant)>,
}

impl Partition {
    /// Whether the partition may have begun again and grown as long as it was.
    fn is_suspect(&self, known: &KnownEnds) -> bool {
        self.read.is_none_or(|(at, truncations)| {
            truncations != known.truncations() || at.elapsed() >= limits::SUSPECT_INTERVAL
        })
    }
}

impl News {
    pub(super) fn new(partitions: usize) -> Self {
        Self(Mutex::new(vec![Partition::default(); partitions]))
    }

    /// A fetch was answered, which was asked when so many truncations were known.
    pub(super) fn has_read(&self, partition: PartitionId, truncations: u64) {
        if let Some(state) = self.0.lock().get_mut(partition.0 as usize) {
            state.read = Some((Instant::now(), truncations));
        }
    }

    /// The partitions that are worth a fetch by readers that know these ends; and when others may be that were so a
    /// moment ago: an answer proves nothing when it is empty, and must not be asked for in a loop.
    pub(super) fn of(&self, ends: &[KnownEnd], known: &KnownEnds) -> (Vec<PartitionId>, Option<Instant>) {
        let mut partitions = self.0.lock();
        let now = Instant::now();
        let (mut news, mut again) = (Vec::new(), None::<Instant>);
        for reader in ends {
            let end = known.end(reader.partition);
            let Some(partition) = partitions.get_mut(reader.partition.0 as usize) else { continue };
            if end <= reader.end && !partition.is_suspect(known) {
                continue;
            }
            let told = partition.told.filter(|&(before, then, _)| (before, then) == (reader.end, end));
            match told.map(|(.., at)| at + limits::WAKE_AGAIN).filter(|&at| now < at) {
                Some(at) => again = Some(again.map_or(at, |again| again.min(at))),
                None => {
                    partition.told = Some((reader.end, end, now));
                    news.push(reader.partition);
                }
            }
        }
        (news, again)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::high_watermarks::HighWatermarks;

    const P: PartitionId = PartitionId(0);

    fn reader(end: u64) -> [KnownEnd; 1] {
        [KnownEnd { partition: P, end: Offset(end), incarnation: None }]
    }

    #[tokio::test(start_paused = true)]
    async fn what_ends_farther_is_news_once_and_again_after_a_while() {
        let (news, ends) = (News::new(1), HighWatermarks::new(1));
        news.has_read(P, 0);
        assert_eq!(news.of(&reader(0), &ends.snapshot()), (vec![], None));
        ends.observe(P, Offset(0), Offset(0), Offset(3));
        assert_eq!(news.of(&reader(0), &ends.snapshot()), (vec![P], None));
        let again = Instant::now() + limits::WAKE_AGAIN;
        assert_eq!(news.of(&reader(0), &ends.snapshot()), (vec![], Some(again)), "the fetch found nothing");
        ends.observe(P, Offset(3), Offset(3), Offset(4));
        assert_eq!(news.of(&reader(0), &ends.snapshot()), (vec![P], None), "there is more");
        tokio::time::advance(limits::WAKE_AGAIN).await;
        assert_eq!(news.of(&reader(0), &ends.snapshot()), (vec![P], None));
        assert_eq!(news.of(&reader(4), &ends.snapshot()), (vec![], None), "the reader has come there");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_read_for_long_or_may_be_truncated_is_news() {
        let (news, ends) = (News::new(1), HighWatermarks::new(1));
        ends.refresh(&ends.snapshot(), 1, [Offset(3)]);
        assert_eq!(news.of(&reader(3), &ends.snapshot()), (vec![P], None), "it was never read");
        news.has_read(P, 0);
        assert_eq!(news.of(&reader(3), &ends.snapshot()), (vec![], None));
        tokio::time::advance(limits::SUSPECT_INTERVAL + Duration::from_millis(1)).await;
        assert_eq!(news.of(&reader(3), &ends.snapshot()), (vec![P], None));
        news.has_read(P, 0);
        tokio::time::advance(limits::WAKE_AGAIN).await;
        ends.refresh(&ends.snapshot(), 2, [Offset(3)]);
        assert_eq!(news.of(&reader(3), &ends.snapshot()), (vec![P], None), "the topic was created again");
    }
}
