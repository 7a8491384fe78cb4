//! What the producer and the consumers of one handle have in common, and who may change what.
//!
//! * The **configuration** never changes.
//! * The **ends** are told by whoever learns of one.
//! * The **answering connection** belongs to whoever asks a question that is neither a send nor a fetch: watermarks,
//!   what a group has committed, where the partitions end.
//! * What is **remembered** of a consumer is written by its member when it goes, and taken by the next one.

use std::future::Future;
use std::sync::Arc;

use event_log_core::Error;
use futures::future::join_all;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::config::IggyConfig;
use crate::ends::Ends;
use crate::limits;
use crate::pace::Pace;
use crate::remembered::Remembered;
use crate::sdk::{CallError, Client, Topic, TopicDetails};
use crate::topology;

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Producer,
    /// With the number by which it joins again.
    Consumer(u128),
}

/// A connection that was given up while a reply was overdue.
#[derive(Debug)]
struct Stuck {
    owner: Owner,
    client: Arc<Client>,
    since: Instant,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: IggyConfig,
    pub(crate) ends: Ends,
    pub(crate) remembered: Remembered,
    /// Held by the one consumer that looks out for all that wait.
    pub(crate) lookout: Mutex<Pace>,
    topic: Arc<Topic>,
    /// Connections that were given up while a reply was overdue.
    stuck: parking_lot::Mutex<Vec<Stuck>>,
    answering: Mutex<Option<Arc<Client>>>,
}

impl Shared {
    pub(crate) fn new(config: IggyConfig) -> Result<Self, Error> {
        let topic = Topic::new(&config.stream, &config.topic).map_err(CallError::into_error)?;
        Ok(Self {
            ends: Ends::new(config.topology.partitions),
            remembered: Remembered::default(),
            lookout: Mutex::new(Pace::new(config.poll_interval)),
            topic: Arc::new(topic),
            stuck: parking_lot::Mutex::default(),
            answering: Mutex::new(None),
            config,
        })
    }

    /// A connection of one's own, to a topic that is there and as it should be.
    pub(crate) async fn connect(&self) -> Result<(Client, TopicDetails), Error> {
        let IggyConfig { endpoint, connect_timeout, request_timeout, .. } = &self.config;
        let topic = Arc::clone(&self.topic);
        let client = Client::connect(endpoint, topic, *connect_timeout, *request_timeout).await;
        let client = client.map_err(CallError::into_error)?;
        let details = topology::ensure(&client, &self.config.topology).await?;
        Ok((client, details))
    }

    /// A connection is of no use any more. Giving it up ends no request: the SDK goes on with the one under way, and with
    /// those that wait behind it.
    pub(crate) fn give_up(&self, owner: Owner, client: &Arc<Client>) {
        let mut stuck = self.stuck.lock();
        // A consumer that never comes again leaves its connection here; by then the SDK has given it up as well.
        stuck.retain(|one| one.since.elapsed() < limits::SDK_TIMEOUT);
        if client.is_stuck() {
            stuck.push(Stuck { owner, client: Arc::clone(client), since: Instant::now() });
        }
    }

    /// Waits until nothing is sent any more over connections that this owner has given up: for half a minute at most,
    /// after which the SDK gives up too. What others have given up is no concern of its own.
    pub(crate) async fn until_over(&self, owner: Owner) {
        // Kept until they are over, also if this is dropped meanwhile.
        let of_owner = |one: &&Stuck| one.owner == owner;
        let clients: Vec<_> =
            self.stuck.lock().iter().filter(of_owner).map(|one| Arc::clone(&one.client)).collect();
        join_all(clients.iter().map(|client| client.until_over())).await;
        self.stuck.lock().retain(|one| !clients.iter().any(|over| Arc::ptr_eq(over, &one.client)));
    }

    /// Asks over the connection that all share. A connection that has died since it was last used is replaced once.
    pub(crate) async fn ask<T, F>(&self, question: impl Fn(Arc<Client>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        let client = self.answering().await?;
        let error = match question(Arc::clone(&client)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error.into_error(),
        };
        if !matches!(error, Error::Unavailable(_)) {
            return Err(error);
        }
        self.hang_up(&client).await;
        let client = self.answering().await?;
        let answer = question(Arc::clone(&client)).await.map_err(CallError::into_error);
        if matches!(answer, Err(Error::Unavailable(_))) {
            self.hang_up(&client).await;
        }
        answer
    }

    async fn answering(&self) -> Result<Arc<Client>, Error> {
        let mut answering = self.answering.lock().await;
        if let Some(client) = &*answering {
            return Ok(Arc::clone(client));
        }
        let client = Arc::new(self.connect().await?.0);
        Ok(Arc::clone(answering.insert(client)))
    }

    /// Forgets the connection, unless it has been replaced already.
    async fn hang_up(&self, client: &Arc<Client>) {
        let mut answering = self.answering.lock().await;
        if answering.as_ref().is_some_and(|current| Arc::ptr_eq(current, client)) {
            *answering = None;
        }
    }

    /// What the topic is like now. Its ends are news for everybody.
    pub(crate) async fn look(&self) -> Result<TopicDetails, Error> {
        let before = self.ends.snapshot();
        let details = self.ask(|client| async move { client.topic().await }).await?;
        // Gone: whoever connects next makes it again.
        let details = details.ok_or(Error::Unavailable(None))?;
        self.ends.looked(&before, details.partitions.iter().map(|stats| stats.high));
        Ok(details)
    }
}
