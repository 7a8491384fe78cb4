//! A real server with a topic, the proxy before it, and clients of the SDK on either side of the proxy.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Once};
use std::time::{Duration, Instant};
use std::{env, fs};

use event_log_tests::proxy::Proxy;
use iggy::prelude::{
    AutoLogin, Client as _, Consumer, ConsumerOffsetClient as _, Credentials, Identifier, IggyError,
    IggyMessage, MessageClient as _, Partitioning, PollingStrategy, StreamClient as _, TcpClient,
    TcpClientConfig, TcpClientReconnectionConfig, TopicClient as _, TopicCreateOptions,
};
use secrecy::SecretString;

/// A server that takes longer to start does not start.
const START: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

const PARTITIONS: u32 = 2;

pub(crate) struct Stage {
    pub(crate) proxy: Proxy,
    pub(crate) server: Server,
    /// Sees what is really there.
    pub(crate) direct: TestClient,
}

impl Stage {
    /// Starts everything, or says that there is no server.
    pub(crate) async fn set() -> Option<Self> {
        let server = Server::start()?;
        let direct = TestClient::connect(server.address).await.expect("the server lets us in");
        direct.create_topic().await;
        let proxy = Proxy::start(server.address).await.expect("there is a port");
        Some(Self { proxy, server, direct })
    }

    /// A client behind the proxy.
    pub(crate) async fn client(&self) -> TestClient {
        TestClient::connect(self.proxy.address()).await.expect("the way is clear")
    }

    /// A client behind the proxy that has appended this.
    pub(crate) async fn client_that_said(&self, text: &str) -> TestClient {
        let client = self.client().await;
        client.send(text).await.expect("it is appended");
        client
    }
}

/// A client that never reconnects by itself, as the backend's.
pub(crate) struct TestClient {
    pub(crate) tcp: TcpClient,
    stream: Identifier,
    topic: Identifier,
}

impl TestClient {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, IggyError> {
        let credentials = Credentials::UsernamePassword("iggy".to_owned(), SecretString::from("iggy"));
        let tcp = TcpClient::create(Arc::new(TcpClientConfig {
            server_address: address.to_string(),
            auto_login: AutoLogin::Enabled(credentials),
            reconnection: TcpClientReconnectionConfig { enabled: false, ..Default::default() },
            nodelay: true,
            ..TcpClientConfig::default()
        }))?;
        tcp.connect().await?;
        let named = |name| Identifier::named(name).expect("it is a name");
        Ok(Self { tcp, stream: named("stream"), topic: named("topic") })
    }

    async fn create_topic(&self) {
        self.tcp.create_stream("stream").await.expect("there is none");
        let options =
            TopicCreateOptions { partitions_count: Some(PARTITIONS), ..TopicCreateOptions::default() };
        self.tcp.create_topic(&self.stream, "topic", &options).await.expect("there is none");
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

    /// The texts in partition 0 from the beginning.
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

/// An `iggy-server` in a folder of its own, which are both gone when this is.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
    folder: PathBuf,
}

impl Server {
    /// `None` when there is no server, or none is wanted, which has been announced then.
    fn start() -> Option<Self> {
        static STARTED: AtomicUsize = AtomicUsize::new(0);

        let binary = find()?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("iggy-proxy-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder can be made");
        let child = Command::new(binary)
            .arg("--with-default-root-credentials")
            .current_dir(&folder)
            // A port that the server is not told it cannot tell the clients of, who would go past the proxy.
            .env("IGGY_TCP_ADDRESS", "127.0.0.1:0")
            .env("IGGY_HTTP_ADDRESS", "127.0.0.1:0")
            .env("IGGY_QUIC_ENABLED", "false")
            .env("IGGY_WEBSOCKET_ENABLED", "false")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server can be run");
        let mut server = Self { address: SocketAddr::from(([127, 0, 0, 1], 0)), child, folder };
        let deadline = Instant::now() + START;
        // Nobody tells us when the file is there.
        while server.address.port() == 0 {
            assert!(Instant::now() < deadline, "the server has not started within {START:?}");
            let ended = server.child.try_wait().expect("it is our child");
            assert_eq!(ended, None, "the server has ended");
            std::thread::sleep(LOOK_AGAIN);
            if let Some(address) = bound_address(&server.folder) {
                server.address = address;
            }
        }
        Some(server)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The address in the section `tcp` of what the server writes once it listens.
fn bound_address(folder: &Path) -> Option<SocketAddr> {
    let config = fs::read_to_string(folder.join("local_data/runtime/current_config.toml")).ok()?;
    let section = config.split("\n[").find(|section| section.starts_with("tcp]"))?;
    let address = section.lines().find_map(|line| line.strip_prefix("address = "))?;
    let address: SocketAddr = address.trim().trim_matches('"').parse().ok()?;
    (address.port() != 0).then_some(address)
}

fn find() -> Option<PathBuf> {
    let need = env::var("EVENT_LOG_IGGY").unwrap_or_default();
    if need == "off" {
        announce("EVENT_LOG_IGGY=off");
        return None;
    }
    let named = env::var_os("IGGY_SERVER_BIN").filter(|named| !named.is_empty()).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    let mut candidates = env::split_paths(&path).map(|folder| folder.join("iggy-server"));
    // Somebody who names a server does not want another one.
    let found = match named {
        Some(named) => Some(named).filter(|named| named.is_file()),
        None => candidates.find(|candidate| candidate.is_file()),
    };
    assert!(found.is_some() || need != "required", "EVENT_LOG_IGGY=required, and there is no iggy-server");
    if found.is_none() {
        announce("no iggy-server");
    }
    found
}

/// Says so, once, where the test harness does not swallow it.
fn announce(why: &str) {
    static ANNOUNCED: Once = Once::new();

    ANNOUNCED.call_once(|| {
        // If that fails there is nobody else to tell.
        let _ = writeln!(std::io::stderr(), "iggy_proxy: not run: {why}");
    });
}
