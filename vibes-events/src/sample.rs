//! A plausible stream of coding-agent sessions, for demonstrations, tests and benchmarks.
//!
//! The stream is made in memory from a seed: the same seed gives the same events, on every machine and in every
//! version of this crate that does not say otherwise in its changelog. There is no clock and no other
//! randomness in it.
//!
//! Sessions run side by side. Each is coherent: it is created, takes its turns (input, a stream of text and
//! thought, tools with their hooks, permissions asked and given, now and then an error) and is removed at the end.
//! Some events belong to no session.
//!
//! # Checking the order
//!
//! A reader can check what it got in two ways:
//!
//! - Most events carry their place in their session, which [`sequence_of`] finds. Within a session the places
//!   strictly increase.
//! - The stream is deterministic. What was read of a session, in the order in which it was read, has to equal what
//!   [`events`] gives of that session. This also finds what is missing.
//!
//! ```
//! use std::collections::HashMap;
//! use vibes_events::sample;
//!
//! let mut latest = HashMap::new();
//! for event in sample::events(7, 40, 5_000) {
//!     if let (Some(session), Some(place)) = (event.session_id(), sample::sequence_of(&event)) {
//!         let previous = latest.insert(session.to_owned(), place);
//!         assert!(previous < Some(place), "{session} went from {previous:?} to {place}");
//!     }
//! }
//! assert_eq!(latest.len(), 40);
//! ```

mod rng;
mod sequence;
mod session;

use std::iter::FusedIterator;

use self::rng::Rng;
pub use self::sequence::sequence_of;
use self::session::Session;
use crate::event::VibesEvent;

/// The bundled sample: 5,000 events of 40 sessions side by side, with every type of event among them.
#[must_use]
pub fn bundled() -> Events {
    events(2_026, 40, 5_000)
}

/// `count` events of `sessions` sessions side by side, and of none.
///
/// Sessions share the events evenly, and each one that gets at least two ends with its removal. One event in
/// fifty belongs to no session; all do when there are no sessions.
#[must_use]
pub fn events(seed: u64, sessions: usize, count: usize) -> Events {
    let mut rng = Rng::new(seed);
    let keyless = if sessions == 0 { count } else { count / KEYLESS_ONE_IN };
    let keyed = count - keyless;
    let live = (0..sessions)
        .map(|number| {
            let share = keyed / sessions + usize::from(number < keyed % sessions);
            Session::new(rng.fork(), number, share)
        })
        .filter(|session| session.remaining() > 0)
        .collect();
    Events { rng, live, keyless, clients: 0, remaining: count }
}

const KEYLESS_ONE_IN: usize = 50;

/// The iterator that [`events`] returns.
#[derive(Clone, Debug)]
pub struct Events {
    rng: Rng,
    /// The sessions that have events left.
    live: Vec<Session>,
    /// Events of no session that are left.
    keyless: usize,
    /// How many clients have come and gone.
    clients: usize,
    /// Everything that is left.
    remaining: usize,
}

impl Events {
    fn keyless(&mut self) -> VibesEvent {
        let client_id = format!("client-{}", self.clients / 2 + 1);
        match self.rng.below(4) {
            0 => {
                let up = self.rng.one_in(2);
                VibesEvent::TunnelStateChanged {
                    state: if up { "connected" } else { "disconnected" }.to_owned(),
                    url: up.then(|| "https://vibes.example.com".to_owned()),
                }
            }
            _ => {
                self.clients += 1;
                if self.clients % 2 == 1 {
                    VibesEvent::ClientConnected { client_id }
                } else {
                    VibesEvent::ClientDisconnected { client_id }
                }
            }
        }
    }
}

impl Iterator for Events {
    type Item = VibesEvent;

    fn next(&mut self) -> Option<VibesEvent> {
        if self.remaining == 0 {
            return None;
        }
        // As likely as events of no session are among what is left, so that they are spread evenly.
        let keyless = self.rng.below(self.remaining) < self.keyless;
        self.remaining -= 1;
        if keyless {
            self.keyless -= 1;
            return Some(self.keyless());
        }
        let chosen = self.rng.below(self.live.len());
        let session = &mut self.live[chosen];
        let event = session.next_event();
        if session.remaining() == 0 {
            self.live.swap_remove(chosen);
        }
        Some(event)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl ExactSizeIterator for Events {}

impl FusedIterator for Events {}

#[cfg(test)]
mod tests;
