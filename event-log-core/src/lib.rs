//! placeholder docs
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod codec;
mod config;
mod consumer;
mod dead_letter;
mod error;
mod event;
mod ext;
pub mod limits;
mod log;
mod partitioner;
mod position;
mod raw;
mod receipt;
mod record;
mod state;
mod watermark;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "engine")]
pub mod engine;

pub use self::codec::{Codec, CodecError, JsonCodec};
pub use self::config::{Overflow, ProducerConfig, ReconnectPolicy};
pub use self::consumer::{ConsumerOptions, EventConsumer, PoisonPolicy};
pub use self::dead_letter::DeadLetter;
pub use self::error::{
    AppendError, AppendFailure, BatchError, CommitError, CommitFailure, Error, RejectReason, Rejected, Source,
};
pub use self::event::{EventId, Partitionable};
pub use self::ext::{EventConsumerExt, EventLogExt};
pub use self::log::{EventLog, Leftover};
pub use self::partitioner::{TEST_VECTORS, partition_of};
pub use self::position::{Cursor, Offset, PartitionId, Position, SeekPosition, Timestamp};
pub use self::raw::{RawCodec, RawEvent};
pub use self::receipt::{Committed, Outcome, Promise, Receipt, Ticket};
pub use self::record::{EventBatch, Notice, Record, Undecodable};
pub use self::state::{Connection, LogState};
pub use self::watermark::{Lag, PartitionLag, PartitionWatermarks, Watermarks};
