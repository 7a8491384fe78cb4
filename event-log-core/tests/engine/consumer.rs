//! The consuming side, over logs that a test can slow down, stop and falsify.

mod assignments;
mod attacks;
mod backlogs;

mod bounds;
mod catching_up;
mod character_walk;
mod characters;
mod commits;
mod errors;
mod fairness;
mod halting;
mod isolation;
mod later_partitions;
mod letters;
mod looking_back;
mod losing;
mod losing_rarely;
mod memberships;
mod newer_views;
mod parking_walk;
mod scripted;
mod seeking;
mod slow_log;
mod starting;
mod switches;
mod telling;
mod truncation_walk;
mod waiting;
mod walk;
