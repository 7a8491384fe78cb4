//! One connection: dialled, signed in, and given up as a whole when it fails.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use iggy::binary::BinaryTransport as _;
use iggy::prelude::{
    AutoLogin, Client as _, Credentials as SdkCredentials, Identifier, IggyError, SystemClient as _,
    TcpClient, TcpClientConfig, TcpClientReconnectionConfig,
};
use iggy_binary_protocol::WireIdentifier;
use tokio::sync::watch;

use super::failure::CallError;
use crate::config::{Credentials, Endpoint};
use crate::limits;

/// The names of a stream and of one of its topics, in the forms that the SDK wants.
#[derive(Debug)]
pub(crate) struct Topic {
    /// Both, by which one log is told from another.
    pub(crate) name: Arc<str>,
    pub(super) stream_name: String,
    pub(super) topic_name: String,
    pub(super) stream: Identifier,
    pub(super) topic: Identifier,
    pub(super) wire_stream: WireIdentifier,
    pub(super) wire_topic: WireIdentifier,
}

impl Topic {
    pub(crate) fn new(stream: &str, topic: &str) -> Result<Self, CallError> {
        let wire = |name| WireIdentifier::named(name).map_err(|_| IggyError::InvalidIdentifier);
        Ok(Self {
            name: format!("{stream}/{topic}").into(),
            stream_name: stream.to_owned(),
            topic_name: topic.to_owned(),
            stream: Identifier::named(stream)?,
            topic: Identifier::named(topic)?,
            wire_stream: wire(stream)?,
            wire_topic: wire(topic)?,
        })
    }
}

/// A connection that is signed in. The SDK's own reconnecting is off: the owner of a client replaces it when a call
/// says that the connection is lost.
///
/// Calls queue behind one another, since the protocol has one request under way. Dropping a call does not take the
/// request back; it is carried out, and its reply is thrown away.
pub(crate) struct Client {
    pub(super) tcp: TcpClient,
    pub(super) topic: Arc<Topic>,
    request_timeout: Duration,
    /// Requests that are in flight or wait for their turn.
    in_flight: AtomicUsize,
    /// An offset was stored over this connection.
    has_stored: AtomicBool,
    /// A reply is overdue. Until it comes the connection is blocked, and waiting for it again would not help.
    is_stuck: watch::Sender<bool>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Client {
    /// Dials the addresses in turn until one accepts the connection. The error is the last address's.
    pub(crate) async fn connect(
        endpoint: &Endpoint,
        topic: Arc<Topic>,
        connect_timeout: Duration,
        request_timeout: Duration,
    ) -> Result<Self, CallError> {
        let mut failure = CallError::from(IggyError::InvalidServerAddress);
        for address in &endpoint.addresses {
            let tcp = TcpClient::create(Arc::new(sdk_config(endpoint, address)))?;
            match bounded(connect_timeout, tcp.connect()).await {
                Ok(()) => {
                    return Ok(Self {
                        tcp,
                        topic,
                        request_timeout,
                        in_flight: AtomicUsize::new(0),
                        has_stored: AtomicBool::new(false),
                        is_stuck: watch::Sender::new(false),
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    /// Whether a reply is overdue.
    pub(crate) fn is_stuck(&self) -> bool {
        *self.is_stuck.borrow()
    }

    /// Waits until no request is under way any more, nor waits for its turn: each holds the connection, and one behind
    /// them has its turn when they are through.
    pub(crate) async fn drained(&self) {
        let _is_over = tokio::time::timeout(limits::SDK_TIMEOUT, self.tcp.ping()).await;
    }

    /// Asks whether the server is still there.
    pub(crate) async fn ping(&self) -> Result<(), CallError> {
        self.bounded(self.tcp.ping()).await
    }

    /// A request that the SDK has no method for, or none that would do.
    pub(super) async fn call(&self, code: u32, body: Bytes) -> Result<Bytes, CallError> {
        self.bounded(self.tcp.send_raw_with_response(code, body)).await
    }

    /// Whether the next offset that is stored is the first one over this connection.
    pub(crate) fn is_first_store(&self) -> bool {
        !self.has_stored.swap(true, Ordering::Relaxed)
    }

    /// The time of a request begins when those before it have had theirs. No lock is held: a request whose future is not
    /// polled for a while must not keep the others waiting.
    pub(super) async fn bounded<T, F>(&self, call: F) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, IggyError>>,
    {
        let mut stuck = self.is_stuck.subscribe();
        if *stuck.borrow_and_update() {
            return Err(IggyError::NotConnected.into());
        }
        let in_flight = InFlight::begin(&self.in_flight);
        let timeout = self.request_timeout.saturating_mul(in_flight.ahead.saturating_add(1));
        let answer = bounded(timeout, call);
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            // One before it had no answer, and so it will have none.
            _ = stuck.changed() => Err(CallError::NoAnswer(self.request_timeout)),
        };
        if matches!(answer, Err(CallError::NoAnswer(_))) {
            self.is_stuck.send_replace(true);
        }
        answer
    }
}

/// A request that is in flight or waits for its turn.
struct InFlight<'a> {
    count: &'a AtomicUsize,
    /// How many have their turn before it.
    ahead: u32,
}

impl<'a> InFlight<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        let ahead = count.fetch_add(1, Ordering::Relaxed);
        Self { count, ahead: u32::try_from(ahead).unwrap_or(u32::MAX) }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Checks that a server at this endpoint accepts the credentials.
#[cfg(feature = "server")]
pub(crate) async fn probe(
    endpoint: &Endpoint,
    connect_timeout: Duration,
    request_timeout: Duration,
) -> Result<(), CallError> {
    let nowhere = Arc::new(Topic::new("-", "-")?);
    Client::connect(endpoint, nowhere, connect_timeout, request_timeout).await?.ping().await
}

async fn bounded<T, F>(timeout: Duration, call: F) -> Result<T, CallError>
where
    F: Future<Output = Result<T, IggyError>>,
{
    match tokio::time::timeout(timeout, call).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(CallError::NoAnswer(timeout)),
    }
}

fn sdk_config(endpoint: &Endpoint, address: &str) -> TcpClientConfig {
    let credentials = match &endpoint.credentials {
        Credentials::Password { username, password } => {
            SdkCredentials::UsernamePassword(username.clone(), password.clone())
        }
        Credentials::Token { token } => SdkCredentials::PersonalAccessToken(token.clone()),
    };
    let tls = endpoint.tls.clone().unwrap_or_default();
    TcpClientConfig {
        server_address: address.to_owned(),
        tls_enabled: endpoint.tls.is_some(),
        tls_domain: tls.domain.unwrap_or_default(),
        tls_ca_file: tls.ca_file.map(|file| file.to_string_lossy().into_owned()),
        tls_validate_certificate: true,
        auto_login: AutoLogin::Enabled(credentials),
        reconnection: TcpClientReconnectionConfig { enabled: false, ..Default::default() },
        // Without it small requests wait for the acknowledgement of the one before.
        nodelay: true,
        ..TcpClientConfig::default()
    }
}
