//! The errors of submitting and appending.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use thiserror::Error as ThisError;

use super::Error;
use crate::codec::CodecError;
use crate::event::EventId;
use crate::receipt::Receipt;

/// Why an event was turned away at the door: it was never queued and is certainly not in the log.
#[derive(Clone, Debug, ThisError)]
#[non_exhaustive]
pub enum SubmitErrorKind {
    /// Its encoding is longer than the log takes.
    #[error("the event has {bytes} bytes, and the log takes at most {limit}")]
    TooLarge {
        /// The length of the encoding.
        bytes: usize,
        /// The limit, see [`limits::MAX_EVENT_BYTES`](crate::limits::MAX_EVENT_BYTES).
        limit: usize,
    },
    /// It could not be encoded.
    #[error("the event cannot be encoded")]
    Encode(#[source] CodecError),
    /// The queue is full: the log is slower than its producers, or away with a policy that says so.
    #[error("the queue of the log is full")]
    Full,
    /// The log has been closed.
    #[error("the log is closed")]
    Closed,
    /// Another event of the same batch was turned away, and a batch is taken whole or not at all.
    #[error("another event of the batch was turned away")]
    BatchRefused,
}

/// An event that [`submit`](crate::EventLog::submit) turned away, with the event.
pub struct SubmitError<E> {
    /// The event, as it came.
    pub event: E,
    /// Why.
    pub kind: SubmitErrorKind,
}

impl<E> SubmitError<E> {
    /// Whether the same event may be taken later.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, SubmitErrorKind::Full | SubmitErrorKind::BatchRefused)
    }

    /// Always false: what was turned away is not in the log.
    #[must_use]
    pub const fn may_have_taken_effect(&self) -> bool {
        false
    }
}

impl<E> fmt::Debug for SubmitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitError").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl<E> fmt::Display for SubmitError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.kind, f)
    }
}

impl<E> StdError for SubmitError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.kind.source()
    }
}

/// Why an append did not end in a committed event.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum AppendErrorKind {
    /// Turned away before it was queued.
    #[error(transparent)]
    Rejected(SubmitErrorKind),
    /// Dropped from the full reconnect buffer to make room for a newer event.
    #[error("dropped from the full reconnect buffer")]
    Dropped,
    /// Not sent before the log was closed, or before its last handle was dropped.
    #[error("not sent before the log closed")]
    Closed,
    /// Not sent within the configured deadline.
    #[error("not sent within {0:?}")]
    Expired(Duration),
    /// Refused by the backend.
    #[error("refused by the log")]
    Refused(#[source] Error),
    /// Sent, but it could not be learnt in time whether it arrived.
    #[error("sent, but whether it arrived could not be learnt")]
    Unknown(#[source] Option<Error>),
}

/// An append that did not end in a committed event. The event comes back with it.
///
/// [`may_have_taken_effect`](Self::may_have_taken_effect) tells the two honest outcomes apart: *not
/// appended* (false) and *unknown* (true).
pub struct AppendError<E> {
    // Boxed, so that a `Result` around it costs what its success costs.
    inner: Box<AppendErrorInner<E>>,
}

struct AppendErrorInner<E> {
    event: E,
    id: Option<EventId>,
    failure: AppendErrorKind,
}

impl<E> AppendError<E> {
    /// The failure of an event that was queued with this id; for implementors of logs.
    #[must_use]
    pub fn new(event: E, id: EventId, failure: AppendErrorKind) -> Self {
        Self { inner: Box::new(AppendErrorInner { event, id: Some(id), failure }) }
    }

    /// The failure of an event whose log is gone without a word about it.
    pub(crate) fn abandoned(event: E) -> Self {
        Self {
            inner: Box::new(AppendErrorInner { event, id: None, failure: AppendErrorKind::Unknown(None) }),
        }
    }

    /// Why.
    #[must_use]
    pub const fn kind(&self) -> &AppendErrorKind {
        &self.inner.failure
    }

    /// The event.
    #[must_use]
    pub const fn event(&self) -> &E {
        &self.inner.event
    }

    /// Takes the event out.
    #[must_use]
    pub fn into_event(self) -> E {
        self.inner.event
    }

    /// Takes both out.
    #[must_use]
    pub fn into_parts(self) -> (E, AppendErrorKind) {
        (self.inner.event, self.inner.failure)
    }

    /// The id that the event was queued with: after an unknown outcome, the one to look for in the log.
    #[must_use]
    pub const fn event_id(&self) -> Option<EventId> {
        self.inner.id
    }

    /// Whether appending the same event again may succeed. After an *unknown* outcome that may make a
    /// second copy, unless the event brings its own [id](crate::Partitionable::event_id).
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match &self.inner.failure {
            AppendErrorKind::Rejected(SubmitErrorKind::Full | SubmitErrorKind::BatchRefused)
            | AppendErrorKind::Dropped
            | AppendErrorKind::Expired(_)
            | AppendErrorKind::Unknown(_) => true,
            AppendErrorKind::Refused(error) => error.is_retryable(),
            AppendErrorKind::Rejected(_) | AppendErrorKind::Closed => false,
        }
    }

    /// Whether the event may be in the log all the same.
    #[must_use]
    pub const fn may_have_taken_effect(&self) -> bool {
        matches!(self.inner.failure, AppendErrorKind::Unknown(_))
    }
}

impl<E> From<SubmitError<E>> for AppendError<E> {
    fn from(SubmitError { event, kind }: SubmitError<E>) -> Self {
        let failure = AppendErrorKind::Rejected(kind);
        Self { inner: Box::new(AppendErrorInner { event, id: None, failure }) }
    }
}

impl<E> fmt::Debug for AppendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppendError")
            .field("id", &self.inner.id)
            .field("failure", &self.inner.failure)
            .finish_non_exhaustive()
    }
}

impl<E> fmt::Display for AppendError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.inner.failure, f)
    }
}

impl<E> StdError for AppendError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.inner.failure.source()
    }
}

/// A batch of which not every event was taken. Each event has its own outcome.
pub struct BatchError<E> {
    outcomes: Vec<Result<Receipt<E>, AppendError<E>>>,
}

impl<E> BatchError<E> {
    /// The outcomes in the order of the batch; for implementors of logs.
    #[must_use]
    pub const fn new(outcomes: Vec<Result<Receipt<E>, AppendError<E>>>) -> Self {
        Self { outcomes }
    }

    /// The outcome of each event, in the order of the batch.
    pub fn outcomes(&self) -> &[Result<Receipt<E>, AppendError<E>>] {
        &self.outcomes
    }

    /// Takes the outcomes out.
    pub fn into_outcomes(self) -> Vec<Result<Receipt<E>, AppendError<E>>> {
        self.outcomes
    }

    /// The events that did not end in a receipt, with their places in the batch.
    pub fn failures(&self) -> impl Iterator<Item = (usize, &AppendError<E>)> {
        self.outcomes.iter().enumerate().filter_map(|(at, outcome)| Some((at, outcome.as_ref().err()?)))
    }

    /// The failure that says most: an event's own, before the ones that only followed from it.
    fn cause(&self) -> Option<&AppendError<E>> {
        let follows = |error: &AppendError<E>| {
            matches!(error.kind(), AppendErrorKind::Rejected(SubmitErrorKind::BatchRefused))
        };
        self.failures().map(|(_, error)| error).min_by_key(|error| follows(error))
    }

    /// Whether appending the failed events again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.cause().is_some_and(AppendError::is_retryable)
    }

    /// Whether a failed event may be in the log all the same.
    #[must_use]
    pub fn may_have_taken_effect(&self) -> bool {
        self.failures().any(|(_, error)| error.may_have_taken_effect())
    }
}

impl<E> fmt::Debug for BatchError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.failures()).finish()
    }
}

impl<E> fmt::Display for BatchError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} events were not appended", self.failures().count(), self.outcomes.len())?;
        self.cause().map_or(Ok(()), |error| write!(f, ", the first of them: {error}"))
    }
}

impl<E> StdError for BatchError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause().and_then(StdError::source)
    }
}
