//! A value that somebody changes and others wait for, woken in the order in which they came.
//!
//! A `tokio::sync::watch` wakes them in an order of its own choice, so that a run on a paused clock would not be the
//! same each time.

use std::pin::pin;

use parking_lot::Mutex;
use tokio::sync::Notify;

#[derive(Debug, Default)]
pub(crate) struct Switch<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Copy> Switch<T> {
    pub(crate) fn new(value: T) -> Self {
        Self { value: Mutex::new(value), changed: Notify::new() }
    }

    pub(crate) fn get(&self) -> T {
        *self.value.lock()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut T)) {
        change(&mut self.value.lock());
        self.changed.notify_waiters();
    }

    /// Completes when the value is so. Cancel safe.
    pub(crate) async fn wait_for(&self, is_so: impl Fn(T) -> bool) {
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before looking, so that no change gets lost in between.
            changed.as_mut().enable();
            if is_so(self.get()) {
                return;
            }
            changed.await;
        }
    }
}
