//! The writer's connections: one, and more when there is something for them to do.

use std::sync::Arc;

use futures::future::select_all;
use tokio::task::JoinSet;

use crate::engine::transport::{Session, Transport};
use crate::error::Error;

/// Connections that are good. They are lost together: the writer reads back what became of its requests over a new one.
pub(super) struct Sessions<T: Transport> {
    transport: Arc<T>,
    open: Vec<T::Session>,
    /// Those on their way. Nobody waits for them: what there is to send goes over those that there are.
    opening: JoinSet<Result<T::Session, Error>>,
    has_widened: bool,
}

impl<T: Transport> Sessions<T> {
    pub(super) fn new(transport: Arc<T>, first: T::Session) -> Self {
        Self { transport, open: vec![first], opening: JoinSet::new(), has_widened: false }
    }

    /// The connections for sending so many requests at a time. More are opened when there are not enough for the first
    /// time: whoever appends now and then has one.
    pub(super) fn for_sending(&mut self, requests: usize) -> &mut [T::Session] {
        if requests > self.open.len() && !self.has_widened {
            self.has_widened = true;
            for _ in self.open.len()..self.transport.connections() {
                let transport = Arc::clone(&self.transport);
                self.opening.spawn(async move { transport.connect_another().await });
            }
        }
        while let Some(opened) = self.opening.try_join_next() {
            match opened {
                Ok(Ok(session)) => self.open.push(session),
                // One does it all as well, only slower.
                Ok(Err(error)) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "no further connection to the log can be opened");
                }
                // Only a runtime that shuts down ends it.
                Err(_) => {}
            }
        }
        &mut self.open
    }

    /// Completes when one of them is known to be lost, with the reason. Cancel safe.
    pub(super) async fn lost(&mut self) -> Error {
        select_all(self.open.iter_mut().map(|session| Box::pin(session.lost()))).await.0
    }
}
