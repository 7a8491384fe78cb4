//! How far a log reaches and how far a group lags behind it.

use crate::position::{Cursor, Offset, PartitionId};

/// The retained range of one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionWatermarks {
    /// The low watermark: the earliest offset still retained; equal to `high` in an empty partition.
    pub low: Offset,
    /// The high watermark: the offset that the next append will take at the earliest.
    pub high: Offset,
}

/// The watermarks of every partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    partitions: Vec<PartitionWatermarks>,
}

impl Watermarks {
    /// The watermarks of the partitions 0, 1, ….
    #[must_use]
    pub const fn new(partitions: Vec<PartitionWatermarks>) -> Self {
        Self { partitions }
    }

    /// How many partitions the log has.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    /// The watermarks of one partition, `None` when the log has no such partition.
    #[must_use]
    pub fn get(&self, partition: PartitionId) -> Option<PartitionWatermarks> {
        self.partitions.get(partition.0 as usize).copied()
    }

    /// Every partition with its watermarks.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, PartitionWatermarks)> + '_ {
        (0..).map(PartitionId).zip(self.partitions.iter().copied())
    }

    /// The cursor of a reader that has read everything there is.
    #[must_use]
    pub fn high(&self) -> Cursor {
        self.iter().map(|(partition, marks)| (partition, marks.high)).collect()
    }

    /// The cursor of a reader that begins at the earliest retained records.
    #[must_use]
    pub fn low(&self) -> Cursor {
        self.iter().map(|(partition, marks)| (partition, marks.low)).collect()
    }
}

/// How far the committed cursor of a group is behind the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    partitions: Vec<PartitionLag>,
}

/// How far a group is behind in one partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionLag {
    /// What the group has committed, `None` when it never has.
    pub committed: Option<Offset>,
    /// The retained range.
    pub watermarks: PartitionWatermarks,
}

impl PartitionLag {
    /// The lag of a group with this committed offset.
    #[must_use]
    pub const fn new(committed: Option<Offset>, watermarks: PartitionWatermarks) -> Self {
        Self { committed, watermarks }
    }

    /// The distance in **offsets** from the committed cursor to the high watermark, counted from the low
    /// watermark when nothing is committed or what is committed is no longer retained.
    ///
    /// An upper bound of the number of records, since offsets may have gaps.
    #[must_use]
    pub fn offsets(&self) -> u64 {
        let from = self.committed.unwrap_or_default().max(self.watermarks.low);
        self.watermarks.high.0.saturating_sub(from.0)
    }
}

impl Lag {
    /// The lag in the partitions 0, 1, ….
    #[must_use]
    pub const fn new(partitions: Vec<PartitionLag>) -> Self {
        Self { partitions }
    }

    /// The lag in one partition, `None` when the log has no such partition.
    #[must_use]
    pub fn get(&self, partition: PartitionId) -> Option<PartitionLag> {
        self.partitions.get(partition.0 as usize).copied()
    }

    /// Every partition with its lag.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, PartitionLag)> + '_ {
        (0..).map(PartitionId).zip(self.partitions.iter().copied())
    }

    /// The sum of [`PartitionLag::offsets`] over the partitions.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.partitions.iter().map(PartitionLag::offsets).fold(0, u64::saturating_add)
    }
}
