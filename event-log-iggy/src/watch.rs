//! Looking out for what other processes append, while consumers wait.
//!
//! Iggy has no way to wait for a message, so that somebody has to ask again and again. Of all consumers of a handle
//! that wait, one does it for all: it holds the lookout, asks where all partitions end with one request, and whoever
//! sees news is woken. When it goes (its poll has returned, or was dropped) the next one takes over. There is no
//! task to start, to stop or to leak.

use crate::shared::Shared;

/// Looks out for as long as it is polled, as soon as nobody else does. Cancel safe.
pub(crate) async fn look_out(shared: &Shared) {
    let mut pace = shared.lookout.lock().await;
    let mut known = shared.ends.known();
    loop {
        tokio::time::sleep_until(pace.next()).await;
        known.mark_unchanged();
        // A server that is away is the business of whoever has a connection to lose.
        let found = shared.look().await.is_ok();
        pace.looked(found && known.has_changed().unwrap_or(false));
    }
}
