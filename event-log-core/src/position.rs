//! Where a record is and how far a reader has come: partitions, offsets, positions and cursors.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An ordered sub-log, numbered from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionId(pub u32);

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The place of a record within its partition, numbered from 0.
///
/// Offsets of a partition strictly increase and **may have gaps**: two offsets say which record is the
/// earlier one, never how many lie between them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of every partition.
    pub const ZERO: Self = Self(0);

    /// The offset right after this one, where a reader that has read this record reads next.
    ///
    /// Saturates at `u64::MAX`, which no log reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A record's place in the log: an offset alone never identifies a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The partition.
    pub partition: PartitionId,
    /// The offset in that partition.
    pub offset: Offset,
}

impl Position {
    /// The position of `offset` in `partition`.
    #[must_use]
    pub const fn new(partition: PartitionId, offset: Offset) -> Self {
        Self { partition, offset }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.partition, self.offset)
    }
}

/// The state of a reader: for each partition that it knows, the offset of the **next** record to read.
///
/// A cursor can be kept outside the log and handed back with
/// [`SeekPosition::Cursor`](crate::SeekPosition::Cursor). It serialises as a map from partition to offset:
///
/// ```
/// use event_log_core::{Cursor, Offset, PartitionId};
///
/// let cursor: Cursor = [(PartitionId(0), Offset(12)), (PartitionId(3), Offset(7))].into_iter().collect();
/// let json = serde_json::to_string(&cursor)?;
/// assert_eq!(json, r#"{"0":12,"3":7}"#);
/// assert_eq!(serde_json::from_str::<Cursor>(&json)?, cursor);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// A cursor from a consumer also knows in which epoch of that consumer each offset was read, so that
/// [`commit`](crate::EventConsumer::commit) can tell what another consumer has read, and what is from before a seek or a
/// truncation. That is neither compared nor serialised; an offset that was [`set`](Self::set) has none.
#[derive(Clone, Default)]
pub struct Cursor {
    /// Sorted by partition, each partition once.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    partition: PartitionId,
    next: Offset,
    /// `None` for an offset that no consumer has vouched for.
    #[cfg_attr(
        not(feature = "engine"),
        allow(dead_code, reason = "only the engine's consumers draw epochs")
    )]
    epoch: Option<Epoch>,
}

/// What a consumer read without a break in one partition, from getting it, a seek or a truncation on: unique in this
/// process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(not(feature = "engine"), allow(dead_code, reason = "only the engine's consumers draw epochs"))]
pub(crate) struct Epoch {
    /// Unique in this process.
    consumer: std::num::NonZeroU64,
    number: u64,
}

impl Cursor {
    /// A cursor that knows no partition.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    /// The next offset to read in `partition`, if the cursor knows that partition.
    #[must_use]
    pub fn get(&self, partition: PartitionId) -> Option<Offset> {
        self.find(partition).ok().map(|at| self.entries[at].next)
    }

    /// Sets the next offset to read in `partition`.
    pub fn set(&mut self, partition: PartitionId, next: Offset) {
        self.insert(Entry { partition, next, epoch: None });
    }

    fn insert(&mut self, entry: Entry) {
        match self.find(entry.partition) {
            Ok(at) => self.entries[at] = entry,
            Err(at) => self.entries.insert(at, entry),
        }
    }

    /// Forgets `partition`, and returns what was known of it.
    pub fn remove(&mut self, partition: PartitionId) -> Option<Offset> {
        self.find(partition).ok().map(|at| self.entries.remove(at).next)
    }

    /// Moves past the record at `position`.
    pub fn advance_past(&mut self, position: Position) {
        self.set(position.partition, position.offset.next());
    }

    /// The partitions with their next offsets, in the order of the partitions.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (PartitionId, Offset)> + '_ {
        self.entries.iter().map(|entry| (entry.partition, entry.next))
    }

    /// How many partitions the cursor knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the cursor knows no partition.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn find(&self, partition: PartitionId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&partition, |entry| entry.partition)
    }
}

/// Draws the epochs of one consumer.
#[cfg(feature = "engine")]
#[derive(Clone, Debug)]
pub(crate) struct Epochs {
    consumer: std::num::NonZeroU64,
    last: std::sync::Arc<std::sync::atomic::AtomicU64>,
}

#[cfg(feature = "engine")]
impl Epochs {
    /// Those of a new consumer.
    pub(crate) fn new() -> Self {
        static LAST: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let last = LAST.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Self { consumer: std::num::NonZeroU64::MIN.saturating_add(last), last: std::sync::Arc::default() }
    }

    /// One that no cursor carries yet.
    pub(crate) fn draw(&self) -> Epoch {
        let number = self.last.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Epoch { consumer: self.consumer, number }
    }

    /// Whether it is one of this consumer's.
    pub(crate) fn has_drawn(&self, epoch: Epoch) -> bool {
        self.consumer == epoch.consumer
    }
}

#[cfg(feature = "engine")]
impl Cursor {
    /// Sets what a consumer has read in an epoch.
    pub(crate) fn set_read(&mut self, partition: PartitionId, next: Offset, epoch: Epoch) {
        self.insert(Entry { partition, next, epoch: Some(epoch) });
    }

    /// The entries with the epochs in which they were read.
    pub(crate) fn iter_read(&self) -> impl Iterator<Item = (PartitionId, Offset, Option<Epoch>)> + '_ {
        self.entries.iter().map(|entry| (entry.partition, entry.next, entry.epoch))
    }
}

/// The offsets count, and not where they come from.
impl PartialEq for Cursor {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Cursor {}

impl std::hash::Hash for Cursor {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.len().hash(state);
        self.iter().for_each(|entry| entry.hash(state));
    }
}

impl fmt::Debug for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cursor({self})")
    }
}

/// Of a partition named twice, the last entry counts.
impl FromIterator<(PartitionId, Offset)> for Cursor {
    fn from_iter<I: IntoIterator<Item = (PartitionId, Offset)>>(entries: I) -> Self {
        let mut cursor = Self::new();
        for (partition, next) in entries {
            cursor.set(partition, next);
        }
        cursor
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (at, (partition, next)) in self.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{partition}@{next}")?;
        }
        f.write_str("]")
    }
}

impl Serialize for Cursor {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Through a map rather than a list of pairs: a partition cannot be named twice with two meanings,
        // and a hostile input of n entries costs n log n.
        let entries = std::collections::BTreeMap::<PartitionId, Offset>::deserialize(deserializer)?;
        Ok(entries.into_iter().collect())
    }
}

/// Where a reader goes with [`EventConsumer::seek`](crate::EventConsumer::seek), or starts when its group
/// has never committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SeekPosition {
    /// The earliest retained record of every partition.
    #[default]
    Beginning,
    /// Only what is appended after the call.
    End,
    /// The record at this position, or the next one after it; the other partitions stay where they are.
    Position(Position),
    /// The next offsets of this cursor; partitions that it does not name stay where they are.
    Cursor(Cursor),
    /// The first record of every partition that was appended at this time or later.
    Timestamp(Timestamp),
    /// The last `n` records of the consumer's partitions, by append time (of the whole log, for a start and for the only member
    /// of a group); all of them when there are fewer. Its cost
    /// depends on `n`, not on the length of the log. A second copy among them counts, although it is not delivered.
    /// More than [`limits::FROM_END_RECORDS`](crate::limits::FROM_END_RECORDS) is an invalid argument, however few there are.
    FromEnd(usize),
}

/// A moment: microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment as whole milliseconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000
    }

    /// The moment `duration` before this one, or the epoch when that is nearer.
    #[must_use]
    pub fn saturating_sub(self, duration: std::time::Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

impl From<std::time::SystemTime> for Timestamp {
    /// A time before the epoch becomes the epoch.
    fn from(time: std::time::SystemTime) -> Self {
        let since = time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_cursor_keeps_its_partitions_sorted_and_single() {
        let mut cursor = Cursor::new();
        cursor.set(PartitionId(5), Offset(1));
        cursor.set(PartitionId(2), Offset(2));
        cursor.set(PartitionId(5), Offset(3));
        assert_eq!(
            cursor.iter().collect::<Vec<_>>(),
            [(PartitionId(2), Offset(2)), (PartitionId(5), Offset(3))]
        );
        assert_eq!(cursor.remove(PartitionId(2)), Some(Offset(2)));
        assert_eq!(cursor.get(PartitionId(2)), None);
        assert_eq!(cursor.to_string(), "[5@3]");
    }

    #[test]
    fn cursors_are_equal_where_their_offsets_are() {
        let cursor = |entries: &[(u32, u64)]| {
            entries
                .iter()
                .map(|&(partition, next)| (PartitionId(partition), Offset(next)))
                .collect::<Cursor>()
        };
        assert_eq!(cursor(&[(1, 2), (3, 4)]), cursor(&[(3, 4), (1, 2)]));
        for other in [&[(1, 2), (3, 5)][..], &[(1, 2), (2, 4)], &[(1, 2)], &[]] {
            assert_ne!(cursor(&[(1, 2), (3, 4)]), cursor(other));
        }
    }

    proptest! {
        #[test]
        fn a_cursor_survives_json(entries in proptest::collection::vec((any::<u32>(), any::<u64>()), 0..40)) {
            let cursor: Cursor = entries.iter().map(|&(p, o)| (PartitionId(p), Offset(o))).collect();
            let json = serde_json::to_vec(&cursor).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Cursor>(&json).unwrap(), cursor);
        }

        /// A cursor with some bytes changed is refused, or is one that is found and written as any other.
        #[test]
        fn a_damaged_cursor_is_refused_or_whole(
            entries in proptest::collection::vec((0_u32..20, any::<u64>()), 0..6),
            damage in proptest::collection::vec((any::<proptest::sample::Index>(), damaging()), 1..4),
        ) {
            let cursor: Cursor = entries.iter().map(|&(p, o)| (PartitionId(p), Offset(o))).collect();
            let mut json = serde_json::to_vec(&cursor).unwrap();
            for (at, byte) in damage {
                let at = at.index(json.len());
                json[at] = byte;
            }
            if let Ok(decoded) = serde_json::from_slice::<Cursor>(&json) {
                for (partition, next) in decoded.iter() {
                    prop_assert_eq!(decoded.get(partition), Some(next));
                }
                let again = serde_json::to_vec(&decoded).unwrap();
                prop_assert_eq!(serde_json::from_slice::<Cursor>(&again).unwrap(), decoded);
            }
        }

        /// Just the maps of partitions to offsets are cursors, and of a partition named twice the last entry counts.
        #[test]
        fn just_what_is_a_cursor_is_decoded(entries in proptest::collection::vec((number(), number()), 0..6)) {
            let texts: Vec<_> = entries.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
            let text = format!("{{{}}}", texts.join(","));
            // Written as JSON writes numbers, and within their types.
            let canonical = |text: &String| text == "0" || !text.starts_with(['0', '-']);
            let mut expected = Some(std::collections::BTreeMap::new());
            for (key, value) in &entries {
                let entry = key.parse::<u32>().ok().zip(value.parse::<u64>().ok());
                match entry.filter(|_| canonical(key) && canonical(value)) {
                    Some((key, value)) => _ = expected.as_mut().map(|all| all.insert(PartitionId(key), Offset(value))),
                    None => expected = None,
                }
            }
            let decoded = serde_json::from_str::<Cursor>(&text).ok();
            prop_assert_eq!(decoded.map(|cursor| cursor.iter().collect()), expected.map(|all| all.into_iter().collect::<Vec<_>>()), "{}", text);
        }
    }

    /// What a byte of a cursor can turn into so that it is nearly one.
    fn damaging() -> impl Strategy<Value = u8> {
        prop_oneof![proptest::sample::select(&b"0123456789\"{}:,- "[..]), any::<u8>()]
    }

    /// Numbers of every size, around the limits above all, and what is nearly one.
    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => (0_u64..4).prop_map(|number| number.to_string()),
            4 => any::<u32>().prop_map(|number| number.to_string()),
            1 => (0_u64..3).prop_map(|beyond| (u64::from(u32::MAX) - 1 + beyond).to_string()),
            1 => (0_u128..3).prop_map(|beyond| (u128::from(u64::MAX) - 1 + beyond).to_string()),
            1 => "-?[0-9]{1,25}",
        ]
    }
}
