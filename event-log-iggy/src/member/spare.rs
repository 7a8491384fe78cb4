//! Sparing requests: which fetches would be empty, and which news are none.
//!
//! Of all partitions at once the server says where they end with one request, so that a round of fetches over many
//! partitions, most of which have nothing new, costs one request and not one for each. That is good for as long as the
//! partition is the same: now and then, and whenever some partition was truncated, a fetch goes to the server, to read the
//! record that was read last.

use event_log_core::engine::KnownEnd;
use event_log_core::{Offset, PartitionId};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::ends::Known;
use crate::limits;

/// What spares the requests of one member.
#[derive(Debug)]
pub(super) struct Spare(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Counts the rounds of fetches.
    round: u64,
    /// A look at the ends that began at this time or later is good for the fetches of this round.
    fresh_since: Instant,
    /// The member was woken by news, so that the next round needs no look of its own.
    woken: bool,
    partitions: Vec<Partition>,
}

#[derive(Clone, Debug, Default)]
struct Partition {
    /// When a fetch last went to the server, and how many truncations there were before.
    read: Option<(Instant, u64)>,
    /// The round of the last fetch.
    round: u64,
    /// What the member was woken for last: the end that the reader knew, the end that was, and when.
    woken: Option<(Offset, Offset, Instant)>,
}

impl Partition {
    /// Whether the partition may have begun again and grown as long as it was.
    fn is_suspect(&self, known: &Known) -> bool {
        self.read.is_none_or(|(at, falls)| falls != known.falls() || at.elapsed() >= limits::SUSPECT_INTERVAL)
    }
}

impl Spare {
    pub(super) fn new(partitions: usize) -> Self {
        let partitions = vec![Partition::default(); partitions];
        Self(Mutex::new(State { round: 0, fresh_since: Instant::now(), woken: false, partitions }))
    }

    /// A round of fetches begins.
    pub(super) fn begin_round(&self) {
        let mut state = self.0.lock();
        state.round += 1;
        if !std::mem::take(&mut state.woken) {
            state.fresh_since = Instant::now();
        }
    }

    /// Since when the ends have to be known for a fetch of this partition to be spared; `None` when it must not be.
    pub(super) fn fresh_since(&self, partition: PartitionId, known: &Known) -> Option<Instant> {
        let mut state = self.0.lock();
        let (round, fresh_since) = (state.round, state.fresh_since);
        let state = state.partitions.get_mut(partition.0 as usize)?;
        if state.is_suspect(known) {
            return None;
        }
        let again = std::mem::replace(&mut state.round, round) == round;
        Some(if again { Instant::now() } else { fresh_since })
    }

    /// A fetch has read the partition, which it was asked for when there were so many truncations.
    pub(super) fn has_read(&self, partition: PartitionId, falls: u64) {
        if let Some(state) = self.0.lock().partitions.get_mut(partition.0 as usize) {
            state.read = Some((Instant::now(), falls));
        }
    }

    /// Whether there is news for readers that know these ends; or else when to look again.
    pub(super) fn news(&self, ends: &[KnownEnd], known: &Known) -> Result<(), Option<Instant>> {
        let mut state = self.0.lock();
        let now = Instant::now();
        let (mut is_news, mut again) = (false, None::<Instant>);
        for reader in ends {
            let end = known.end(reader.partition);
            let Some(partition) = state.partitions.get_mut(reader.partition.0 as usize) else { continue };
            if end <= reader.end && !partition.is_suspect(known) {
                continue;
            }
            match partition.woken {
                Some((before, then, at))
                    if (before, then) == (reader.end, end) && now < at + limits::WAKE_AGAIN =>
                {
                    let at = at + limits::WAKE_AGAIN;
                    again = Some(again.map_or(at, |again| again.min(at)));
                }
                _ => {
                    partition.woken = Some((reader.end, end, now));
                    is_news = true;
                }
            }
        }
        state.woken |= is_news;
        if is_news { Ok(()) } else { Err(again) }
    }
}
