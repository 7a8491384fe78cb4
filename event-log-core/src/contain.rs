//! Running code of the application where its panic must not end anything else: a drop, a waker, a subscriber, a clock.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(feature = "engine")]
use bytes::Bytes;

/// Runs code of the application. A panic is reported, and ends here.
pub fn contain(run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        // Not even dropping what it panicked with is safe.
        std::mem::forget(panic);
        report(|| tracing::error!("code of the application panicked where the log calls it"));
    }
}

thread_local! {
    static IS_REPORTING: Cell<bool> = const { Cell::new(false) };
}

/// Emits an event of `tracing`: a subscriber is the application's, and may panic. There is nothing to report that to. Nor is
/// what the subscriber itself brings about while it is told: it would be told of it, without an end.
pub(crate) fn report(emit: impl FnOnce()) {
    let is_first = IS_REPORTING.try_with(|reporting| !reporting.replace(true)).unwrap_or(false);
    if !is_first {
        return;
    }
    if let Err(panic) = catch_unwind(AssertUnwindSafe(emit)) {
        std::mem::forget(panic);
    }
    let _ = IS_REPORTING.try_with(|reporting| reporting.set(false));
}

/// The same bytes; freeing them runs code of the application, if it made them from memory of its own, and a panic of that
/// ends there. So they can be dropped together with others, wherever they have come to.
#[cfg(feature = "engine")]
pub fn contained(bytes: Bytes) -> Bytes {
    Bytes::from_owner(Contained(bytes))
}

#[cfg(feature = "engine")]
struct Contained(Bytes);

#[cfg(feature = "engine")]
impl AsRef<[u8]> for Contained {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(feature = "engine")]
impl Drop for Contained {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.0);
        contain(|| drop(bytes));
    }
}
