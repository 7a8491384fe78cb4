//! The in-memory log, with the switches of its broker.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use event_log_core::conformance::Probe;
use event_log_core::engine::TokioClock;
use event_log_core::{Error, EventLog, PartitionId, ProducerConfig, ReconnectPolicy, Timestamp};
use event_log_memory::{Faults, MemoryBroker};

use super::number;
use crate::chaos::history::{Settings, Stored};
use crate::chaos::run::Site;
use crate::chaos::schedule::{Fault, Kind};

const TOPIC: &str = "chaos";

/// How long an append takes: it costs nothing on a paused clock, and lets others have their turn.
const APPEND: Duration = Duration::from_micros(300);

/// A broker to itself, on tokio's clock.
#[derive(Debug)]
pub struct MemorySite {
    broker: MemoryBroker,
    partitions: u32,
    buffer: usize,
    seed: u64,
}

impl MemorySite {
    /// An empty one. Must be called within a runtime.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let clock = TokioClock::starting_at(Timestamp(1_700_000_000_000_000));
        Self {
            broker: MemoryBroker::with_clock(Arc::new(clock)),
            partitions: settings.partitions,
            buffer: settings.buffer,
            seed: settings.seed,
        }
    }

    fn faults(&self) -> Faults {
        self.broker.faults(TOPIC).expect("a log was opened")
    }

    const fn partition(&self, fault: &Fault) -> PartitionId {
        #[expect(clippy::cast_possible_truncation, reason = "it is less than the partitions, which are u32")]
        PartitionId((fault.which % self.partitions as u64) as u32)
    }

    /// Half of the seeds have a log that takes its time, which brings the queue into play without any fault.
    fn usual_append(&self) -> Duration {
        if self.seed.is_multiple_of(2) { APPEND } else { Duration::ZERO }
    }
}

#[async_trait]
impl Site for MemorySite {
    fn kinds(&self) -> Vec<Kind> {
        vec![
            Kind::Interrupt,
            Kind::Disconnect,
            Kind::LoseReplies,
            Kind::LoseRequests,
            Kind::HoldRequests,
            Kind::SlowAppends,
            Kind::EmptyFetches,
            Kind::FailFetches,
            Kind::StallFetches,
            Kind::FailCommits,
            Kind::SkipOffsets,
            Kind::CrashHandle,
        ]
    }

    async fn open(&self, seed: u64) -> Result<Arc<dyn EventLog<Probe>>, Error> {
        let mut config = ProducerConfig::default();
        // Soon enough that a request which is late arrives behind its repetition, now and then.
        config.reconnect = ReconnectPolicy::new(Duration::from_millis(200), Duration::from_secs(5));
        config.buffer_events = self.buffer;
        config.request_events = 64;
        let log = event_log_memory::builder()
            .broker(&self.broker)
            .topic(TOPIC)
            .partitions(self.partitions)
            .config(config)
            .seed(seed)
            .open()
            .await?;
        self.faults().slow_appends(self.usual_append());
        Ok(Arc::new(log))
    }

    async fn begin(&self, fault: &Fault) {
        let (faults, partition) = (self.faults(), self.partition(fault));
        let count = usize::try_from(fault.size).unwrap_or(usize::MAX);
        match fault.kind {
            Kind::Interrupt => faults.interrupt(),
            Kind::Disconnect => faults.disconnect(),
            Kind::LoseReplies => faults.lose_replies(count),
            Kind::LoseRequests => faults.lose_requests(count),
            Kind::HoldRequests => faults.hold_requests(count),
            Kind::SlowAppends => faults.slow_appends(Duration::from_millis(fault.size)),
            Kind::EmptyFetches => faults.empty_fetches(count),
            Kind::FailFetches => faults.fail_fetches(partition, count),
            Kind::StallFetches => faults.stall_fetches(true),
            Kind::FailCommits => faults.fail_commits(partition, count),
            Kind::SkipOffsets => faults.skip_offsets(partition, fault.size),
            other => unreachable!("the in-memory log has no fault {other:?}"),
        }
    }

    async fn end(&self, fault: &Fault) {
        let faults = self.faults();
        match fault.kind {
            Kind::Disconnect => faults.reconnect(),
            Kind::HoldRequests => {
                faults.hold_requests(0);
                faults.deliver_held_requests();
            }
            Kind::SlowAppends => faults.slow_appends(self.usual_append()),
            Kind::StallFetches => faults.stall_fetches(false),
            _ => {}
        }
    }

    async fn calm(&self) {
        let faults = self.faults();
        faults.clear();
        faults.deliver_held_requests();
    }

    async fn contents(&self) -> Vec<Vec<Stored>> {
        let mut partitions = vec![Vec::new(); self.partitions as usize];
        for record in self.broker.contents(TOPIC) {
            let stored = Stored(record.position.offset, record.id, number(&record.payload));
            partitions[record.position.partition.0 as usize].push(stored);
        }
        partitions
    }
}
