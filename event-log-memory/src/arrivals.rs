//! Waking consumers: an append costs one load when nobody waits.

use std::sync::atomic::{AtomicUsize, Ordering};

use event_log_core::engine::contain_wakes;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How often a consumer looks before it goes to sleep: some tens of microseconds, once per wait.
const GLANCES: usize = 20;

/// Where consumers wait until something has changed.
///
/// Nothing gets lost between looking and waiting, because both sides go through the lock of what changes:
///
/// * a consumer **registers**, then looks (under the lock), then waits;
/// * a producer changes something (under the lock), then looks whether anybody is registered.
///
/// Whoever comes second to the lock sees what the first has done before it.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    waiting: AtomicUsize,
    notify: Notify,
}

impl Arrivals {
    /// To be called after a change, when its lock has been released.
    pub(crate) fn changed(&self) {
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.notify.notify_waiters();
        }
    }

    /// Waits for a change, unless `has_changed` says that there was one already, or until `deadline`.
    ///
    /// At first it lets others run and has a `glance` now and then: with a producer at full speed the next
    /// events are there within microseconds, and going to sleep and being woken would cost both sides more
    /// than the events do. A glance must be cheap, and may miss something.
    pub(crate) async fn wait(
        &self,
        deadline: Instant,
        glance: impl Fn() -> bool,
        has_changed: impl FnOnce() -> bool,
    ) {
        if deadline <= Instant::now() {
            return;
        }
        for _ in 0..GLANCES {
            if glance() {
                return;
            }
            tokio::task::yield_now().await;
        }
        let notified = self.notify.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _registered = Registered(&self.waiting);
        if has_changed() {
            return;
        }
        let _ = contain_wakes(tokio::time::timeout_at(deadline, notified)).await;
    }
}

/// Signs off also when the waiting future is dropped.
struct Registered<'a>(&'a AtomicUsize);

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
