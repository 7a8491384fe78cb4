//! Attempts of outside readers to break a clause on the producing side.

mod append_all;
mod began_again;
mod buffer;
mod closing;
mod freeing;
mod fuzz;
mod hostile;
mod keyless;
mod outcomes;
mod owners;
mod partitions;
mod reading;
mod recovery;
mod scheduling;
mod threads_walk;
mod yields;
