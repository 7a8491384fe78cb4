//! A typed, partitioned, durable event log with honest outcomes: the traits, the types, and (behind features) the
//! engine and the conformance suite that every backend shares.
//!
//! # What do you want to do?
//!
//! | you want to | see |
//! |---|---|
//! | have something to log | [`Partitionable`], on a type that is [`Serialize`](serde::Serialize) |
//! | append from synchronous code | [`EventLog::submit`], and the [`Ticket`] it returns |
//! | append and wait | [`EventLog::append`], [`append_batch`](EventLog::append_batch), [`EventLogExt::append_all`] |
//! | know what became of an event | [`Receipt`], [`Outcome`], [`AppendError`] |
//! | read | [`EventLogExt::consumer`], then [`EventConsumer::poll`] and [`commit`](EventConsumer::commit) |
//! | read as a stream, or only up to now | [`EventConsumerExt::stream`], [`until_caught_up`](EventConsumerExt::until_caught_up) |
//! | start elsewhere, or move | [`ConsumerOptions::start`], [`EventConsumer::seek`], [`SeekPosition`] |
//! | survive records that cannot be decoded | [`PoisonPolicy`], [`DeadLetter`] |
//! | see how far behind a group is | [`EventLog::lag`], [`EventLog::watermarks`] |
//! | know whether the log is there | [`EventLog::state`], [`LogState`] |
//! | choose what overflows when it is not | [`ProducerConfig`], [`Overflow`] |
//! | know a default and its reason | [`limits`] |
//! | encode events in another way | [`Codec`] |
//! | write a backend | the module `engine` (feature `engine`) |
//! | prove it | the module `conformance` (feature `conformance`) |
//!
//! A log comes from a backend: begin with `event-log-memory`, whose documentation has an example from end to end.
//!
//! # Words
//!
//! A log has **partitions**; events of one **key** share one and keep their order. A record's place is its
//! **position**: its partition and its **offset** in it. Offsets increase and may have gaps. A **cursor** is the
//! state of a reader: the next offset to read, per partition. The **high watermark** is where a partition ends, the
//! **low watermark** where what is retained begins. A **group** of consumers shares the partitions and one
//! **committed** cursor; its **lag** is how far that is behind.
//!
//! # Errors
//!
//! Each operation has an error of its own, and each error answers two separate questions: `is_retryable`, and
//! `may_have_taken_effect`.
//!
//! # Cancellation
//!
//! Every asynchronous method says what dropping its future does. In short: polling, seeking and flushing are cancel
//! safe; a dropped append was either accepted, and then it will be appended, or not, and then it never will.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod codec;
mod config;
mod consumer;
#[cfg_attr(not(feature = "engine"), allow(unreachable_pub, reason = "public in the engine"))]
mod contain;
#[doc = include_str!("../CONTRACT.md")]
pub mod contract {}
mod dead_letter;
mod error;
mod event;
mod ext;
mod headers;
pub mod limits;
mod log;
mod partitioner;
mod position;
mod raw;
mod receipt;
mod record;
mod state;
mod ticket;
mod turn;
#[cfg_attr(not(feature = "engine"), allow(unreachable_pub, reason = "public in the engine"))]
mod waking;
mod watermark;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "engine")]
pub mod engine;

pub use self::codec::{Codec, CodecError, DecodeError, JsonCodec, VerifyingCodec};
pub use self::config::{Overflow, ProducerConfig, ReconnectPolicy};
pub use self::consumer::{ConsumerOptions, EventConsumer, PoisonPolicy};
pub use self::dead_letter::DeadLetter;
pub use self::error::{
    AppendError, AppendErrorKind, BatchError, BoxError, CommitError, CommitErrorKind, Error, SubmitError,
    SubmitErrorKind,
};
pub use self::event::{EventId, Partitionable};
pub use self::ext::{AppendAllError, EventConsumerExt, EventLogExt};
pub use self::headers::Headers;
pub use self::log::{CloseError, EventLog};
pub use self::partitioner::{TEST_VECTORS, partition_of};
pub use self::position::{Cursor, Offset, PartitionId, Position, SeekPosition, Timestamp};
pub use self::raw::{RawCodec, RawEvent};
pub use self::receipt::{AppendAck, Outcome, Receipt};
pub use self::record::{EventBatch, Notice, Record};
pub use self::state::{Connection, LogState, Recovered, StateReceiver, StateSender};
pub use self::ticket::{Promise, Ticket};
pub use self::watermark::{Lag, PartitionLag, PartitionWatermarks, Watermarks};
