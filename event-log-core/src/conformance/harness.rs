//! What a backend lends to the suite.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::fault::Fault;
use super::fixture::Probe;
use crate::config::ProducerConfig;
use crate::error::Error;
use crate::log::EventLog;

/// What a log under test is opened with.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Spec {
    /// How many partitions; `None` for the backend's default of [`limits::PARTITIONS`](crate::limits::PARTITIONS).
    pub partitions: Option<u32>,
    /// Keep this many records per partition.
    pub retain_records: Option<u64>,
    /// Keep records this long.
    pub retain_for: Option<Duration>,
    /// The seed of ids and jitter; `None` for a random one.
    pub seed: Option<u64>,
    /// The producing side.
    pub config: ProducerConfig,
}

/// What survives, of that which the log has acknowledged and of the places that groups have committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// The death of the backend's process, and not a power failure, which leaves a part of each partition from its
    /// beginning on.
    Process,
    /// A power failure too.
    Power,
}

/// What a backend supports. What it does not must fail with [`Error::Unsupported`] when a log is opened or
/// the operation is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Retention by number of records.
    pub retain_records: bool,
    /// Retention by age.
    pub retain_for: bool,
    /// [`SeekPosition::Timestamp`](crate::SeekPosition::Timestamp).
    pub seek_timestamp: bool,
    /// What the backend claims to survive. `None` for one that claims nothing: its harness declares the cases of l11 as
    /// not run.
    pub durable: Option<Durability>,
}

impl Capabilities {
    /// A backend that supports everything.
    pub const ALL: Self = Self {
        retain_records: true,
        retain_for: true,
        seek_timestamp: true,
        durable: Some(Durability::Power),
    };
}

/// What a backend lends to the suite. Each case gets one to itself: a topic of its own.
#[async_trait]
pub trait Harness: Send + Sync {
    /// Opens a log on the harness's topic: the first call makes the topic, and each further one is another
    /// handle on it, as of another process.
    ///
    /// # Errors
    ///
    /// Those of opening a log: some cases ask for them.
    async fn open(&self, spec: &Spec) -> Result<Arc<dyn EventLog<Probe>>, Error>;

    /// What the backend supports.
    fn capabilities(&self) -> Capabilities;

    /// Whether there is anything to run on, such as the server that the backend needs.
    ///
    /// # Errors
    ///
    /// [`NotRun`] with the reason; the case ends there, before it has begun.
    fn ready(&self) -> Result<(), NotRun> {
        Ok(())
    }

    /// What this harness does not run: the names of cases, or of [faults](Fault::name) that it cannot make, each with the
    /// reason. Everything else must run. What is declared and runs all the same fails too, so that a declaration
    /// does not outlive its reason.
    ///
    /// The default declares nothing.
    fn not_run(&self) -> &[(&'static str, &'static str)] {
        &[]
    }

    /// Makes a fault.
    ///
    /// # Errors
    ///
    /// [`NotRun`] when this harness cannot make it, which it [declares](Self::not_run); the case ends there.
    async fn inject(&self, fault: Fault) -> Result<(), NotRun>;

    /// Whether the backend lives in tokio's time alone, so that a case runs with the clock paused and waits
    /// for nothing. With a server it does not.
    fn virtual_time(&self) -> bool {
        false
    }
}

/// Why a case could not be run on a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotRun(pub String);

/// How a case ends, if not by a panic.
pub type CaseResult = Result<(), NotRun>;
