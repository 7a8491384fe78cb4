//! Why a call failed.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use iggy::prelude::IggyError;

use super::error_class::ErrorClass;

/// A call that did not succeed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server, or the client on its behalf, said why: the code is one of Iggy's.
    Code(u32, IggyError),
    /// No answer came in time. The connection is of no use any more: the answer may still come.
    NoAnswer(Duration),
}

impl CallError {
    /// What it says about the call. A missing answer may mean anything, so that it has the worst class that can be helped.
    pub(crate) const fn class(&self) -> ErrorClass {
        match self {
            Self::Code(_, error) => ErrorClass::of(error),
            Self::NoAnswer(_) => ErrorClass::Ambiguous,
        }
    }

    /// An error with a code that the SDK does not have.
    #[cfg(test)]
    pub(crate) const fn unknown() -> Self {
        Self::Code(99_999, IggyError::Error)
    }
}

impl From<IggyError> for CallError {
    fn from(error: IggyError) -> Self {
        Self::Code(error.as_code(), error)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code, _) => write!(f, "iggy error {code}"),
            Self::NoAnswer(timeout) => write!(f, "no answer within {timeout:?}"),
        }
    }
}

impl StdError for CallError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Code(_, error) => Some(error),
            Self::NoAnswer(_) => None,
        }
    }
}
