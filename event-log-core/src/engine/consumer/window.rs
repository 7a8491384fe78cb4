//! The second line against duplicates: the ids of the records that were delivered lately.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use crate::event::EventId;
use crate::limits;
use crate::position::Offset;

/// Remembers where the last [`limits::DEDUP_WINDOW_RECORDS`] ids of a partition were first seen.
///
/// An id at the offset where it was first seen is the same record read again (after a seek, say) and not a
/// duplicate; at any other offset it is a second copy.
#[derive(Default)]
pub(super) struct DedupWindow {
    first: HashMap<EventId, Offset, BuildHasherDefault<IdHasher>>,
    order: VecDeque<EventId>,
}

impl DedupWindow {
    /// Where the first copy of this record is, if it is not the first itself. Remembers it otherwise.
    pub(super) fn first_copy(&mut self, id: EventId, offset: Offset) -> Option<Offset> {
        if let Some(&first) = self.first.get(&id) {
            return (first != offset).then_some(first);
        }
        if self.order.len() == limits::DEDUP_WINDOW_RECORDS {
            if let Some(oldest) = self.order.pop_front() {
                self.first.remove(&oldest);
            }
        }
        self.first.insert(id, offset);
        self.order.push_back(id);
        None
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
    fn the_window_is_bounded() {
        let mut window = DedupWindow::default();
        for n in 0..limits::DEDUP_WINDOW_RECORDS as u128 + 1 {
            assert_eq!(window.first_copy(EventId::from_u128(n), Offset(n as u64)), None);
        }
        assert_eq!(window.order.len(), limits::DEDUP_WINDOW_RECORDS);
        assert_eq!(window.first.len(), limits::DEDUP_WINDOW_RECORDS);
        assert!(!window.first.contains_key(&EventId::from_u128(0)));
    }
}
