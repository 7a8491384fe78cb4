//! What each of Iggy's error codes means for whoever made the call.
//!
//! Codes and never texts: a text is for people and changes. The SDK's code 8, say, is raised for a connection that
//! was lost before the request went out as well as after the server had carried it out, so that it has to mean the
//! worse of the two.

use event_log_core::engine::SendError;
use event_log_core::{CommitErrorKind, Error};

use crate::sdk::CallError;

/// What a code says about the call that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// The connection is of no use any more, and nothing was sent over it.
    NotSent,
    /// The connection is of no use any more, and whether the server has carried out the request nobody has said.
    Ambiguous,
    /// The server is in trouble: it answers, and what it has done of the request before it failed it does not say.
    Failed,
    /// The server did not take the request now, and may take it later.
    NotYet,
    /// It is done already; only the reply is gone.
    Done,
    /// The session is not signed in (any more). Signing in again may help.
    SignedOut,
    /// The credentials are refused, or do not permit this.
    Forbidden,
    /// The stream, the topic, the partition or the group is not there (any more).
    NotFound,
    /// The partition belongs to another member of the group, or we are no member.
    NotOurs,
    /// The server did not do it and will not, as often as it is asked.
    Refused,
}

/// The meaning of a code; `None` for one that this version of Iggy does not have.
pub(crate) const fn meaning(code: u32) -> Option<Meaning> {
    Some(match code {
        // NotConnected, CannotEstablishConnection, ClientShutdown.
        9 | 61 | 63 => Meaning::NotSent,
        // Disconnected, StaleClient, transport errors, ConnectionClosed, EmptyResponse, TransientNotCommitted.
        8 | 30..=32 | 57 | 206 | 304 | 400..=404 => Meaning::Ambiguous,
        // InvalidCommand: the SDK's word also for a reply that it cannot read.
        3 => Meaning::Ambiguous,
        // The generic error, which also stands for a code that the SDK does not know, and replies that could not be
        // read: somebody did something.
        1 | 36 | 80..=84 | 300..=303 | 10000 | 10001 => Meaning::Ambiguous,
        // The background producer of the SDK, which is not used here.
        4050..=4057 => Meaning::Ambiguous,
        // The server's storage failed, before the write or after it.
        10..=16 | 19 | 1000..=1008 | 1011 | 1015 | 2000..=2009 | 2017 | 2020 => Meaning::Failed,
        3000..=3006 | 3010..=3012 | 3020 | 3023 => Meaning::Failed,
        4000 | 4001 | 4003..=4008 | 4010..=4016 | 4020 | 4021 | 4026 | 4027 | 4030..=4036 | 4039 => {
            Meaning::Failed
        }
        4102 | 5007 | 5008 | 6000..=6004 | 7000..=7004 | 9000 => Meaning::Failed,
        10002..=10012 | 11000 | 11001 | 12000 | 12001 | 13000 => Meaning::Failed,
        // TransientNotAccepted; a full topic, which retention may empty.
        58 | 3009 => Meaning::NotYet,
        59 => Meaning::Done,
        // Unauthenticated; a session that is bound already or is not valid.
        40 | 14000 | 14001 => Meaning::SignedOut,
        41..=45 | 47 | 53 | 54 | 73..=79 => Meaning::Forbidden,
        1009 | 1010 | 2010 | 2011 | 3007 | 3008 | 5000 | 5003 => Meaning::NotFound,
        // ResourceNotFound comes from a store for a partition that has moved.
        20 | 5006 | 5009 => Meaning::NotOurs,
        2 | 4..=7 | 21 | 33..=35 | 37 | 46 | 48..=52 | 55 | 56 => Meaning::Refused,
        64..=67 | 70..=72 | 100 | 101 | 209 | 305 | 306 => Meaning::Refused,
        1012..=1014 | 1019 | 1020 | 2013..=2016 | 2018 | 2019 | 2021 | 3013 => Meaning::Refused,
        3021 | 3022 | 3024 | 4002 | 4009 | 4017..=4019 | 4022..=4025 | 4028 | 4029 | 4037 | 4038 => {
            Meaning::Refused
        }
        4040..=4043 | 4100 | 4101 | 5002 | 5004 | 5005 | 8000 | 10013 => Meaning::Refused,
        14002..=14999 => Meaning::Refused,
        _ => return None,
    })
}

impl CallError {
    /// What it means. A code that nobody knows may mean anything, so it means the worst that can be helped.
    pub(crate) fn meaning(&self) -> Meaning {
        self.code().and_then(meaning).unwrap_or(Meaning::Ambiguous)
    }

    /// As the outcome of anything but a send or a commit.
    pub(crate) fn into_error(self) -> Error {
        match self.meaning() {
            // Whoever asks again gets a new connection, on which the topic is made when it is gone.
            Meaning::NotSent
            | Meaning::Ambiguous
            | Meaning::SignedOut
            | Meaning::NotOurs
            | Meaning::NotFound => Error::Unavailable(Some(Box::new(self))),
            Meaning::Forbidden => Error::Unauthorized(Some(Box::new(self))),
            Meaning::Failed => self.into_backend(true, true),
            Meaning::NotYet => self.into_backend(true, false),
            Meaning::Refused => self.into_backend(false, false),
            Meaning::Done => self.into_backend(false, true),
        }
    }

    /// As the outcome of a send that did not succeed.
    pub(crate) fn into_send_error(self) -> SendError {
        let lost = |error: Self, may_have_taken_effect| SendError::Lost {
            error: Error::Unavailable(Some(Box::new(error))),
            may_have_taken_effect,
        };
        match self.meaning() {
            Meaning::NotSent | Meaning::SignedOut | Meaning::NotFound => lost(self, false),
            // `NotYet` is the last word of a call in which the SDK may have heard others before: that it is not known,
            // say. A send is never answered with `NotOurs` by a server that works as documented.
            Meaning::Ambiguous | Meaning::Failed | Meaning::NotYet | Meaning::NotOurs | Meaning::Done => {
                lost(self, true)
            }
            Meaning::Forbidden => SendError::Refused(Error::Unauthorized(Some(Box::new(self)))),
            Meaning::Refused => SendError::Refused(self.into_backend(false, false)),
        }
    }

    /// As the outcome of a commit that did not succeed.
    pub(crate) fn into_commit_failure(self) -> CommitErrorKind {
        match self.meaning() {
            Meaning::NotOurs => CommitErrorKind::Revoked,
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
    fn every_code_of_the_sdk_has_a_meaning() {
        let codes = crate::sdk::codes();
        assert!(codes.len() > 200, "{} codes", codes.len());
        let unknown: Vec<_> = codes.iter().filter(|&&code| meaning(code).is_none()).collect();
        assert!(unknown.is_empty(), "no meaning was chosen for {unknown:?}");
    }

    #[test]
    fn what_the_server_documents_is_what_it_means() {
        for (code, expected) in [
            (8, Meaning::Ambiguous),
            (57, Meaning::Ambiguous),
            (58, Meaning::NotYet),
            (59, Meaning::Done),
            (42, Meaning::Forbidden),
            (4010, Meaning::Failed),
            (4022, Meaning::Refused),
            (4100, Meaning::Refused),
            (5009, Meaning::NotOurs),
        ] {
            assert_eq!(meaning(code), Some(expected), "{code}");
        }
        assert_eq!(meaning(99_999), None);
    }

    #[test]
    fn an_unknown_code_and_a_missing_answer_claim_nothing() {
        for error in [CallError::unknown(99_999), CallError::NoAnswer(std::time::Duration::from_secs(1))] {
            assert!(matches!(error.into_send_error(), SendError::Lost { may_have_taken_effect: true, .. }));
        }
    }
}
