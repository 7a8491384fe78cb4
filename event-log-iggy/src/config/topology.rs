//! What a topic is like.

use std::time::Duration;

use event_log_core::{Error, limits as core_limits};
use serde::{Deserialize, Serialize};

use crate::limits;

/// The properties of a topic that are decided when it is made. A topic that exists with others is a
/// [`TopologyMismatch`](Error::TopologyMismatch).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Topology {
    /// How many partitions. Every producer and consumer has to agree on it, since it decides where a key goes.
    pub partitions: u32,
    /// How long records are kept.
    pub retention: Retention,
    /// What a committed receipt is worth when the server crashes.
    pub durability: Durability,
}

/// How long records are kept. Iggy removes whole segments, a while after their last record has become too old, and
/// never the one that is being written: records may live longer than this, and never shorter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Retention {
    /// Keep records this long. `None`, the default, keeps them for ever: a log that forgets has to be asked to.
    pub max_age: Option<Duration>,
    /// Keep this many bytes of the whole topic. `None`, the default, keeps all. The server wants at least a segment,
    /// which is 1 GiB.
    pub max_bytes: Option<u64>,
}

/// What a committed receipt is worth when the server crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Durability {
    /// It is on stable storage: it survives `kill -9` of the server. The default, because that is what *committed*
    /// promises. The cost is that each request waits for the disk: appends that wait together share the wait, lone
    /// ones do not.
    #[default]
    Persisted,
    /// It is in the memory of a quorum of servers. With one server that is the memory of that server: a crash takes
    /// up to the last 1,024 messages or 1 MiB of each partition, although their receipts said *committed*. For a
    /// cluster whose servers do not fail together, or for events that may get lost.
    Replicated,
}

impl Durability {
    pub(crate) const fn is_persisted(self) -> bool {
        matches!(self, Self::Persisted)
    }
}

impl Default for Topology {
    fn default() -> Self {
        Self {
            partitions: core_limits::PARTITIONS,
            retention: Retention::default(),
            durability: Durability::default(),
        }
    }
}

fn is_whole_micros(age: Duration) -> bool {
    let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
    !matches!(micros, 0 | u64::MAX) && Duration::from_micros(micros) == age
}

impl Topology {
    pub(crate) fn validate(&self) -> Result<(), Error> {
        if self.partitions == 0 || self.partitions > limits::MAX_PARTITIONS {
            let problem = format!("must be between 1 and {}", limits::MAX_PARTITIONS);
            return Err(Error::invalid("partitions", problem));
        }
        // Iggy has 64 bits for each, of which none set and all set mean something else.
        if self.retention.max_age.is_some_and(|age| !is_whole_micros(age)) {
            let problem = format!("must be a whole number of microseconds between 1 and {}", u64::MAX - 1);
            return Err(Error::invalid("retention.max_age", problem));
        }
        if self.retention.max_bytes.is_some_and(|bytes| bytes == 0 || bytes == u64::MAX) {
            let problem = format!("must be between 1 and {}", u64::MAX - 1);
            return Err(Error::invalid("retention.max_bytes", problem));
        }
        Ok(())
    }
}
