//! A real server of its own, behind the fault proxy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use event_log_core::conformance::Probe;
use event_log_core::{Error, EventId, EventLog, Offset, PartitionId};
use event_log_iggy::{Endpoint, IggyConfig};

use super::number;
use crate::chaos::history::{Settings, Stored};
use crate::chaos::run::Site;
use crate::chaos::schedule::{Fault, Kind};
use crate::disk::SmallDisk;
use crate::iggy::{DiskServer, Foreign, mend_and_start, new_stream};
use crate::proxy::{Direction, NetworkFault, Proxy};

const TOPIC: &str = "chaos";

/// Long enough for a server on a busy machine, and shorter than the longer faults.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// A server, and a topic on it that is reached through a proxy.
pub struct IggySite {
    own: Arc<DiskServer>,
    proxy: Proxy,
    config: IggyConfig,
}

impl IggySite {
    /// A new stream on this server, with faults of the network, of the server, and of its disk if that is a small one.
    ///
    /// # Panics
    ///
    /// When there is no port for the proxy.
    pub async fn new(own: Arc<DiskServer>, settings: &Settings) -> Self {
        own.was_used.store(true, Ordering::Relaxed);
        let server = &own.server;
        let proxy = Proxy::start(server.tcp_address()).await.expect("there is a port");
        let endpoint = Endpoint::new(proxy.address().to_string(), server.endpoint().credentials);
        let mut config = IggyConfig::new(endpoint, new_stream(), TOPIC);
        config.topology.partitions = settings.partitions;
        config.producer.buffer_events = settings.buffer;
        config.request_timeout = REQUEST_TIMEOUT;
        Self { own, proxy, config }
    }

    fn partition(&self, fault: &Fault) -> PartitionId {
        let partition = fault.which % u64::from(self.config.topology.partitions);
        PartitionId(u32::try_from(partition).unwrap_or(0))
    }

    fn disk(&self) -> &SmallDisk {
        self.own.disk.as_ref().expect("without a small disk, it is not filled")
    }

    /// What an operator does when the disk is full. The server cannot go on: it says so ("restart required") and
    /// answers nobody any more, but does not end by itself. Its end comes before there is room: one that its keeper
    /// has started again meanwhile would append behind the torn ends.
    async fn make_room(&self, fault: &Fault) {
        let server = &self.own.server;
        let ended =
            if fault.which.is_multiple_of(2) { server.kill().await } else { server.shut_down().await };
        ended.expect("the server ends");
        self.disk().clear().expect("there is room again");
        self.start_server_anew().await;
    }

    /// After an end in the middle of a write, which this server does not survive by itself.
    async fn start_server_anew(&self) {
        mend_and_start(&self.own.server).await.expect("the server starts");
    }

    /// On the server, or nowhere: a run on a server that does not do what it is told shows nothing.
    async fn start_server(&self) {
        self.own.server.start_again().await.expect("the server starts");
    }
}

const fn direction(fault: &Fault) -> Direction {
    if fault.which.is_multiple_of(2) { Direction::ToServer } else { Direction::ToClient }
}

#[async_trait]
impl Site for IggySite {
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds = vec![
            Kind::Interrupt,
            Kind::Disconnect,
            Kind::CutInFrame,
            Kind::Delay,
            Kind::Throttle,
            Kind::BlackHole,
            Kind::HalfOpen,
            Kind::LoseReplies,
            Kind::LoseRequests,
            Kind::HoldRequests,
            Kind::SlowAppends,
            Kind::EmptyFetches,
            Kind::FailFetches,
            Kind::FailCommits,
            Kind::KillServer,
            Kind::EndServer,
            Kind::PauseServer,
            Kind::MoveServer,
            Kind::CrashHandle,
        ];
        if self.own.disk.is_some() {
            kinds.push(Kind::FillDisk);
        }
        kinds
    }

    async fn open(&self, _seed: u64) -> Result<Arc<dyn EventLog<Probe>>, Error> {
        Ok(Arc::new(event_log_iggy::builder(self.config.clone()).open().await?))
    }

    async fn begin(&self, fault: &Fault) {
        let (proxy, partition) = (&self.proxy, self.partition(fault));
        let count = usize::try_from(fault.size).unwrap_or(usize::MAX);
        let millis = Duration::from_millis(fault.size);
        match fault.kind {
            Kind::Interrupt => proxy.interrupt(),
            Kind::Disconnect => proxy.disconnect(),
            Kind::CutInFrame => proxy.apply(NetworkFault::CutAfterBytes(direction(fault), fault.size)),
            Kind::Delay => proxy.apply(NetworkFault::Delay(millis)),
            Kind::Throttle => proxy.apply(NetworkFault::Throttle(fault.size)),
            Kind::BlackHole => proxy.apply(NetworkFault::BlackHole(direction(fault))),
            Kind::HalfOpen | Kind::StallFetches => proxy.apply(NetworkFault::HalfOpen),
            Kind::LoseReplies => proxy.lose_replies(count),
            Kind::LoseRequests => proxy.lose_requests(count),
            Kind::HoldRequests => proxy.hold_requests(count),
            Kind::SlowAppends => proxy.slow_appends(millis),
            Kind::EmptyFetches => proxy.empty_fetches(count),
            Kind::FailFetches => proxy.fail_fetches(partition, count),
            Kind::FailCommits => proxy.fail_commits(partition, count),
            Kind::KillServer => self.own.server.kill().await.expect("the server is killed"),
            Kind::EndServer => self.own.server.shut_down().await.expect("the server ends"),
            Kind::PauseServer => self.own.server.pause().await.expect("the server stands still"),
            Kind::MoveServer => {
                self.own.server.restart_on_another_port().await.expect("the server comes back");
                proxy.set_target(self.own.server.tcp_address());
            }
            Kind::FillDisk => self.disk().fill().expect("the disk is filled"),
            Kind::SkipOffsets | Kind::CrashHandle => {}
        }
    }

    async fn end(&self, fault: &Fault) {
        let proxy = &self.proxy;
        match fault.kind {
            Kind::Disconnect => proxy.reconnect(),
            Kind::Delay | Kind::Throttle | Kind::BlackHole | Kind::HalfOpen => proxy.heal(),
            Kind::HoldRequests => {
                proxy.hold_requests(0);
                proxy.deliver_held().await;
            }
            Kind::SlowAppends => proxy.slow_appends(Duration::ZERO),
            Kind::KillServer => self.start_server_anew().await,
            Kind::EndServer => self.start_server().await,
            Kind::FillDisk => self.make_room(fault).await,
            Kind::PauseServer => self.own.server.resume().await.expect("the server goes on"),
            _ => {}
        }
    }

    async fn calm(&self) {
        self.proxy.clear();
        self.start_server().await;
        self.proxy.deliver_held().await;
    }

    async fn contents(&self) -> Vec<Vec<Stored>> {
        // What was cut while the server had it may still be appended.
        self.proxy.settled().await;
        let foreign = Foreign::connect(&self.own.server.endpoint(), &self.config.stream, TOPIC).await;
        let mut partitions = Vec::new();
        for partition in (0..self.config.topology.partitions).map(PartitionId) {
            let records = foreign.read(partition).await.into_iter();
            let stored = records.map(|record| {
                Stored(Offset(record.offset), EventId::from_u128(record.id), number(&record.payload))
            });
            partitions.push(stored.collect());
        }
        partitions
    }
}
