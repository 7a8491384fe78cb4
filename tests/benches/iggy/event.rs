//! The events that all contenders move: JSON of 200 bytes, from 64 sessions, eight of them to each of 8 partitions.

use std::time::Duration;

use bytes::Bytes;
use event_log_core::{Partitionable, partition_of};
use iggy::prelude::IggyMessage;
use serde::{Deserialize, Serialize};

use crate::Failure;

pub(crate) const EVENT_BYTES: usize = 200;
pub(crate) const SESSIONS: usize = 64;
pub(crate) const PARTITIONS: u32 = 8;

/// What an application would append.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Event {
    /// First, so that an audit finds it without decoding the rest.
    pub(crate) number: u64,
    pub(crate) session: String,
    pub(crate) text: String,
}

impl Partitionable for Event {
    fn partition_key(&self) -> Option<&str> {
        Some(&self.session)
    }
}

/// What stands before the number in the JSON of an event.
const BEFORE_NUMBER: &[u8] = br#"{"number":"#;

/// The number of an encoded event.
pub(crate) fn number_of(payload: &[u8]) -> Option<u64> {
    let digits = payload.strip_prefix(BEFORE_NUMBER)?;
    let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
    std::str::from_utf8(&digits[..end]).ok()?.parse().ok()
}

/// Makes the events. The same seed makes the same ones.
pub(crate) struct Events {
    sessions: Vec<String>,
    partitions: Vec<u32>,
    /// Letters to cut texts from.
    letters: String,
}

/// How many letters there are to cut from: more than one event needs, by a prime number.
const LETTERS: usize = EVENT_BYTES + 997;

impl Events {
    pub(crate) fn new(seed: u64) -> Self {
        let each = SESSIONS / PARTITIONS as usize;
        let (mut sessions, mut taken) = (Vec::with_capacity(SESSIONS), [0; PARTITIONS as usize]);
        for name in (0..).map(|n| format!("session-{n:04}")) {
            let partition = partition_of(&name, PARTITIONS).0 as usize;
            if taken[partition] < each {
                taken[partition] += 1;
                sessions.push(name);
            }
            if sessions.len() == SESSIONS {
                break;
            }
        }
        let partitions = sessions.iter().map(|name| partition_of(name, PARTITIONS).0).collect();
        let mut state = seed | 1;
        let mut letter = || {
            // Marsaglia's xorshift: the same everywhere, and no dependency.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'a' + (state % 26) as u8)
        };
        Self { sessions, partitions, letters: (0..LETTERS).map(|_| letter()).collect() }
    }

    fn session(number: u64) -> usize {
        (number % SESSIONS as u64) as usize
    }

    pub(crate) fn key(&self, number: u64) -> &str {
        &self.sessions[Self::session(number)]
    }

    pub(crate) fn partition(&self, number: u64) -> u32 {
        self.partitions[Self::session(number)]
    }

    pub(crate) fn event(&self, number: u64) -> Event {
        let mut event = Event { number, session: self.key(number).to_owned(), text: String::new() };
        let digits = number.checked_ilog10().unwrap_or(0) as usize + 1;
        let others = r#"{"number":,"session":"","text":""}"#.len() + digits + event.session.len();
        let start = (number % (LETTERS - EVENT_BYTES) as u64) as usize;
        event.text.push_str(&self.letters[start..start + EVENT_BYTES.saturating_sub(others)]);
        event
    }

    pub(crate) fn encoded(&self, number: u64) -> Bytes {
        serde_json::to_vec(&self.event(number)).expect("an event can be written").into()
    }

    /// The event as a message of the SDK, with an id, so that none has to be made while the clock runs.
    pub(crate) fn message(&self, number: u64) -> Result<IggyMessage, Failure> {
        let payload = self.encoded(number);
        Ok(IggyMessage::builder().id(u128::from(number) + 1).payload(payload).build()?)
    }

    /// Messages of these events.
    pub(crate) fn messages(
        &self,
        numbers: impl IntoIterator<Item = u64>,
    ) -> Result<Vec<IggyMessage>, Failure> {
        numbers.into_iter().map(|number| self.message(number)).collect()
    }
}

/// How many events are made ready for so long at this rate.
pub(crate) fn enough_for(window: Duration, per_second: u32) -> u64 {
    (window.as_secs_f64() * f64::from(per_second)) as u64
}
