//! The producing side, over logs that answer when and what a test says.

mod append_all;

mod attempts;
mod bad_partitions;
mod characters;
mod closing;
mod deadlines;
mod fair_walk;
mod first_questions;
mod given_up;
mod landmarks;
mod marks;
mod memory;
mod ninth;
mod opening;
mod others;
mod partitions;
mod questions;
mod reading_back;
mod same_ids;
mod slow_log;
mod starving;
mod turns;
mod walk;
mod writer;
