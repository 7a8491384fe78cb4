//! Watching for what other processes append, while consumers wait.
//!
//! Iggy has no request that waits for a message, so that a client has to ask again and again. Of all consumers of a handle
//! that wait, one leads: it asks where all partitions end with one request, and the consumers of partitions that end
//! farther are woken. When it stops waiting another one leads. There is no task to start, to stop or to leak, and no
//! lock: a consumer whose future is not polled for a while is replaced as leader too.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::limits;
use crate::shared::Shared;

/// Asks again and again for as long as it is polled and no other consumer does. Cancel safe.
pub(crate) async fn watch(shared: &Arc<Shared>) {
    let watch = &shared.watch;
    let mut lead: Option<Lead<'_>> = None;
    loop {
        let next = watch.interval.lock().next;
        if lead.is_some() {
            tokio::time::sleep_until(next).await;
        } else {
            tokio::select! {
                () = tokio::time::sleep_until(next + limits::WATCH_GRACE) => {}
                () = watch.released.notified() => tokio::time::sleep_until(next).await,
            }
        }
        if !watch.interval.lock().claim(next) {
            // Another consumer leads by now.
            if let Some(mut lead) = lead.take() {
                lead.is_over = true;
            }
            continue;
        }
        lead.get_or_insert(Lead { watch, is_over: false });
        let mut known = shared.ends.subscribe();
        known.mark_unchanged();
        // An error is found again, and reported, by a request of the consumer itself.
        let found = shared.look().await.is_ok();
        watch.interval.lock().looked(found && known.has_changed().unwrap_or(false));
    }
}

/// What the consumers of a handle share to take turns.
#[derive(Debug)]
pub(crate) struct Watch {
    interval: Mutex<PollInterval>,
    /// A leader has stopped waiting.
    released: Notify,
}

impl Watch {
    pub(crate) fn new(longest: Duration) -> Self {
        Self { interval: Mutex::new(PollInterval::new(longest)), released: Notify::new() }
    }
}

/// Held by the consumer that leads.
struct Lead<'a> {
    watch: &'a Watch,
    /// Another one leads by now.
    is_over: bool,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            self.watch.released.notify_one();
        }
    }
}

/// When to ask next. The pauses grow as long as nothing comes.
#[derive(Debug)]
struct PollInterval {
    pause: Duration,
    longest: Duration,
    next: Instant,
}

impl PollInterval {
    fn new(longest: Duration) -> Self {
        Self { pause: longest, longest, next: Instant::now() }
    }

    /// It is time, if nothing has been asked since this was the time; and then it is not for others.
    fn claim(&mut self, next: Instant) -> bool {
        let is_ours = self.next == next;
        if is_ours {
            self.next = Instant::now() + self.longest;
        }
        is_ours
    }

    /// The server was asked just now, and there was news, or was not.
    fn looked(&mut self, news: bool) {
        let shortest = limits::POLL_INTERVAL_BUSY.min(self.longest);
        self.pause = if news { shortest } else { (self.pause * 2).clamp(shortest, self.longest) };
        self.next = Instant::now() + self.pause;
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

    #[tokio::test(start_paused = true)]
    async fn one_claims_each_look() {
        let mut interval = PollInterval::new(Duration::from_millis(5));
        let next = interval.next;
        assert!(interval.claim(next));
        assert!(!interval.claim(next), "another one has claimed it");
        let next = interval.next;
        interval.looked(true);
        assert!(!interval.claim(next), "it has been asked in between");
    }
}
