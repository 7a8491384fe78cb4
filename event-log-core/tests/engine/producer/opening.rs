//! A transport of which each connection but the first is never there.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::no_member::NoMember;
use crate::served::{Connection, Scripted, Server};
use event_log_core::engine::{Transport, TransportProperties};
use event_log_core::{Error, Offset, PartitionId, Timestamp, Watermarks};

pub(crate) struct Opening {
    inner: Scripted,
    connects: AtomicUsize,
}

impl Opening {
    pub(crate) fn new(server: &Arc<Server>) -> Self {
        Self { inner: Scripted(Arc::clone(server)), connects: AtomicUsize::new(0) }
    }
}

impl Transport for Opening {
    type Producer = Connection;
    type Member = NoMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = self.inner.properties();
        properties.connections = 4;
        properties
    }

    async fn connect(&self) -> Result<Connection, Error> {
        if self.connects.fetch_add(1, Relaxed) > 0 {
            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
            return Err(Error::Unavailable(None));
        }
        self.inner.connect().await
    }

    async fn join(&self, group: &str, instance: u128) -> Result<NoMember, Error> {
        self.inner.join(group, instance).await
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        self.inner.watermarks().await
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        self.inner.offsets_at(times).await
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        self.inner.committed(group, partitions).await
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        self.inner.delete_group(group).await
    }
}
