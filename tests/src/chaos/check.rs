//! The judge: reads a history, and says what was broken in it.
//!
//! It knows the contract, and nothing of how a log keeps it. `facts` is what the history says, put in order; `appends`
//! and `groups` are the two sides of the contract.

mod appends;
mod facts;
mod groups;

use std::collections::BTreeMap;
use std::fmt;

use self::facts::Facts;
use super::history::{Fate, History, Saw, Told};
use super::schedule::Kind;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// How much there was of everything.
    pub figures: Figures,
    /// What the contract does not allow, in the order in which it was found.
    pub violations: Vec<Violation>,
}

/// Something that the contract does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise it breaks.
    pub rule: Rule,
    /// What it is about.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.rule, self.what)
    }
}

/// The promises, as far as they are judged here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// What was confirmed is in the log (a4, l4).
    Confirmed,
    /// And where it was said to be (a1).
    Place,
    /// What was not appended is not there (a4).
    NotAppended,
    /// A call has one outcome, about its own event (a4).
    OneOutcome,
    /// Whatever is there was offered, with one id and in one partition (a8, a2).
    Origin,
    /// The events of a key are in the order of the calls (a2).
    KeyOrder,
    /// What was confirmed before a call is before what the call appended (a2).
    CallOrder,
    /// What is delivered is in the log.
    Delivered,
    /// A partition is delivered in order, and nothing twice to one member (c2).
    ReadOrder,
    /// A second copy is kept back (a8).
    Copy,
    /// What was committed is not delivered again (c4).
    CommittedAgain,
    /// Nothing is left out on the way (c9, c10), or behind what was committed (c4).
    Skipped,
    /// A group has got everything in the end.
    Undelivered,
    /// Nothing waits for ever (a4).
    Stuck,
    /// An error, or a notice, for which there was no reason.
    Reason,
}

/// How much there was of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Events offered.
    pub offered: u64,
    /// Confirmed.
    pub confirmed: u64,
    /// Turned away at the door, by a full queue for the most part.
    pub rejected: u64,
    /// Dropped by policy.
    pub dropped: u64,
    /// Not appended for any other reason.
    pub returned: u64,
    /// Unknown to the producer, and how many of them are in the log.
    pub unknown: (u64, u64),
    /// Given up by the producer, and how many of them are in the log.
    pub abandoned: (u64, u64),
    /// What the handles say of themselves, in sum.
    pub told: Told,
    /// Faults by kind.
    pub faults: BTreeMap<Kind, u64>,
    /// Records in the log.
    pub records: u64,
    /// Of these, second copies.
    pub copies: u64,
    /// Second copies that were delivered, because they came later than consumers promise to remember.
    pub copies_beyond: u64,
    /// Records delivered, to all groups.
    pub delivered: u64,
    /// Of these, again, because they had not been committed.
    pub delivered_again: u64,
    /// The longest time in which nothing was confirmed, in microseconds.
    pub longest_stall: u64,
}

/// What the judge notes.
#[derive(Default)]
struct Notes {
    violations: Vec<Violation>,
}

impl Notes {
    fn demand(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(Violation { rule, what: what() });
        }
    }
}

/// Judges a history.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let facts = Facts::of(history);
    let mut notes = Notes::default();
    let mut figures = count(history);
    appends::check(&facts, &mut notes, &mut figures);
    groups::check(history, &facts, &mut notes, &mut figures);
    for entry in &history.entries {
        if let Saw::Stuck { what } = &entry.saw {
            notes.demand(false, Rule::Stuck, || what.clone());
        }
    }
    Verdict { figures, violations: notes.violations }
}

impl Verdict {
    /// How many violations there are of these rules.
    #[must_use]
    pub fn count(&self, rules: &[Rule]) -> u64 {
        self.violations.iter().filter(|violation| rules.contains(&violation.rule)).count() as u64
    }
}

/// What can be counted without knowing what it means.
fn count(history: &History) -> Figures {
    let mut figures = Figures::default();
    let mut last_confirmed = None;
    for entry in &history.entries {
        match &entry.saw {
            Saw::Offered { .. } => {
                figures.offered += 1;
                last_confirmed.get_or_insert(entry.at);
            }
            Saw::Ended { fate: Fate::Committed { .. }, .. } => {
                let before = last_confirmed.replace(entry.at).unwrap_or(entry.at);
                figures.longest_stall = figures.longest_stall.max(entry.at.saturating_sub(before));
            }
            Saw::Struck { fault } => *figures.faults.entry(fault.kind).or_default() += 1,
            Saw::Told { told, .. } => {
                let sum = &mut figures.told;
                sum.reconnects += told.reconnects;
                sum.dropped += told.dropped;
                sum.found += told.found;
                sum.sent_again += told.sent_again;
                sum.unknown += told.unknown;
            }
            _ => {}
        }
    }
    figures
}
