//! Why a call failed, before anybody has said what that means.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use iggy::prelude::IggyError;

/// A call that did not succeed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// The server, or the client on its behalf, said why: the code is one of Iggy's.
    Code(u32, IggyError),
    /// Nobody answered in time. The connection is of no use any more: the answer may still come.
    NoAnswer(Duration),
}

impl CallError {
    /// Iggy's code; `None` when there was no answer.
    pub(crate) const fn code(&self) -> Option<u32> {
        match self {
            Self::Code(code, _) => Some(*code),
            Self::NoAnswer(_) => None,
        }
    }

    /// A failure with a code that the SDK does not know.
    #[cfg(test)]
    pub(crate) const fn unknown(code: u32) -> Self {
        Self::Code(code, IggyError::Error)
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

/// Every code that the SDK knows.
#[cfg(test)]
pub(crate) fn codes() -> Vec<u32> {
    (1..20_000).filter(|&code| IggyError::from_code(code).as_code() == code).collect()
}
