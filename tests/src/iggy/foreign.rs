//! Somebody who uses the server without this library: another producer, or an operator.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use event_log_core::PartitionId;
use event_log_iggy::{Credentials, Endpoint};
use iggy::prelude::{
    AutoLogin, Client as _, Consumer, ConsumerGroupClient as _, Credentials as SdkCredentials, Durability,
    HeaderKey, HeaderValue, HttpClient, Identifier, IggyExpiry, IggyMessage, MaxTopicSize,
    MessageClient as _, Partitioning, PollingStrategy, SegmentClient as _, StreamClient as _, TcpClient,
    TcpClientConfig, TcpClientReconnectionConfig, TopicClient as _, TopicCreateOptions, UserClient as _,
};
use secrecy::ExposeSecret;

/// A plain client of the SDK.
pub struct Foreign {
    tcp: TcpClient,
    stream: Identifier,
    topic: Identifier,
}

/// Appends bytes to partition 0 over HTTP.
pub(super) async fn http_send(
    address: SocketAddr,
    endpoint: &Endpoint,
    stream: &str,
    topic: &str,
    payload: &[u8],
) {
    let Credentials::Password { username, password } = &endpoint.credentials else {
        panic!("the server's own user has a password");
    };
    let http = HttpClient::new(&format!("http://{address}")).expect("a client");
    http.login_user(username, password.expose_secret()).await.expect("the server lets us in");
    let named = |name| Identifier::named(name).expect("it is a name");
    let message = IggyMessage::builder().payload(Bytes::copy_from_slice(payload)).build().expect("a message");
    let to = Partitioning::partition_id(0);
    let sent = http.send_messages(&named(stream), &named(topic), &to, &mut [message]).await;
    sent.expect("it is appended");
}

/// A message as the log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawRecord {
    /// Its offset.
    pub offset: u64,
    /// Its id.
    pub id: u128,
    /// Its bytes.
    pub payload: Bytes,
}

impl Foreign {
    /// Signs in.
    ///
    /// # Panics
    ///
    /// When that does not succeed; likewise everything else here.
    pub async fn connect(endpoint: &Endpoint, stream: &str, topic: &str) -> Self {
        let Credentials::Password { username, password } = endpoint.credentials.clone() else {
            panic!("the server's own user has a password");
        };
        let tcp = TcpClient::create(Arc::new(TcpClientConfig {
            server_address: endpoint.addresses.first().expect("an address").clone(),
            auto_login: AutoLogin::Enabled(SdkCredentials::UsernamePassword(username, password)),
            reconnection: TcpClientReconnectionConfig { enabled: false, ..Default::default() },
            nodelay: true,
            ..TcpClientConfig::default()
        }));
        let tcp = tcp.expect("a client");
        tcp.connect().await.expect("the server lets us in");
        let named = |name| Identifier::named(name).expect("it is a name");
        Self { tcp, stream: named(stream), topic: named(topic) }
    }

    /// Appends bytes.
    pub async fn send(&self, partition: PartitionId, payload: Bytes) {
        let message = IggyMessage::builder().payload(payload).build().expect("a message");
        let to = Partitioning::partition_id(partition.0);
        let sent = self.tcp.send_messages(&self.stream, &self.topic, &to, &mut [message]).await;
        sent.expect("it is appended");
    }

    /// Appends `null` with a header that is a number.
    pub async fn send_with_header(&self, partition: PartitionId, name: &str, value: u32) {
        let name = HeaderKey::try_from(name).expect("it is a name");
        let headers = BTreeMap::from([(name, HeaderValue::from(value))]);
        let message = IggyMessage::builder().payload(Bytes::from_static(b"null")).user_headers(headers);
        let message = message.build().expect("a message");
        let to = Partitioning::partition_id(partition.0);
        let sent = self.tcp.send_messages(&self.stream, &self.topic, &to, &mut [message]).await;
        sent.expect("it is appended");
    }

    /// Creates a consumer group.
    pub async fn create_group(&self, name: &str) {
        let created = self.tcp.create_consumer_group(&self.stream, &self.topic, name).await;
        created.expect("there is none");
    }

    /// Makes the stream and the topic, with one partition in segments of so many bytes, and otherwise as this library's
    /// defaults do.
    pub async fn create_topic_of_segments(&self, bytes: u64) {
        let name = |id: &Identifier| id.get_cow_str_value().expect("it is a name").into_owned();
        self.tcp.create_stream(&name(&self.stream)).await.expect("there is none");
        let options = TopicCreateOptions {
            partitions_count: Some(1),
            segment_size: Some(bytes.into()),
            message_expiry: Some(IggyExpiry::NeverExpire),
            max_topic_size: Some(MaxTopicSize::Unlimited),
            durability: Durability::Persisted,
            consumer_offset_durability: Durability::Persisted,
            messages_required_to_save: Some(1),
            ..TopicCreateOptions::default()
        };
        let made = self.tcp.create_topic(&self.stream, &name(&self.topic), &options).await;
        made.expect("there is none");
    }

    /// Removes the oldest segment of partition 0, as retention does, and waits until that has happened.
    pub async fn delete_oldest_segment(&self) {
        let first = || async { self.poll(PartitionId(0), PollingStrategy::first(), 1).await[0].offset };
        let before = first().await;
        self.tcp.delete_segments(&self.stream, &self.topic, 0, 1).await.expect("it is removed");
        // The server carries it out by and by, and tells nobody when it has.
        while first().await == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Removes all messages, and waits until that has happened.
    pub async fn purge(&self) {
        let purged = self.tcp.purge_topic(&self.stream, &self.topic).await;
        purged.expect("the topic is purged");
        // The server carries it out by and by, and tells nobody when it has.
        while !self.is_empty().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn is_empty(&self) -> bool {
        let topic = self.tcp.get_topic(&self.stream, &self.topic).await.expect("the server answers");
        for partition in topic.expect("there is a topic").partitions {
            let polled = self.poll(PartitionId(partition.id), PollingStrategy::first(), 1).await;
            if partition.messages_count > 0 || partition.current_offset > 0 || !polled.is_empty() {
                return false;
            }
        }
        true
    }

    /// Everything in a partition.
    pub async fn read(&self, partition: PartitionId) -> Vec<RawRecord> {
        let mut records: Vec<RawRecord> = Vec::new();
        loop {
            let next = records.last().map_or(0, |record| record.offset + 1);
            let more = self.poll(partition, PollingStrategy::offset(next), 1_000).await;
            if more.is_empty() {
                return records;
            }
            records.extend(more);
        }
    }

    async fn poll(&self, partition: PartitionId, from: PollingStrategy, count: u32) -> Vec<RawRecord> {
        let reader = Consumer::new(Identifier::numeric(1).expect("a number"));
        let partition = Some(partition.0);
        let polled =
            self.tcp.poll_messages(&self.stream, &self.topic, partition, &reader, &from, count, false).await;
        let messages = polled.expect("the server answers").messages.into_iter();
        messages
            .map(|message| RawRecord {
                offset: message.header.offset,
                id: message.header.id,
                payload: message.payload,
            })
            .collect()
    }
}
