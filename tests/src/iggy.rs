//! The harness of the conformance suite on a real iggy-server.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use event_log_core::conformance::{Capabilities, Fault, Harness, NotRun, Probe, Spec};
use event_log_core::{Error, EventLog, limits};
use event_log_iggy::{Credentials, Endpoint, IggyConfig};

pub struct IggyHarness {
    config: IggyConfig,
}

static N: AtomicU64 = AtomicU64::new(0);

impl IggyHarness {
    pub fn new() -> Self {
        let address = std::env::var("IGGY_TEST_ADDRESS").unwrap();
        let n = N.fetch_add(1, Ordering::Relaxed);
        let stream = format!("t-{}-{n}", std::process::id());
        let config =
            IggyConfig::new(Endpoint::new(address, Credentials::password("iggy", "iggy")), stream, "events");
        Self { config }
    }
}

#[async_trait]
impl Harness for IggyHarness {
    async fn open(&self, spec: &Spec) -> Result<Arc<dyn EventLog<Probe>>, Error> {
        if spec.retain_records.is_some() {
            return Err(Error::Unsupported("retention by number of records"));
        }
        let mut config = self.config.clone();
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

    async fn inject(&self, fault: Fault) -> Result<(), NotRun> {
        Err(NotRun(format!("{fault:?}")))
    }
}
