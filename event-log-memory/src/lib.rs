//! The event log in process: the default to begin with, the reference of the contract, and a test double
//! whose faults you can switch on.
//!
//! ```
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
//! let log = event_log_memory::builder().open().await?;
//! log.append(Order { customer: "ada".into(), cents: 250 }).await?;
//!
//! let mut consumer = log.consumer("billing").await?;
//! let batch = consumer.poll(100, Duration::from_secs(1)).await?;
//! for (position, order) in batch.events() {
//!     println!("{position}: {} cents", order.cents);
//! }
//! consumer.commit(batch.cursor()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Records live in a [`MemoryBroker`], which plays the server: several logs can be opened on one broker, a
//! log that was dropped can be opened again with everything still there, and [`Faults`] are switched on
//! there. An append whose log is in order is a few locked instructions on the caller's own thread; whenever
//! a fault is on, events take the same way through queue, writer and recovery as with a remote log.
//!
//! Nothing is written to disk: what is in a broker is gone with its process.

mod arrivals;
mod broker;
mod builder;
mod fault_state;
mod faults;
mod groups;
#[cfg(feature = "conformance")]
mod harness;
mod partition;
mod retention;
mod switch;
mod topic;
mod transport;

use event_log_core::Partitionable;
use event_log_core::engine::TransportLog;
use serde::Serialize;

pub use self::broker::{Content, MemoryBroker};
pub use self::builder::{Builder, MAX_PARTITIONS};
pub use self::faults::Faults;
#[cfg(feature = "conformance")]
pub use self::harness::MemoryHarness;
pub use self::retention::Retention;
pub use self::transport::MemoryTransport;

/// An [`EventLog`](event_log_core::EventLog) in this process. Clones are handles of the same log.
pub type MemoryLog<E> = TransportLog<E, MemoryTransport>;

/// Begins to open a log of events of type `E`.
pub fn builder<E: Partitionable + Serialize + Send + 'static>() -> Builder<E> {
    Builder::new()
}

/// The README's code is compiled and run with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
