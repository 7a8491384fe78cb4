//! The envelope: an event with an identity of its own.

use event_log_core::{EventId, Partitionable, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

use crate::event::VibesEvent;
use crate::members::Members;

/// An event with an id that its producer gave it: the event's JSON with `event_id` before the rest.
///
/// The id is a UUIDv7 by the schema. Any UUID is accepted in reading, so that a careless producer costs its
/// events their [time](Self::timestamp) and not their readers the events.
///
/// ```
/// use event_log_core::EventId;
/// use vibes_events::{StoredEvent, VibesEvent};
///
/// let event = VibesEvent::ClientConnected { client_id: "c".into() };
/// let id: EventId = "019a0b1c-2d3e-7f40-8123-456789abcdef".parse()?;
/// let stored = StoredEvent::with_id(id, event);
///
/// let json = serde_json::to_string(&stored)?;
/// assert_eq!(
///     json,
///     r#"{"event_id":"019a0b1c-2d3e-7f40-8123-456789abcdef","type":"client_connected","client_id":"c"}"#
/// );
/// assert_eq!(serde_json::from_str::<StoredEvent>(&json)?, stored);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredEvent {
    /// The identity, which also says [when](Self::timestamp).
    pub event_id: EventId,
    /// The event.
    #[serde(flatten)]
    pub event: VibesEvent,
}

impl StoredEvent {
    /// The event with a fresh UUIDv7, made from the system's clock and random bytes.
    #[must_use]
    pub fn new(event: VibesEvent) -> Self {
        Self::with_id(Uuid::now_v7().into(), event)
    }

    /// The event with this id.
    #[must_use]
    pub const fn with_id(event_id: EventId, event: VibesEvent) -> Self {
        Self { event_id, event }
    }

    /// When the id was made, to the millisecond: its first 48 bits. `None` when it is not a UUIDv7, whose bits
    /// would mean something else.
    ///
    /// ```
    /// use vibes_events::{StoredEvent, VibesEvent};
    ///
    /// let event = VibesEvent::ClientConnected { client_id: "c".into() };
    /// let id = "019a0b1c-2d3e-7f40-8123-456789abcdef".parse()?;
    /// let time = StoredEvent::with_id(id, event).timestamp().expect("it is a UUIDv7");
    /// assert_eq!(time.as_millis(), 0x019a_0b1c_2d3e);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn timestamp(&self) -> Option<Timestamp> {
        const BITS_AFTER_TIME: u32 = 128 - 48;
        if self.event_id.as_uuid().get_version() != Some(uuid::Version::SortRand) {
            return None;
        }
        let millis = u64::try_from(self.event_id.as_u128() >> BITS_AFTER_TIME).ok()?;
        millis.checked_mul(1_000).map(Timestamp)
    }
}

impl Partitionable for StoredEvent {
    fn partition_key(&self) -> Option<&str> {
        self.event.partition_key()
    }

    fn event_id(&self) -> Option<EventId> {
        Some(self.event_id)
    }
}

impl<'de> Deserialize<'de> for StoredEvent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match StoredOrBare::deserialize(deserializer)? {
            StoredOrBare::Stored(stored) => Ok(stored),
            StoredOrBare::Bare(_) => Err(D::Error::missing_field("event_id")),
        }
    }
}

/// An event with or without its envelope: whatever producers in the field have put into the log.
///
/// # Which type for a log
///
/// | the log's event type | reads | an appended event's id |
/// |---|---|---|
/// | [`VibesEvent`] | both, and drops the id of a stored one | made by the log |
/// | [`StoredEvent`] | stored ones only; a bare one is malformed | the producer's own |
/// | `StoredOrBare` | both | the producer's own if stored, else made by the log |
///
/// A program that reads what others wrote, and pages by event id, wants this one. An event that brings no id
/// has the one of its record, so that every event has one to page by:
///
/// ```
/// use event_log_core::EventId;
/// use vibes_events::StoredOrBare;
///
/// let record_id = EventId::from_u128(7); // `record.id`
/// let bare: StoredOrBare = serde_json::from_str(r#"{"type":"client_connected","client_id":"c"}"#)?;
/// assert_eq!(bare.id_or(record_id), record_id);
///
/// let stored: StoredOrBare = serde_json::from_str(
///     r#"{"event_id":"019a0b1c-2d3e-7f40-8123-456789abcdef","type":"client_connected","client_id":"c"}"#,
/// )?;
/// assert_eq!(stored.id_or(record_id).to_string(), "019a0b1c-2d3e-7f40-8123-456789abcdef");
/// assert_eq!(stored.event(), bare.event());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum StoredOrBare {
    /// With an id of its own.
    Stored(StoredEvent),
    /// Without; an `event_id` of `null` is none.
    Bare(VibesEvent),
}

impl StoredOrBare {
    /// The event.
    #[must_use]
    pub const fn event(&self) -> &VibesEvent {
        match self {
            Self::Stored(stored) => &stored.event,
            Self::Bare(event) => event,
        }
    }

    /// The event, without its envelope.
    #[must_use]
    pub fn into_event(self) -> VibesEvent {
        match self {
            Self::Stored(stored) => stored.event,
            Self::Bare(event) => event,
        }
    }

    /// The event's own id, else that of the record which it came in.
    #[must_use]
    pub fn id_or(&self, record_id: EventId) -> EventId {
        self.event_id().unwrap_or(record_id)
    }

    /// The event in an envelope: its own, else one with the id of the record which it came in.
    #[must_use]
    pub fn into_stored_or(self, record_id: EventId) -> StoredEvent {
        match self {
            Self::Stored(stored) => stored,
            Self::Bare(event) => StoredEvent::with_id(record_id, event),
        }
    }
}

impl From<VibesEvent> for StoredOrBare {
    fn from(event: VibesEvent) -> Self {
        Self::Bare(event)
    }
}

impl From<StoredEvent> for StoredOrBare {
    fn from(stored: StoredEvent) -> Self {
        Self::Stored(stored)
    }
}

impl Partitionable for StoredOrBare {
    fn partition_key(&self) -> Option<&str> {
        self.event().partition_key()
    }

    fn event_id(&self) -> Option<EventId> {
        match self {
            Self::Stored(stored) => stored.event_id(),
            Self::Bare(event) => event.event_id(),
        }
    }
}

impl<'de> Deserialize<'de> for StoredOrBare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let members = Members::deserialize(deserializer)?;
        let id: Option<EventId> = members.optional("event_id").map_err(D::Error::custom)?;
        let event = members.into_event().map_err(D::Error::custom)?;
        Ok(match id {
            Some(event_id) => Self::Stored(StoredEvent { event_id, event }),
            None => Self::Bare(event),
        })
    }
}
