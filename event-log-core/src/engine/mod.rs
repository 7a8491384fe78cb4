//! What a backend is built from: the whole contract, over a small [`Transport`].
//!
//! A backend that implements [`Transport`], [`ProducerConnection`] and [`GroupMember`] — seventeen operations that say
//! truthfully what happened — gets [`TransportLog`]: the queue and its policies, the writer with its recovery, the
//! supervisor, and consumers with groups, seeks, commits and poison policies. The in-memory backend and the
//! Iggy backend are both built like this, so that what is proven under simulated faults in memory is the
//! code that runs against a server. A backend may also implement [`EventLog`](crate::EventLog) by itself;
//! the conformance suite does not know the difference.
//!
//! ```text
//! submit/append ──► queue (a line for each ──► writer (one task) ──► ProducerConnection::send
//!        │          partition, bounded)          │   ▲
//!        └── Transport::try_append               │   └─ supervisor (reconnects)
//!            (in-process logs, queue idle)       └── tickets resolve
//!
//! poll ──► lanes (one per partition: prefetch, dedup) ──► merge by time ──► batch
//!              ▲ GroupMember::fetch                                                │
//! commit ──────┴ GroupMember::store ◄──────────────────────────── batch.cursor() ◄─┘
//! ```

mod backoff;
mod clock;
mod consumer;
mod log;
mod producer;
mod scan;
mod suspicion;
mod task;
mod transport;

pub use self::clock::{Clock, SystemClock, TokioClock, contain_clock};
pub use self::log::{LogBuilder, TransportLog};
pub use self::transport::{
    Assignment, Assignments, CommitMode, FetchRequest, FetchResponse, GroupMember, KnownEnd, Landmark,
    Message, ProducerConnection, SendError, StoredMessage, Transport, TransportProperties, foreign_id,
};
pub use crate::contain::{contain, contained};
pub use crate::waking::contain_wakes;
