//! The judge: compares a history with what the contract promises.
//!
//! Each part keeps a small sequential model of its own and knows nothing of the implementation:
//!
//! * `ledger`: what is in the log, from everybody who has ever said so; all of them must agree.
//! * `outcomes`: every append ends once, honestly, and for a reason.
//! * `buffer`: which events a full buffer may drop or refuse.
//! * `order`: order per key, and order in time.
//! * `groups` with `lane`: who owns what, what is delivered next, and what a commit stores.

mod buffer;
mod groups;
mod lane;
mod ledger;
mod order;
mod outcomes;
mod reading;

use std::fmt;

use event_log_core::PartitionId;

use super::history::{Call, Fate, History, What};

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one, in a word or two.
    pub rule: &'static str,
    /// What was seen instead.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

impl std::error::Error for Violation {}

type Verdict = Result<(), Violation>;

/// Returns a [`Violation`] unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $rule:literal, $($detail:tt)+) => {
        if !$condition {
            return Err($crate::model::check::Violation { rule: $rule, detail: format!($($detail)+) });
        }
    };
}
use ensure;

/// Judges a history.
///
/// # Errors
///
/// The first promise that was not kept.
pub fn check(history: &History) -> Result<(), Violation> {
    let events = events(history)?;
    let ledger = ledger::Ledger::of(history, &events)?;
    outcomes::check(history, &events, &ledger)?;
    buffer::check(history, &events)?;
    order::check(history, &events, &ledger)?;
    groups::check(history, &ledger)
}

/// One offered event, with all that became of it.
struct Offered<'a> {
    handle: usize,
    call: Call,
    key: &'a Option<(String, PartitionId)>,
    encodable: bool,
    decodable: bool,
    /// Where in the history it was offered.
    called: usize,
    /// Where its outcome is, and the outcome.
    resolved: Option<(usize, &'a Fate)>,
    /// Where it was given up by its caller.
    abandoned: Option<usize>,
}

impl Offered<'_> {
    /// Whether it was turned away, so that it never was in the queue.
    fn is_rejected(&self) -> bool {
        matches!(self.resolved, Some((_, Fate::Rejected { .. })))
    }

    /// Whether the caller is still waiting at this place of the history.
    fn is_open_at(&self, at: usize) -> bool {
        let ended = self.resolved.map(|(end, _)| end).or(self.abandoned);
        self.called <= at && ended.is_none_or(|end| end > at)
    }
}

/// All events of a history, each with exactly one end.
fn events(history: &History) -> Result<Vec<Offered<'_>>, Violation> {
    let mut events: Vec<Offered<'_>> = Vec::new();
    for (at, observation) in history.observed.iter().enumerate() {
        match &observation.what {
            What::Called { event, handle, call, key, encodable, decodable, .. } => {
                ensure!(*event == events.len(), "history", "event {event} is not in its place");
                events.push(Offered {
                    handle: *handle,
                    call: *call,
                    key,
                    encodable: *encodable,
                    decodable: *decodable,
                    called: at,
                    resolved: None,
                    abandoned: None,
                });
            }
            What::Resolved { event, fate } => {
                let Some(offered) = events.get_mut(*event) else {
                    return Err(Violation { rule: "one outcome", detail: format!("of no event: {fate:?}") });
                };
                let first = offered.resolved.is_none() && offered.abandoned.is_none();
                ensure!(first, "one outcome", "event {event} was resolved again: {fate:?}");
                offered.resolved = Some((at, fate));
            }
            What::Abandoned { event } => {
                let open = events.get_mut(*event).filter(|event| event.resolved.is_none());
                ensure!(open.is_some(), "one outcome", "event {event} was abandoned after its end");
                if let Some(offered) = open {
                    offered.abandoned = Some(at);
                }
            }
            What::Stuck(what) => ensure!(false, "liveness", "{what} did not end"),
            _ => {}
        }
    }
    for (event, offered) in events.iter().enumerate() {
        let ended = offered.resolved.is_some() || offered.abandoned.is_some();
        ensure!(ended, "one outcome", "event {event} has none");
    }
    Ok(events)
}
