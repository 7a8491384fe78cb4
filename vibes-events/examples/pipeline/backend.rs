//! The only place that knows which backend it is.

use std::sync::Arc;
use std::time::Duration;

use crate::args::Destination;
use crate::{EventsLog, Failure};

/// A log, and the server that was started for it.
pub(crate) struct Backend {
    pub(crate) log: EventsLog,
    #[cfg(feature = "iggy")]
    server: Option<event_log_iggy::server::IggyServer>,
}

impl Backend {
    pub(crate) async fn open(destination: &Destination) -> Result<Self, Failure> {
        match destination {
            Destination::Memory { partitions } => {
                let builder = event_log_memory::builder().topic(vibes_events::TOPIC).partitions(*partitions);
                Ok(Self::of(Arc::new(builder.open().await?)))
            }
            #[cfg(feature = "iggy")]
            Destination::Iggy { url } => Ok(Self::of(Arc::new(event_log_iggy::open(url).await?))),
            #[cfg(feature = "iggy")]
            Destination::IggySpawn { folder } => {
                use event_log_iggy::IggyConfig;
                use event_log_iggy::server::{IggyServer, ServerOptions};

                let server = IggyServer::start(ServerOptions::new(folder)).await?;
                let (stream, topic) = (vibes_events::STREAM, vibes_events::TOPIC);
                let mut config = IggyConfig::new(server.endpoint(), stream, topic);
                config.topology.partitions = vibes_events::PARTITIONS;
                let log = Arc::new(event_log_iggy::builder(config).open().await?);
                Ok(Self { log, server: Some(server) })
            }
            #[cfg(not(feature = "iggy"))]
            Destination::Iggy { .. } | Destination::IggySpawn { .. } => {
                Err("this build knows no Iggy: run it with `--features iggy`".into())
            }
        }
    }

    fn of(log: EventsLog) -> Self {
        Self {
            log,
            #[cfg(feature = "iggy")]
            server: None,
        }
    }

    /// The log first: what it has not sent yet needs the server.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        self.log.close(Duration::from_secs(10)).await?;
        #[cfg(feature = "iggy")]
        if let Some(server) = self.server {
            server.stop().await?;
        }
        Ok(())
    }
}
