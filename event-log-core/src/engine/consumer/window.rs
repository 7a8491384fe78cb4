//! The second line against duplicates: the ids of the records that were delivered lately.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use crate::event::EventId;
use crate::limits;
use crate::position::Offset;

type Seen = HashMap<EventId, Offset, BuildHasherDefault<IdHasher>>;

/// Remembers where the ids of a partition first are, as far as it was seen: of the last [`limits::DEDUP_WINDOW_RECORDS`]
/// records, and of at most as many before them.
///
/// An id at the offset where it first is, is the same record read again (after a seek, say) and not a
/// duplicate; at any later offset it is a second copy. Before that offset (a seek went back behind the only
/// copy that was seen so far) it is the first one, which keeps the order of its key.
///
/// Two generations instead of a queue: a record costs one look-up and one insertion, and forgetting costs
/// nothing until a generation is full.
#[derive(Default)]
pub(super) struct DedupWindow {
    current: Seen,
    previous: Seen,
    /// From before the partition was cut: whatever comes back of it is a copy, whatever its offset.
    cut: Seen,
}

impl DedupWindow {
    /// Where the first copy of this record is, if it is not the first itself. Remembers it otherwise.
    pub(super) fn first_copy(&mut self, id: EventId, offset: Offset) -> Option<Offset> {
        if let Some(&first) = self.cut.get(&id) {
            return Some(first);
        }
        let known = match self.previous.get_mut(&id) {
            Some(known) => Some(known),
            None => match self.current.entry(id) {
                Entry::Occupied(known) => Some(known.into_mut()),
                Entry::Vacant(entry) => {
                    entry.insert(offset);
                    None
                }
            },
        };
        if let Some(first) = known {
            *first = offset.min(*first);
            return (*first < offset).then_some(*first);
        }
        if self.current.len() == limits::DEDUP_WINDOW_RECORDS {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
        }
        None
    }

    /// What was there before the last cut may be delivered again.
    pub(super) fn forget_cut(&mut self) {
        self.cut.clear();
    }

    /// The partition was cut, and its offsets begin again somewhere before.
    pub(super) fn cut(&mut self) {
        self.cut.clear();
        self.cut.extend(self.previous.drain().chain(self.current.drain()));
    }
}

/// Ids are spread by their making; folding and one multiplication bring that into every bit of the hash.
/// An application that chose colliding ids on purpose would slow down its own window, which is bounded.
#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = (self.0.rotate_left(29) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_copy_is_told_from_the_same_record_read_again() {
        let mut window = DedupWindow::default();
        let id = EventId::from_u128(1);
        assert_eq!(window.first_copy(id, Offset(5)), None);
        assert_eq!(window.first_copy(id, Offset(5)), None);
        assert_eq!(window.first_copy(id, Offset(9)), Some(Offset(5)));
    }

    #[test]
    fn whichever_copy_is_seen_first_the_earlier_one_counts() {
        let mut window = DedupWindow::default();
        let id = EventId::from_u128(1);
        assert_eq!(window.first_copy(id, Offset(9)), None);
        assert_eq!(window.first_copy(id, Offset(5)), None);
        assert_eq!(window.first_copy(id, Offset(9)), Some(Offset(5)));
    }

    #[test]
    fn what_was_seen_before_a_cut_is_a_copy_at_any_offset() {
        let mut window = DedupWindow::default();
        let id = EventId::from_u128(1);
        assert_eq!(window.first_copy(id, Offset(5)), None);
        window.cut();
        assert_eq!(window.first_copy(id, Offset(0)), Some(Offset(5)));
        assert_eq!(window.first_copy(EventId::from_u128(2), Offset(0)), None);
        window.forget_cut();
        assert_eq!(window.first_copy(id, Offset(0)), None, "a seek wants to have it again");
    }

    #[test]
    fn the_window_remembers_what_it_promises_and_is_bounded() {
        let mut window = DedupWindow::default();
        for n in 0..10 * limits::DEDUP_WINDOW_RECORDS as u64 {
            assert_eq!(window.first_copy(EventId::from_u128(n.into()), Offset(n)), None);
            let oldest = n.saturating_sub(limits::DEDUP_WINDOW_RECORDS as u64 - 1);
            assert_eq!(
                window.first_copy(EventId::from_u128(oldest.into()), Offset(u64::MAX)),
                Some(Offset(oldest))
            );
            assert!(window.current.len() + window.previous.len() <= 2 * limits::DEDUP_WINDOW_RECORDS);
        }
    }
}
