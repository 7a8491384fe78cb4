//! Running code of the application where its panic must not end anything else: a drop, a waker, a subscriber, a clock.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the application. A panic is reported, and ends here.
pub fn contain(run: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        // Not even dropping what it panicked with is safe.
        std::mem::forget(panic);
        report(|| tracing::error!("code of the application panicked where the log calls it"));
    }
}

/// Emits an event of `tracing`: a subscriber is the application's, and may panic. There is nothing to report that to.
pub(crate) fn report(emit: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(emit)) {
        std::mem::forget(panic);
    }
}
