//! The only place that reconnects.

use std::time::Duration;

use tokio::time::Instant;

use super::shared::Shared;
use super::transport::{Connect, Transport};

/// Attempts to reconnect, each after a longer wait, without an end.
///
/// It remembers where it is, so that waiting can be interrupted and taken up again.
pub(super) struct Attempts<'a, E> {
    shared: &'a Shared<E>,
    failed: u32,
    next: Instant,
}

impl<'a, E> Attempts<'a, E> {
    pub(super) fn new(shared: &'a Shared<E>) -> Self {
        let mut attempts = Self { shared, failed: 0, next: Instant::now() };
        attempts.next += attempts.wait();
        attempts
    }

    fn wait(&self) -> Duration {
        self.shared.config.reconnect.wait(self.failed, self.shared.chance.next_u32())
    }

    /// Completes with a connection. Cancel safe, but for an attempt under way, which is made again.
    pub(super) async fn connect<T: Transport>(&mut self, transport: &T) -> T::Producer {
        loop {
            tokio::time::sleep_until(self.next).await;
            match transport.connect(Connect::Only).await {
                Ok(session) => return session,
                Err(error) => {
                    self.failed = self.failed.saturating_add(1);
                    self.next = Instant::now() + self.wait();
                    self.shared.attempt_failed();
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, attempt = self.failed, "could not reconnect to the log");
                }
            }
        }
    }
}
