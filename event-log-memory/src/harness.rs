//! The in-memory backend's own harness of the conformance suite, and a base for harnesses around it.

use std::sync::Arc;

use async_trait::async_trait;
use event_log_core::conformance::{Capabilities, Fault, Harness, NotRun, Probe, Spec, TransportHarness};
use event_log_core::engine::TokioClock;
use event_log_core::{Error, EventLog, Timestamp, limits};

use crate::broker::MemoryBroker;
use crate::retention::Retention;
use crate::transport::MemoryTransport;

const TOPIC: &str = "conformance";

/// A broker to itself, on tokio's clock, with every fault there is.
#[derive(Clone, Debug)]
pub struct MemoryHarness {
    broker: MemoryBroker,
}

impl Default for MemoryHarness {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryHarness {
    /// A new broker. Must be called within a tokio runtime.
    #[must_use]
    pub fn new() -> Self {
        let clock = TokioClock::starting_at(Timestamp(1_700_000_000_000_000));
        Self { broker: MemoryBroker::with_clock(Arc::new(clock)) }
    }

    /// The broker, for looking behind the scenes.
    #[must_use]
    pub const fn broker(&self) -> &MemoryBroker {
        &self.broker
    }
}

impl TransportHarness for MemoryHarness {
    type Transport = MemoryTransport;

    async fn transport(&self, partitions: u32) -> Result<Arc<MemoryTransport>, Error> {
        let topic = self.broker.topic(TOPIC, partitions, Retention::FOREVER)?;
        Ok(Arc::new(MemoryTransport::new(topic)))
    }

    fn virtual_time(&self) -> bool {
        true
    }
}

#[async_trait]
impl Harness for MemoryHarness {
    async fn open(&self, spec: &Spec) -> Result<Arc<dyn EventLog<Probe>>, Error> {
        let mut retention = Retention::FOREVER;
        retention.max_records = spec.retain_records;
        retention.max_age = spec.retain_for;
        let builder = crate::builder()
            .broker(&self.broker)
            .topic(TOPIC)
            .partitions(spec.partitions.unwrap_or(limits::PARTITIONS))
            .retention(retention)
            .config(spec.config.clone());
        let builder = match spec.seed {
            Some(seed) => builder.seed(seed),
            None => builder,
        };
        Ok(Arc::new(builder.open().await?))
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::ALL
    }

    async fn inject(&self, fault: Fault) -> Result<(), NotRun> {
        let faults =
            self.broker.faults(TOPIC).ok_or_else(|| NotRun("no log has been opened yet".to_owned()))?;
        match fault {
            Fault::Disconnect => faults.disconnect(),
            Fault::Reconnect => faults.reconnect(),
            Fault::LoseReplies(count) => faults.lose_replies(count),
            Fault::LoseRequests(count) => faults.lose_requests(count),
            Fault::HoldRequests(count) => faults.hold_requests(count),
            Fault::DeliverHeld => drop(faults.deliver_held_requests()),
            Fault::SlowAppends(each) => faults.slow_appends(each),
            Fault::SlowFetches(each) => faults.slow_fetches(each),
            Fault::SlowConnects(each) => faults.slow_connects(each),
            Fault::TrailingGap(partition, count) => faults.trailing_gap(partition, count),
            Fault::SkipOffsets(partition, count) => faults.skip_offsets(partition, count),
            Fault::EmptyFetches(count) => faults.empty_fetches(count),
            Fault::FailFetches(partition, count) => faults.fail_fetches(partition, count),
            Fault::StallFetches(stall) => faults.stall_fetches(stall),
            Fault::FailCommits(partition, count) => faults.fail_commits(partition, count),
            Fault::Purge => faults.purge(),
            Fault::BeginAgain => faults.begin_again(),
            Fault::AppendForeign(partition, payload) => drop(faults.append_foreign(partition, payload)),
            Fault::Restart => faults.restart(),
            // A record that a crash tears is one that the broker had not appended yet.
            Fault::Crash | Fault::PowerLoss | Fault::TornTail(..) => faults.crash(),
            other => return Err(NotRun(format!("the in-memory log has no fault {other:?}"))),
        }
        Ok(())
    }

    fn virtual_time(&self) -> bool {
        true
    }
}
