//! How a log is opened.

use std::fmt;
use std::sync::Arc;

use event_log_core::engine::LogBuilder;
use event_log_core::{Codec, Error, JsonCodec, Partitionable};
use serde::Serialize;

use crate::IggyLog;
use crate::config::IggyConfig;
use crate::transport::IggyTransport;

/// Opens an [`IggyLog`]; made by [`builder`](crate::builder()).
#[must_use = "nothing is opened until `open` is awaited"]
pub struct Builder<E> {
    config: IggyConfig,
    codec: Arc<dyn Codec<E>>,
}

impl<E> fmt::Debug for Builder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("config", &self.config).finish_non_exhaustive()
    }
}

impl<E: Partitionable + Serialize + Send + 'static> Builder<E> {
    pub(crate) fn new(config: IggyConfig) -> Self {
        Self { config, codec: Arc::new(JsonCodec) }
    }

    /// How events are encoded. The default is [`JsonCodec`].
    pub fn codec(mut self, codec: impl Codec<E> + 'static) -> Self {
        self.codec = Arc::new(codec);
        self
    }

    /// Opens the log: connects, signs in, and makes the stream and the topic when they are absent.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] names a setting that is invalid, [`Error::TopologyMismatch`] says how the
    /// topic differs, [`Error::Unauthorized`] means that the credentials are refused; outside of a tokio runtime there
    /// is an [`Error::Backend`]. A server that cannot be reached is no error: the log is opened all the same, in the
    /// state [`Reconnecting`](event_log_core::Connection::Reconnecting), and buffers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future opens nothing. The topic may have been made.
    pub async fn open(self) -> Result<IggyLog<E>, Error> {
        self.config.validate()?;
        let engine = LogBuilder::new(self.codec).config(self.config.producer.clone());
        engine.open(Arc::new(IggyTransport::new(self.config)?)).await
    }
}
