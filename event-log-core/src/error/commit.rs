//! The error of committing.

use std::error::Error as StdError;
use std::fmt;

use thiserror::Error as ThisError;

use super::Error;
use crate::position::{Cursor, Offset, PartitionId};

/// A commit that did not store everything it was asked to. What it did store is stored.
#[derive(Debug)]
pub struct CommitError {
    stored: Cursor,
    failures: Vec<(PartitionId, CommitErrorKind)>,
}

/// Why the offset of one partition was not stored.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum CommitErrorKind {
    /// The cursor goes beyond what this consumer has delivered. A commit with such a partition stores
    /// nothing at all: the caller has mixed up its cursors.
    #[error("asked to commit up to {asked}, but only what is before {delivered} was delivered")]
    BeyondDelivered {
        /// The next offset that the cursor names.
        asked: Offset,
        /// The next offset after the last delivered record.
        delivered: Offset,
    },
    /// The cursor was read by another consumer, or of another topic: it names a partition that the log has not (one that came
    /// after the log was opened is none of those), or an epoch that is none of this consumer's. A commit with such a partition
    /// stores nothing at all.
    #[error("the cursor was not read by this consumer")]
    Foreign,
    /// The cursor is from before a seek, or from before the partition was truncated: its offset means nothing any more.
    #[error("the cursor is from before a seek or a truncation")]
    Superseded,
    /// The partition is another member's: it has gone there, and the uncommitted records with it, or never was this one's.
    #[error("the partition belongs to another member of the group now")]
    Revoked,
    /// The log failed to store it.
    #[error(transparent)]
    Failed(Error),
}

impl CommitErrorKind {
    /// Whether committing the same cursor again may succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Failed(error) => error.is_retryable(),
            Self::BeyondDelivered { .. } | Self::Foreign | Self::Superseded | Self::Revoked => false,
        }
    }
}

#[cfg(feature = "engine")]
impl CommitErrorKind {
    /// Whether the caller has mixed up its cursors.
    pub(crate) const fn is_mix_up(&self) -> bool {
        matches!(self, Self::BeyondDelivered { .. } | Self::Foreign)
    }
}

impl CommitError {
    /// A commit that stored `stored` and failed for the other partitions; for implementors of consumers.
    #[must_use]
    pub const fn new(stored: Cursor, failures: Vec<(PartitionId, CommitErrorKind)>) -> Self {
        Self { stored, failures }
    }

    /// What was stored all the same.
    #[must_use]
    pub const fn stored(&self) -> &Cursor {
        &self.stored
    }

    /// The partitions whose offsets were not stored, and why.
    #[must_use]
    pub fn failures(&self) -> &[(PartitionId, CommitErrorKind)] {
        &self.failures
    }

    /// Whether committing the same cursor again may store what is missing. Always safe: committing twice
    /// changes nothing.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.failures.iter().any(|(_, failure)| failure.is_retryable())
    }

    /// Whether something was stored, or may have been.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        let may_have = |failure: &CommitErrorKind| match failure {
            // What was on its way when the connection was lost may have arrived.
            CommitErrorKind::Failed(error) => {
                error.may_have_taken_effect() || matches!(error, Error::Unavailable(_))
            }
            _ => false,
        };
        !self.stored.is_empty() || self.failures.iter().any(|(_, failure)| may_have(failure))
    }
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not committed:")?;
        for (at, (partition, failure)) in self.failures.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma} partition {partition}: {failure}")?;
        }
        Ok(())
    }
}

impl StdError for CommitError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.failures.first().and_then(|(_, failure)| failure.source())
    }
}
