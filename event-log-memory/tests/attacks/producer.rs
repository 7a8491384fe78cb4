//! Attempts of outside readers to break a clause on the producing side.

mod append_all;
mod batches;
mod began_again;
mod buffer;
mod closing;
mod flush_threads;
mod freeing;
mod fuzz;
mod hostile;
mod keyless;
mod memory;
mod outcomes;
mod owners;
mod partitions;
mod reading;
mod recovery;
mod scheduling;
mod slow;
mod starving;
mod threads_walk;
mod waiting;
mod yields;
