//! Watching for what other processes append, while consumers wait.
//!
//! Iggy has no request that waits for a message, so that a client has to ask again and again. Of all consumers of a handle
//! that wait, one asks for all of them: it holds the watch, asks where all partitions end with one request, and the
//! consumers of partitions that end farther are woken. When its poll returns, or is dropped, the next consumer takes
//! over. There is no task to start, to stop or to leak.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::shared::Shared;

/// Asks again and again for as long as it is polled and no other consumer does. Cancel safe.
pub(crate) async fn watch(shared: &Arc<Shared>) {
    let mut interval = shared.watching.lock().await;
    let mut known = shared.ends.subscribe();
    loop {
        tokio::time::sleep_until(interval.next()).await;
        known.mark_unchanged();
        // An error is found again, and reported, by a request of the consumer itself.
        let found = shared.look().await.is_ok();
        interval.looked(found && known.has_changed().unwrap_or(false));
    }
}

/// When to ask next. The pauses grow as long as nothing comes.
#[derive(Debug)]
pub(crate) struct PollInterval {
    pause: Duration,
    longest: Duration,
    next: Instant,
}

impl PollInterval {
    pub(crate) fn new(longest: Duration) -> Self {
        Self { pause: longest, longest, next: Instant::now() }
    }

    /// The server was asked just now, and there was news, or was not.
    pub(crate) fn looked(&mut self, news: bool) {
        let shortest = limits::POLL_INTERVAL_BUSY.min(self.longest);
        self.pause = if news { shortest } else { (self.pause * 2).clamp(shortest, self.longest) };
        self.next = Instant::now() + self.pause;
    }

    /// When it is time.
    pub(crate) const fn next(&self) -> Instant {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_nothing_comes() {
        let mut interval = PollInterval::new(Duration::from_millis(5));
        interval.looked(true);
        let mut pauses = vec![interval.pause];
        for _ in 0..4 {
            interval.looked(false);
            pauses.push(interval.pause);
        }
        assert_eq!(pauses.iter().map(Duration::as_millis).collect::<Vec<_>>(), [1, 2, 4, 5, 5]);
    }
}
