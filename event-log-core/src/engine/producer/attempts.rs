//! The only place that reconnects.

use std::time::Duration;

use tokio::time::Instant;

use super::shared::Shared;
use crate::contain::report;
use crate::engine::transport::Transport;
use crate::limits;
use crate::position::Timestamp;

/// Attempts to reconnect, each after a longer wait, without an end.
pub(super) struct Attempts<'a, E> {
    shared: &'a Shared<E>,
    /// Attempts since a connection was of use for the last time.
    pub(super) failed: u32,
    /// When the last attempt ended.
    last: Instant,
    next: Instant,
}

/// While the log is closing there is no attempt so shortly before the deadline.
const LAST_CHANCE: Duration = Duration::from_millis(20);

impl<'a, E> Attempts<'a, E> {
    /// So many have failed.
    pub(super) fn new(shared: &'a Shared<E>, failed: u32) -> Self {
        let now = Instant::now();
        let mut attempts = Self { shared, failed, last: now, next: now };
        attempts.schedule();
        if shared.is_awaited() {
            // A connection was lost meanwhile: at once, but no storm of attempts, however often that happens.
            attempts.next = attempts.next.min(now + limits::FLUSH_ATTEMPT_INTERVAL);
        }
        attempts
    }

    fn schedule(&mut self) {
        self.last = Instant::now();
        let mut wait = self.shared.config.reconnect.wait(self.failed, self.shared.chance.next_u32());
        // Closing does not wait for its turn: each attempt is half way to the deadline, so that one is shortly before.
        if let Some(deadline) = self.shared.closing_at() {
            let left = deadline.saturating_duration_since(self.last);
            if left >= LAST_CHANCE {
                wait = wait.min(left / 2);
            }
        }
        self.next = self.last + wait;
    }

    /// When the next attempt begins, on the clock of the log.
    fn next_attempt(&self) -> Timestamp {
        let wait = self.next.saturating_duration_since(Instant::now());
        let micros = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        Timestamp(self.shared.clock.now().0.saturating_add(micros))
    }

    /// Waits for its time, or until `close` or `flush` asks for an attempt.
    async fn wait(&mut self) {
        loop {
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.next) => return,
                () = self.shared.hurry() => {
                    let earliest = match self.shared.closing_at() {
                        Some(_) => self.last,
                        // At once, but no storm of attempts, however often it is flushed.
                        None => self.last + limits::FLUSH_ATTEMPT_INTERVAL,
                    };
                    self.next = self.next.min(earliest);
                    self.shared.next_attempt(Some(self.next_attempt()));
                }
            }
        }
    }

    /// Completes with a connection. Dropping it gives up the attempt under way: its owner keeps it until then.
    pub(super) async fn connect<T: Transport>(&mut self, transport: &T) -> T::Producer {
        self.shared.next_attempt(Some(self.next_attempt()));
        loop {
            self.wait().await;
            self.shared.next_attempt(None);
            match transport.connect().await {
                Ok(connection) => return connection,
                Err(error) => {
                    self.failed = self.failed.saturating_add(1);
                    self.schedule();
                    let source = &error as &dyn std::error::Error;
                    let attempt = self.failed;
                    report(|| tracing::warn!(error = source, attempt, "could not reconnect to the log"));
                    self.shared.attempt_failed(error, self.next_attempt());
                }
            }
        }
    }
}
