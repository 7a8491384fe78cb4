//! The end of a log: what is still sent, until when, and who gets the rest.

use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::queue::Queue;
use super::shared::Shared;
use crate::contain::{contain, report};
use crate::log::CloseError;
use crate::state::Connection;
use crate::waking::contain_wakes;

/// What could not be sent while closing.
pub(super) struct Leftover<E> {
    pub(super) error: CloseError<E>,
    /// A `close` is under way that will return it.
    pub(super) is_claimed: bool,
    /// It was said already that events are given up: the last handle was dropped.
    pub(super) is_given_up: bool,
}

/// The right to what is left over, of the first `close` whose future is not dropped.
pub(in crate::engine) struct Claim<'a, E>(&'a Shared<E>);

impl<E> Claim<'_, E> {
    pub(in crate::engine) fn take(self) -> CloseError<E> {
        std::mem::take(&mut self.0.leftover.lock().error)
    }
}

impl<E> Drop for Claim<'_, E> {
    fn drop(&mut self) {
        self.0.leftover.lock().is_claimed = false;
    }
}

impl<E> Drop for Shared<E> {
    /// What nothing has asked for is given up, an event at a time: one whose drop panics leaves the others to be dropped.
    fn drop(&mut self) {
        let leftover = self.leftover.get_mut();
        let CloseError { not_appended, unknown, .. } = std::mem::take(&mut leftover.error);
        let given_up = not_appended.len() + unknown.len();
        if given_up > 0 && !leftover.is_given_up {
            report(|| {
                let message = "what closing the log could not send was not asked for: events are given up";
                tracing::warn!(given_up, "{message}");
            });
        }
        not_appended.into_iter().chain(unknown).for_each(|(_, event)| contain(|| drop(event)));
    }
}

impl<E> Shared<E> {
    /// Accepts nothing more, and has the writer stop at `deadline`. A second call changes nothing.
    pub(in crate::engine) fn close(&self, deadline: Instant) {
        self.with_queue(|queue| {
            self.fast_path.store(false, Ordering::Release);
            queue.close();
        });
        let is_first = self.closing.send_if_modified(|closing| {
            let first = closing.is_none();
            closing.get_or_insert(deadline);
            first
        });
        self.work.notify_one();
        if is_first {
            self.hurry.notify_one();
        }
    }

    /// When closing ends; `None` while the log is open.
    pub(in crate::engine) fn closing_at(&self) -> Option<Instant> {
        *self.closing.borrow()
    }

    /// Completes when the log is closing and nothing is left to send.
    pub(in crate::engine) async fn finished(&self) {
        self.closing().await;
        let mut settled = self.settled.subscribe();
        while !self.is_finished() && settled.changed().await.is_ok() {}
    }

    /// Completes when the log is closing.
    pub(in crate::engine) async fn closing(&self) {
        let _ = self.closing.subscribe().wait_for(Option::is_some).await;
    }

    /// Completes when the log is closing and its deadline has passed.
    pub(in crate::engine) async fn closing_deadline(&self) {
        self.closing().await;
        let deadline = *self.closing.borrow();
        tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)).await;
    }

    /// Ends the log: what is not resolved comes back.
    pub(in crate::engine) fn end(&self) {
        let end = |queue: &mut Queue<E>| {
            self.fast_path.store(false, Ordering::Release);
            queue.end()
        };
        let unresolved =
            self.with_queue_and(end, || self.state.modify(|state| state.connection = Connection::Closed));
        let first = unresolved.first().map(|(entry, _)| entry.sequence);
        let mut leftover = CloseError::default();
        for (entry, failure) in unresolved {
            contain(|| leftover.fail(entry, failure));
        }
        if let Some(first) = first {
            self.with_queue(|queue| queue.resolved(first));
        }
        self.leave_over(leftover);
    }

    /// The writer is gone, and with it its connections.
    pub(super) fn ended(&self) {
        self.ended.send_replace(true);
    }

    pub(super) fn leave_over(&self, mut more: CloseError<E>) {
        let error = &mut self.leftover.lock().error;
        error.not_appended.append(&mut more.not_appended);
        error.unknown.append(&mut more.unknown);
        error.returned_by_ticket += more.returned_by_ticket;
    }

    /// What is not sent until then is given up, which has been said.
    pub(in crate::engine) fn give_up(&self, deadline: Instant) {
        self.leftover.lock().is_given_up = true;
        self.close(deadline);
    }

    /// The right to what is left over, unless another call has it.
    pub(in crate::engine) fn claim_leftover(&self) -> Option<Claim<'_, E>> {
        let was_claimed = std::mem::replace(&mut self.leftover.lock().is_claimed, true);
        // Made only where it is due: dropping one gives the right up.
        (!was_claimed).then(|| Claim(self))
    }

    /// Waits until the writer has ended.
    pub(in crate::engine) async fn wait_for_end(&self) {
        let _ = contain_wakes(self.ended.subscribe().wait_for(|&ended| ended)).await;
    }
}
