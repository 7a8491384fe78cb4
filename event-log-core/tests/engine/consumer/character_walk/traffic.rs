//! What happens by itself: appends, retention, partitions that begin again, connections that are cut, and another member.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use event_log_core::Offset;
use tokio::time::{Instant, sleep_until};

use super::nature::{Character, Nature, RIVAL};
use crate::reading_ahead::{SECOND, Server};

impl Nature {
    /// Does what comes by itself, until it is over.
    pub(crate) async fn goes_on(self, server: &Arc<Server>, is_over: &AtomicBool) {
        let start = Instant::now();
        let mut appends = vec![start; self.traffic.len()];
        let mut moves: Vec<_> = self.characters.iter().map(|one| start + first_move(*one)).collect();
        let (mut cut_at, mut rival_at) = (start, start);
        while !is_over.load(Relaxed) {
            let now = Instant::now();
            for nth in 0..appends.len() {
                if appends[nth] <= now {
                    let (every, count) = self.traffic[nth];
                    (0..count).for_each(|_| append(server, nth));
                    if self.characters[nth] == Character::Trims {
                        trim(server, nth);
                    }
                    appends[nth] = now + every;
                }
                if moves[nth] <= now {
                    begins_again(server, nth);
                    moves[nth] = now + first_move(self.characters[nth]);
                }
            }
            if let Some((every, away)) = self.cuts.filter(|_| cut_at <= now) {
                let is_up = server.change(|state| {
                    state.up = away.is_zero() || !state.up;
                    state.up
                });
                server.evict_all();
                cut_at = now + if is_up { every } else { away };
            }
            if let Some((every, commits)) = self.rival.filter(|_| rival_at <= now) {
                if server.change(|state| state.members.contains(&RIVAL)) {
                    rival_goes(server, commits);
                } else if server.change(|state| state.up) {
                    server.change(|state| {
                        state.members.push(RIVAL);
                        state.rebalance();
                    });
                }
                rival_at = now + every;
            }
            let idle = start + 3_600 * SECOND;
            let cut_at = if self.cuts.is_some() { cut_at } else { idle };
            let rival_at = if self.rival.is_some() { rival_at } else { idle };
            let next = appends.iter().chain(&moves).copied().chain([cut_at, rival_at]).min();
            sleep_until(next.unwrap_or(idle)).await;
        }
    }
}

fn first_move(character: Character) -> Duration {
    if let Character::BeginsAgain(every) = character { every } else { 3_600 * SECOND }
}

/// A record that says where it is.
pub(crate) fn append(server: &Server, nth: usize) {
    let (text, id) = server.change(|state| {
        let part = &state.parts[nth];
        let id = (u128::from(part.incarnation) << 64 | u128::from(part.high)) << 8 | nth as u128;
        (format!("{nth} {} {}", part.incarnation, part.high), id)
    });
    server.append_as(nth, id + 1, &text);
}

fn trim(server: &Server, nth: usize) {
    server.change(|state| {
        let part = &mut state.parts[nth];
        let surplus = part.records.len().saturating_sub(5);
        part.records.drain(..surplus);
        part.since.drain(..surplus);
        part.low += surplus as u64;
    });
}

fn begins_again(server: &Server, nth: usize) {
    server.change(|state| {
        let part = &mut state.parts[nth];
        part.records.clear();
        part.since.clear();
        part.incarnation += 1;
        (part.low, part.high) = (0, 0);
        part.place = part.place.map(|_| Offset::ZERO);
    });
}

pub(crate) fn rival_goes(server: &Server, commits: bool) {
    server.change(|state| {
        if !state.members.contains(&RIVAL) {
            return;
        }
        let its = state.parts.iter_mut().filter(|part| part.owner == Some(RIVAL.0));
        its.filter(|_| commits).for_each(|part| {
            part.place = Some(Offset(part.high));
            part.handled = part.high;
        });
        state.members.retain(|&one| one != RIVAL);
        state.rebalance();
    });
}
