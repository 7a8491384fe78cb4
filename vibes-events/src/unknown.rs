//! Events that are newer than this crate.

use serde::ser::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::members::Members;
use crate::raw_json::RawJson;

/// An event of a type that this version of the crate does not know, with everything it said.
///
/// It is written as it was read: every member in its place, and every value as [`RawJson`] keeps it.
///
/// It comes only from reading; there is no other way to make one.
///
/// ```
/// use vibes_events::VibesEvent;
///
/// let json = r#"{"type":"session_forked","session_id":"s","parent":{"id":"p","at":1.50}}"#;
/// let VibesEvent::Unknown(unknown) = serde_json::from_str(json)? else {
///     panic!("this version knows the type");
/// };
/// assert_eq!(unknown.event_type(), "session_forked");
/// assert_eq!(unknown.session_id(), Some("s"));
/// assert_eq!(unknown.get("parent").map(|json| json.as_str()), Some(r#"{"id":"p","at":1.50}"#));
/// assert_eq!(serde_json::to_string(&unknown)?, json);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownEvent {
    event_type: String,
    session_id: Option<String>,
    members: Vec<(String, RawJson)>,
}

impl UnknownEvent {
    pub(crate) fn new(event_type: &str, members: Members) -> Self {
        let members: Vec<(String, RawJson)> =
            members.into_iter().map(|(name, json)| (name, RawJson::from(json))).collect();
        // A type that is not known may well use the name for something other than a string.
        let session_id = last(&members, "session_id").and_then(|json| json.parse_as().ok());
        Self { event_type: event_type.to_owned(), session_id, members }
    }

    /// The event's `type`.
    #[must_use]
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The event's `session_id`, when it has one that is a string.
    #[must_use]
    pub fn session_id(&self) -> Option<&str> {
        self.session_id.as_deref()
    }

    /// The member of this name; the last, as most readers of JSON take it, when there is more than one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&RawJson> {
        last(&self.members, name)
    }

    /// The members in the order in which they were read, the `type` among them.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&str, &RawJson)> {
        self.members.iter().map(|(name, json)| (name.as_str(), json))
    }

    /// The whole event, to look into it.
    ///
    /// # Errors
    ///
    /// As [`RawJson::to_value`].
    pub fn to_value(&self) -> Result<Value, serde_json::Error> {
        let value = |(name, json): (&str, &RawJson)| Ok((name.to_owned(), json.to_value()?));
        self.members().map(value).collect::<Result<Map<_, _>, _>>().map(Value::Object)
    }
}

impl Serialize for UnknownEvent {
    /// Member by member and not as one text, so that it can be flattened into an envelope.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.members())
    }
}

fn last<'a>(members: &'a [(String, RawJson)], name: &str) -> Option<&'a RawJson> {
    members.iter().rev().find_map(|(member, json)| (member == name).then_some(json))
}
