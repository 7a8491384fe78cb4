//! User headers on Iggy's wire: name and value, each with a kind and a length.

use bytes::Bytes;
use event_log_core::Headers;
use iggy::prelude::HeaderKind;
use iggy_binary_protocol::{WireUserHeaderIterator, encode_user_headers, validate_user_headers};

/// The headers as the server stores them; `None` when there are none. A name is a string, a value is raw bytes.
pub(super) fn encode(headers: &Headers) -> Option<Bytes> {
    if headers.is_empty() {
        return None;
    }
    let (name_kind, value_kind) = (HeaderKind::String.as_code(), HeaderKind::Raw.as_code());
    let entries: Vec<_> =
        headers.iter().map(|(name, value)| (name_kind, name.as_bytes(), value_kind, &value[..])).collect();
    let mut encoded = bytes::BytesMut::with_capacity(headers.bytes());
    encode_user_headers(&entries, &mut encoded);
    Some(encoded.freeze())
}

/// The headers of a stored message. A value of any kind is shown as its bytes, and so is a name, where these are text.
/// Headers that are damaged, and names that are no text, are left out: the record itself is good.
pub(super) fn decode(encoded: Option<Bytes>) -> Headers {
    let mut headers = Headers::new();
    let Some(encoded) = encoded.filter(|encoded| !encoded.is_empty()) else { return headers };
    if let Err(error) = validate_user_headers(&encoded) {
        tracing::debug!(%error, "the user headers of a message are damaged, and are left out");
        return headers;
    }
    for entry in WireUserHeaderIterator::new(&encoded) {
        let Ok(name) = std::str::from_utf8(entry.key) else { continue };
        if let Err(error) = headers.insert(name, encoded.slice_ref(entry.value)) {
            tracing::debug!(%error, "a user header of a message is left out");
        }
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_wire() {
        let mut headers = Headers::new();
        headers.insert("traceparent", "00-ab-cd-01").unwrap();
        headers.insert(&"n".repeat(255), vec![0xff; 255]).unwrap();
        assert_eq!(decode(encode(&headers)), headers);
        assert_eq!(encode(&headers).unwrap().len(), headers.bytes());
        assert_eq!(encode(&Headers::new()), None);
        assert_eq!(decode(None), Headers::new());
    }

    #[test]
    fn foreign_kinds_are_shown_as_their_bytes_and_damage_as_nothing() {
        let mut encoded = bytes::BytesMut::new();
        let number = 7_u32.to_le_bytes();
        encode_user_headers(
            &[(2, b"count", 12, &number[..]), (12, &[0xff; 4], 2, b"no text for a name")],
            &mut encoded,
        );
        let headers = decode(Some(encoded.clone().freeze()));
        assert_eq!(headers.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["count"]);
        assert_eq!(headers.get("count").map(|value| &value[..]), Some(&number[..]));
        encoded.truncate(encoded.len() - 1);
        assert!(decode(Some(encoded.freeze())).is_empty());
    }
}
