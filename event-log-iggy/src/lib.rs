//! The event log on [Apache Iggy](https://iggy.apache.org).

mod config;
pub mod limits;
mod sdk;

pub use self::config::{Credentials, Endpoint, Tls};
