//! What a position means, computed from the ledger instead of asking the log.

use event_log_core::{Cursor, Offset, PartitionId, SeekPosition};

use super::ledger::Ledger;

/// Whether a position names a partition that is not there.
pub(super) fn names_strange_partition(to: &SeekPosition, partitions: u32) -> bool {
    match to {
        SeekPosition::Position(position) => position.partition.0 >= partitions,
        SeekPosition::Cursor(cursor) => cursor.iter().any(|(partition, _)| partition.0 >= partitions),
        _ => false,
    }
}

/// Where `to` leads in these partitions, of a log with these watermarks. Partitions that it does not speak of
/// are absent. `None` when nobody outside can know: records were removed that nobody has seen.
pub(super) fn resolve(
    to: &SeekPosition,
    partitions: &[PartitionId],
    marks: &[(Offset, Offset)],
    ledger: &Ledger,
    complete: bool,
) -> Option<Cursor> {
    let of = |partition: PartitionId| marks.get(partition.0 as usize).copied().unwrap_or_default();
    let each = |next: &dyn Fn(PartitionId) -> Offset| -> Option<Cursor> {
        Some(partitions.iter().map(|&partition| (partition, next(partition))).collect())
    };
    match to {
        SeekPosition::Beginning => each(&|partition| of(partition).0),
        SeekPosition::End => each(&|partition| of(partition).1),
        SeekPosition::Position(position) => {
            Some([(position.partition, position.offset)].into_iter().collect())
        }
        SeekPosition::Cursor(cursor) => Some(cursor.clone()),
        _ if !complete => None,
        SeekPosition::Timestamp(timestamp) => each(&|partition| {
            let (low, high) = of(partition);
            let mut records = ledger.range(partition, low..high);
            let first = records.find(|(_, entry)| entry.timestamp.is_some_and(|time| time >= *timestamp));
            first.map_or(high, |(position, _)| position.offset)
        }),
        SeekPosition::FromEnd(count) => {
            let mut all: Vec<_> = partitions
                .iter()
                .flat_map(|&partition| ledger.range(partition, of(partition).0..of(partition).1))
                .map(|(position, entry)| (entry.timestamp, position))
                .collect();
            all.sort_unstable();
            let mut target: Cursor = partitions.iter().map(|&one| (one, of(one).1)).collect();
            for (_, position) in all.into_iter().rev().take(*count) {
                target.set(position.partition, position.offset);
            }
            Some(target)
        }
        _ => None,
    }
}
