//! Where records go that could not be decoded, when the consumer's policy is to park them.

#[cfg(feature = "engine")]
use std::sync::Arc;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

#[cfg(feature = "engine")]
use crate::codec::CodecError;
#[cfg(feature = "engine")]
use crate::engine::StoredMessage;

use crate::event::{EventId, Partitionable};
use crate::headers::Headers;
use crate::position::{Position, Timestamp};

/// A record that a consumer could not decode, with all that is needed to look at it, or to append it again
/// once the reader knows its shape.
///
/// Its own id is made from the topic, the group and the id of the record: a letter that was written twice (a consumer died
/// between parking and committing) is read once, as far as its readers remember ids, and letters of two groups or two topics
/// are never taken for copies.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The log that the record is in.
    pub topic: String,
    /// The group whose consumer could not read it.
    pub group: String,
    /// Where the record is in its log.
    pub position: Position,
    /// The id of the record.
    pub id: EventId,
    /// When the record was appended.
    pub timestamp: Timestamp,
    /// What the codec said.
    pub reason: String,
    /// The payload, exactly as it is in its log. It serialises as base64.
    #[serde(serialize_with = "to_base64", deserialize_with = "from_base64")]
    pub payload: Bytes,
    /// The headers of the record. They serialise as names and base64, also where there are none: formats that do not say the
    /// names of fields cannot read a letter that leaves one out.
    #[serde(default)]
    #[serde(serialize_with = "headers_to_base64", deserialize_with = "headers_from_base64")]
    pub headers: Headers,
}

impl fmt::Debug for DeadLetter {
    /// With the length of the payload: what it says is the application's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("topic", &self.topic)
            .field("group", &self.group)
            .field("position", &self.position)
            .field("id", &self.id)
            .field("timestamp", &self.timestamp)
            .field("reason", &self.reason)
            .field("bytes", &self.payload.len())
            .field("headers", &self.headers)
            .finish()
    }
}

impl Partitionable for DeadLetter {
    /// The letters of one group stay together and in order.
    fn partition_key(&self) -> Option<&str> {
        Some(&self.group)
    }

    fn event_id(&self) -> Option<EventId> {
        Some(letter_id(&self.topic, &self.group, self.id))
    }
}

/// Where the letters of one consumer come from.
#[cfg(feature = "engine")]
#[derive(Clone, Debug)]
pub(crate) struct LetterFrom {
    topic: Arc<str>,
    group: Arc<str>,
}

#[cfg(feature = "engine")]
impl LetterFrom {
    pub(crate) const fn new(topic: Arc<str>, group: Arc<str>) -> Self {
        Self { topic, group }
    }

    /// The id of the letter about a record.
    pub(crate) fn letter_id(&self, record: EventId) -> EventId {
        letter_id(&self.topic, &self.group, record)
    }

    pub(crate) fn letter(
        &self,
        position: Position,
        record: &StoredMessage,
        error: &CodecError,
    ) -> DeadLetter {
        DeadLetter {
            topic: self.topic.as_ref().to_owned(),
            group: self.group.as_ref().to_owned(),
            position,
            id: record.id,
            timestamp: record.timestamp,
            reason: shown(error),
            payload: record.payload.clone(),
            headers: record.headers.clone(),
        }
    }
}

/// What the error says; it is the application's, and may not be able to.
#[cfg(feature = "engine")]
fn shown(error: &CodecError) -> String {
    let shown = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| error.to_string()));
    shown.unwrap_or_else(|panic| {
        crate::contain::contain(|| drop(panic));
        "the error of the codec cannot be shown".to_owned()
    })
}

/// A version 5 UUID (RFC 9562) of where the letter comes from.
fn letter_id(topic: &str, group: &str, record: EventId) -> EventId {
    const LETTERS: Uuid = Uuid::from_u128(0x6d1c_5c2e_9a37_4f0b_8f5e_0b9e_21c4_77aa);
    let mut name = Vec::with_capacity(topic.len() + group.len() + 32);
    for part in [topic.as_bytes(), group.as_bytes()] {
        // With its length, so that no two ways to cut a name are the same.
        name.extend_from_slice(&(part.len() as u64).to_le_bytes());
        name.extend_from_slice(part);
    }
    name.extend_from_slice(&record.as_u128().to_le_bytes());
    Uuid::new_v5(&LETTERS, &name).into()
}

fn to_base64<S: Serializer>(payload: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(payload))
}

fn headers_to_base64<S: Serializer>(headers: &Headers, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(headers.iter().map(|(name, value)| (name, STANDARD.encode(value))))
}

fn headers_from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Headers, D::Error> {
    let mut headers = Headers::new();
    for (name, text) in Vec::<(String, String)>::deserialize(deserializer)? {
        let value = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        headers.insert(&name, value).map_err(serde::de::Error::custom)?;
    }
    Ok(headers)
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
    let text = String::deserialize(deserializer)?;
    STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
}
