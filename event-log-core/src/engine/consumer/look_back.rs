//! Looking at what lies before a reader: a second copy of what another consumer has had may be yet to come, and only what was
//! seen shows that it is one.

use std::collections::VecDeque;
use std::ops::Range;

use crate::engine::transport::{FetchResponse, StoredMessage};
use crate::event::EventId;
use crate::limits;
use crate::position::Offset;

const WINDOW: u64 = limits::DEDUP_WINDOW_RECORDS as u64;

/// How far that has come. Nothing is delivered before it is done.
#[derive(Default)]
pub(super) struct LookBack {
    /// Offsets that are still to be looked at.
    unseen: Option<Range<u64>>,
    /// How far back that goes in all.
    looked_to: Range<u64>,
    /// What was seen there, oldest first: in ranges that are done, and in the one under way.
    nearer: VecDeque<(EventId, Offset)>,
    seen: VecDeque<(EventId, Offset)>,
}

impl LookBack {
    /// As far back from `next` as the window remembers.
    pub(super) fn before(next: Offset) -> Self {
        let range = next.0.saturating_sub(WINDOW)..next.0;
        Self { looked_to: range.clone(), unseen: Some(range), ..Self::default() }
    }

    pub(super) const fn unseen(&self) -> Option<&Range<u64>> {
        self.unseen.as_ref()
    }

    /// Takes an answer. Returns what was seen in all, once that is all there is to see; `None` when the answer was empty.
    pub(super) fn take(&mut self, answer: FetchResponse) -> Option<Vec<(EventId, Offset)>> {
        let Some(Range { start, end }) = self.unseen.take() else { return Some(Vec::new()) };
        let bytes: usize = answer.records.iter().map(StoredMessage::bytes).sum();
        let read_to = answer.records.last().map(|last| last.offset.next()).max(answer.scanned_to);
        let mut from = read_to.map_or(start, |read_to| read_to.0);
        if let Some(low) = answer.low {
            from = from.max(low.0);
        }
        if from <= start {
            self.unseen = Some(start..end);
            return None;
        }
        if bytes > limits::FETCH_BYTES / 2 {
            // Long records are not worth many fetches: the nearest are the likeliest to be copied.
            from = from.max(end.saturating_sub(answer.records.len() as u64));
        }
        let seen = answer.records.into_iter().filter(|record| record.offset.0 < end);
        self.seen.extend(seen.map(|record| (record.id, record.offset)));
        // No more than the window remembers, and the nearest of them.
        let surplus = (self.seen.len() + self.nearer.len()).saturating_sub(limits::DEDUP_WINDOW_RECORDS);
        self.seen.drain(..surplus.min(self.seen.len()));
        if from < end {
            self.unseen = Some(from..end);
            return Some(Vec::new());
        }
        self.seen.append(&mut self.nearer);
        std::mem::swap(&mut self.seen, &mut self.nearer);
        self.unseen = self.further_back(answer.low, bytes);
        Some(if self.unseen.is_none() { self.nearer.drain(..).collect() } else { Vec::new() })
    }

    /// What is to be looked at before that, if gaps have left the window short: twice as far back, within bounds.
    fn further_back(&mut self, low: Option<Offset>, bytes: usize) -> Option<Range<u64>> {
        let Range { start, end } = self.looked_to;
        let (low, width) = (low.unwrap_or_default().0, end - start);
        let is_enough = self.nearer.len() >= limits::DEDUP_WINDOW_RECORDS || bytes > limits::FETCH_BYTES / 2;
        if is_enough || start <= low || width >= limits::LOOK_BACK_OFFSETS {
            return None;
        }
        let further = start.saturating_sub(width).max(low);
        self.looked_to.start = further;
        Some(further..start)
    }
}
