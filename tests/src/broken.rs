//! Logs that are broken on purpose, each in one way that a real one has been or could be: what the
//! conformance suite is worth is what it catches of them.
//!
//! A broken log is the in-memory log in a wrapper that forwards everything but for its one [`Break`].

mod consumer;
mod log;

use std::sync::Arc;

use async_trait::async_trait;
use event_log_core::conformance::{Capabilities, Fault, Harness, NotRun, Probe, Spec};
use event_log_core::{Error, EventLog};
use event_log_memory::MemoryHarness;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Nothing: the control.
    Nothing,
    /// Every tenth append is confirmed and not made.
    LosesAppends,
    /// Every tenth append is made twice, as by a retry that does not look first.
    AppendsTwice,
    /// Receipts have offsets that the client has counted itself.
    InventsOffsets,
    /// Receipts have another id than the record.
    ForgetsIds,
    /// A batch is appended from its end.
    ReversesBatches,
    /// Of two events that are buffered the second goes first.
    ReordersTheBuffer,
    /// What is dropped from the buffer is called committed.
    DropsWithoutAWord,
    /// Tickets of buffered events are forgotten.
    ForgetsTickets,
    /// Appending waits for the reconnection.
    BlocksWhileAway,
    /// An event that is too large is cut off and confirmed.
    SwallowsOversized,
    /// Nothing bounds the queue.
    HasNoBackpressure,
    /// Each event is a request of its own.
    SendsOneByOne,
    /// Keys are hashed with a grain of salt.
    PartitionsByItsOwnHash,
    /// Closing says that all is well.
    ClosesWithoutAWord,
    /// Appending goes on after closing, into the void.
    AcceptsAfterClose,
    /// A topic is taken as it is, whatever was asked for.
    IgnoresTheTopology,
    /// Commits one record less.
    CommitsOneLess,
    /// Commits where the consumer stands, whatever it is told.
    CommitsItsPosition,
    /// Commits nothing at all.
    CommitsNothing,
    /// Commits with every poll.
    CommitsByItself,
    /// Commits as it leaves.
    CommitsOnLeaving,
    /// All groups have one cursor.
    SharesTheCursor,
    /// A poll that is dropped takes its records with it.
    LosesCancelledPolls,
    /// A poll waits for an answer, however long that takes.
    WaitsForAnAnswer,
    /// Polls return at once.
    IgnoresTheTimeout,
    /// Polls return one record more than asked for, when there is one.
    ReturnsTooMany,
    /// Records come newest first.
    ReversesRecords,
    /// Without a connection there is nothing to read, it says.
    CallsBlindnessEmpty,
    /// A record that cannot be decoded stops the consumer.
    StopsAtPoison,
    /// A record that cannot be decoded is dropped without a word.
    SwallowsPoison,
    /// Every group starts at the beginning.
    IgnoresTheStart,
    /// Seeking to the end delivers the last record again.
    SeeksBeforeTheEnd,
    /// The last n are n + 1.
    CountsOneTooMany,
    /// The end is asked of something that hears of an append later than those who read it.
    EndsTooEarly,
    /// What retention has taken is passed over in silence.
    HidesRetention,
    /// Faults are logged somewhere and swallowed.
    HidesFaults,
}

/// A harness of logs that are broken in one way.
#[derive(Debug)]
pub struct BrokenHarness {
    inner: MemoryHarness,
    fault: Break,
}

impl BrokenHarness {
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn new(fault: Break) -> Self {
        Self { inner: MemoryHarness::new(), fault }
    }
}

#[async_trait]
impl Harness for BrokenHarness {
    async fn open(&self, spec: &Spec) -> Result<Arc<dyn EventLog<Probe>>, Error> {
        let mut spec = spec.clone();
        match self.fault {
            Break::SendsOneByOne => spec.config.request_events = 1,
            Break::HasNoBackpressure => spec.config.buffer_events = usize::MAX,
            _ => {}
        }
        let opened = match self.inner.open(&spec).await {
            Err(Error::TopologyMismatch { found, property: "partitions", .. })
                if self.fault == Break::IgnoresTheTopology =>
            {
                spec.partitions = found.parse().ok();
                self.inner.open(&spec).await
            }
            opened => opened,
        };
        Ok(Arc::new(log::BrokenLog::new(opened?, self.fault)))
    }

    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    fn not_run(&self) -> &[(&'static str, &'static str)] {
        self.inner.not_run()
    }

    async fn inject(&self, fault: Fault) -> Result<(), NotRun> {
        self.inner.inject(fault).await
    }

    fn virtual_time(&self) -> bool {
        self.inner.virtual_time()
    }
}
