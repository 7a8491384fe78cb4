//! What a log says of its connection and its buffer.

use std::sync::Arc;

use tokio::sync::watch;

use crate::error::Error;
use crate::position::Timestamp;
use crate::turn::take_turn;
use crate::waking::contain_wakes;

/// The state of a log, as [`EventLog::state`](crate::EventLog::state) publishes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogState {
    /// Whether the log can be reached.
    pub connection: Connection,
    /// Events accepted and not resolved yet, while the log is away or slower than its producers.
    pub buffered: usize,
    /// Events that the full reconnect buffer has dropped since the log was opened. It only grows.
    pub dropped: u64,
    /// How often the log was there again after it was away, for the first time among them when it was away at first.
    pub reconnects: u64,
    /// What became of events that were sent and not answered.
    pub recovered: Recovered,
}

/// What reading back has shown about events whose request was sent and never answered, since the log was opened.
/// An event is counted once for each such request. The numbers only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// They were in the log.
    pub found: u64,
    /// They were not there, and were queued to be sent again.
    pub sent_again: u64,
    /// Nobody can say: retention, or a cut, had taken what would have had to be read.
    pub unknown: u64,
}

/// Whether a log can be reached.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Connection {
    /// Appends go straight to the log.
    #[default]
    Connected,
    /// The log is away; appends go to the reconnect buffer.
    Reconnecting {
        /// When the connection was lost.
        since: Timestamp,
        /// How many attempts to reconnect have failed so far.
        attempt: u32,
        /// When the next attempt begins; `None` while one is under way.
        next_attempt: Option<Timestamp>,
        /// Why the connection was lost, or why the last attempt failed.
        last_error: Option<Arc<Error>>,
    },
    /// The log has been closed; nothing is accepted any more.
    Closed,
}

impl PartialEq for Connection {
    /// Errors have no equality of their own: they are the same if they say the same.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Connected, Self::Connected) | (Self::Closed, Self::Closed) => true,
            (
                Self::Reconnecting { since, attempt, next_attempt, last_error },
                Self::Reconnecting { since: s, attempt: a, next_attempt: n, last_error: e },
            ) => {
                let same_error = match (last_error, e) {
                    (Some(one), Some(other)) => {
                        Arc::ptr_eq(one, other) || one.to_string() == other.to_string()
                    }
                    (None, None) => true,
                    _ => false,
                };
                (since, attempt, next_attempt) == (s, a, n) && same_error
            }
            _ => false,
        }
    }
}

impl Eq for Connection {}

impl LogState {
    /// Whether appends go straight to the log.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.connection, Connection::Connected)
    }

    /// Whether the log has been closed.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.connection, Connection::Closed)
    }
}

impl LogState {
    /// The last error, if the log is away for a reason that waiting does not remove: refused credentials or a topic
    /// with other properties, say. The log goes on trying all the same.
    #[must_use]
    pub fn needs_intervention(&self) -> Option<&Error> {
        match &self.connection {
            Connection::Reconnecting { last_error: Some(error), .. } if !error.is_retryable() => Some(error),
            _ => None,
        }
    }
}

/// The state of a log as it changes, from [`EventLog::state`](crate::EventLog::state).
///
/// It never lends what it looks at: every answer is a clone, so that a receiver, however long it is kept, blocks neither
/// the log nor a producer. Clones are independent.
#[derive(Clone, Debug)]
pub struct StateReceiver {
    states: watch::Receiver<(u64, LogState)>,
}

impl StateReceiver {
    /// The state now.
    #[must_use]
    pub fn current(&self) -> LogState {
        self.states.borrow().1.clone()
    }

    /// What has changed so far is no news.
    #[cfg(feature = "engine")]
    pub(crate) fn mark_seen(&mut self) {
        self.states.mark_unchanged();
    }

    /// Waits until the state has changed since this receiver has waited for one last, and returns it; `None` once the log
    /// and all its handles are gone. States that follow one another quickly may be skipped: what has changed and changed back
    /// is as it was.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: a change that was not returned is returned by the next call.
    pub async fn changed(&mut self) -> Option<LogState> {
        contain_wakes(self.states.changed()).await.ok()?;
        Some(self.states.borrow_and_update().1.clone())
    }

    /// Waits until the state is as `is_wanted` says, and returns it: at once if it is already. If the log is gone it
    /// returns the last state, although that is not the wanted one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn wait_for(&mut self, mut is_wanted: impl FnMut(&LogState) -> bool) -> LogState {
        loop {
            take_turn().await;
            // The caller's code sees a clone: it may call the log.
            let state = self.states.borrow_and_update().1.clone();
            if is_wanted(&state) || contain_wakes(self.states.changed()).await.is_err() {
                return state;
            }
        }
    }
}

/// Publishes the state of a log; for implementors of logs.
#[derive(Debug)]
pub struct StateSender {
    states: watch::Sender<(u64, LogState)>,
}

impl Default for StateSender {
    fn default() -> Self {
        Self::new(LogState::default())
    }
}

impl StateSender {
    /// A sender of which `state` is the first.
    #[must_use]
    pub fn new(state: LogState) -> Self {
        Self { states: watch::Sender::new((0, state)) }
    }

    /// A receiver that has seen nothing but the state of this moment.
    #[must_use]
    pub fn subscribe(&self) -> StateReceiver {
        StateReceiver { states: self.states.subscribe() }
    }

    /// Publishes a state, and wakes receivers if it is another one.
    pub fn publish(&self, state: LogState) {
        self.publish_version(None, state);
    }

    /// The same for the state as of `version`: one that is older than what was published changes nothing.
    pub(crate) fn publish_version(&self, version: Option<u64>, state: LogState) {
        let mut former = None;
        self.states.send_if_modified(|(known, published)| {
            if version.is_some_and(|version| version < *known) {
                return false;
            }
            *known = version.unwrap_or(*known + 1);
            let changed = *published != state;
            former = Some(std::mem::replace(published, state));
            changed
        });
        // The error in it is dropped here, where no lock is held.
        drop(former);
    }
}

#[cfg(feature = "engine")]
impl StateSender {
    /// Changes the state, and wakes receivers if that made it another one.
    pub(crate) fn modify(&self, change: impl FnOnce(&mut LogState)) {
        self.modify_version(None, change);
    }

    /// The same as of `version`; nothing if one as new has been published.
    pub(crate) fn modify_version(&self, version: Option<u64>, change: impl FnOnce(&mut LogState)) {
        let mut kept = None;
        self.states.send_if_modified(|(known, state)| {
            if version.is_some_and(|version| version < *known) {
                return false;
            }
            *known = version.unwrap_or(*known);
            let former = state.clone();
            change(state);
            let changed = *state != former;
            kept = Some(former);
            changed
        });
        // The error in it is dropped here, where no lock is held.
        drop(kept);
    }

    /// Whether there is no receiver.
    pub(crate) fn is_idle(&self) -> bool {
        self.states.receiver_count() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_older_state_does_not_replace_a_newer_one() {
        let sender = StateSender::default();
        let mut receiver = sender.subscribe();
        let state = |buffered| LogState { buffered, ..LogState::default() };
        sender.publish_version(Some(2), state(2));
        sender.publish_version(Some(1), state(1));
        assert_eq!(receiver.changed().await.map(|state| state.buffered), Some(2));
        assert_eq!(receiver.current().buffered, 2);
    }

    #[tokio::test]
    async fn a_receiver_of_a_log_that_is_gone_has_the_last_state() {
        let sender = StateSender::default();
        let mut receiver = sender.subscribe();
        drop(sender);
        assert!(receiver.wait_for(LogState::is_closed).await.is_connected());
        assert!(receiver.changed().await.is_none());
    }

    #[test]
    fn states_say_what_they_are_and_are_equal_when_they_say_the_same() {
        let away = |attempt, last_error: Option<Error>| Connection::Reconnecting {
            since: Timestamp(1),
            attempt,
            next_attempt: None,
            last_error: last_error.map(Arc::new),
        };
        let unavailable = || Some(Error::Unavailable(None));
        let all = [
            Connection::Connected,
            Connection::Closed,
            away(0, None),
            away(1, None),
            away(1, unavailable()),
            away(1, Some(Error::Unauthorized(None))),
        ];
        for (at, one) in all.iter().enumerate() {
            for (beside, other) in all.iter().enumerate() {
                assert_eq!(one == other, at == beside, "{one:?} {other:?}");
            }
            let state = LogState { connection: one.clone(), ..LogState::default() };
            assert_eq!((state.is_connected(), state.is_closed()), (at == 0, at == 1), "{one:?}");
            assert_eq!(state.needs_intervention().is_some(), at == 5, "{one:?}");
        }
        assert_eq!(away(0, None), away(0, None));
        assert_eq!(away(1, unavailable()), away(1, unavailable()));
    }

    #[tokio::test]
    async fn what_is_waited_for_is_looked_at_without_a_lock() {
        let sender = StateSender::default();
        let mut receiver = sender.subscribe();
        let state = receiver.wait_for(|_| {
            sender.publish(LogState { dropped: 1, ..LogState::default() });
            true
        });
        assert_eq!(state.await.dropped, 0);
        assert_eq!(receiver.current().dropped, 1);
    }
}
