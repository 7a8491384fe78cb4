//! How often to look for news that nobody tells.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits;

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

    /// It was looked just now, and there was news, or was not.
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
