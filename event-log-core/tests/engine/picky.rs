//! A log with records that its codec cannot decode.

use std::sync::Arc;

use event_log_core::engine::{LogBuilder, TransportLog};
use event_log_core::{Codec, CodecError, Headers, RawEvent};
use serde::de::DeserializeOwned;

use crate::reading_ahead::{Reach, Server};

/// Cannot decode what begins with `bad`.
pub(crate) struct Picky;

impl Codec<RawEvent> for Picky {
    fn encode(&self, event: &RawEvent, out: &mut Vec<u8>) -> Result<(), CodecError> {
        out.extend_from_slice(&event.payload);
        Ok(())
    }

    fn decode(&self, payload: &bytes::Bytes, _: &Headers) -> Result<RawEvent, CodecError>
    where
        RawEvent: DeserializeOwned,
    {
        if payload.starts_with(b"bad") {
            Err(CodecError::new("bad"))
        } else {
            Ok(RawEvent::new(None, payload.clone()))
        }
    }
}

pub(crate) async fn picky(server: &Arc<Server>) -> TransportLog<RawEvent, Reach> {
    LogBuilder::new(Arc::new(Picky)).open(Arc::new(Reach(Arc::clone(server)))).await.unwrap()
}
