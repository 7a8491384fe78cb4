//! The server's side of the in-memory log: what outlives the handles that use it.

use std::collections::HashMap;
use std::collections::hash_map;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use event_log_core::engine::{Clock, SystemClock, contain_clock};
use event_log_core::{Error, EventId, Headers, Position, Timestamp};
use parking_lot::Mutex;

use crate::faults::Faults;
use crate::retention::Retention;
use crate::topic::Topic;

/// Holds topics, as a server does: records and committed cursors stay while any handle of the broker does,
/// whatever becomes of the logs that were opened on it. Clones are handles of the same broker.
///
/// A log opened without a broker has one to itself.
#[derive(Clone)]
pub struct MemoryBroker {
    inner: Arc<Inner>,
}

struct Inner {
    topics: Mutex<HashMap<String, Arc<Topic>>>,
    clock: Arc<dyn Clock>,
    /// How many handles have been opened.
    handles: AtomicU64,
}

/// A record as a topic holds it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Content {
    /// Where it is.
    pub position: Position,
    /// Its id.
    pub id: EventId,
    /// When it was appended.
    pub timestamp: Timestamp,
    /// What it was appended with beside the payload.
    pub headers: Headers,
    /// The encoded event.
    pub payload: Bytes,
}

impl fmt::Debug for Content {
    /// With the length of the payload: what it says is the application's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, id, timestamp, headers, payload } = self;
        f.debug_struct("Content")
            .field("position", position)
            .field("id", id)
            .field("timestamp", timestamp)
            .field("headers", headers)
            .field("bytes", &payload.len())
            .finish()
    }
}

impl Default for MemoryBroker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBroker").field("topics", &*self.inner.topics.lock()).finish_non_exhaustive()
    }
}

impl MemoryBroker {
    /// A broker without topics, on the clock of the operating system.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(Arc::new(SystemClock))
    }

    /// A broker on another clock, which gives the records their times and makes them expire.
    #[must_use]
    pub fn with_clock(clock: Arc<dyn Clock>) -> Self {
        Self {
            inner: Arc::new(Inner {
                topics: Mutex::default(),
                clock: contain_clock(clock),
                handles: AtomicU64::new(0),
            }),
        }
    }

    /// The fault switches of a topic; `None` until a log has opened the topic.
    #[must_use]
    pub fn faults(&self, topic: &str) -> Option<Faults> {
        self.inner.topics.lock().get(topic).cloned().map(Faults::new)
    }

    /// All that a topic holds, by partition and then by offset: second copies, and what cannot be decoded, too. For
    /// looking behind the scenes in a test; empty for a topic that nobody has opened.
    #[must_use]
    pub fn contents(&self, topic: &str) -> Vec<Content> {
        let topic = self.inner.topics.lock().get(topic).cloned();
        topic.map(|topic| topic.contents()).unwrap_or_default()
    }

    /// The number of the next handle that is opened on this broker.
    pub(crate) fn next_handle(&self) -> u64 {
        self.inner.handles.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.clock)
    }

    /// The topic, made when it is absent and verified when it is present.
    pub(crate) fn topic(
        &self,
        name: &str,
        partitions: u32,
        retention: Retention,
    ) -> Result<Arc<Topic>, Error> {
        let mut topics = self.inner.topics.lock();
        let topic = match topics.entry(name.to_owned()) {
            hash_map::Entry::Occupied(topic) => topic.into_mut(),
            hash_map::Entry::Vacant(entry) => {
                entry.insert(Arc::new(Topic::new(name, partitions, retention, self.clock())))
            }
        };
        let mismatch =
            |property, expected: String, found: String| Error::TopologyMismatch { property, expected, found };
        if topic.partitions() != partitions {
            return Err(mismatch("partitions", partitions.to_string(), topic.partitions().to_string()));
        }
        if topic.retention != retention {
            return Err(mismatch("retention", retention.to_string(), topic.retention.to_string()));
        }
        Ok(Arc::clone(topic))
    }
}
