//! The engine over transports of its own: they answer when a test says so, and fail where it wants them to. Most of these tests
//! are attempts of outside readers to break a clause of CONTRACT.md, which names the test.

#![cfg(feature = "engine")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs, reason = "tests")]

mod chance;
mod no_member;
mod picky;
mod reading_ahead;
mod scripted;
mod scripted_writer;
mod served;

mod consumer;
mod deadlines;
mod producer;
