//! The conformance suite's harness on a real iggy-server, and what the other tests on one share.
//!
//! All tests of a process share a server; each has a stream to itself, and a [`Proxy`] before the server that makes the
//! faults. Where there is no server, that is announced and nothing is run.

mod foreign;
mod repair;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use event_log_core::conformance::{Capabilities, Fault, Harness, NotRun, Probe, Spec, TransportHarness};
use event_log_core::engine::Transport as _;
use event_log_core::{Error, EventLog, limits};
use event_log_iggy::server::IggyServer;
use event_log_iggy::{Endpoint, IggyConfig, IggyTransport};
use tokio::sync::OnceCell;

pub use self::foreign::{Foreign, RawRecord};
pub use self::repair::mend_and_start;
pub use self::server::{DiskServer, own_server, shared_server};
use crate::proxy::{NetworkFault, Proxy};

/// The topic of every test, in a stream of its own.
const TOPIC: &str = "events";

/// Long enough for a server on a busy machine, and short enough that a test of a server that does not answer ends.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream of its own on the shared server, behind a proxy of its own.
pub struct IggyHarness {
    server: Option<&'static IggyServer>,
    stream: String,
    proxy: OnceCell<Proxy>,
}

impl Default for IggyHarness {
    fn default() -> Self {
        Self::new()
    }
}

impl IggyHarness {
    /// A new stream. The server is started when this is the first.
    #[must_use]
    pub fn new() -> Self {
        Self { server: shared_server(), stream: new_stream(), proxy: OnceCell::new() }
    }

    /// The proxy before the server. It belongs to the runtime that asks first.
    ///
    /// # Panics
    ///
    /// Without a server.
    pub async fn proxy(&self) -> &Proxy {
        let server = self.server.expect("there is a server");
        let start = || async { Proxy::start(server.tcp_address()).await.expect("there is a port") };
        self.proxy.get_or_init(start).await
    }

    /// How a log on the harness's topic is configured, through the proxy.
    ///
    /// # Panics
    ///
    /// Without a server.
    pub async fn config(&self) -> IggyConfig {
        let server = self.server.expect("there is a server");
        let endpoint = Endpoint::new(self.proxy().await.address().to_string(), server.endpoint().credentials);
        let mut config = IggyConfig::new(endpoint, &self.stream, TOPIC);
        config.request_timeout = REQUEST_TIMEOUT;
        config
    }

    /// Somebody who does not use this library, past the proxy.
    ///
    /// # Panics
    ///
    /// Without a server.
    pub async fn foreign(&self) -> Foreign {
        Foreign::connect(&self.server.expect("there is a server").endpoint(), &self.stream, TOPIC).await
    }

    /// Appends bytes to partition 0 through the server's HTTP API, as a script would.
    ///
    /// # Panics
    ///
    /// When that does not succeed.
    pub async fn http_send(&self, payload: &[u8]) {
        let server = self.server.expect("there is a server");
        let address = server.http_address().expect("the server has said where it answers HTTP");
        foreign::http_send(address, &server.endpoint(), &self.stream, TOPIC, payload).await;
    }
}

/// A name for a stream that no other test has.
#[must_use]
pub fn new_stream() -> String {
    static STREAMS: AtomicU64 = AtomicU64::new(0);
    format!("test-{}-{}", std::process::id(), STREAMS.fetch_add(1, Ordering::Relaxed))
}

impl TransportHarness for IggyHarness {
    type Transport = IggyTransport;

    async fn transport(&self, partitions: u32) -> Result<Arc<IggyTransport>, Error> {
        let mut config = self.config().await;
        config.topology.partitions = partitions;
        let transport = IggyTransport::new(config)?;
        // The first connection creates the topic.
        transport.connect().await?;
        Ok(Arc::new(transport))
    }

    fn ready(&self) -> Result<(), NotRun> {
        Harness::ready(self)
    }
}

#[async_trait]
impl Harness for IggyHarness {
    async fn open(&self, spec: &Spec) -> Result<Arc<dyn EventLog<Probe>>, Error> {
        if spec.retain_records.is_some() {
            // There is no such setting to open a log with.
            return Err(Error::Unsupported("retention by number of records"));
        }
        let mut config = self.config().await;
        config.topology.partitions = spec.partitions.unwrap_or(limits::PARTITIONS);
        config.topology.retention.max_age = spec.retain_for;
        config.producer = spec.config.clone();
        Ok(Arc::new(event_log_iggy::builder(config).open().await?))
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::ALL;
        capabilities.retain_records = false;
        capabilities
    }

    fn ready(&self) -> Result<(), NotRun> {
        self.server.map(drop).ok_or_else(|| NotRun("no iggy-server".to_owned()))
    }

    fn not_run(&self) -> &[(&'static str, &'static str)] {
        const SHARED: &str = "all tests of a process share the server; iggy_crash.rs kills one of its own";
        &[
            ("c7_retention_by_age", "a minute of real time"),
            ("SkipOffsets", "no way is known to have a server leave a gap"),
            ("SlowConnects", "the proxy delays no connection"),
            ("TrailingGap", "no way is known to have a server leave a gap"),
            ("SlowFetches", "the proxy delays no answer"),
            ("Restart", SHARED),
            ("Crash", SHARED),
            ("PowerLoss", SHARED),
            ("TornTail", SHARED),
        ]
    }

    async fn inject(&self, fault: Fault) -> Result<(), NotRun> {
        let proxy = self.proxy().await;
        match fault {
            Fault::Disconnect => {
                proxy.disconnect();
                proxy.settled().await;
            }
            Fault::Reconnect => proxy.reconnect(),
            Fault::LoseReplies(count) => proxy.lose_replies(count),
            Fault::LoseRequests(count) => proxy.lose_requests(count),
            Fault::HoldRequests(count) => proxy.hold_requests(count),
            Fault::DeliverHeld => drop(proxy.deliver_held().await),
            Fault::SlowAppends(each) => proxy.slow_appends(each),
            Fault::EmptyFetches(count) => proxy.empty_fetches(count),
            Fault::FailFetches(partition, count) => proxy.fail_fetches(partition, count),
            Fault::FailCommits(partition, count) => proxy.fail_commits(partition, count),
            Fault::StallFetches(true) => proxy.apply(NetworkFault::HalfOpen),
            Fault::StallFetches(false) => proxy.heal(),
            // The offsets of a purged topic begin again.
            Fault::Purge | Fault::BeginAgain => self.foreign().await.purge().await,
            Fault::AppendForeign(partition, payload) => self.foreign().await.send(partition, payload).await,
            other => return Err(NotRun(format!("no way is known to have a server make {other:?}"))),
        }
        Ok(())
    }
}
