//! What the log asks of an event: a partition key, and optionally an identity of its own.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::headers::Headers;

/// An event that says which other events it must stay in order with.
///
/// Events with the same key share a partition and are read in the order in which they were submitted.
///
/// ```
/// use event_log_core::Partitionable;
///
/// struct Order { customer: String }
///
/// impl Partitionable for Order {
///     fn partition_key(&self) -> Option<&str> {
///         Some(&self.customer)
///     }
/// }
/// ```
pub trait Partitionable {
    /// The key whose events keep their order, or `None` for an event that needs no company: it is
    /// spread over the partitions and nothing is promised about its order.
    ///
    /// Any string is legal, the empty one too.
    fn partition_key(&self) -> Option<&str>;

    /// The event's own identity, when it has one.
    ///
    /// The default, `None`, has the log give each event a fresh [`EventId`] as it is submitted. An event
    /// that returns its own id can be submitted again after an unknown outcome: consumers drop the second
    /// copy when it is near enough to the first (see [`limits::DEDUP_WINDOW_RECORDS`](crate::limits::DEDUP_WINDOW_RECORDS)).
    /// Zero counts as none.
    fn event_id(&self) -> Option<EventId> {
        None
    }

    /// What is to travel beside the event: a trace context, say. The default has none.
    fn headers(&self) -> Headers {
        Headers::new()
    }
}

macro_rules! forward_partitionable {
    ($($pointer:ty),*) => {$(
        impl<T: Partitionable + ?Sized> Partitionable for $pointer {
            fn partition_key(&self) -> Option<&str> {
                (**self).partition_key()
            }

            fn event_id(&self) -> Option<EventId> {
                (**self).event_id()
            }

            fn headers(&self) -> Headers {
                (**self).headers()
            }
        }
    )*};
}

forward_partitionable!(&T, Box<T>, Arc<T>);

/// The 128-bit identity of an event, kept on every retry: a UUIDv7 unless the event brought its own.
///
/// Serialises as the usual hyphenated UUID text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// The id with these 128 bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The 128 bits.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// The id as a [`Uuid`].
    #[must_use]
    pub const fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<EventId> for Uuid {
    fn from(id: EventId) -> Self {
        id.0
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Own;

    impl Partitionable for Own {
        fn partition_key(&self) -> Option<&str> {
            Some("k")
        }

        fn event_id(&self) -> Option<EventId> {
            Some(EventId::from_u128(7))
        }
    }

    #[test]
    fn pointers_forward_every_method() {
        fn check(event: impl Partitionable) {
            assert_eq!(event.partition_key(), Some("k"));
            assert_eq!(event.event_id(), Some(EventId::from_u128(7)));
        }
        check(&Own);
        check(Box::new(Own));
        check(Arc::new(Own));
        check(Box::new(Own) as Box<dyn Partitionable>);
    }
}
