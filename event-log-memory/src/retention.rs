//! How long a topic keeps its records.

use std::fmt;
use std::time::Duration;

/// How long records are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Retention {
    /// Records per partition; the oldest go first.
    pub max_records: Option<u64>,
    /// How old a record may get.
    pub max_age: Option<Duration>,
}

impl Retention {
    /// Everything is kept: the default, and what a log is for. Memory is the limit.
    pub const FOREVER: Self = Self { max_records: None, max_age: None };

    /// At most this many records per partition.
    #[must_use]
    pub const fn records(max: u64) -> Self {
        Self { max_records: Some(max), max_age: None }
    }

    /// At most this age.
    #[must_use]
    pub const fn age(max: Duration) -> Self {
        Self { max_records: None, max_age: Some(max) }
    }
}

impl fmt::Display for Retention {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.max_records, self.max_age) {
            (None, None) => f.write_str("forever"),
            (Some(records), None) => write!(f, "{records} records"),
            (None, Some(age)) => write!(f, "{age:?}"),
            (Some(records), Some(age)) => write!(f, "{records} records, {age:?}"),
        }
    }
}
