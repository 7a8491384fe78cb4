//! The event log on [Apache Iggy](https://iggy.apache.org).
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod config;
mod ends;
pub mod limits;
mod lookout;
mod meaning;
mod member;
mod read;
mod remembered;
mod sdk;
mod session;
mod shared;
mod topology;
mod transport;

use event_log_core::engine::Log;
use event_log_core::{Error, Partitionable};
use serde::Serialize;

pub use self::builder::Builder;
pub use self::config::{Credentials, Durability, Endpoint, IggyConfig, Retention, Tls, Topology};
pub use self::transport::IggyTransport;

/// An [`EventLog`](event_log_core::EventLog) on Apache Iggy. Clones are handles of the same log.
pub type IggyLog<E> = Log<E, IggyTransport>;

/// Begins to open a log of events of type `E`.
pub fn builder<E: Partitionable + Serialize + Send + 'static>(config: IggyConfig) -> Builder<E> {
    Builder::new(config)
}

/// Opens the log at a URL.
///
/// # Errors
///
/// Those of reading the URL and of [`Builder::open`].
pub async fn open<E: Partitionable + Serialize + Send + 'static>(url: &str) -> Result<IggyLog<E>, Error> {
    builder(url.parse()?).open().await
}
