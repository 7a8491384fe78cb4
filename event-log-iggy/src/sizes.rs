//! How long records are, by partition: a poll is bounded by a number of records, and a fetch also by bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use event_log_core::PartitionId;
use event_log_core::engine::StoredMessage;

use crate::sdk::PartitionStats;

/// The average size of the records of each partition, as far as answers have shown it.
#[derive(Debug)]
pub(crate) struct RecordSizes {
    averages: Vec<AtomicU64>,
}

impl RecordSizes {
    pub(crate) fn new(partitions: u32) -> Self {
        Self { averages: (0..partitions).map(|_| AtomicU64::new(0)).collect() }
    }

    /// How many records of this partition have about so many bytes.
    pub(crate) fn records_within(&self, partition: PartitionId, bytes: usize) -> u32 {
        let average = self.averages.get(partition.0 as usize).map_or(0, |one| one.load(Ordering::Relaxed));
        u32::try_from(bytes as u64 / average.max(1)).unwrap_or(u32::MAX).max(1)
    }

    /// Takes the average of all that a partition retains, unless records were seen.
    pub(crate) fn expect(&self, partition: PartitionId, stats: PartitionStats) {
        if let (Some(average), Some(found)) =
            (self.averages.get(partition.0 as usize), stats.bytes.checked_div(stats.messages))
        {
            // That records were seen is no failure.
            let _seen = average.compare_exchange(0, found, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Takes note of records that came. The average truncations to no less than half: then at most twice as many are asked for
    /// as before, since what comes next may be longer than what came.
    pub(crate) fn observe(&self, partition: PartitionId, records: &[StoredMessage]) {
        let bytes: usize = records.iter().map(StoredMessage::bytes).sum();
        if let (Some(average), Some(found)) =
            (self.averages.get(partition.0 as usize), bytes.checked_div(records.len()))
        {
            let known = average.load(Ordering::Relaxed);
            average.store((found as u64).max(known / 2), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use event_log_core::{EventId, Headers, Offset, Timestamp};

    use super::*;

    fn record(bytes: usize) -> StoredMessage {
        let payload = vec![0; bytes].into();
        let (offset, id) = (Offset::ZERO, EventId::from_u128(1));
        StoredMessage { offset, id, timestamp: Timestamp(0), headers: Headers::new(), payload }
    }

    #[test]
    fn short_records_double_the_count_and_long_ones_cut_it_at_once() {
        let (sizes, p) = (RecordSizes::new(1), PartitionId(0));
        sizes.expect(p, PartitionStats { high: Offset(10), messages: 10, bytes: 1_000 });
        assert_eq!(sizes.records_within(p, 1_000), 10);
        sizes.observe(p, &[record(10)]);
        assert_eq!(sizes.records_within(p, 1_000), 20);
        sizes.observe(p, &[record(500)]);
        assert_eq!(sizes.records_within(p, 1_000), 2);
        sizes.observe(p, &[record(5_000)]);
        assert_eq!(sizes.records_within(p, 1_000), 1, "one record is always asked for");
        sizes.observe(p, &[]);
        assert_eq!(sizes.records_within(p, 1_000), 1);
    }
}
