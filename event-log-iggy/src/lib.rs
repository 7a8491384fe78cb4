//! The event log on [Apache Iggy](https://iggy.apache.org): durable, replicated when the servers are a cluster, and with
//! the same promises as the [log in memory](https://docs.rs/event-log-memory), which the same suite proves on both.
//!
//! ```no_run
//! use std::time::Duration;
//! use event_log_core::{EventConsumer, EventLog, EventLogExt, Partitionable};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order { customer: String, cents: u64 }
//!
//! impl Partitionable for Order {
//!     fn partition_key(&self) -> Option<&str> { Some(&self.customer) }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let log = event_log_iggy::open("iggy://shop:secret@localhost:8090/shop/orders?partitions=8").await?;
//! // Returns when the order is on the server's disk, and says where it is in the log.
//! let receipt = log.append(Order { customer: "ada".into(), cents: 250 }).await?;
//! println!("at {:?}", receipt.position());
//!
//! let mut billing = log.consumer("billing").await?;
//! let batch = billing.poll(100, Duration::from_secs(1)).await?;
//! for (position, order) in batch.events() {
//!     println!("{position}: {} cents", order.cents);
//! }
//! billing.commit(batch.cursor()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! # Which server
//!
//! The SDK 0.11, which this crate is built on, speaks with servers 0.9; one of another row does not understand it. The
//! container image is `apache/iggy:0.9.0`. With the feature `server`, the module `server` finds an `iggy-server` on this
//! machine, starts it, watches it and stops it: for tests, and for programs that bring their own.
//!
//! # A log as a URL
//!
//! `iggy://user:password@host:port/stream/topic?parameter=value&…`, or `token@` for a personal access token. User,
//! password and names may be percent-encoded, and have to be where they contain one of `: / ? # @ %`; the port is 8090
//! unless it is named. Durations are like `30s` or `7days`.
//!
//! | parameter | means | default |
//! |---|---|---|
//! | `address` | another server of the cluster, `host:port`; may be repeated | none |
//! | `tls`, `tls_domain`, `tls_ca_file` | see [`Tls`] | plain TCP |
//! | `partitions` | see [`Topology`] | 8 |
//! | `durability` | `persisted` or `replicated`, see [`Durability`] | `persisted` |
//! | `max_age`, `max_bytes` | see [`Retention`] | for ever, all |
//! | `connect_timeout`, `request_timeout`, `poll_interval` | see [`IggyConfig`] | 5s, 10s, 50ms |
//! | `connections` | see [`IggyConfig`] | 4 |
//! | `max_event_bytes`, `buffer_events`, `buffer_bytes`, `request_events`, `request_bytes`, `expiry` | see [`ProducerConfig`](event_log_core::ProducerConfig) | 8 MiB, 10,000, 64 MiB, 1,024, 4 MiB, none |
//! | `overflow` | `drop_oldest`, `reject`, `block` or `block:DURATION`, see [`Overflow`](event_log_core::Overflow) | `drop_oldest` |
//! | `reconnect`, `reconnect_max` | the first wait and the longest, see [`ReconnectPolicy`](event_log_core::ReconnectPolicy) | 1s, 30s |
//!
//! # Connections
//!
//! The producer has one, and up to four when it has events for several partitions at a time; each consumer has one (a membership of a group is a connection), and all of a handle share one
//! for questions: watermarks, what a group has committed, whether there is news. Each is replaced as a whole when it
//! fails. What is under way when the producer's fails is read back before it is sent again; a consumer joins its group
//! again and continues where it was, unless another member has committed in the meantime.
//!
//! # What is different on a real server
//!
//! * **Purging a topic begins its offsets again at 0**, and so does deleting and making it. Consumers notice, also when it
//!   has grown as long as it was, and say so ([`Notice::Truncated`](event_log_core::Notice::Truncated)).
//! * **Retention by number of records** does not exist; age and bytes do, by whole segments ([`Retention`]).
//! * **Append times** are those of requests: records that were sent together have one time.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod config;
mod error_map;
mod high_watermarks;
pub mod limits;
mod member;
mod member_state;
mod places;
mod producer;
mod questions;
mod read;
mod sdk;
#[cfg(all(feature = "server", unix))]
pub mod server;
mod shared;
mod sizes;
mod topology;
mod transport;
mod watch;

use event_log_core::engine::TransportLog;
use event_log_core::{Error, Partitionable};
use serde::Serialize;

pub use self::builder::Builder;
pub use self::config::{Credentials, Durability, Endpoint, IggyConfig, Retention, Tls, Topology};
pub use self::transport::IggyTransport;

/// An [`EventLog`](event_log_core::EventLog) on Apache Iggy. Clones are handles of the same log.
pub type IggyLog<E> = TransportLog<E, IggyTransport>;

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
