//! The connections for questions: what is neither a send nor a fetch nor a membership is asked over these.
//!
//! A connection carries one request at a time, so that several questions overlap only over several connections. A further
//! one is opened when a question has to wait for another and round trips are slow: signing in costs the server a tenth
//! of a second, which is more than some quick questions in a row.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use event_log_core::Error;
use parking_lot::Mutex;
use tokio::sync::Notify;
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
///
/// They are opened by tasks, so that no question waits for another one whose future is not polled for a while.
#[derive(Debug)]
pub(crate) struct Questions {
    dialer: Arc<Dialer>,
    pool: Mutex<Pool>,
    /// A connection was opened, or could not be.
    changed: Notify,
    /// The last answer took long.
    is_slow: AtomicBool,
}

#[derive(Debug, Default)]
struct Pool {
    connections: Vec<Arc<Connection>>,
    /// How many are being opened.
    opening: usize,
    /// The tasks that do so.
    tasks: Vec<AbortHandle>,
    /// Why the last could not be opened, until a question has reported it.
    failure: Option<Error>,
}

impl Questions {
    pub(crate) fn new(dialer: Arc<Dialer>) -> Arc<Self> {
        let (pool, changed, is_slow) = (Mutex::default(), Notify::new(), AtomicBool::new(false));
        Arc::new(Self { dialer, pool, changed, is_slow })
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
            // What has ended one connection has most likely ended all that were opened before. Questions over others go on.
            self.pool.lock().connections.clear();
        }
        answer
    }

    /// The connection with the fewest questions.
    async fn lease(self: &Arc<Self>) -> Result<Lease, Error> {
        let mut has_tried = false;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut pool = self.pool.lock();
                if let Some(lease) = self.least_busy(&mut pool) {
                    return Ok(lease);
                }
                if pool.opening == 0 {
                    if has_tried {
                        return Err(pool.failure.take().unwrap_or(Error::Unavailable(None)));
                    }
                    self.open_another(&mut pool);
                }
            }
            has_tried = true;
            changed.await;
        }
    }

    fn least_busy(self: &Arc<Self>, pool: &mut Pool) -> Option<Lease> {
        let in_flight = |one: &Connection| one.in_flight.load(Ordering::Relaxed);
        let connection = Arc::clone(pool.connections.iter().min_by_key(|one| in_flight(one))?);
        if in_flight(&connection) > 0 && self.is_slow.load(Ordering::Relaxed) {
            self.open_another(pool);
        }
        Some(Lease::new(&connection))
    }

    /// Opens a further connection, unless there are as many as there may be, or will be.
    fn open_another(self: &Arc<Self>, pool: &mut Pool) {
        if pool.opening + pool.connections.len() >= limits::QUESTION_CONNECTIONS {
            return;
        }
        let (dialer, questions): (_, Weak<Self>) = (Arc::clone(&self.dialer), Arc::downgrade(self));
        let task = tokio::spawn(async move {
            let dialled = dialer.connect().await;
            if let Some(questions) = questions.upgrade() {
                questions.opened(dialled.map(|(client, _)| client));
            }
        });
        pool.opening += 1;
        pool.tasks.retain(|task| !task.is_finished());
        pool.tasks.push(task.abort_handle());
    }

    fn opened(&self, client: Result<Client, Error>) {
        let mut pool = self.pool.lock();
        pool.opening -= 1;
        match client {
            Ok(client) => {
                let in_flight = AtomicUsize::new(0);
                pool.connections.push(Arc::new(Connection { client: Arc::new(client), in_flight }));
            }
            Err(error) => pool.failure = Some(error),
        }
        drop(pool);
        self.changed.notify_waiters();
    }
}

impl Drop for Questions {
    fn drop(&mut self) {
        self.pool.get_mut().tasks.iter().for_each(AbortHandle::abort);
    }
}
