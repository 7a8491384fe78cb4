//! The producing side, over logs that answer when and what a test says.

mod attempts;
mod deadlines;
mod marks;
mod memory;
mod partitions;
mod reading_back;
mod walk;
mod writer;
