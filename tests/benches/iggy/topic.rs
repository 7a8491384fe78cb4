//! A topic of one's own for every round of every contender, and the raw client that makes, fills and reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use event_log_iggy::server::IggyServer;
use event_log_iggy::{Credentials, Durability, Endpoint};
use iggy::prelude::{
    AutoLogin, Client as _, Consumer, Credentials as SdkCredentials, Durability as SdkDurability, Identifier,
    IggyClient, IggyExpiry, IggyMessage, MaxTopicSize, MessageClient as _, Partitioning, PolledMessages,
    PollingStrategy, StreamClient as _, TcpClient, TcpClientConfig, TcpClientReconnectionConfig,
    TopicClient as _, TopicCreateOptions,
};
use secrecy::ExposeSecret as _;

use crate::Failure;
use crate::event::PARTITIONS;

/// The name of the topic in its stream.
pub(crate) const TOPIC: &str = "events";

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) durability: Durability,
    pub(crate) stream: Identifier,
    pub(crate) topic: Identifier,
}

impl Topic {
    fn new(durability: Durability) -> Result<Self, Failure> {
        static STREAMS: AtomicU64 = AtomicU64::new(0);
        let name = format!("bench-{}", STREAMS.fetch_add(1, Ordering::Relaxed));
        Ok(Self { stream: Identifier::named(&name)?, topic: Identifier::named(TOPIC)?, name, durability })
    }
}

/// One connection of the SDK's plain client.
#[derive(Debug)]
pub(crate) struct Raw {
    tcp: TcpClient,
    /// See [`create`](Self::create).
    is_pre_release: bool,
}

impl Raw {
    /// Signs in, with `nodelay`.
    pub(crate) async fn connect(server: &IggyServer) -> Result<Self, Failure> {
        let endpoint = &server.endpoint();
        let (username, password) = password(endpoint);
        let tcp = TcpClient::create(Arc::new(TcpClientConfig {
            server_address: address(endpoint),
            auto_login: AutoLogin::Enabled(SdkCredentials::UsernamePassword(username, password.into())),
            reconnection: TcpClientReconnectionConfig { enabled: false, ..Default::default() },
            nodelay: true,
            ..TcpClientConfig::default()
        }))?;
        tcp.connect().await?;
        Ok(Self { tcp, is_pre_release: server.version().contains("-edge") })
    }

    /// A topic with the settings that the library makes its own with, which verifies them when it opens this one.
    ///
    /// The pre-releases of server 0.9.0 do not know the policy `persisted`, and only write where that syncs. They are
    /// asked to sync in their own way, so that a durable topic costs here what it costs on 0.9.0.
    pub(crate) async fn create(&self, durability: Durability) -> Result<Topic, Failure> {
        let topic = Topic::new(durability)?;
        self.tcp.create_stream(&topic.name).await?;
        let persisted = durability == Durability::Persisted;
        let sync = persisted && self.is_pre_release;
        let policy = if persisted { SdkDurability::Persisted } else { SdkDurability::Replicated };
        let options = TopicCreateOptions {
            partitions_count: Some(PARTITIONS),
            message_expiry: Some(IggyExpiry::NeverExpire),
            max_topic_size: Some(MaxTopicSize::Unlimited),
            durability: policy,
            consumer_offset_durability: policy,
            messages_required_to_save: persisted.then_some(1),
            raw: sync.then(|| ("enforce_fsync".to_owned(), "true".to_owned())).into_iter().collect(),
            ..TopicCreateOptions::default()
        };
        self.tcp.create_topic(&topic.stream, TOPIC, &options).await?;
        Ok(topic)
    }

    /// Removes the topic, so that the disk does not fill up.
    pub(crate) async fn delete(&self, topic: &Topic) -> Result<(), Failure> {
        Ok(self.tcp.delete_stream(&topic.stream).await?)
    }

    /// Appends to one partition with one request.
    pub(crate) async fn send(
        &self,
        topic: &Topic,
        partition: u32,
        messages: &mut [IggyMessage],
    ) -> Result<(), Failure> {
        let to = Partitioning::partition_id(partition);
        self.tcp.send_messages(&topic.stream, &topic.topic, &to, messages).await?;
        Ok(())
    }

    /// Reads from one partition with one request.
    pub(crate) async fn poll(
        &self,
        topic: &Topic,
        partition: u32,
        from: u64,
        count: u32,
    ) -> Result<PolledMessages, Failure> {
        let reader = Consumer::new(Identifier::numeric(1)?);
        let from = PollingStrategy::offset(from);
        let polled = self.tcp.poll_messages(
            &topic.stream,
            &topic.topic,
            Some(partition),
            &reader,
            &from,
            count,
            false,
        );
        Ok(polled.await?)
    }
}

/// The SDK's full client: as it is by default, or with `nodelay`.
pub(crate) async fn sdk_client(endpoint: &Endpoint, nodelay: bool) -> Result<IggyClient, Failure> {
    let (username, password) = password(endpoint);
    let credentials = SdkCredentials::UsernamePassword(username, password.into());
    let builder = IggyClient::builder()
        .with_tcp()
        .with_server_address(address(endpoint))
        .with_auto_sign_in(AutoLogin::Enabled(credentials));
    let client = if nodelay { builder.with_no_delay() } else { builder }.build()?;
    client.connect().await?;
    Ok(client)
}

fn address(endpoint: &Endpoint) -> String {
    endpoint.addresses.first().cloned().unwrap_or_default()
}

fn password(endpoint: &Endpoint) -> (String, String) {
    let Credentials::Password { username, password } = &endpoint.credentials else {
        unreachable!("the user of a server of one's own has a password");
    };
    (username.clone(), password.expose_secret().to_owned())
}
