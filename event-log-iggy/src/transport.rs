//! A topic as the engine's [`Transport`].

use std::sync::Arc;

use event_log_core::engine::Transport;
use event_log_core::{Error, Offset, PartitionId, Watermarks};

use crate::config::IggyConfig;
use crate::member::IggyMember;
use crate::read;
use crate::sdk::{CallError, Client, GroupId};
use crate::session::IggyProducerConnection;
use crate::shared::{Owner, Shared};

/// Reaches a topic on an iggy-server. Opaque: it is only named as a part of [`IggyLog`](crate::IggyLog).
#[derive(Debug)]
pub struct IggyTransport {
    shared: Arc<Shared>,
}

impl IggyTransport {
    pub(crate) fn new(config: IggyConfig) -> Result<Self, Error> {
        Ok(Self { shared: Arc::new(Shared::new(config)?) })
    }
}

fn group_id(name: &str) -> Result<GroupId, Error> {
    GroupId::new(name).map_err(CallError::into_error)
}

impl Transport for IggyTransport {
    type Producer = IggyProducerConnection;
    type Member = IggyMember;

    fn partitions(&self) -> u32 {
        self.shared.config.topology.partitions
    }

    async fn connect(&self) -> Result<IggyProducerConnection, Error> {
        let (client, _) = self.shared.connect().await?;
        // What may still be sent over the last connection must not be sent after it was looked for.
        self.shared.until_over(Owner::Producer).await;
        Ok(IggyProducerConnection::new(Arc::clone(&self.shared), client))
    }

    fn connections(&self) -> usize {
        // More than one for each partition would have nothing to do.
        self.shared.config.connections.min(self.partitions() as usize)
    }

    async fn connect_another(&self) -> Result<IggyProducerConnection, Error> {
        // Nothing got lost, so that nothing has to be over.
        let (client, _) = self.shared.connect().await?;
        Ok(IggyProducerConnection::new(Arc::clone(&self.shared), client))
    }

    async fn join(&self, group: &str, instance: u128) -> Result<IggyMember, Error> {
        // The server has to see the last connection end before it gives its partitions to this one.
        self.shared.until_over(Owner::Consumer(instance)).await;
        IggyMember::join(Arc::clone(&self.shared), group_id(group)?, instance).await
    }

    async fn watermarks(&self) -> Result<Watermarks, Error> {
        let topic = &self.shared.look().await?;
        self.shared.ask(|client| async move { read::watermarks(&client, topic).await }).await
    }

    async fn committed(&self, group: &str) -> Result<Vec<Option<Offset>>, Error> {
        let group = &group_id(group)?;
        let committed = |client: Arc<Client>| async move {
            let mut committed = Vec::new();
            for partition in 0..self.partitions() {
                committed.push(client.committed(group, PartitionId(partition)).await?);
            }
            Ok(committed)
        };
        self.shared.ask(committed).await
    }

    async fn delete_group(&self, group: &str) -> Result<(), Error> {
        let group = &group_id(group)?;
        let members = self.shared.ask(|client| async move { client.members(group).await }).await?;
        if members.is_some_and(|members| members > 0) {
            return Err(Error::invalid("group", "still has members"));
        }
        let partitions = self.partitions();
        self.shared.ask(|client| async move { client.delete_group(group, partitions).await }).await
    }
}
