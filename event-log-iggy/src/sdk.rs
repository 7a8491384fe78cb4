//! The only module that names the SDK: about a dozen operations, in the workspace's own types.
//!
//! Another version of Apache Iggy is this module's work and nobody else's.

mod client;
mod failure;

pub(crate) use self::client::Client;
pub(crate) use self::failure::CallError;
