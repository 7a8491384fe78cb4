//! Attempts of outside readers to break a clause on the consuming side.

mod ahead_walk;
mod catching_up;
mod catching_up_walk;
mod commits;
mod group_walk;
mod handover;
mod hostile;
mod letters;
mod moving;
mod order_walk;
mod owners;
mod parking;
mod places;
mod polling;
mod threads;
mod turns;
mod withstood;
mod yields;
