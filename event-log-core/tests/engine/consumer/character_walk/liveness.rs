//! What CONTRACT.md and DESIGN.md say of when things come, and of what waiting may cost.

use std::sync::Arc;
use std::time::Duration;

use event_log_core::{PartitionId, Timestamp};
use tokio::time::Instant;

use super::Walk;
use super::nature::{Character, Kind, RIVAL};
use crate::reading_ahead::SECOND;

/// How near the bounds a walk has come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extremes {
    pub(super) seed: u64,
    /// Of the bound, how long the next event of a healthy partition has waited.
    pub(super) percent: u128,
    /// After all were healthy.
    pub(super) calm: Duration,
    /// Calls in a second of one poll, beside those for what was appended.
    pub(super) calls: u64,
}

impl Walk {
    /// The next event of a partition that was not delivered.
    fn next_of(&mut self, nth: usize) -> Option<(Timestamp, Instant)> {
        let (server, book) = (Arc::clone(&self.server), &mut self.books[nth]);
        server.change(|state| {
            let part = &state.parts[nth];
            book.is_in(part.incarnation, part.handled);
            let at = part.records.partition_point(|one| one.offset.0 < book.done);
            // Those in between may have been delivered already.
            part.records.get(at).map(|one| (one.timestamp, part.since[at]))
        })
    }

    /// Whether all is delivered, also what a seek has gone back to, or another member has not committed.
    pub(crate) fn is_done(&mut self) -> bool {
        let ends: Vec<_> = self.server.change(|state| state.parts.iter().map(|part| part.high).collect());
        let position = self.consumer.position().clone();
        let of = |nth: usize| position.get(PartitionId(nth as u32));
        let is_behind = (0..ends.len()).any(|nth| of(nth).is_none_or(|next| next.0 < ends[nth]));
        !is_behind && (0..self.books.len()).all(|nth| self.next_of(nth).is_none())
    }

    /// What waits behind older records of others waits for its turn.
    pub(crate) fn older_came(&mut self, oldest: Timestamp) {
        for nth in 0..self.books.len() {
            if self.next_of(nth).is_some_and(|(timestamp, _)| oldest < timestamp) {
                self.books[nth].waits_since = Instant::now();
            }
        }
    }

    /// The caller was away, or the characters are new.
    pub(crate) fn rested(&mut self) {
        self.books.iter_mut().for_each(|book| book.waits_since = Instant::now());
    }

    /// The caller did something else.
    pub(crate) fn rested_for(&mut self, time: Duration) {
        let now = Instant::now();
        self.books.iter_mut().for_each(|book| book.waits_since = (book.waits_since + time).min(now));
    }

    /// c2, c15, c16: a healthy partition that has something delivers it within a bound, whatever the others do.
    pub(crate) fn check_waiting(&mut self) {
        if self.is_ending || self.nature.cuts.is_some() {
            return;
        }
        for nth in 0..self.books.len() {
            let Some((_, since)) = self.next_of(nth) else { continue };
            let (epoch, owner) = self.server.change(|state| (state.parts[nth].epoch, state.parts[nth].owner));
            let book = &mut self.books[nth];
            if epoch != book.epoch && self.nature.kind != Kind::Forgetting || owner == Some(RIVAL.0) {
                (book.epoch, book.waits_since) = (epoch, Instant::now());
                continue;
            }
            let waits = since.max(book.waits_since).elapsed();
            let Some(longer) = self.nature.characters[nth].is_readable(self.nature.kind) else { continue };
            let bound = self.bound(self.nature.takes[nth] + longer);
            self.extremes.percent = self.extremes.percent.max(waits.as_millis() * 100 / bound.as_millis());
            if waits > bound {
                self.fail(&format!("c15: {nth} is healthy, and its next event has waited for {waits:?}"));
            }
        }
    }

    /// How long a healthy partition may wait whose fetches take so long.
    fn bound(&self, takes: Duration) -> Duration {
        let nature = &self.nature;
        let asks = nature.asks + nature.join + nature.waits + nature.news;
        let places = if matches!(nature.kind, Kind::Shared | Kind::Forgetting) {
            nature.places + nature.asks
        } else {
            Duration::ZERO
        };
        // What is lost a second time goes on over a connection of its own.
        let losses = if self.has_lost { 10 * SECOND } else { Duration::ZERO };
        10 * SECOND + 20 * (takes + asks + nature.connects) + 4 * places + losses
    }

    /// How often the log was called, and how much was appended.
    pub(crate) fn asked(&self) -> (u64, u64) {
        self.server.change(|state| (state.calls.values().sum(), state.clock))
    }

    /// c1: waiting keeps no processor busy, nor the log.
    pub(crate) fn check_busy(&mut self, before: (u64, u64), took: Duration) {
        let (calls, appends) = self.server.change(|state| (state.calls.values().sum::<u64>(), state.clock));
        let (calls, appends) = (calls - before.0, appends - before.1);
        // Each event may be news, a fetch and a look at the assignment, and where answers are short each is a fetch.
        if self.nature.characters.contains(&Character::Short) {
            return;
        }
        let calls = calls.saturating_sub(4 * appends) / (took.as_secs() + 1);
        self.extremes.calls = self.extremes.calls.max(calls);
        if calls > 400 * (self.books.len() as u64).div_ceil(5) {
            let (all, remote) = self.server.change(|state| (state.calls.clone(), state.wait_is_remote));
            self.fail(&format!(
                "c1: {calls} calls a second for {took:?}, {appends} appended, {all:?}, remote {remote}"
            ));
        }
    }
}

/// What is looked at of a walk.
type Key = fn(&Extremes) -> u128;

/// The extremes, by which the bounds are chosen.
pub(crate) fn show(all: &mut [Extremes]) {
    let keys: [(&str, Key); 3] = [
        ("percent of the bound", |one| one.percent),
        ("ms after all were healthy", |one| one.calm.as_millis()),
        ("calls a second", |one| one.calls.into()),
    ];
    for (name, key) in keys {
        all.sort_by_key(|one| std::cmp::Reverse(key(one)));
        let most: Vec<_> = all.iter().take(8).map(|one| format!("{}: {}", one.seed, key(one))).collect();
        eprintln!("{name}, by seed: {most:?}");
    }
}
