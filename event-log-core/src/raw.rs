//! Events whose encoding is already at hand: to copy a log, to look at one without knowing its types, or to
//! prepare events before they are appended.

use std::fmt;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{Codec, CodecError};
use crate::event::{EventId, Partitionable};
use crate::headers::Headers;
use crate::limits;

/// An event that carries its own encoding. With [`RawCodec`] every record of any log decodes into one.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawEvent {
    /// The partition key. A log keeps only the payload, so it is `None` in what a consumer receives.
    pub key: Option<String>,
    /// The identity, when it must survive a copy from one log to another.
    pub id: Option<EventId>,
    /// What travels beside the payload. Not part of the event as serde sees it.
    #[serde(skip)]
    pub headers: Headers,
    /// The encoding, exactly as it is to stand in the log.
    pub payload: Bytes,
}

impl fmt::Debug for RawEvent {
    /// With the length of the payload: it may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawEvent")
            .field("key", &self.key)
            .field("id", &self.id)
            .field("headers", &self.headers)
            .field("bytes", &self.payload.len())
            .finish()
    }
}

impl RawEvent {
    /// An event of these bytes with this key.
    pub fn new(key: impl Into<Option<String>>, payload: impl Into<Bytes>) -> Self {
        Self { key: key.into(), id: None, headers: Headers::new(), payload: payload.into() }
    }
}

impl Partitionable for RawEvent {
    fn partition_key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    fn event_id(&self) -> Option<EventId> {
        self.id
    }
}

/// Takes a [`RawEvent`]'s payload as its encoding and any payload as a [`RawEvent`]. Nothing is copied on the
/// way out, and on the way in only what is shorter than [`limits::SHARED_PAYLOAD_BYTES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RawCodec;

impl Codec<RawEvent> for RawCodec {
    fn encode(&self, event: &RawEvent, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&event.payload);
        Ok(())
    }

    fn encoded(&self, event: &RawEvent) -> Option<Bytes> {
        // Asked before cloning: even that is more than copying a short payload costs.
        (event.payload.len() >= limits::SHARED_PAYLOAD_BYTES).then(|| event.payload.clone())
    }

    fn headers(&self, event: &RawEvent) -> Headers {
        event.headers.clone()
    }

    fn decode(&self, payload: &Bytes, headers: &Headers) -> Result<RawEvent, CodecError>
    where
        RawEvent: DeserializeOwned,
    {
        Ok(RawEvent { key: None, id: None, headers: headers.clone(), payload: payload.clone() })
    }

    fn decode_from(&self, payload: &mut Bytes, headers: &Headers) -> Result<RawEvent, CodecError>
    where
        RawEvent: DeserializeOwned,
    {
        let payload = std::mem::take(payload);
        Ok(RawEvent { key: None, id: None, headers: headers.clone(), payload })
    }
}
