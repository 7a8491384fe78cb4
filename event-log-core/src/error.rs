//! What can go wrong, by operation. Every error answers two separate questions:
//!
//! * `is_retryable`: is it worth doing the same again?
//! * `may_have_taken_effect`: may the operation have happened although it failed?
//!
//! An error that hands events back keeps them until they are taken out. Sources are kept as sources.

mod append;
mod commit;

use std::error::Error as StdError;
use std::time::Duration;

use thiserror::Error as ThisError;

pub use self::append::{AppendError, AppendErrorKind, BatchError, SubmitError, SubmitErrorKind};
pub use self::commit::{CommitError, CommitErrorKind};
use crate::codec::CodecError;
use crate::position::Position;

/// The error beneath an error, whatever a backend's client library returned.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What can go wrong with a log or a consumer, apart from appending and committing.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The backend cannot be reached now; whoever owns the connection is already trying again.
    #[error("the log is not reachable")]
    Unavailable(#[source] Option<BoxError>),
    /// The backend did not answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// The log has been closed.
    #[error("the log is closed")]
    Closed,
    /// The topic exists with other properties than the ones asked for.
    #[error("the topic exists with {property} = {found}, not {expected}")]
    TopologyMismatch {
        /// Which property, as the configuration names it.
        property: &'static str,
        /// What the configuration asks for.
        expected: String,
        /// What the log has.
        found: String,
    },
    /// The backend refused the credentials, or they do not permit the operation.
    #[error("the log refused the credentials")]
    Unauthorized(#[source] Option<BoxError>),
    /// An argument or a setting cannot be meant like this.
    #[error("{name}: {problem}")]
    InvalidArgument {
        /// Which argument or setting.
        name: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// The backend has no such ability; see its documented capabilities.
    #[error("the log does not support {0}")]
    Unsupported(&'static str),
    /// A record could not be decoded and the consumer's policy is to halt there. The consumer stays there
    /// until it seeks past the record.
    #[error("the record at {position} cannot be decoded")]
    Poisoned {
        /// Where the record is.
        position: Position,
        /// What the codec said.
        #[source]
        error: CodecError,
    },
    /// The letter of a record could not be appended to the dead-letter log. It is tried again, ever more rarely; where that
    /// cannot help the record is delivered as it is.
    #[error("the record at {position} could not be parked in the dead-letter log")]
    DeadLetter {
        /// Where the record is.
        position: Position,
        /// Whether the dead-letter log may take it later.
        retryable: bool,
        /// Whether the letter may be in the dead-letter log all the same.
        may_have_taken_effect: bool,
        /// Why not.
        #[source]
        error: BoxError,
    },
    /// The backend failed in a way that none of the above describes.
    #[error("the log failed")]
    Backend {
        /// Whether the backend calls it transient.
        retryable: bool,
        /// Whether the operation may have happened all the same.
        may_have_taken_effect: bool,
        /// What the backend said.
        #[source]
        error: BoxError,
    },
}

impl Error {
    /// Whether the same call may succeed later without anything being changed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Timeout(_) => true,
            Self::Backend { retryable, .. } | Self::DeadLetter { retryable, .. } => *retryable,
            _ => false,
        }
    }

    /// Whether the operation may have happened although it failed.
    #[must_use]
    pub const fn may_have_taken_effect(&self) -> bool {
        match self {
            Self::Timeout(_) => true,
            Self::Backend { may_have_taken_effect, .. } | Self::DeadLetter { may_have_taken_effect, .. } => {
                *may_have_taken_effect
            }
            _ => false,
        }
    }

    /// The error for the first of several partitions that it concerns, and its like for each of the others: what is beneath an
    /// error can be told once.
    #[cfg(feature = "engine")]
    pub(crate) fn repeated(self) -> impl Iterator<Item = Self> {
        let like = self.like();
        std::iter::once(self).chain(std::iter::repeat_with(move || like.like()))
    }

    #[cfg(feature = "engine")]
    fn like(&self) -> Self {
        match self {
            Self::Unavailable(_) => Self::Unavailable(None),
            Self::Timeout(after) => Self::Timeout(*after),
            other => Self::Backend {
                retryable: other.is_retryable(),
                may_have_taken_effect: other.may_have_taken_effect(),
                error: "it failed as for the first of the partitions".into(),
            },
        }
    }

    /// An [`Error::InvalidArgument`].
    pub fn invalid(name: &'static str, problem: impl Into<String>) -> Self {
        Self::InvalidArgument { name, problem: problem.into() }
    }
}
