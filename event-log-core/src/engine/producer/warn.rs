//! Warnings about dropped events: every one is counted, and a flood of them makes one line a second.

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::contain::report;
use crate::limits;

#[derive(Default)]
pub(super) struct DropWarning {
    last: Mutex<Option<Instant>>,
}

impl DropWarning {
    /// The metric is a `tracing` event in the convention of `tracing-opentelemetry`: the field
    /// `monotonic_counter.event_log_dropped_total` is what a metrics layer adds up.
    pub(super) fn dropped(&self, count: u64, total: u64) {
        report(|| {
            tracing::trace!(
                target: "event_log::metrics",
                { monotonic_counter.event_log_dropped_total = count },
                "events dropped"
            );
        });
        let now = Instant::now();
        let mut last = self.last.lock();
        if last.is_some_and(|last| now.duration_since(last) < limits::WARN_INTERVAL) {
            return;
        }
        *last = Some(now);
        drop(last);
        let message = "the reconnect buffer is full: the oldest events are dropped";
        report(|| tracing::warn!(dropped_total = total, "{message}"));
    }
}
