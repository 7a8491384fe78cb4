//! The events of coding-agent sessions, as producers in the field write them.
//!
//! # What is where
//!
//! | you want to | see |
//! |---|---|
//! | match on what happened | [`VibesEvent`], and inside it [`ClaudeEvent`] and [`HookEvent`] |
//! | choose the event type of a log | [`StoredOrBare`], which compares the three candidates |
//! | give an event an identity of its own | [`StoredEvent`] |
//! | read the arguments and the output of a tool | [`RawJson`] |
//! | know what becomes of an event that is newer than this crate | [`UnknownEvent`] |
//! | know how older records are read | [`upcast`] |
//! | have events to play with | [`sample`] |
//!
//! # Reading and writing
//!
//! ```
//! use event_log_core::Partitionable;
//! use vibes_events::{ClaudeEvent, VibesEvent};
//!
//! let json = r#"{"type":"claude","session_id":"s","event":{"type":"text_delta","text":"Hi"}}"#;
//! let event: VibesEvent = serde_json::from_str(json)?;
//!
//! assert_eq!(event.event_type(), "claude");
//! assert_eq!(event.partition_key(), Some("s"));
//! assert!(matches!(
//!     &event,
//!     VibesEvent::Claude { event: ClaudeEvent::TextDelta { text }, .. } if text == "Hi"
//! ));
//! assert_eq!(serde_json::to_string(&event)?, json);
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # The JSON
//!
//! Every event is an object whose member `type`, in snake_case, says what it is. It is written first and
//! may be read anywhere. Then come the fields in the order of their declaration; an absent option is
//! written as `null`, and may be absent or `null` when read. Members that this crate does not know are
//! ignored.
//!
//! Every variant has a file in the crate's `golden` folder, and a test holds each to the byte.
//!
//! # A reader that is older than a producer
//!
//! An event of an unknown *type* is not an error: it becomes [`VibesEvent::Unknown`] (or
//! [`ClaudeEvent::Unknown`], or [`HookEvent::Unknown`], whichever level is new), keeps its JSON, still has its session,
//! and is written again as it was read (but for an `event_id`, which belongs to the [envelope](StoredEvent)). An event of a
//! *known* type that lacks a field, or has one of another JSON type, is an error, because a program that matched on it would
//! be misled.
//!
//! ```
//! use vibes_events::VibesEvent;
//!
//! let newer = r#"{"type":"session_forked","session_id":"s","at":1.50}"#;
//! let event: VibesEvent = serde_json::from_str(newer)?;
//! assert!(matches!(event, VibesEvent::Unknown(_)));
//! assert_eq!(event.session_id(), Some("s"));
//! assert_eq!(serde_json::to_string(&event)?, newer);
//!
//! let malformed = r#"{"type":"session_removed","session_id":"s"}"#;
//! let error = serde_json::from_str::<VibesEvent>(malformed).unwrap_err();
//! assert_eq!(error.to_string(), "session_removed event: missing field `reason`");
//! # Ok::<(), serde_json::Error>(())
//! ```
//!
//! # Features
//!
//! - `proptest`: the module `strategies`, generators of arbitrary events.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod claude;
mod event;
mod event_type;
mod hook;
mod members;
#[cfg(test)]
mod properties;
mod raw_json;
pub mod sample;
mod stored;
#[cfg(any(test, feature = "proptest"))]
#[cfg_attr(docsrs, doc(cfg(feature = "proptest")))]
pub mod strategies;
mod unknown;
pub mod upcast;

pub use self::claude::{ClaudeEvent, Usage};
pub use self::event::{InputSource, VibesEvent};
pub use self::hook::{HookContext, HookEvent, NotificationType};
pub use self::raw_json::RawJson;
pub use self::stored::{StoredEvent, StoredOrBare};
pub use self::unknown::UnknownEvent;
pub use self::upcast::SCHEMA_VERSION;

/// The stream that vibes keeps its events in.
pub const STREAM: &str = "vibes";

/// The topic of [`STREAM`] that holds the events. They never expire.
pub const TOPIC: &str = "events";

/// How many partitions [`TOPIC`] has.
///
/// Part of the schema: a producer that assumes another count puts a session into another partition.
pub const PARTITIONS: u32 = 8;
