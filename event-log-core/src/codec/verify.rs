//! A codec that proves, before an event is accepted, that it can be read.

use bytes::Bytes;
use serde::de::DeserializeOwned;

use super::{Codec, CodecError};
use crate::headers::Headers;

/// Decodes what it has encoded, and refuses an event that does not come back equal.
///
/// Serde makes it easy to write what cannot be read: a field that is skipped, a member that is left out and has no default,
/// an untagged variant that another one takes, a map whose keys are no strings. With [`JsonCodec`](super::JsonCodec) alone
/// such an event is acknowledged and found by its consumers. Wrapped in this it is refused like one that cannot be
/// encoded, and comes back to its producer.
///
/// The price is a decoding, a comparison and a copy of the encoding for each event, on the producer's thread. It is meant for
/// tests, for the first weeks of a schema, and for events that are few and dear. An event that does not equal itself is
/// refused too. The codec decodes with its own headers, and without those that the event brings.
///
/// ```
/// # use event_log_core::{Codec, JsonCodec, VerifyingCodec};
/// #[derive(PartialEq, serde::Serialize, serde::Deserialize)]
/// struct Event {
///     name: String,
///     #[serde(skip)]
///     note: String,
/// }
///
/// let codec = VerifyingCodec::new(JsonCodec);
/// let event = |note: &str| Event { name: "a".into(), note: note.into() };
/// assert!(codec.encode(&event(""), &mut Vec::new()).is_ok());
/// assert!(codec.encode(&event("lost"), &mut Vec::new()).is_err());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyingCodec<C> {
    codec: C,
}

impl<C> VerifyingCodec<C> {
    /// Verifies what this codec encodes.
    pub const fn new(codec: C) -> Self {
        Self { codec }
    }

    fn verify<E>(&self, event: &E, payload: &Bytes) -> Result<(), CodecError>
    where
        E: PartialEq + DeserializeOwned,
        C: Codec<E>,
    {
        let headers = self.codec.headers(event);
        let decoded = self.codec.decode(payload, &headers);
        let decoded = decoded.map_err(|error| CodecError::new(Unreadable(error)))?;
        if decoded == *event { Ok(()) } else { Err(CodecError::new(NotEqual)) }
    }
}

impl<E, C> Codec<E> for VerifyingCodec<C>
where
    E: PartialEq + DeserializeOwned,
    C: Codec<E>,
{
    fn encode(&self, event: &E, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        self.codec.encode(event, out)?;
        let payload = out.get(start..).unwrap_or_default();
        self.verify(event, &Bytes::copy_from_slice(payload))
    }

    fn encoded(&self, event: &E) -> Option<Bytes> {
        // What cannot be verified is encoded instead, which says why.
        self.codec.encoded(event).filter(|payload| self.verify(event, payload).is_ok())
    }

    fn headers(&self, event: &E) -> Headers {
        self.codec.headers(event)
    }

    fn decode(&self, payload: &Bytes, headers: &Headers) -> Result<E, CodecError>
    where
        E: DeserializeOwned,
    {
        self.codec.decode(payload, headers)
    }

    fn decode_from(&self, payload: &mut Bytes, headers: &Headers) -> Result<E, CodecError>
    where
        E: DeserializeOwned,
    {
        self.codec.decode_from(payload, headers)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the encoding of the event cannot be decoded")]
struct Unreadable(#[source] CodecError);

#[derive(Debug, thiserror::Error)]
#[error("the encoding of the event decodes into another event")]
struct NotEqual;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::codec::JsonCodec;
    use crate::raw::{RawCodec, RawEvent};

    fn takes<E: Serialize + DeserializeOwned + PartialEq>(event: &E) -> Result<Vec<u8>, CodecError> {
        let mut out = b"before".to_vec();
        VerifyingCodec::new(JsonCodec).encode(event, &mut out).map(|()| out)
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct LeftOut {
        #[serde(skip_serializing_if = "Vec::is_empty")]
        list: Vec<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Shadowed {
        Float(f64),
        Integer(i64),
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Nested(Option<Option<u8>>);

    #[test]
    fn what_comes_back_equal_is_encoded_as_without() {
        let event = BTreeMap::from([("a".to_owned(), 1)]);
        assert_eq!(takes(&event).expect("it is read"), br#"before{"a":1}"#);
        assert!(takes(&LeftOut { list: vec![1] }).is_ok());
        assert!(takes(&Shadowed::Float(1.5)).is_ok());
        assert!(takes(&Nested(None)).is_ok());
    }

    #[test]
    fn what_does_not_come_back_equal_is_refused() {
        let error = takes(&LeftOut { list: vec![] }).expect_err("a member is missing");
        assert!(error.to_string().contains("cannot be decoded"), "{error}");
        let error = takes(&Shadowed::Integer(1)).expect_err("it is read as the other");
        assert!(error.to_string().contains("another event"), "{error}");
        assert!(takes(&Nested(Some(None))).is_err());
        assert!(takes(&f64::NAN).is_err());
    }

    #[test]
    fn a_shared_encoding_is_verified_too() {
        let codec = VerifyingCodec::new(RawCodec);
        let long = vec![b'x'; crate::limits::SHARED_PAYLOAD_BYTES];
        assert!(codec.encoded(&RawEvent::new(None, long.clone())).is_some());
        // A record has no key of its own: what is read back is not equal.
        let keyed = RawEvent::new("key".to_owned(), long);
        assert!(codec.encoded(&keyed).is_none() && codec.encode(&keyed, &mut Vec::new()).is_err());
    }
}
