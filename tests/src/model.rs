//! A model of the log, and a judge of what a log really did.
//!
//! Three parts that know as little of each other as they can:
//!
//! * [`Program`] is a list of [`Op`]s that proptest makes up and shrinks: producers and consumers at work, with
//!   every fault of the in-memory broker in between.
//! * [`run`] carries a program out on a [`MemoryBroker`](event_log_memory::MemoryBroker), on a single thread with
//!   paused time, and writes down what it saw from outside: a [`History`]. It judges nothing.
//! * [`check`] reads a history and compares it with a small sequential model of what the contract promises: who
//!   may own which partition, what a commit stores, which record comes next, which event may be dropped. It never
//!   sees the implementation, so that it can be tested with forged histories.
//!
//! A history is a plain value. Two runs of one program make two equal histories, down to ids and timestamps.

mod check;
mod driver;
#[cfg(test)]
mod forged;
mod history;
mod op;

pub use self::check::{Violation, check};
pub use self::driver::run;
pub use self::history::{
    Arming, Batch, Call, Committing, Content, Fate, History, Marks, Noticed, Observation, Reading, Reject,
    Seen, What,
};
pub use self::op::{Event, Op, Program, Seek, Settings, Start, Which, program};
