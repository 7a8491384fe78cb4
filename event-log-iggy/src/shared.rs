//! What the producer and the consumers of one handle have in common, and which of them change it.
//!
//! * The **configuration** never changes.
//! * The **[high watermarks](crate::high_watermarks)** are raised by every answer that shows one.
//! * The **connections for [questions](crate::questions)** carry what is neither a send, a fetch, nor a membership.
//! * The **[sizes](crate::sizes)** of records are taken from every answer that has some.
//! * The **[epochs](crate::member_state)** of a consumer are left by its member and taken by the next one.

use std::future::Future;
use std::sync::Arc;

use event_log_core::{Error, PartitionId};
use futures::future::join_all;
use tokio::time::Instant;

use crate::config::IggyConfig;
use crate::high_watermarks::HighWatermarks;
use crate::limits;
use crate::member_state::MemberStates;
use crate::questions::{Dialer, Questions};
use crate::sdk::{CallError, Client, TopicDetails};
use crate::sizes::RecordSizes;
use crate::watch::Watch;

/// A consumer's connection that was given up while a reply was overdue.
#[derive(Debug)]
struct Stuck {
    /// The number by which the consumer joins again.
    instance: u128,
    client: Arc<Client>,
    since: Instant,
}

#[derive(Debug)]
pub(crate) struct Shared {
    dialer: Arc<Dialer>,
    questions: Arc<Questions>,
    partitions: u32,
    pub(crate) ends: HighWatermarks,
    pub(crate) sizes: RecordSizes,
    /// When the last look at all ends that was answered began.
    last_look: parking_lot::Mutex<Option<Instant>>,
    pub(crate) members: MemberStates,
    pub(crate) watch: Watch,
    /// Connections of consumers that were given up while a reply was overdue.
    stuck: parking_lot::Mutex<Vec<Stuck>>,
}

impl Shared {
    pub(crate) fn new(config: IggyConfig) -> Result<Self, Error> {
        let partitions = config.topology.partitions;
        let poll_interval = config.poll_interval;
        let dialer = Arc::new(Dialer::new(config)?);
        Ok(Self {
            questions: Questions::new(Arc::clone(&dialer)),
            dialer,
            partitions,
            ends: HighWatermarks::new(partitions),
            sizes: RecordSizes::new(partitions),
            last_look: parking_lot::Mutex::default(),
            members: MemberStates::default(),
            watch: Watch::new(poll_interval),
            stuck: parking_lot::Mutex::default(),
        })
    }

    /// What tells this log from others.
    pub(crate) fn log_name(&self) -> Arc<str> {
        self.dialer.log_name()
    }

    pub(crate) fn config(&self) -> &IggyConfig {
        &self.dialer.config
    }

    pub(crate) const fn partitions(&self) -> u32 {
        self.partitions
    }

    /// A connection of the caller's own.
    pub(crate) async fn connect(&self) -> Result<(Client, TopicDetails), Error> {
        let (client, topic) = self.dialer.connect().await?;
        for (stats, partition) in topic.partitions.iter().zip(0..) {
            self.sizes.expect(PartitionId(partition), *stats);
        }
        Ok((client, topic))
    }

    /// The connection of a consumer is of no use any more. Dropping it ends no request: the SDK continues with the one in flight.
    pub(crate) fn abandon(&self, instance: u128, client: &Arc<Client>) {
        let mut stuck = self.stuck.lock();
        // A consumer that never comes again leaves its connection here; by then the SDK has given it up as well.
        stuck.retain(|one| one.since.elapsed() < limits::SDK_TIMEOUT);
        if client.is_stuck() {
            stuck.push(Stuck { instance, client: Arc::clone(client), since: Instant::now() });
        }
    }

    /// Waits until nothing is sent any more over connections that this consumer has abandoned: for half a minute at most,
    /// after which the SDK gives up too.
    pub(crate) async fn drained(&self, instance: u128) {
        // Kept until they are over, also if this future is dropped before.
        let of_consumer = |one: &&Stuck| one.instance == instance;
        let clients: Vec<_> =
            self.stuck.lock().iter().filter(of_consumer).map(|one| Arc::clone(&one.client)).collect();
        join_all(clients.iter().map(|client| client.drained())).await;
        self.stuck.lock().retain(|one| !clients.iter().any(|over| Arc::ptr_eq(over, &one.client)));
    }

    /// Asks over one of the connections for questions.
    pub(crate) async fn ask<T, F>(&self, question: impl Fn(Arc<Client>) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, CallError>>,
    {
        self.questions.ask(question).await
    }

    /// What the topic is like now.
    pub(crate) async fn look(&self) -> Result<TopicDetails, Error> {
        let began = Instant::now();
        let before = self.ends.snapshot();
        let details = self.ask(|client| async move { client.topic().await }).await?;
        // Deleted: the next connection creates it again.
        let details = details.ok_or(Error::Unavailable(None))?;
        let ends = details.partitions.iter().map(|stats| stats.high);
        self.ends.refresh(&before, details.incarnation, ends);
        let mut last = self.last_look.lock();
        *last = last.max(Some(began));
        Ok(details)
    }

    /// Whether the ends were asked for at this time or later.
    pub(crate) fn has_looked_since(&self, time: Instant) -> bool {
        self.last_look.lock().is_some_and(|last| last >= time)
    }
}
