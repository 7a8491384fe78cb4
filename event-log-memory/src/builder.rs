//! How a log is opened.

use std::fmt;
use std::sync::Arc;

use event_log_core::engine::LogBuilder;
use event_log_core::{Codec, Error, JsonCodec, Partitionable, ProducerConfig, limits};
use serde::Serialize;

use crate::MemoryLog;
use crate::broker::MemoryBroker;
use crate::retention::Retention;
use crate::transport::MemoryTransport;

/// The most partitions that a topic may have here; each costs a little memory even when it is empty.
pub const MAX_PARTITIONS: u32 = 4_096;

/// Opens a [`MemoryLog`]; made by [`builder`](crate::builder()).
#[must_use = "nothing is opened until `open` is awaited"]
pub struct Builder<E> {
    broker: MemoryBroker,
    topic: String,
    partitions: u32,
    retention: Retention,
    codec: Arc<dyn Codec<E>>,
    config: ProducerConfig,
    seed: Option<u64>,
}

impl<E> fmt::Debug for Builder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("topic", &self.topic)
            .field("partitions", &self.partitions)
            .field("retention", &self.retention)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl<E: Partitionable + Serialize + Send + 'static> Builder<E> {
    pub(crate) fn new() -> Self {
        Self {
            broker: MemoryBroker::new(),
            topic: "events".to_owned(),
            partitions: limits::PARTITIONS,
            retention: Retention::FOREVER,
            codec: Arc::new(JsonCodec),
            config: ProducerConfig::default(),
            seed: None,
        }
    }

    /// The broker to open the log on: to have several logs on one topic, to open one again, or to switch on
    /// its faults. The default is a broker of the log's own.
    pub fn broker(mut self, broker: &MemoryBroker) -> Self {
        self.broker = broker.clone();
        self
    }

    /// The name of the topic. The default is `events`.
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topic = name.into();
        self
    }

    /// How many partitions the topic has. The default is [`limits::PARTITIONS`].
    pub fn partitions(mut self, count: u32) -> Self {
        self.partitions = count;
        self
    }

    /// How long records are kept. The default is [`Retention::FOREVER`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// How events are encoded. The default is [`JsonCodec`].
    pub fn codec(mut self, codec: impl Codec<E> + 'static) -> Self {
        self.codec = Arc::new(codec);
        self
    }

    /// Limits, buffer and reconnection. The default is [`ProducerConfig::default`].
    pub fn config(mut self, config: ProducerConfig) -> Self {
        self.config = config;
        self
    }

    /// Makes ids and jitter repeatable. The default is a random seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Opens the log, with its topic made when it is absent and verified when it is present.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] names a setting that is invalid, [`Error::TopologyMismatch`] says
    /// how the topic differs, and outside of a tokio runtime there is an [`Error::Backend`].
    pub async fn open(self) -> Result<MemoryLog<E>, Error> {
        if self.partitions == 0 || self.partitions > MAX_PARTITIONS {
            return Err(Error::invalid("partitions", format!("must be between 1 and {MAX_PARTITIONS}")));
        }
        if self.retention.max_records == Some(0) {
            return Err(Error::invalid("retention", "must keep at least 1 record"));
        }
        // Settings that are refused make no topic.
        self.config.validate()?;
        let topic = self.broker.topic(&self.topic, self.partitions, self.retention)?;
        let mut engine = LogBuilder::new(self.codec).config(self.config).clock(self.broker.clock());
        engine = engine.handle(self.broker.next_handle());
        if let Some(seed) = self.seed {
            engine = engine.seed(seed);
        }
        engine.open(Arc::new(MemoryTransport::new(topic))).await
    }
}
