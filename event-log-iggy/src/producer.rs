//! The producer's connection.

use std::pin::Pin;
use std::sync::Arc;

use event_log_core::engine::{FetchRequest, FetchResponse, Message, ProducerConnection, SendError};
use event_log_core::{Error, Offset, PartitionId};
use tokio::time::{Instant, Sleep};

use crate::limits;
use crate::read;
use crate::sdk::{CallError, Client, ErrorClass};
use crate::shared::Shared;

/// The producer's connection. Opaque.
#[derive(Debug)]
pub struct IggyProducerConnection {
    shared: Arc<Shared>,
    client: Arc<Client>,
    used_at: Instant,
    /// When to look whether it has been used lately. One timer for all its life: a new one after each request would be the
    /// next to expire each time, and wake the thread that waits for the sockets during every append.
    look: Pin<Box<Sleep>>,
}

impl IggyProducerConnection {
    pub(crate) fn new(shared: Arc<Shared>, client: Client) -> Self {
        let look = Box::pin(tokio::time::sleep(limits::PING_INTERVAL));
        Self { shared, client: Arc::new(client), used_at: Instant::now(), look }
    }
}

impl ProducerConnection for IggyProducerConnection {
    async fn send(
        &mut self,
        partition: PartitionId,
        messages: &[Message],
    ) -> Result<Option<Offset>, SendError> {
        let before = self.shared.ends.end(partition);
        let sent = self.client.send(partition, messages).await;
        self.used_at = Instant::now();
        match sent {
            Ok(base) => {
                if let Some(base) = base {
                    let end = Offset(base.0 + messages.len() as u64);
                    self.shared.ends.observe(partition, before, base, end);
                }
                Ok(base)
            }
            // The reply that says where it is is gone.
            Err(error) if error.class() == ErrorClass::Done => Ok(None),
            Err(error) => Err(error.into_send_error()),
        }
    }

    async fn fetch(&self, request: FetchRequest) -> Result<FetchResponse, Error> {
        read::fetch(&self.shared, &self.client, request).await.map_err(CallError::into_error)
    }

    async fn lost(&mut self) -> Error {
        // The SDK reports a lost connection only as the result of a request.
        loop {
            self.look.as_mut().await;
            if self.used_at.elapsed() >= limits::PING_INTERVAL {
                if let Err(error) = self.client.ping().await {
                    return error.into_error();
                }
                self.used_at = Instant::now();
            }
            self.look.as_mut().reset(self.used_at + limits::PING_INTERVAL);
        }
    }

    async fn close(self) {
        // Dropping it ends no request: the SDK continues with the one in flight.
        self.client.drained().await;
    }
}
