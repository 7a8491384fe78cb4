//! The event log on [Apache Iggy](https://iggy.apache.org).

mod config;
pub mod limits;
mod sdk;
#[cfg(all(feature = "server", unix))]
pub mod server;

pub use self::config::{Credentials, Endpoint, Tls};
