//! How a log queues, sends and reconnects: the same settings for every backend.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::limits;

/// The settings of the producing side. Every default has its reason in [`limits`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ProducerConfig {
    /// The longest encoding of one event.
    pub max_event_bytes: usize,
    /// Events that may wait, while the log is away or slower than its producers.
    pub buffer_events: usize,
    /// Encoded bytes that may wait likewise.
    pub buffer_bytes: usize,
    /// What happens when the log is away and the buffer is full.
    pub overflow: Overflow,
    /// Events sent to one partition in one request.
    pub request_events: usize,
    /// Encoded bytes sent to one partition in one request.
    pub request_bytes: usize,
    /// How long an accepted event may wait before it comes back unsent (or as unknown, when it was sent and
    /// the answer got lost). `None`, the default, waits as long as the log is away: the buffer is the bound.
    pub expiry: Option<Duration>,
    /// How to come back after the connection was lost.
    pub reconnect: ReconnectPolicy,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            max_event_bytes: limits::MAX_EVENT_BYTES,
            buffer_events: limits::BUFFER_EVENTS,
            buffer_bytes: limits::BUFFER_BYTES,
            overflow: Overflow::default(),
            request_events: limits::REQUEST_EVENTS,
            request_bytes: limits::REQUEST_BYTES,
            expiry: None,
            reconnect: ReconnectPolicy::default(),
        }
    }
}

impl ProducerConfig {
    /// Refuses settings that cannot be meant.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] with the name of the setting.
    pub fn validate(&self) -> Result<(), Error> {
        let positive = [
            ("max_event_bytes", self.max_event_bytes),
            ("buffer_events", self.buffer_events),
            ("request_events", self.request_events),
            ("request_bytes", self.request_bytes),
        ];
        if let Some((name, _)) = positive.into_iter().find(|&(_, value)| value == 0) {
            return Err(Error::invalid(name, "must be at least 1"));
        }
        if self.max_event_bytes > limits::MAX_EVENT_BYTES_CEILING {
            let ceiling = limits::MAX_EVENT_BYTES_CEILING;
            return Err(Error::invalid("max_event_bytes", format!("must be at most {ceiling}")));
        }
        if self.buffer_bytes < self.max_event_bytes {
            return Err(Error::invalid("buffer_bytes", "must hold at least one event of max_event_bytes"));
        }
        self.reconnect.validate()
    }
}

/// What happens to an event that finds the reconnect buffer full. (While connected a full queue is
/// backpressure, whatever this says.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Overflow {
    /// The oldest buffered event makes room: its ticket resolves as
    /// [`Dropped`](crate::AppendErrorKind::Dropped), and it is counted and warned about. The default: a
    /// producer in a synchronous handler goes on, and the newest events are the ones worth having.
    #[default]
    DropOldest,
    /// The new event comes back as [`Full`](crate::SubmitErrorKind::Full).
    Reject,
    /// `append` waits for space until the deadline, then the new event comes back as
    /// [`Full`](crate::SubmitErrorKind::Full). `submit` never waits, so that it rejects.
    Block {
        /// How long `append` waits for space, also while connected.
        deadline: Duration,
    },
}

impl Overflow {
    /// [`Overflow::Block`] with the default deadline.
    #[must_use]
    pub const fn block() -> Self {
        Self::Block { deadline: limits::BLOCK_DEADLINE }
    }
}

/// When to try again after the connection was lost: exponential backoff with jitter, without an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct ReconnectPolicy {
    /// The wait before the first attempt; it doubles with each one.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// How much of each wait is left to chance, in percent: the wait is shortened by up to this much.
    pub jitter_percent: u32,
}

impl Default for ReconnectPolicy {
    fn default() -> Self {
        Self {
            initial: limits::RECONNECT_INITIAL,
            max: limits::RECONNECT_MAX,
            jitter_percent: limits::RECONNECT_JITTER_PERCENT,
        }
    }
}

impl ReconnectPolicy {
    /// A policy with these waits and the default jitter.
    #[must_use]
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self { initial, max, ..Self::default() }
    }

    fn validate(&self) -> Result<(), Error> {
        if self.initial.is_zero() {
            return Err(Error::invalid("reconnect.initial", "must be longer than zero"));
        }
        if self.max < self.initial {
            return Err(Error::invalid("reconnect.max", "must be at least reconnect.initial"));
        }
        if self.max > limits::LONGEST_WAIT {
            return Err(Error::invalid("reconnect.max", "must be at most a year"));
        }
        if self.jitter_percent > 100 {
            return Err(Error::invalid("reconnect.jitter_percent", "must be at most 100"));
        }
        Ok(())
    }

    /// The wait before attempt number `attempt` (from 0), with `chance` out of `u32::MAX` of its jitter.
    #[must_use]
    pub fn wait(&self, attempt: u32, chance: u32) -> Duration {
        let full = self.initial.saturating_mul(2_u32.saturating_pow(attempt)).min(self.max);
        let share = f64::from(chance) / f64::from(u32::MAX) * f64::from(self.jitter_percent) / 100.0;
        full.min(limits::LONGEST_WAIT).mul_f64(1.0 - share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_double_up_to_the_cap_and_jitter_only_shortens() {
        let policy = ReconnectPolicy {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(5),
            jitter_percent: 20,
        };
        let waits: Vec<_> = (0..5).map(|attempt| policy.wait(attempt, 0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5]);
        assert_eq!(policy.wait(0, u32::MAX), Duration::from_millis(800));
        assert_eq!(policy.wait(u32::MAX, 0), Duration::from_secs(5));
    }

    #[test]
    fn a_setting_that_cannot_be_meant_is_named() {
        let refused = |change: fn(&mut ProducerConfig)| {
            let mut config = ProducerConfig::default();
            change(&mut config);
            match config.validate() {
                Err(Error::InvalidArgument { name, .. }) => name,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(refused(|config| config.buffer_events = 0), "buffer_events");
        assert_eq!(refused(|config| config.buffer_bytes = 1), "buffer_bytes");
        assert_eq!(refused(|config| config.max_event_bytes = usize::MAX), "max_event_bytes");
        assert_eq!(refused(|config| config.reconnect.initial = Duration::ZERO), "reconnect.initial");
        assert_eq!(refused(|config| config.reconnect.max = Duration::ZERO), "reconnect.max");
        assert_eq!(refused(|config| config.reconnect.max = Duration::MAX), "reconnect.max");
        ProducerConfig::default().validate().unwrap();
    }
}
