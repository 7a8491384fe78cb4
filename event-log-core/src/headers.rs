//! What travels beside an event's encoding: named values that the codec does not see as part of the event.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::Error;
use crate::limits;

/// Names with values, in the order in which they were added, each name once.
///
/// An application sets them through [`Partitionable::headers`](crate::Partitionable::headers), a codec through
/// [`Codec::headers`](crate::Codec::headers); a consumer finds them in [`Record::headers`](crate::Record). They have at
/// most [`limits::HEADERS_BYTES`] bytes, which every backend carries. No headers cost no allocation, and clones share one.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// `None` when empty.
    entries: Option<Arc<Vec<Entry>>>,
}

/// A name and its value.
type Entry = (Box<str>, Bytes);

impl Headers {
    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self { entries: None }
    }

    /// Sets a value, in place of any that the name had.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when the name or the value is empty or longer than [`limits::HEADER_NAME_BYTES`] and
    /// [`limits::HEADER_VALUE_BYTES`], or when all together would exceed [`limits::HEADERS_BYTES`].
    pub fn insert(&mut self, name: &str, value: impl Into<Bytes>) -> Result<(), Error> {
        // A copy: it is short, and memory of the application's is freed here and now.
        let value = Bytes::copy_from_slice(&value.into());
        if name.is_empty() || name.len() > limits::HEADER_NAME_BYTES {
            let problem = format!("a name must have 1 to {} bytes", limits::HEADER_NAME_BYTES);
            return Err(Error::invalid("headers", problem));
        }
        if value.is_empty() || value.len() > limits::HEADER_VALUE_BYTES {
            let problem =
                format!("the value of {name:?} must have 1 to {} bytes", limits::HEADER_VALUE_BYTES);
            return Err(Error::invalid("headers", problem));
        }
        let replaced = self.get(name).map_or(0, |old| entry_bytes(name, old));
        let bytes = (self.bytes() - replaced).saturating_add(entry_bytes(name, &value));
        if bytes > limits::HEADERS_BYTES {
            let problem = format!("{bytes} bytes exceed the limit of {}", limits::HEADERS_BYTES);
            return Err(Error::invalid("headers", problem));
        }
        let entries = Arc::make_mut(self.entries.get_or_insert_default());
        match entries.iter_mut().find(|(known, _)| **known == *name) {
            Some((_, known)) => *known = value,
            None => entries.push((name.into(), value)),
        }
        Ok(())
    }

    /// Adds those of `other` whose names are not here yet.
    ///
    /// # Errors
    ///
    /// As for [`insert`](Self::insert); what was added until then stays.
    pub fn extend(&mut self, other: &Self) -> Result<(), Error> {
        if other.is_empty() {
            return Ok(());
        }
        if self.is_empty() {
            self.entries.clone_from(&other.entries);
            return Ok(());
        }
        for (name, value) in other.iter() {
            if self.get(name).is_none() {
                self.insert(name, value.clone())?;
            }
        }
        Ok(())
    }

    /// The value of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Bytes> {
        self.entries.as_deref()?.iter().find(|(known, _)| **known == *name).map(|(_, value)| value)
    }

    /// Names and values, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        self.entries.iter().flat_map(|entries| entries.iter()).map(|(name, value)| (&**name, value))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.as_ref().map_or(0, |entries| entries.len())
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_none()
    }

    /// What they count against [`limits::HEADERS_BYTES`]: names, values, and [`limits::HEADER_OVERHEAD_BYTES`] for each.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.iter().map(|(name, value)| entry_bytes(name, value)).sum()
    }
}

fn entry_bytes(name: &str, value: &Bytes) -> usize {
    name.len() + value.len() + limits::HEADER_OVERHEAD_BYTES
}

impl fmt::Debug for Headers {
    /// Names and lengths: a value may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(name, value)| (name, value.len()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_there_once_and_keeps_its_place() {
        let mut headers = Headers::new();
        headers.insert("a", "1").unwrap();
        headers.insert("b", "2").unwrap();
        headers.insert("a", "3").unwrap();
        let found: Vec<_> = headers.iter().map(|(name, value)| (name, &value[..])).collect();
        assert_eq!(found, [("a", &b"3"[..]), ("b", &b"2"[..])]);
        assert_eq!((headers.len(), headers.get("c")), (2, None));
    }

    #[test]
    fn what_a_backend_cannot_carry_is_refused() {
        let mut headers = Headers::new();
        let longest = "n".repeat(limits::HEADER_NAME_BYTES);
        headers.insert(&longest, "v").unwrap();
        assert!(headers.insert(&(longest + "n"), "v").is_err());
        assert!(headers.insert("", "v").is_err());
        assert!(headers.insert("n", "").is_err());
        assert!(headers.insert("n", vec![0; limits::HEADER_VALUE_BYTES + 1]).is_err());
        let mut number = 0;
        let refused = loop {
            let value = vec![0; limits::HEADER_VALUE_BYTES];
            if let Err(error) = headers.insert(&number.to_string(), value) {
                break error;
            }
            number += 1;
            assert!(headers.bytes() <= limits::HEADERS_BYTES);
        };
        assert!(refused.to_string().contains("exceed"), "{refused}");
        headers.insert("0", vec![1; limits::HEADER_VALUE_BYTES]).unwrap();
    }

    #[test]
    fn a_clone_shares_until_it_is_changed() {
        let mut headers = Headers::new();
        headers.insert("a", "1").unwrap();
        let mut other = headers.clone();
        other.insert("a", "2").unwrap();
        assert_eq!(headers.get("a").map(|value| &value[..]), Some(&b"1"[..]));
        let mut merged = Headers::new();
        merged.insert("b", "0").unwrap();
        merged.extend(&headers).unwrap();
        merged.extend(&other).unwrap();
        assert_eq!(merged.get("a"), headers.get("a"));
    }

    #[test]
    fn debug_output_shows_no_value() {
        let mut headers = Headers::new();
        headers.insert("authorization", "secret").unwrap();
        assert_eq!(format!("{headers:?}"), r#"{"authorization": 6}"#);
    }
}
