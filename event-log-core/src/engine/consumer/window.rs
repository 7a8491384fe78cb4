//! The second line against duplicates: the ids of the records that were delivered lately.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use crate::event::EventId;
use crate::limits;
use crate::position::Offset;

/// Remembers where the ids of a partition first are, as far as it was seen: of the last [`limits::DEDUP_WINDOW_RECORDS`]
/// records, and of at most as many before them.
///
/// An id at the offset where it first is, is the same record read again (after a seek, say) and not a
/// duplicate; at any later offset it is a second copy. Before that offset (a seek went back behind the only
/// copy that was seen so far) it is the first one, which keeps the order of its key.
///
/// Two generations instead of a queue: forgetting costs nothing until a generation is full.
#[derive(Default)]
pub(super) struct DedupWindow {
    current: Seen,
    previous: Seen,
    /// What was delivered before the partition was truncated, and is not wanted again: whatever comes back of it is a copy,
    /// whatever its offset.
    truncated: Map,
    /// No id that was ever seen is greater: one that exceeds it is new, which takes one look.
    greatest: Option<EventId>,
}

impl DedupWindow {
    /// Where the first copy of this record is, if it is not the first itself. Remembers it otherwise.
    pub(super) fn first_copy(&mut self, id: EventId, offset: Offset) -> Option<Offset> {
        if self.greatest.is_some_and(|greatest| id <= greatest) {
            if let Some(&first) = self.truncated.get(&id) {
                return Some(first);
            }
            if let Some(first) = self.current.get_mut(id) {
                *first = offset.min(*first);
                return (*first < offset).then_some(*first);
            }
            if let Some(first) = self.previous.get_mut(id) {
                *first = offset.min(*first);
                let first = *first;
                // It was seen just now: from here on it is remembered for as long as what is new.
                self.remember(id, first);
                return (first < offset).then_some(first);
            }
            self.remember(id, offset);
        } else {
            self.greatest = Some(id);
            self.current.ascending.push((id, offset));
            self.forget();
        }
        None
    }

    fn remember(&mut self, id: EventId, first: Offset) {
        self.current.insert(id, first);
        self.forget();
    }

    /// Forgets the older generation, if the newer one is full.
    fn forget(&mut self) {
        if self.current.len() == limits::DEDUP_WINDOW_RECORDS {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
        }
    }

    /// What was there before the last truncation may be delivered again.
    pub(super) fn forget_truncated(&mut self) {
        self.truncated.clear();
    }

    /// The partition was truncated, and its offsets begin again somewhere before. These were delivered since the reader was sent
    /// where it began: what was seen elsewhere, by an earlier reader or before a seek, is wanted when it comes again.
    pub(super) fn truncate(&mut self, delivered: Range<Offset>) {
        // What was there before an earlier truncation may still come again, within the bound.
        if self.truncated.len() >= 2 * limits::DEDUP_WINDOW_RECORDS {
            self.truncated.clear();
        }
        let seen = self.previous.drain().chain(self.current.drain());
        self.truncated.extend(seen.filter(|(_, first)| delivered.contains(first)));
    }
}

/// Ids with their offsets. An id that is greater than all before it is known to be new without looking, and is
/// remembered in a row; those of one producer all are. Only the others need the map, which costs a cache miss
/// or two for each.
#[derive(Default)]
struct Seen {
    ascending: Vec<(EventId, Offset)>,
    others: Map,
}

impl Seen {
    fn len(&self) -> usize {
        self.ascending.len() + self.others.len()
    }

    fn exceeds_all(&self, id: EventId) -> bool {
        self.ascending.last().is_none_or(|&(greatest, _)| id > greatest)
    }

    fn get_mut(&mut self, id: EventId) -> Option<&mut Offset> {
        // Only what does not exceed the row is in the map.
        if self.exceeds_all(id) {
            return None;
        }
        match self.ascending.binary_search_by_key(&id, |&(known, _)| known) {
            Ok(at) => Some(&mut self.ascending[at].1),
            Err(_) => self.others.get_mut(&id),
        }
    }

    fn insert(&mut self, id: EventId, offset: Offset) {
        if self.exceeds_all(id) {
            self.ascending.push((id, offset));
        } else {
            self.others.insert(id, offset);
        }
    }

    fn clear(&mut self) {
        self.ascending.clear();
        self.others.clear();
    }

    fn drain(&mut self) -> impl Iterator<Item = (EventId, Offset)> {
        self.ascending.drain(..).chain(self.others.drain())
    }
}

type Map = HashMap<EventId, Offset, BuildHasherDefault<IdHasher>>;

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
    fn what_was_seen_before_a_truncation_is_a_copy_at_any_offset() {
        let mut window = DedupWindow::default();
        let id = EventId::from_u128(1);
        assert_eq!(window.first_copy(id, Offset(5)), None);
        window.truncate(Offset(5)..Offset(6));
        assert_eq!(window.first_copy(id, Offset(0)), Some(Offset(5)));
        assert_eq!(window.first_copy(EventId::from_u128(2), Offset(0)), None);
        window.forget_truncated();
        assert_eq!(window.first_copy(id, Offset(0)), None, "a seek wants to have it again");
    }

    #[test]
    fn what_was_not_delivered_since_a_seek_is_no_copy_behind_a_truncation() {
        let mut window = DedupWindow::default();
        for n in 1..10 {
            assert_eq!(window.first_copy(EventId::from_u128(n.into()), Offset(n)), None);
        }
        // A seek to 3, and 3 and 4 are delivered again.
        window.truncate(Offset(3)..Offset(5));
        for n in 1..10 {
            let first = [3, 4].contains(&n).then_some(Offset(n));
            assert_eq!(window.first_copy(EventId::from_u128(n.into()), Offset(n)), first);
        }
    }

    /// Feeds the window with different ids and looks each time for the oldest that it has to know.
    fn remembers_and_is_bounded(id: impl Fn(u64) -> EventId) {
        let mut window = DedupWindow::default();
        for n in 0..10 * limits::DEDUP_WINDOW_RECORDS as u64 {
            assert_eq!(window.first_copy(id(n), Offset(n)), None);
            // Each second record is a copy: half as many are different.
            let oldest = n.saturating_sub(limits::DEDUP_WINDOW_RECORDS as u64 / 2 - 1);
            assert_eq!(window.first_copy(id(oldest), Offset(u64::MAX)), Some(Offset(oldest)));
            assert!(window.current.len() + window.previous.len() <= 2 * limits::DEDUP_WINDOW_RECORDS);
        }
    }

    #[test]
    fn the_window_remembers_what_it_promises_and_is_bounded() {
        // Of one producer; of one that goes backwards; of two, one of which is ahead; and of chance.
        remembers_and_is_bounded(|n| EventId::from_u128(n.into()));
        remembers_and_is_bounded(|n| EventId::from_u128(u128::from(u64::MAX - n)));
        remembers_and_is_bounded(|n| EventId::from_u128(u128::from(n) | u128::from(n % 2) << 64));
        remembers_and_is_bounded(|n| EventId::from_u128(u128::from(n).wrapping_mul((u128::MAX / 7) | 1)));
    }
}
