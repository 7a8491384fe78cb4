//! A topic as the engine's [`Transport`].

use std::sync::Arc;

use event_log_core::engine::{Transport, TransportProperties};
use event_log_core::{Error, Offset, PartitionId, Timestamp, Watermarks};

use crate::config::IggyConfig;
use crate::member::IggyMember;
use crate::places;
use crate::producer::IggyProducerConnection;
use crate::read;
use crate::sdk::GroupId;
use crate::shared::Shared;

/// Reaches a topic on an iggy-server. [`builder`](crate::builder) opens a log over it; so does the engine's
/// [`LogBuilder`](event_log_core::engine::LogBuilder), with a clock and a seed of one's own.
#[derive(Debug)]
pub struct IggyTransport {
    shared: Arc<Shared>,
}

impl IggyTransport {
    /// Reaches the topic of this configuration. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when TLS cannot be set up.
    pub fn new(config: IggyConfig) -> Result<Self, Error> {
        Ok(Self { shared: Arc::new(Shared::new(config)?) })
    }
}

impl Transport for IggyTransport {
    type Producer = IggyProducerConnection;
    type Member = IggyMember;

    fn properties(&self) -> TransportProperties {
        let mut properties = TransportProperties::new(self.shared.partitions());
        // More than one for each partition would have nothing to do.
        properties.connections = self.shared.config().connections.min(self.shared.partitions() as usize);
        properties.topic = Some(self.shared.log_name());
        properties
    }

    async fn connect(&self) -> Result<IggyProducerConnection, Error> {
        let (client, _) = self.shared.connect().await?;
        Ok(IggyProducerConnection::new(Arc::clone(&self.shared), client))
    }

    async fn join(&self, group: &str, instance: u128) -> Result<IggyMember, Error> {
        // The server has to see the last connection end before it gives its partitions to this one.
        self.shared.drained(instance).await;
        IggyMember::join(Arc::clone(&self.shared), GroupId::new(group)?, instance).await
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        let topic = self.shared.look().await?;
        let marks = places::each(topic.partitions.iter().zip(0..), |(&stats, partition)| {
            read::partition_watermarks(&self.shared, PartitionId(partition), stats)
        });
        Ok(Watermarks::new(marks.await.into_iter().collect::<Result<Vec<_>, _>>()?))
    }

    async fn offsets_at(&self, times: &[(PartitionId, Timestamp)]) -> Result<Vec<Offset>, Error> {
        let found = places::each(times, |&(partition, time)| {
            self.shared.ask(move |client| async move { client.offset_at(partition, time).await })
        });
        let found = found.await.into_iter().collect::<Result<Vec<_>, _>>()?;
        if found.iter().all(Option::is_some) {
            return Ok(found.into_iter().flatten().collect());
        }
        // Afterwards: what is appended in between is later than the time.
        let topic = self.shared.look().await?;
        let high =
            |partition: PartitionId| topic.partitions.get(partition.0 as usize).map(|stats| stats.high);
        let offsets =
            times.iter().zip(found).map(|((partition, _), found)| found.or_else(|| high(*partition)));
        offsets.map(|offset| offset.ok_or(Error::Unavailable(None))).collect()
    }

    async fn committed(
        &self,
        group: &str,
        partitions: &[PartitionId],
    ) -> Result<Vec<Result<Option<Offset>, Error>>, Error> {
        places::committed(&self.shared, &GroupId::new(group)?, partitions).await
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let group = &GroupId::new(group)?;
        let members = self.shared.ask(|client| async move { client.members(group).await }).await?;
        if members.is_some_and(|members| members > 0) {
            return Err(Error::invalid("group", "still has members"));
        }
        places::forget(&self.shared, group).await
    }
}
