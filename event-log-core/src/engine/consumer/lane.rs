//! One partition of one consumer: what has been fetched ahead, and how far delivery has come.

use std::collections::VecDeque;
use std::ops::Range;

use super::window::DedupWindow;
use crate::engine::transport::{
    Assignment, FetchRequest, GroupMember, KnownEnd, Landmark, StoredMessage, Transport,
};
use crate::error::Error;
use crate::limits;
use crate::position::{Offset, PartitionId, Position, Timestamp};
use crate::record::Notice;
use crate::watermark::PartitionWatermarks;

pub(super) struct Lane {
    assigned: Assignment,
    /// The next offset to deliver.
    next: Offset,
    /// FetchResponse and not delivered, in offset order.
    ahead: VecDeque<StoredMessage>,
    /// The record that was fetched last.
    last_read: Option<Landmark>,
    incarnation: Option<u64>,
    /// The next offset to fetch.
    fetch_from: Offset,
    /// How many records to fetch at least.
    stride: usize,
    /// The high watermark, as far as it is known. It only falls when the partition is cut.
    high: Offset,
    /// One past the last record that was delivered since we got the partition or last sought in it.
    delivered: Option<Offset>,
    /// What the group has stored.
    committed: Option<Offset>,
    /// Where delivery began when we got the partition or last sought in it.
    since: Offset,
    /// A seek went back behind what is committed, so that the next commit may go back too.
    rewound: bool,
    /// The last fetch failed.
    faulty: bool,
    /// The partition was cut, and what was fetched before that is still to be delivered.
    truncated: bool,
    /// Where we are was found after any cut that the next fetch may tell of.
    knows_cut: bool,
    /// When it delivered last, in turns of its consumer.
    last_turn: u64,
    /// When the last delivered record was appended.
    last_timestamp: Option<Timestamp>,
    /// The record at this offset is in the dead-letter log: it only has to be passed over.
    parked: Option<Offset>,
    window: DedupWindow,
    /// What the window has to know of before anything is delivered: what somebody else has had. A copy of it may be yet
    /// to come.
    unread: Option<Range<u64>>,
}

const WINDOW: u64 = limits::DEDUP_WINDOW_RECORDS as u64;

/// How far somebody had come with a partition that was taken from them.
#[derive(Clone, Copy)]
pub(super) struct Revoked {
    pub(super) committed: Offset,
    pub(super) delivered: Offset,
}

/// How far delivery had come.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    next: Offset,
    delivered: Option<Offset>,
}

impl Lane {
    pub(super) fn new(
        assigned: Assignment,
        committed: Option<Offset>,
        next: Offset,
        marks: PartitionWatermarks,
    ) -> Self {
        Self {
            assigned,
            next,
            ahead: VecDeque::new(),
            last_read: None,
            incarnation: None,
            fetch_from: next,
            stride: limits::PREFETCH_RECORDS,
            // What is committed was there once.
            high: committed.map_or(marks.high, |committed| committed.max(marks.high)),
            delivered: None,
            committed,
            since: next,
            rewound: false,
            faulty: false,
            truncated: false,
            knows_cut: false,
            last_turn: 0,
            last_timestamp: None,
            parked: None,
            window: DedupWindow::default(),
            unread: (next > marks.low).then(|| next.0.saturating_sub(WINDOW)..next.0),
        }
    }

    pub(super) const fn partition(&self) -> PartitionId {
        self.assigned.partition
    }

    pub(super) const fn assigned(&self) -> Assignment {
        self.assigned
    }

    pub(super) const fn next(&self) -> Offset {
        self.next
    }

    pub(super) const fn committed(&self) -> Option<Offset> {
        self.committed
    }

    /// Where the partition ends, as far as this lane has seen.
    pub(super) fn known_end(&self) -> KnownEnd {
        let end = self.high.max(self.fetch_from);
        KnownEnd { partition: self.partition(), end, incarnation: self.incarnation }
    }

    pub(super) fn ahead(&self) -> usize {
        self.ahead.len()
    }

    pub(super) fn head(&self) -> Option<&StoredMessage> {
        self.ahead.front()
    }

    /// Whether the partition has more than was fetched.
    pub(super) fn is_behind(&self) -> bool {
        self.fetch_from < self.high
    }

    /// Whether there is something to deliver, as far as it is known.
    pub(super) fn has_more(&self) -> bool {
        !self.ahead.is_empty() || self.is_behind()
    }

    pub(super) const fn last_turn(&self) -> u64 {
        self.last_turn
    }

    pub(super) const fn take_turn(&mut self, turn: u64) {
        self.last_turn = turn;
    }

    pub(super) const fn is_faulty(&self) -> bool {
        self.faulty
    }

    /// Whether this fault is news.
    pub(super) const fn note_fault(&mut self) -> bool {
        !std::mem::replace(&mut self.faulty, true)
    }

    pub(super) const fn clear_fault(&mut self) {
        self.faulty = false;
    }

    pub(super) fn has_run_dry(&self) -> bool {
        self.ahead.is_empty() && self.is_behind()
    }

    /// Fetches what is missing of `wanted` records ahead, if the partition has it. What retention has taken meanwhile makes
    /// a notice, and so does a partition that was cut.
    pub(super) async fn fill<T: Transport>(
        &mut self,
        transport: &T,
        group: &str,
        member: &T::Member,
        wanted: usize,
    ) -> Result<Option<Notice>, Error> {
        let count = wanted.saturating_sub(self.ahead.len()).max(self.stride);
        let asked = self.fetch_from;
        let fetched = loop {
            let request = FetchRequest {
                after: self.last_read,
                max_records: count,
                ..FetchRequest::new(self.partition(), asked)
            };
            let mut fetched = member.fetch(request).await?;
            let known = std::mem::replace(&mut self.incarnation, fetched.incarnation);
            fetched.truncated |= known.is_some() && known != fetched.incarnation;
            self.faulty = false;
            let high = fetched.high.unwrap_or(self.high);
            let knows_cut = std::mem::take(&mut self.knows_cut);
            self.truncated |= (fetched.truncated && !knows_cut) || high < self.high;
            if self.truncated {
                // What was fetched before the cut is delivered first: it was in the log.
                let resumes = self.ahead.is_empty();
                return if resumes {
                    self.resume_after_cut(transport, group, high).await.map(Some)
                } else {
                    Ok(None)
                };
            }
            self.high = high;
            if self.unread.is_none() || fetched.records.is_empty() {
                break fetched;
            }
            // Looking back is for a log that is known not to be cut: what stands there then was read before. And it is
            // fetched again from behind what was read last, as a transport expects it.
            if !self.look_back(member).await? {
                return Ok(None);
            }
        };
        if let Some(last) = fetched.records.last() {
            self.last_read = Some(Landmark { offset: last.offset, id: last.id });
            self.fetch_from = last.offset.next();
            if self.is_behind() {
                self.stride = limits::READ_AHEAD_RECORDS.min(self.stride * 2);
            }
        }
        if self.ahead.is_empty() {
            // Taken over as it is.
            self.ahead = fetched.records.into();
        } else {
            self.ahead.extend(fetched.records);
        }
        let Some(low) = fetched.low.filter(|&low| low > asked) else {
            return Ok(None);
        };
        self.fetch_from = self.fetch_from.max(low);
        if self.ahead.is_empty() {
            self.next = low;
            // What is gone is done with, so that the cursor of a batch can always be committed.
            self.delivered = self.delivered.map(|_| low);
        }
        Ok(Some(Notice::Missing { partition: self.partition(), from: asked, resumed_at: low }))
    }

    /// Shows the window the records before those that we are to deliver: a second copy of one is a copy also to somebody
    /// who has not delivered the first. Says whether that is done.
    async fn look_back<M: GroupMember>(&mut self, member: &M) -> Result<bool, Error> {
        while let Some(Range { start, end }) = self.unread.clone() {
            let wanted = usize::try_from(end - start).unwrap_or(usize::MAX).min(limits::FETCH_RECORDS);
            let request = FetchRequest {
                after: self.last_read,
                max_records: wanted,
                ..FetchRequest::new(self.partition(), Offset(start))
            };
            let fetched = member.fetch(request).await?;
            if fetched.truncated || fetched.high.is_some_and(|high| high < self.high) {
                self.truncated = true;
                return Ok(false);
            }
            // An empty answer is no proof that there is nothing: it is asked again.
            let Some(last) = fetched.records.last() else { return Ok(false) };
            let mut from = last.offset.next().0;
            let bytes: usize = fetched.records.iter().map(|record| record.payload.len()).sum();
            if bytes > limits::FETCH_BYTES / 2 {
                // Long records are not worth many fetches: the nearest are the likeliest to be copied. That few came says
                // nothing by itself, since a transport may have reasons of its own.
                from = from.max(end.saturating_sub(fetched.records.len() as u64));
            }
            for record in fetched.records.iter().take_while(|record| record.offset.0 < end) {
                self.window.first_copy(record.id, record.offset);
            }
            self.unread = (from < end).then_some(from..end);
        }
        Ok(true)
    }

    /// The partition was cut, and ends at `high` now.
    async fn resume_after_cut<T: Transport>(
        &mut self,
        transport: &T,
        group: &str,
        high: Offset,
    ) -> Result<Notice, Error> {
        // Everything that awaits comes first: a dropped future leaves the lane as it was.
        let partition = self.partition();
        let resumed_at = match self.last_timestamp {
            Some(last) => transport.offsets_at(&[(partition, last)]).await?.pop().unwrap_or_default(),
            None => transport.watermarks().await?.get(partition).unwrap_or_default().low,
        };
        let committed = super::committed_of(transport, group, partition).await?;
        let notice = Notice::Truncated { partition, from: self.next, resumed_at };
        (self.high, self.truncated) = (high, false);
        let last_timestamp = self.last_timestamp;
        self.committed = committed.filter(|&committed| committed <= resumed_at);
        self.move_to(resumed_at);
        self.rewound = false;
        // It may be cut again before anything is delivered.
        self.last_timestamp = last_timestamp;
        self.window.cut();
        Ok(notice)
    }

    /// Takes the head out as delivered, with the position of the first copy if it is a second one.
    pub(super) fn take_head(&mut self) -> Option<(StoredMessage, Option<Position>)> {
        let head = self.ahead.pop_front()?;
        self.next = head.offset.next();
        self.delivered = Some(self.next);
        self.last_timestamp = Some(head.timestamp);
        let first = self.window.first_copy(head.id, head.offset);
        Some((head, first.map(|offset| Position::new(self.partition(), offset))))
    }

    /// What [`put_back`](Self::put_back) needs, from before the head was taken.
    pub(super) const fn mark(&self) -> Mark {
        Mark { next: self.next, delivered: self.delivered }
    }

    /// Undoes taking the head.
    pub(super) fn put_back(&mut self, head: StoredMessage, before: Mark) {
        self.ahead.push_front(head);
        self.next = before.next;
        self.delivered = before.delivered;
    }

    pub(super) const fn park(&mut self, offset: Offset) {
        self.parked = Some(offset);
    }

    pub(super) fn is_parked(&self, offset: Offset) -> bool {
        self.parked == Some(offset)
    }

    /// Moves because the application says so. An offset that was found in the log as it is now leaves no cut to be
    /// noticed.
    pub(super) fn seek(&mut self, next: Offset, is_of_now: bool) {
        self.move_to(next);
        // Whoever seeks wants to have it again, also what was there before a cut.
        self.window.forget_cut();
        if is_of_now {
            (self.truncated, self.knows_cut) = (false, true);
            self.high = next;
        }
    }

    /// Forgets what was fetched and delivered.
    fn move_to(&mut self, next: Offset) {
        self.next = next;
        self.fetch_from = next;
        self.last_read = None;
        self.stride = limits::PREFETCH_RECORDS;
        self.knows_cut = false;
        self.unread = None;
        self.ahead.clear();
        self.delivered = None;
        self.parked = None;
        self.last_timestamp = None;
        self.since = next;
        self.rewound = self.committed.is_some_and(|committed| next < committed);
    }

    /// What a commit up to `asked` would store: `Ok(None)` when it changes nothing, `Err` with what was
    /// delivered when it goes beyond that.
    pub(super) fn to_store(&self, asked: Offset) -> Result<Option<Offset>, Offset> {
        let Some(delivered) = self.delivered else {
            return Ok(None);
        };
        if asked > delivered {
            return Err(delivered);
        }
        if asked <= self.since {
            return Ok(None);
        }
        let advances = self.committed.is_none_or(|committed| asked > committed);
        let goes_back = self.rewound && self.committed != Some(asked);
        Ok((advances || goes_back).then_some(asked))
    }

    /// Whether something was delivered since we got the partition or last sought in it.
    pub(super) const fn delivers(&self) -> bool {
        self.delivered.is_some()
    }

    /// Whether something was delivered that the group has not committed.
    pub(super) fn has_uncommitted(&self) -> bool {
        self.delivered.is_some() && self.delivered > self.committed
    }

    /// What is to be remembered when the partition is taken from us.
    pub(super) fn revoked(&self) -> Revoked {
        let committed = self.committed.unwrap_or_default();
        Revoked { committed, delivered: self.delivered.unwrap_or(committed) }
    }

    pub(super) fn stored(&mut self, next: Offset) {
        self.committed = Some(next);
        self.rewound = false;
    }
}
