//! What all scenarios share: the server, the events, and how long to measure.

use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use event_log_iggy::server::IggyServer;
use event_log_iggy::{Durability, IggyConfig, IggyLog};

use crate::args::Args;
use crate::audit::audit;
use crate::event::{Event, Events, PARTITIONS};
use crate::numbers::Numbers;
use crate::stopwatch::Stopwatch;
use crate::topic::{Raw, TOPIC, Topic};
use crate::{Failure, contest};

/// How much is measured.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Settings {
    /// How often each contender has its turn.
    pub(crate) rounds: usize,
    /// How long a turn takes, about.
    pub(crate) window: Duration,
    /// Samples of a latency in a turn.
    pub(crate) samples: usize,
    /// Events of the backlog to consume.
    pub(crate) backlog: u64,
    /// Events that the large buffer holds while the server is away.
    pub(crate) buffer: usize,
    /// How long idle consumers are looked at.
    pub(crate) idle: Duration,
}

impl Settings {
    fn new(args: &Args) -> Self {
        let full = Self {
            rounds: 7,
            window: Duration::from_millis(1_000),
            samples: 1_000,
            backlog: 1_000_000,
            buffer: 1_000_000,
            idle: Duration::from_secs(10),
        };
        let quick = Self {
            rounds: 3,
            window: Duration::from_millis(250),
            samples: 200,
            backlog: 200_000,
            buffer: 300_000,
            idle: Duration::from_secs(3),
        };
        let settings = if args.quick { quick } else { full };
        Self { rounds: args.rounds.unwrap_or(settings.rounds).max(1), ..settings }
    }
}

/// A run of the benchmark.
pub(crate) struct Bench {
    pub(crate) server: IggyServer,
    pub(crate) settings: Settings,
    pub(crate) args: Args,
    pub(crate) events: Arc<Events>,
    /// Makes topics, audits them, and is the raw contender's connection.
    pub(crate) raw: Arc<Raw>,
}

/// More than any turn takes that works.
const TURN_TIMEOUT: Duration = Duration::from_secs(60);

/// So that no contender pays for what the server does about the topic of the one before.
const SETTLE: Duration = Duration::from_millis(20);

impl Bench {
    pub(crate) async fn new(server: IggyServer, args: Args) -> Result<Self, Failure> {
        let raw = Arc::new(Raw::connect(&server).await?);
        let events = Arc::new(Events::new(args.seed));
        Ok(Self { settings: Settings::new(&args), server, args, events, raw })
    }

    pub(crate) fn stopwatch(&self) -> Stopwatch {
        Stopwatch::new(self.settings.window, self.server.pid(), self.args.marks)
    }

    pub(crate) fn config(&self, topic: &Topic) -> IggyConfig {
        let mut config = IggyConfig::new(self.server.endpoint(), &topic.name, TOPIC);
        config.topology.partitions = PARTITIONS;
        config.topology.durability = topic.durability;
        config
    }

    /// This library's log on a topic.
    pub(crate) async fn open(&self, topic: &Topic) -> Result<IggyLog<Event>, Failure> {
        Ok(event_log_iggy::builder(self.config(topic)).open().await?)
    }

    pub(crate) async fn topic(&self, durability: Durability) -> Result<Topic, Failure> {
        self.raw.create(durability).await
    }

    /// Audits a topic and removes it.
    pub(crate) async fn audit(&self, topic: &Topic, expected: &Numbers, keyed: bool) -> Result<(), Failure> {
        let audited = audit(&self.raw, topic, &self.events, expected, keyed).await;
        self.remove(topic).await?;
        audited
    }

    pub(crate) async fn remove(&self, topic: &Topic) -> Result<(), Failure> {
        self.raw.delete(topic).await?;
        tokio::time::sleep(SETTLE).await;
        Ok(())
    }
}

/// Nothing hangs: a turn that takes too long has failed.
pub(crate) async fn bounded<T>(turn: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(TURN_TIMEOUT, turn).await {
        Ok(result) => result,
        Err(_) => Err(format!("it takes more than {} s", TURN_TIMEOUT.as_secs()).into()),
    }
}

/// How a durability is called in names and titles.
pub(crate) const fn called(durability: Durability) -> &'static str {
    match durability {
        Durability::Persisted => "durable",
        _ => "default",
    }
}

/// Says on the standard error what is going on, to whoever sits there: the standard output is for the results.
pub(crate) fn progress(name: &str, turn: contest::Turn, turns: usize) {
    if std::io::stderr().is_terminal() {
        let end = if turn.number + 1 == turns { "\n" } else { "" };
        eprint!("\r{name}: {} of {turns}\x1b[K{end}", turn.number + 1);
    }
}
