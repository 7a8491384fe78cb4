//! What a backend is built from: the whole contract, over a small [`Transport`].
//!
//! A backend that implements [`Transport`], [`Session`] and [`Member`] — a dozen operations that say
//! truthfully what happened — gets [`Log`]: the queue and its policies, the writer with its recovery, the
//! supervisor, and consumers with groups, seeks, commits and poison policies. The in-memory backend and the
//! Iggy backend are both built like this, so that what is proven under simulated faults in memory is the
//! code that runs against a server. A backend may also implement [`EventLog`](crate::EventLog) by itself;
//! the conformance suite does not know the difference.
//!
//! ```text
//! submit/append ──► queue (a line for each ──► writer (one task) ──► Session::send
//!        │          partition, bounded)          │   ▲
//!        └── Transport::try_append               │   └─ supervisor (reconnects)
//!            (in-process logs, queue idle)       └── tickets resolve
//!
//! poll ──► lanes (one per partition: prefetch, dedup) ──► merge by time ──► batch
//!              ▲ Member::fetch                                                │
//! commit ──────┴ Member::store ◄──────────────────────────── batch.cursor() ◄─┘
//! ```

mod batch;
mod blocks;
mod clock;
mod consumer;
mod encode;
mod entry;
mod lines;
mod log;
mod queue;
mod shared;
mod supervisor;
mod transport;
mod warn;
mod writer;

pub use self::clock::{Clock, SystemClock, TokioClock};
pub use self::log::{Engine, Log};
pub use self::transport::{
    Assigned, Fetched, Member, Message, SendError, Session, StoredMessage, Transport, foreign_id,
};
