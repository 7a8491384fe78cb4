//! The producing side: from an event that is handed in to its one outcome.
//!
//! Events are encoded ([`encode`], [`batch`]) and offered to the [`queue`], which has everything that is known of each
//! [partition](partition). The [`writer`] sends what it takes from there, over [`connections`]; what became of requests
//! whose connection was lost is found out in [`recovery`], and what is left when the log is closed is in [`closing`].

mod attempts;
pub(super) mod batch;
mod blocks;
pub(super) mod closing;
mod connections;
mod effects;
pub(super) mod encode;
pub(super) mod entry;
mod moment;
mod partition;
pub(super) mod queue;
mod recovery;
mod request;
mod requests;
pub(super) mod shared;
mod warn;
pub(super) mod writer;
