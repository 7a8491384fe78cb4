//! The suite on a folder.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use event_log_core::conformance::{
    Capabilities, Fault, Harness, NotRun, Probe, Spec, Tear, TransportHarness,
};
use event_log_core::engine::{LogBuilder, TokioClock};
use event_log_core::{Error, EventLog, JsonCodec, PartitionId, Timestamp, limits};

use super::JournalBug;
use super::server::Server;
use super::transport::JournalTransport;

/// A folder of its own, on tokio's clock, with every fault there is.
pub struct JournalHarness {
    server: Arc<Server>,
    bug: Option<JournalBug>,
}

impl JournalHarness {
    /// A new folder, and the backend as it should be. Must be called within a tokio runtime.
    ///
    /// # Panics
    ///
    /// When there can be no folder.
    #[must_use]
    pub fn new() -> Self {
        Self::broken(None)
    }

    /// The same with a mistake in the backend.
    ///
    /// # Panics
    ///
    /// When there can be no folder.
    #[must_use]
    pub fn broken(bug: Option<JournalBug>) -> Self {
        let clock = TokioClock::starting_at(Timestamp(1_700_000_000_000_000));
        let server = Server::new(Arc::new(clock), bug).expect("the folder can be made");
        Self { server: Arc::new(server), bug }
    }
}

impl Default for JournalHarness {
    fn default() -> Self {
        Self::new()
    }
}

impl TransportHarness for JournalHarness {
    type Transport = JournalTransport;

    async fn transport(&self, partitions: u32) -> Result<Arc<JournalTransport>, Error> {
        self.server.topic(partitions)?;
        Ok(Arc::new(JournalTransport::new(Arc::clone(&self.server), self.bug)))
    }

    fn virtual_time(&self) -> bool {
        true
    }
}

#[async_trait]
impl Harness for JournalHarness {
    async fn open(&self, spec: &Spec) -> Result<Arc<dyn EventLog<Probe>>, Error> {
        if spec.retain_records.is_some() || spec.retain_for.is_some() {
            return Err(Error::Unsupported("retention"));
        }
        self.server.topic(spec.partitions.unwrap_or(limits::PARTITIONS))?;
        let clock = Arc::clone(&self.server.clock);
        let mut builder = LogBuilder::new(Arc::new(JsonCodec)).config(spec.config.clone()).clock(clock);
        if let Some(seed) = spec.seed {
            builder = builder.seed(seed);
        }
        let transport = JournalTransport::new(Arc::clone(&self.server), self.bug);
        Ok(Arc::new(builder.open(Arc::new(transport)).await?))
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::ALL;
        (capabilities.retain_records, capabilities.retain_for) = (false, false);
        capabilities
    }

    async fn inject(&self, fault: Fault) -> Result<(), NotRun> {
        self.make(fault).map_err(|error| NotRun(error.to_string()))
    }

    fn virtual_time(&self) -> bool {
        true
    }
}

impl JournalHarness {
    fn make(&self, fault: Fault) -> io::Result<()> {
        let server = &*self.server;
        let clock = &*server.clock;
        match fault {
            Fault::Restart | Fault::Crash => server.kill(|_, _| Ok(())),
            Fault::PowerLoss => server.lose_power(),
            Fault::TornTail(partition, tear) => server.kill(|disk, partitions| {
                let torn = partitions.get(partition.0 as usize);
                torn.map_or(Ok(()), |torn| torn.tear(disk, tear == Tear::Garbled))
            }),
            Fault::Purge => server.change(|state| state.purge()),
            Fault::BeginAgain => server.change(|state| state.begin_again()),
            Fault::DeliverHeld => server.change(|state| state.deliver_held(clock)),
            Fault::AppendForeign(partition, payload) => server.change(|state| {
                let message =
                    state.partition(partition).map(|(known, _)| known.foreign(payload, clock.now()));
                state.append(partition, message.as_slice(), clock).map(drop)
            }),
            switch => self.switch(switch),
        }
    }

    fn switch(&self, fault: Fault) -> io::Result<()> {
        self.server.change(|state| {
            let plan = &mut state.plan;
            match fault {
                Fault::Disconnect => state.cut(),
                Fault::Reconnect => state.up = true,
                Fault::LoseReplies(count) => plan.lose_replies = count,
                Fault::LoseRequests(count) => plan.lose_requests = count,
                Fault::HoldRequests(count) => plan.hold_requests = count,
                Fault::SlowAppends(each) => plan.slow_appends = each,
                Fault::SlowConnects(each) => plan.slow_connects = each,
                Fault::TrailingGap(partition, count) => {
                    if let Some((partition, disk)) = state.partition(partition) {
                        return partition.trailing_gap(disk, count);
                    }
                }
                Fault::SlowFetches(each) => plan.slow_fetches = each,
                Fault::EmptyFetches(count) => plan.empty_fetches = count,
                Fault::StallFetches(stalled) => plan.stalled = stalled,
                Fault::FailFetches(partition, count) => drop(plan.fail_fetches.insert(partition, count)),
                Fault::FailCommits(partition, count) => drop(plan.fail_commits.insert(partition, count)),
                Fault::SkipOffsets(partition, count) => {
                    if let Some((partition, _)) = state.partition(partition) {
                        partition.skip_offsets(count);
                    }
                }
                other => return Err(io::Error::other(format!("a folder has no fault {other:?}"))),
            }
            Ok(())
        })
    }

    /// How many partitions the topic has, once it is there.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.server.look(|state| (0..state.partitions()).map(PartitionId).collect())
    }
}
