//! Each place where something can go wrong, with each thing that can.

mod catching_up;
mod hostile;
mod partitions;
mod places;
mod sizes;
