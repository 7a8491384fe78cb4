//! The only module that names the SDK: about a dozen operations, in the workspace's own types.
//!
//! Another version of Apache Iggy is this module's work alone. What an error is to the engine is decided in
//! [`error_map`](crate::error_map).

mod client;
mod error_class;
mod failure;
mod groups;
mod headers;
mod messages;
mod offsets;
mod quirks;
mod stale_members;
mod start;
mod topics;

#[cfg(feature = "server")]
pub(crate) use self::client::probe;
pub(crate) use self::client::{Client, Topic};
pub(crate) use self::error_class::ErrorClass;
pub(crate) use self::failure::CallError;
pub(crate) use self::groups::{GroupId, Membership};
pub(crate) use self::messages::ReadFrom;
pub(crate) use self::offsets::{Stored, StoredOffset};
pub(crate) use self::stale_members::Roster;
pub(crate) use self::topics::{PartitionStats, TopicDetails, TopicSettings};
