//! The connections for questions: what is neither a send nor a fetch nor a membership is asked over these.
//!
//! A connection carries one request at a time, so that several questions overlap only over several connections. A further
//! one is opened when a question has to wait for another and round trips are slow: signing in costs the server a tenth
//! of a second, which is more than some quick questions in a row.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use event_log_core::Error;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::config::IggyConfig;
use crate::limits;
use crate::sdk::{CallError, Client, Topic, TopicDetails};
use crate::topology;

/// Opens connections to the topic.
#[derive(Debug)]
pub(crate) struct Dialer {
    pub(crate) config: IggyConfig,
    topic: Arc<Topic>,
}

impl Dialer {
    /// What tells this log from others.
    pub(crate) fn log_name(&self) -> Arc<str> {
        Arc::clone(&self.topic.name)
    }

    pub(crate) fn new(config: IggyConfig) -> Result<Self, Error> {
        let topic = Topic::new(&config.stream, &config.topic).map_err(CallError::into_error)?;
        Ok(Self { config, topic: Arc::new(topic) })
    }

    /// A connection to a topic that exists and has the configured topology.
    pub(crate) async fn connect(&self) -> Result<(Client, TopicDetails), Error> {
        let IggyConfig { endpoint, connect_timeout, request_timeout, .. } = &self.config;
        let topic = Arc::clone(&self.topic);
        let client = Client::connect(endpoint, topic, *connect_timeout, *request_timeout).await;
        let client = client.map_err(CallError::into_error)?;
        let details = topology::ensure(&client, &self.config.topology).await?;
        Ok((client, details))
    }
}

#[derive(Debug)]
struct Connection {
    client: Arc<Client>,
    in_flight: AtomicUsize,
}

/// The use of a connection for one question.
struct Lease(Arc<Connection>);

impl Lease {
    fn new(connection: &Arc<Connection>) -> Self {
        connection.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(connection))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Up to [`limits::QUESTION_CONNECTIONS`] connections.
#[derive(Debug)]
pub(crate) struct Questions {
    dialer: Arc<Dialer>,
    connections: Mutex<Vec<Arc<Connection>>>,
    /// Held while the first connection is opened.
    opening_first: tokio::sync::Mutex<()>,
    /// The tasks that open further connections.
    opening: Mutex<Vec<AbortHandle>>,
    /// The last answer took long.
    is_slow: AtomicBool,
}

impl Questions {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Arc<Self> {
        Arc::new(Self {
            dialer,
            connections: Mutex::default(),
            opening_first: tokio::sync::Mutex::default(),
            opening: Mutex::default(),
            is_slow: AtomicBool::new(false),
        })
    }

    /// Asks over one of the connections. A connection that turns out to be lost is replaced, and the question is asked once
    /// more.
    pub(crate) async fn ask<T, F>(self: &Arc<Self>, question: impl Fn(Arc<Client>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        match self.ask_once(&question).await {
            Err(Error::Unavailable(_)) => self.ask_once(&question).await,
            answer => answer,
        }
    }

    async fn ask_once<T, F>(self: &Arc<Self>, question: impl Fn(Arc<Client>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let lease = self.lease().await?;
        let (start, is_alone) = (Instant::now(), lease.0.in_flight.load(Ordering::Relaxed) == 1);
        let answer = question(Arc::clone(&lease.0.client)).await.map_err(CallError::into_error);
        if is_alone {
            self.is_slow.store(start.elapsed() >= limits::SLOW_ROUND_TRIP, Ordering::Relaxed);
        }
        if matches!(answer, Err(Error::Unavailable(_))) {
            // What has ended one connection has most likely ended all. Questions over the others go on.
            self.connections.lock().clear();
        }
        answer
    }

    /// The connection with the fewest questions.
    async fn lease(self: &Arc<Self>) -> Result<Lease, Error> {
        if let Some(lease) = self.least_busy() {
            return Ok(lease);
        }
        let _opening = self.opening_first.lock().await;
        if let Some(lease) = self.least_busy() {
            return Ok(lease);
        }
        let (client, _) = self.dialer.connect().await?;
        Ok(Lease::new(&self.add(client)))
    }

    fn add(&self, client: Client) -> Arc<Connection> {
        let connection = Arc::new(Connection { client: Arc::new(client), in_flight: AtomicUsize::new(0) });
        self.connections.lock().push(Arc::clone(&connection));
        connection
    }

    fn least_busy(self: &Arc<Self>) -> Option<Lease> {
        let connections = self.connections.lock();
        let connection = connections.iter().min_by_key(|one| one.in_flight.load(Ordering::Relaxed))?;
        let has_to_wait = connection.in_flight.load(Ordering::Relaxed) > 0;
        let lease = Lease::new(connection);
        let may_grow = connections.len() < limits::QUESTION_CONNECTIONS;
        drop(connections);
        if has_to_wait && may_grow && self.is_slow.load(Ordering::Relaxed) {
            self.open_another();
        }
        Some(lease)
    }

    /// Opens a further connection in a task, unless as many are being opened as there may be.
    fn open_another(self: &Arc<Self>) {
        let mut opening = self.opening.lock();
        opening.retain(|task| !task.is_finished());
        if opening.len() + self.connections.lock().len() >= limits::QUESTION_CONNECTIONS {
            return;
        }
        let (dialer, questions): (_, Weak<Self>) = (Arc::clone(&self.dialer), Arc::downgrade(self));
        let task = tokio::spawn(async move {
            // A failure concerns no question: they have a connection, and report what happens to it.
            if let (Ok((client, _)), Some(questions)) = (dialer.connect().await, questions.upgrade()) {
                questions.add(client);
            }
        });
        opening.push(task.abort_handle());
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        self.opening.lock().iter().for_each(AbortHandle::abort);
    }
}
