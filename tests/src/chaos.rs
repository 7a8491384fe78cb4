//! Random work under random faults, a history of it, and a judge who sees nothing else.
//!
//! ```text
//!  seed ─► Schedule ─► Site ── faults of the network, the server, the client
//!     └──► producers, consumers ── calls ──► the log
//!                  │ what was called, and what came back
//!                  ▼
//!               History ─► check ─► Verdict: figures, and violations
//! ```
//!
//! The [model](crate::model) knows what a log has to do in every detail, for short programs, one call after the other, in
//! memory. This knows less and asks more: many producers and consumers at once, on a real server too, with faults that
//! strike whenever they like. So the judge demands only what must be true whatever happened in between:
//!
//! - what was confirmed is in the log, where it was said to be; what was not appended is not; what is unknown may be;
//! - one outcome for each call, and nothing in the log that nobody appended;
//! - the events of a key in the order of the calls, and what was confirmed before something was offered before that;
//! - a group is shown everything that was not committed, in order, without a hole, no copy twice, and nothing again
//!   that was committed;
//! - nothing waits for ever.
//!
//! Order is that of the lines of the history: a call is written down before it is made, and its outcome after it is
//! known, so that "before" in the history was before in the world.
//!
//! On the in-memory log everything runs on one thread and a paused clock: the same seed makes the same history, byte for
//! byte. On a real server a seed makes the same calls and the same faults, and the rest is up to the world.

mod check;
mod consume;
#[cfg(test)]
mod forged;
mod history;
mod produce;
mod report;
mod run;
mod schedule;
mod site;
mod soak;

pub use self::check::{Figures, Rule, Verdict, Violation, check};
pub use self::history::{Came, Delivered, Entry, EventNumber, Fate, History, Saw, Settings, Stored, Told};
pub use self::report::Report;
pub use self::run::{Progress, Site, run, run_in_memory};
pub use self::schedule::{Fault, Kind, Schedule, Strike};
pub use self::site::{IggySite, MemorySite};
pub use self::soak::{Sample, soak};
