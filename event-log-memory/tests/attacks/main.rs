//! A log in memory and its faults, used against their grain: attempts of outside readers to break a clause of CONTRACT.md, and
//! matrices of callers, sizes, partitions and places.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, missing_docs, reason = "tests")]

mod ahead;
mod consuming;
mod fixture;
mod group;
mod producing;
mod walks;

mod consumer;
mod matrix;
mod producer;
