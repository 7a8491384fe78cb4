//! The only module that names the SDK: about a dozen operations, in the workspace's own types.
//!
//! Another version of Apache Iggy is this module's work and nobody else's. What a failure means is not decided here:
//! see [`meaning`](crate::meaning).

mod client;
mod failure;
mod ghosts;
mod groups;
mod headers;
mod messages;
mod offsets;
mod start;
mod topics;

#[cfg(feature = "server")]
pub(crate) use self::client::probe;
pub(crate) use self::client::{Client, Topic};
pub(crate) use self::failure::CallError;
#[cfg(test)]
pub(crate) use self::failure::codes;
pub(crate) use self::ghosts::Roster;
pub(crate) use self::groups::{GroupId, Membership};
pub(crate) use self::messages::ReadFrom;
pub(crate) use self::offsets::Stored;
pub(crate) use self::topics::{PartitionStats, TopicDetails, TopicSettings};
