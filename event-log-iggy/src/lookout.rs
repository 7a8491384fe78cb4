//! Looking out for what other processes append, while consumers wait.
//!
//! Iggy has no way to wait for a message, so that somebody has to ask again and again. Of all consumers of a handle
//! that wait, one does it for all: it holds the lookout, asks where all partitions end with one request, and whoever
//! sees news is woken. When it goes (its poll has returned, or was dropped) the next one takes over. There is no
//! task to start, to stop or to leak.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;
use crate::shared::Shared;

/// When to look next. The pauses grow as long as nothing comes.
#[derive(Debug)]
pub(crate) struct Pace {
    pause: Duration,
    longest: Duration,
    next: Instant,
}

impl Pace {
    pub(crate) fn new(longest: Duration) -> Self {
        Self { pause: longest, longest, next: Instant::now() }
    }

    fn looked(&mut self, news: bool) {
        let shortest = limits::POLL_INTERVAL_BUSY.min(self.longest);
        self.pause = if news { shortest } else { (self.pause * 2).clamp(shortest, self.longest) };
        self.next = Instant::now() + self.pause;
    }
}

/// Looks out for as long as it is polled, as soon as nobody else does. Cancel safe.
pub(crate) async fn look_out(shared: &Shared) {
    let mut pace = shared.lookout.lock().await;
    let mut known = shared.ends.known();
    loop {
        tokio::time::sleep_until(pace.next).await;
        known.mark_unchanged();
        // A server that is away is the business of whoever has a connection to lose.
        let found = shared.look().await.is_ok();
        pace.looked(found && known.has_changed().unwrap_or(false));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_while_nothing_comes() {
        let mut pace = Pace::new(Duration::from_millis(5));
        pace.looked(true);
        let mut pauses = vec![pace.pause];
        for _ in 0..4 {
            pace.looked(false);
            pauses.push(pace.pause);
        }
        assert_eq!(pauses.iter().map(Duration::as_millis).collect::<Vec<_>>(), [1, 2, 4, 5, 5]);
    }
}
