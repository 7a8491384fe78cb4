//! The producing side: from an event that is handed in to its one outcome.
//!
//! Events are encoded ([`encode`], [`batch`]) and offered to the [`queue`], which has everything that is known of each
//! [partition](partition). The [`writer`] sends what it takes from there, over [`connections`]; what became of requests
//! whose connection was lost is found out in [`recovery`].

mod attempts;
pub(super) mod batch;
mod blocks;
mod connections;
pub(super) mod encode;
pub(super) mod entry;
mod partition;
pub(super) mod queue;
mod recovery;
mod request;
pub(super) mod shared;
mod warn;
pub(super) mod writer;
