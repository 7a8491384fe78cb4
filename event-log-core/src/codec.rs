//! How an event becomes bytes and bytes become an event: JSON unless you say otherwise.

mod finite;
mod verify;

use std::cell::Cell;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

pub use self::verify::VerifyingCodec;
use crate::headers::Headers;

/// Encodes and decodes events of one type.
///
/// Object-safe, so that a log holds an `Arc<dyn Codec<E>>`. Encoding asks nothing of `E` here; decoding asks
/// for [`DeserializeOwned`], because only what reads needs it: a program that only appends can use a type
/// that cannot be decoded at all.
///
/// An encoding is never empty: a log has no way to tell an empty payload from none, and an empty one is
/// refused like any other event that cannot be encoded.
pub trait Codec<E>: Send + Sync {
    /// Appends the encoding of `event` to `out`, leaving what is there already as it is.
    ///
    /// # Errors
    ///
    /// When the event cannot be encoded; what was written to `out` meanwhile is discarded by the caller.
    fn encode(&self, event: &E, out: &mut Vec<u8>) -> Result<(), CodecError>;

    /// The encoding of `event` when it is at hand already and worth sharing rather than copying. The default
    /// has none, and is right for every codec that really encodes.
    fn encoded(&self, event: &E) -> Option<Bytes> {
        let _ = event;
        None
    }

    /// Headers of the codec's own, such as a content type or a schema version. The event's own headers come first, and
    /// those of the same names prevail. The default has none.
    fn headers(&self, event: &E) -> Headers {
        let _ = event;
        Headers::new()
    }

    /// The event that `payload` encodes, appended with these `headers`. A codec may keep a slice of `payload` in it instead
    /// of a copy.
    ///
    /// # Errors
    ///
    /// When the bytes are not an encoded event. A panic counts as an error: the consumer catches it.
    fn decode(&self, payload: &Bytes, headers: &Headers) -> Result<E, CodecError>
    where
        E: DeserializeOwned;

    /// The same, which is what a consumer asks. A codec whose events keep the payload may take it, once nothing can fail
    /// any more: that spares a count of references. The default decodes, and is right for every other codec.
    ///
    /// # Errors
    ///
    /// As for [`decode`](Self::decode); the payload is left as it was.
    fn decode_from(&self, payload: &mut Bytes, headers: &Headers) -> Result<E, CodecError>
    where
        E: DeserializeOwned,
    {
        self.decode(payload, headers)
    }
}

/// Events as JSON objects, through `serde_json`: the default, readable by every producer and tool.
///
/// What JSON has no number for is refused. Other losses are the schema's: [`VerifyingCodec`] finds them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JsonCodec;

impl<E: Serialize> Codec<E> for JsonCodec {
    /// A number that JSON has not (a NaN, an infinity) is refused, although serde_json would write it as `null`: it would be
    /// read as something else, or as nothing.
    fn encode(&self, event: &E, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let has_null = Cell::new(false);
        let formatter = Checking { has_null: &has_null, depth: 0 };
        let mut serializer = serde_json::Serializer::with_formatter(out, formatter);
        event.serialize(&mut serializer).map_err(CodecError::new)?;
        // Few events have a null, and few of those because of such a number: only they are looked at again.
        if has_null.get() {
            event.serialize(finite::Check).map_err(CodecError::new)?;
        }
        Ok(())
    }

    fn decode(&self, payload: &Bytes, _: &Headers) -> Result<E, CodecError>
    where
        E: DeserializeOwned,
    {
        serde_json::from_slice(payload).map_err(|error| CodecError::new(NotThisEvent::from(error)))
    }
}

/// Where decoding JSON stopped. What serde_json says of it quotes the payload, which is the application's secret.
#[derive(Debug, thiserror::Error)]
#[error("{problem}, at line {line}, column {column}")]
struct NotThisEvent {
    problem: &'static str,
    line: usize,
    column: usize,
}

impl From<serde_json::Error> for NotThisEvent {
    fn from(error: serde_json::Error) -> Self {
        let problem = match error.classify() {
            Category::Data => "the JSON is not that of such an event",
            Category::Eof => "the JSON ends too early",
            Category::Syntax | Category::Io => "this is no JSON",
        };
        Self { problem, line: error.line(), column: error.column() }
    }
}

/// serde_json decodes so many arrays and objects within one another, and no more.
const DEEPEST: usize = 127;

/// Compact JSON, with a note of whether a null was written, and no deeper than it can be decoded.
struct Checking<'a> {
    has_null: &'a Cell<bool>,
    depth: usize,
}

impl Checking<'_> {
    fn begin<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(io::Error::other(format!("it is nested more than {DEEPEST} levels deep")));
        }
        writer.write_all(bracket)
    }

    fn end<W: io::Write + ?Sized>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(bracket)
    }
}

impl serde_json::ser::Formatter for Checking<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.has_null.set(true);
        writer.write_all(b"null")
    }

    fn begin_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }
}

/// Why an event could not be encoded or decoded. Cheap to clone; keeps the codec's own error as its source.
#[derive(Clone)]
pub struct CodecError(Arc<dyn StdError + Send + Sync>);

impl CodecError {
    /// Wraps the error of a codec.
    pub fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self(Arc::from(source.into()))
    }
}

impl fmt::Debug for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl StdError for CodecError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        // The wrapper adds no words of its own, so the next link of the chain is the source's source.
        self.0.source()
    }
}

/// The bytes of a record that could not be decoded, and why.
#[non_exhaustive]
pub struct DecodeError {
    /// The payload, exactly as the log holds it.
    pub payload: Bytes,
    /// What the codec said.
    pub error: CodecError,
}

impl fmt::Debug for DecodeError {
    /// Without the payload: events do not appear in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecodeError").field("bytes", &self.payload.len()).field("error", &self.error).finish()
    }
}

impl DecodeError {
    /// For implementors of consumers.
    #[must_use]
    pub const fn new(payload: Bytes, error: CodecError) -> Self {
        Self { payload, error }
    }
}
