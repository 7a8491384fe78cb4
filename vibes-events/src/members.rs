//! An event on its way in: its members by name, each still a JSON text.
//!
//! Serde's own tagged enums buffer an event in a form that has forgotten the text of its values. Here the buffer *is*
//! text, so that an unknown event, and the JSON that a known one carries, come out as they went in.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Error, Map, Value};

use crate::raw_json::{RawJson, capture};

/// The members of a JSON object in their order, as text.
pub(crate) struct Members(Vec<(String, Box<RawValue>)>);

/// What is told from its members once their `type` is known.
pub(crate) trait FromMembers: Sized {
    /// The event of this type with these members, the `type` still among them.
    fn from_members(event_type: &str, members: Members) -> Result<Self, Error>;
}

/// The body of every event's `Deserialize`.
pub(crate) fn deserialize<'de, T: FromMembers, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    Members::deserialize(deserializer)?.into_event().map_err(D::Error::custom)
}

impl Members {
    /// The event that these are the members of.
    pub(crate) fn into_event<T: FromMembers>(self) -> Result<T, Error> {
        let event_type: String = self.required("type")?;
        T::from_members(&event_type, self).map_err(|error| within(format_args!("{event_type} event"), &error))
    }

    /// A field that has to be there.
    pub(crate) fn required<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, Error> {
        self.read(name)?.ok_or_else(|| Error::missing_field(name))
    }

    /// A field that may be absent.
    pub(crate) fn optional<T: DeserializeOwned + Default>(&self, name: &'static str) -> Result<T, Error> {
        self.read(name).map(Option::unwrap_or_default)
    }

    /// A field of any JSON that has to be there.
    pub(crate) fn required_json(&self, name: &'static str) -> Result<RawJson, Error> {
        let json = self.find(name)?.ok_or_else(|| Error::missing_field(name))?;
        Ok(RawJson::from(json.to_owned()))
    }

    /// A field of any JSON that may be absent, which a `null` says too.
    pub(crate) fn optional_json(&self, name: &'static str) -> Result<Option<RawJson>, Error> {
        let json = self.find(name)?.filter(|json| json.get() != "null");
        Ok(json.map(|json| RawJson::from(json.to_owned())))
    }

    /// Whether there is such a member.
    pub(crate) fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|(member, _)| member == name)
    }

    /// Removes every member of this name.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(member, _)| member != name);
    }

    /// Lets an upcaster make others of these members and the `type`. The rest is not its concern: it stays text, of
    /// which a tree of values could not hold everything.
    pub(crate) fn reshape(
        &mut self,
        old: &[&'static str],
        upcast: fn(Map<String, Value>) -> Map<String, Value>,
    ) -> Result<(), Error> {
        let mut tree = Map::new();
        for &name in old.iter().chain(&["type"]) {
            if let Some(value) = self.read(name)? {
                tree.insert(name.to_owned(), value);
            }
        }
        self.0.retain(|(name, _)| !tree.contains_key(name));
        for (name, value) in upcast(tree) {
            self.0.push((name, to_raw_value(&value)?));
        }
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, Error> {
        let Some(json) = self.find(name)? else { return Ok(None) };
        serde_json::from_str(json.get()).map(Some).map_err(|error| within(format_args!("`{name}`"), &error))
    }

    /// A known field that is there twice is malformed, as serde has it: readers would differ on which counts.
    fn find(&self, name: &'static str) -> Result<Option<&RawValue>, Error> {
        let mut found = self.0.iter().filter(|(member, _)| member == name);
        let json = found.next().map(|(_, json)| &**json);
        if found.next().is_some() { Err(Error::duplicate_field(name)) } else { Ok(json) }
    }
}

impl IntoIterator for Members {
    type Item = (String, Box<RawValue>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

/// Takes objects only: a derived struct would take an array, field by field, too.
struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event, which is a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Vec::with_capacity(8);
        while let Some((name, Captured(json))) = map.next_entry()? {
            members.push((name, json));
        }
        Ok(Members(members))
    }
}

struct Captured(Box<RawValue>);

impl<'de> Deserialize<'de> for Captured {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        capture(deserializer).map(Self)
    }
}

/// `error` with the place where it is put before it, instead of a line and a column that count from the start of a field.
fn within(place: fmt::Arguments<'_>, error: &Error) -> Error {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    Error::custom(format_args!("{place}: {}", message.strip_suffix(&position).unwrap_or(&message)))
}
