//! What an error of Iggy is to the engine.

use event_log_core::engine::SendError;
use event_log_core::{CommitErrorKind, Error};

use crate::sdk::{CallError, ErrorClass};

impl CallError {
    /// As the outcome of anything but a send or a commit.
    pub(crate) fn into_error(self) -> Error {
        match self.class() {
            // The next attempt opens a new connection, and creates the topic when it is missing.
            ErrorClass::NotSent
            | ErrorClass::Ambiguous
            | ErrorClass::SignedOut
            | ErrorClass::NotAssigned
            | ErrorClass::NotFound => Error::Unavailable(Some(Box::new(self))),
            ErrorClass::Forbidden => Error::Unauthorized(Some(Box::new(self))),
            ErrorClass::Failed => self.into_backend(true, true),
            ErrorClass::Transient => self.into_backend(true, false),
            ErrorClass::Refused => self.into_backend(false, false),
            ErrorClass::Done => self.into_backend(false, true),
        }
    }

    /// As the outcome of a send that did not succeed.
    pub(crate) fn into_send_error(self) -> SendError {
        let lost = |error: Self, may_have_taken_effect| SendError::Lost {
            error: Error::Unavailable(Some(Box::new(error))),
            may_have_taken_effect,
        };
        match self.class() {
            ErrorClass::NotSent | ErrorClass::SignedOut | ErrorClass::NotFound => lost(self, false),
            // `Transient` is the last word of a call in which the SDK may have heard others before: that it is not known,
            // say. A send is never answered with `NotAssigned` by a server that works as documented.
            ErrorClass::Ambiguous
            | ErrorClass::Failed
            | ErrorClass::Transient
            | ErrorClass::NotAssigned
            | ErrorClass::Done => lost(self, true),
            ErrorClass::Forbidden => SendError::Refused(Error::Unauthorized(Some(Box::new(self)))),
            ErrorClass::Refused => SendError::Refused(self.into_backend(false, false)),
        }
    }

    /// As the outcome of a commit that did not succeed.
    pub(crate) fn into_commit_failure(self) -> CommitErrorKind {
        match self.class() {
            ErrorClass::NotAssigned => CommitErrorKind::Revoked,
            _ => CommitErrorKind::Failed(self.into_error()),
        }
    }

    fn into_backend(self, retryable: bool, may_have_taken_effect: bool) -> Error {
        Error::Backend { retryable, may_have_taken_effect, error: Box::new(self) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_code_and_a_missing_answer_claim_nothing() {
        for error in [CallError::unknown(), CallError::NoAnswer(std::time::Duration::from_secs(1))] {
            assert!(matches!(error.into_send_error(), SendError::Lost { may_have_taken_effect: true, .. }));
        }
    }
}
