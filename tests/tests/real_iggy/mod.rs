//! A real server with a topic, the proxy before it, and clients of the SDK on either side of the proxy.

use std::net::SocketAddr;
use std::sync::Arc;

use event_log_iggy::Credentials;
use event_log_iggy::server::IggyServer;
use event_log_tests::iggy::{new_stream, shared_server};
use event_log_tests::proxy::Proxy;
use iggy::prelude::{
    AutoLogin, Client as _, Consumer, ConsumerOffsetClient as _, Credentials as SdkCredentials, Identifier,
    IggyError, IggyMessage, MessageClient as _, Partitioning, PollingStrategy, StreamClient as _, TcpClient,
    TcpClientConfig, TcpClientReconnectionConfig, TopicClient as _, TopicCreateOptions,
};

const PARTITIONS: u32 = 2;

const TOPIC: &str = "topic";

pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    /// Sees what is really there.
    pub(crate) direct: TestClient,
    credentials: Credentials,
    stream: String,
}

impl Stage {
    /// Before the server that all tests share; `None` where there is none, which has been announced then.
    pub(crate) async fn set() -> Option<Self> {
        Some(Self::before(shared_server()?).await)
    }

    /// Before this server, in a stream of its own.
    pub(crate) async fn before(server: &IggyServer) -> Self {
        let (credentials, stream) = (server.endpoint().credentials, new_stream());
        let direct = TestClient::connect(server.tcp_address(), &credentials, &stream).await;
        let direct = direct.expect("the server lets us in");
        direct.create_topic(&stream).await;
        let proxy = Proxy::start(server.tcp_address()).await.expect("there is a port");
        Self { proxy, direct, credentials, stream }
    }

    /// A client behind the proxy, if the proxy lets it through.
    pub(crate) async fn try_client(&self) -> Result<TestClient, IggyError> {
        TestClient::connect(self.proxy.address(), &self.credentials, &self.stream).await
    }

    /// A client behind the proxy.
    pub(crate) async fn client(&self) -> TestClient {
        self.try_client().await.expect("the way is clear")
    }

    /// A client behind the proxy that has appended this.
    pub(crate) async fn client_that_said(&self, text: &str) -> TestClient {
        let client = self.client().await;
        client.send(text).await.expect("it is appended");
        client
    }
}

/// A client that never reconnects by itself, as the backend's. Unlike [`Foreign`](event_log_tests::iggy::Foreign), it
/// hands out the errors, which are what these tests are about.
pub(crate) struct TestClient {
    pub(crate) tcp: TcpClient,
    stream: Identifier,
    topic: Identifier,
}

impl TestClient {
    async fn connect(
        address: SocketAddr,
        credentials: &Credentials,
        stream: &str,
    ) -> Result<Self, IggyError> {
        let Credentials::Password { username, password } = credentials.clone() else {
            panic!("the server's own user has a password");
        };
        let tcp = TcpClient::create(Arc::new(TcpClientConfig {
            server_address: address.to_string(),
            auto_login: AutoLogin::Enabled(SdkCredentials::UsernamePassword(username, password)),
            reconnection: TcpClientReconnectionConfig { enabled: false, ..Default::default() },
            nodelay: true,
            ..TcpClientConfig::default()
        }))?;
        tcp.connect().await?;
        let named = |name| Identifier::named(name).expect("it is a name");
        Ok(Self { tcp, stream: named(stream), topic: named(TOPIC) })
    }

    async fn create_topic(&self, stream: &str) {
        self.tcp.create_stream(stream).await.expect("there is none");
        let options =
            TopicCreateOptions { partitions_count: Some(PARTITIONS), ..TopicCreateOptions::default() };
        self.tcp.create_topic(&self.stream, TOPIC, &options).await.expect("there is none");
    }

    /// Appends a text to partition 0, and returns its offset.
    pub(crate) async fn send(&self, text: &str) -> Result<u64, IggyError> {
        let message = IggyMessage::builder().payload(text.to_owned().into()).build()?;
        self.send_all(&mut [message]).await
    }

    pub(crate) async fn send_all(&self, messages: &mut [IggyMessage]) -> Result<u64, IggyError> {
        let partition = Partitioning::partition_id(0);
        let response = self.tcp.send_messages(&self.stream, &self.topic, &partition, messages).await?;
        Ok(response.confirmations.first().expect("it is confirmed").base_offset)
    }

    /// The texts in partition 0: as many as the server says that there are. It answers a poll with nothing, or with less, also
    /// when it could not read.
    pub(crate) async fn log(&self) -> Vec<String> {
        loop {
            let topic = self.tcp.get_topic(&self.stream, &self.topic).await.expect("it can be asked for");
            let count = topic.expect("there is one").partitions[0].messages_count;
            let texts = self.read().await.expect("it is read");
            if texts.len() as u64 >= count {
                return texts;
            }
            tokio::task::yield_now().await;
        }
    }

    /// What one poll of partition 0 from the beginning on returns.
    pub(crate) async fn read(&self) -> Result<Vec<String>, IggyError> {
        self.read_from(0).await
    }

    pub(crate) async fn read_from(&self, partition: u32) -> Result<Vec<String>, IggyError> {
        let consumer = Consumer::new(Identifier::numeric(1)?);
        let strategy = PollingStrategy::offset(0);
        let partition = Some(partition);
        let polled = self
            .tcp
            .poll_messages(&self.stream, &self.topic, partition, &consumer, &strategy, 10_000, false)
            .await?;
        Ok(polled.messages.iter().map(|m| String::from_utf8_lossy(&m.payload).into_owned()).collect())
    }

    pub(crate) async fn store(&self, partition: u32, offset: u64) -> Result<(), IggyError> {
        let consumer = Consumer::new(Identifier::numeric(1)?);
        self.tcp.store_consumer_offset(&consumer, &self.stream, &self.topic, Some(partition), offset).await
    }

    pub(crate) async fn stored(&self, partition: u32) -> Option<u64> {
        let consumer = Consumer::new(Identifier::numeric(1).expect("it is a number"));
        let stored =
            self.tcp.get_consumer_offset(&consumer, &self.stream, &self.topic, Some(partition)).await;
        stored.expect("it can be asked for").map(|stored| stored.stored_offset)
    }
}
