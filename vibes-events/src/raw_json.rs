//! JSON that is carried along and not interpreted.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::iter;
use std::str::FromStr;

use serde::de::value::MapDeserializer;
use serde::de::{DeserializeOwned, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, forward_to_deserialize_any};
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

/// A JSON value of any kind, kept as text: the arguments of a tool, its output, whatever a newer producer adds.
///
/// It is written as it was read, but for the whitespace between its tokens, which is dropped so that an event
/// always fits on one line. Numbers keep all their digits and objects the order of their members, which a
/// [`Value`] does not promise. Two are equal when their texts are.
///
/// ```
/// use serde::Deserialize;
/// use vibes_events::RawJson;
///
/// let input: RawJson = r#"{ "command": "cargo test", "timeout": 1e3 }"#.parse()?;
/// assert_eq!(input.as_str(), r#"{"command":"cargo test","timeout":1e3}"#);
///
/// // Look into it as a value …
/// assert_eq!(input.to_value()?["command"], "cargo test");
///
/// // … or as what you know it to be.
/// #[derive(Deserialize)]
/// struct Bash {
///     command: String,
/// }
/// let bash: Bash = input.parse_as()?;
/// assert_eq!(bash.command, "cargo test");
///
/// // And make one of a value.
/// assert_eq!(RawJson::from(serde_json::json!([1, null])).as_str(), "[1,null]");
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// That much holds for what `serde_json` reads from text. Where something else stands between, as
/// `#[serde(flatten)]` and tagged or untagged enums do with what they contain, the text is that of the [`Value`] which
/// they leave of it.
#[derive(Clone, Serialize)]
#[serde(transparent)]
pub struct RawJson(Box<RawValue>);

impl RawJson {
    /// The JSON text, without whitespace between its tokens.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// The value, to look into it.
    ///
    /// # Errors
    ///
    /// When a [`Value`] cannot hold it, although it is well-formed: a number out of range, half a surrogate
    /// pair, or more levels than `serde_json` takes.
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        self.parse_as()
    }

    /// The value as a `T`.
    ///
    /// # Errors
    ///
    /// When it is not a `T`.
    pub fn parse_as<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }
}

impl From<Value> for RawJson {
    fn from(value: Value) -> Self {
        Self(to_raw_value(&value).expect("every Value has a JSON text"))
    }
}

impl From<Box<RawValue>> for RawJson {
    fn from(raw: Box<RawValue>) -> Self {
        Self(without_blanks(raw))
    }
}

impl FromStr for RawJson {
    type Err = serde_json::Error;

    fn from_str(json: &str) -> Result<Self, Self::Err> {
        serde_json::from_str(json)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        capture(deserializer).map(Self::from)
    }
}

impl PartialEq for RawJson {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for RawJson {}

impl Hash for RawJson {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RawJson({})", self.as_str())
    }
}

/// `raw` without the whitespace between its tokens; itself, uncopied, when there is none.
fn without_blanks(raw: Box<RawValue>) -> Box<RawValue> {
    let mut blanks = Blanks::default();
    if !raw.get().bytes().any(|byte| blanks.is_blank(byte)) {
        return raw;
    }
    let mut blanks = Blanks::default();
    let text = raw.get().bytes().filter(|&byte| !blanks.is_blank(byte)).collect();
    // What is left is JSON still; were it not, the text with its whitespace would do as well.
    String::from_utf8(text).ok().and_then(|text| RawValue::from_string(text).ok()).unwrap_or(raw)
}

/// Goes over the bytes of a JSON text and tells whitespace between tokens from spaces within strings.
#[derive(Default)]
struct Blanks {
    in_string: bool,
    escaped: bool,
}

impl Blanks {
    fn is_blank(&mut self, byte: u8) -> bool {
        if !self.in_string {
            self.in_string = byte == b'"';
            return matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
        }
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = true,
            b'"' => self.in_string = false,
            _ => {}
        }
        false
    }
}

/// The JSON text of whatever `deserializer` holds.
///
/// `RawValue` alone can be read only from `serde_json`'s own deserialisers: any other, such as the buffer
/// behind `#[serde(flatten)]`, does not know the agreed name by which it asks for the raw text, and offers itself
/// instead. That offer is taken here, by way of a [`Value`].
pub(crate) fn capture<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Box<RawValue>, D::Error> {
    Box::<RawValue>::deserialize(RawOrElse(deserializer))
}

struct RawOrElse<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for RawOrElse<D> {
    type Error = D::Error;

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, RawOrElseVisitor { name, visitor })
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct RawOrElseVisitor<V> {
    name: &'static str,
    visitor: V,
}

impl<'de, V: Visitor<'de>> Visitor<'de> for RawOrElseVisitor<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.visitor.expecting(f)
    }

    /// The deserialiser knows the name: this map holds the raw text.
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.visitor.visit_map(map)
    }

    /// It does not: make the text, and hand it over in the same guise.
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        let text = Value::deserialize(deserializer)?.to_string();
        self.visitor.visit_map(MapDeserializer::new(iter::once((self.name, text))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> RawJson {
        json.parse().unwrap()
    }

    #[test]
    fn only_whitespace_between_tokens_is_dropped() {
        for (json, kept) in [
            (" { \"a b\" :\t[ 1.50 ,\r\n1e400 ] } ", r#"{"a b":[1.50,1e400]}"#),
            (r#"" \" \\" "#, r#"" \" \\""#),
            (r#"["\\", "\"", " \u0020 "]"#, r#"["\\","\""," \u0020 "]"#),
            ("{\"é\": \"\u{a0}\u{2028}\"}", "{\"é\":\"\u{a0}\u{2028}\"}"),
            (
                r#"{"b":1,"a":123456789012345678901234567890}"#,
                r#"{"b":1,"a":123456789012345678901234567890}"#,
            ),
        ] {
            assert_eq!(raw(json).as_str(), kept);
        }
    }

    #[test]
    fn a_buffer_of_serde_is_read_by_way_of_a_value() {
        #[derive(Deserialize, Serialize)]
        #[serde(tag = "kind")]
        enum Tagged {
            One { json: RawJson },
        }

        #[derive(Deserialize)]
        struct Flat {
            #[serde(flatten)]
            inner: Inner,
        }

        #[derive(Deserialize)]
        struct Inner {
            json: RawJson,
            none: Option<RawJson>,
        }

        let Tagged::One { json } =
            serde_json::from_str(r#"{"json":{"a":[1, 2.5, null]},"kind":"One"}"#).unwrap();
        assert_eq!(json.as_str(), r#"{"a":[1,2.5,null]}"#);

        let flat: Flat = serde_json::from_str(r#"{"json":"x","none":null}"#).unwrap();
        assert_eq!((flat.inner.json.as_str(), flat.inner.none), (r#""x""#, None));

        let json: RawJson = serde_json::from_value(serde_json::json!({ "a": 1 })).unwrap();
        assert_eq!(json.as_str(), r#"{"a":1}"#);
    }

    #[test]
    fn depth_is_no_problem_until_it_is_interpreted() {
        let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(raw(&deep).as_str(), deep);
        assert!(raw(&deep).to_value().is_err());
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for json in ["", " ", "{", "nul", "1 2", "{\"a\":1,}", "\"\u{1}\""] {
            assert!(json.parse::<RawJson>().is_err(), "{json:?}");
        }
        assert!(serde_json::from_slice::<RawJson>(b"\"\xff\"").is_err());
    }
}
