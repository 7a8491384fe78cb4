//! Whether tests that need a real server run, here and in every other crate: nobody takes a missing server for a
//! passed test.
//!
//! The environment variable `EVENT_LOG_IGGY` says how much a server matters. A test asks [`server_or_announce`] first,
//! and returns if there is none:
//!
//! ```no_run
//! use event_log_iggy::server::{IggyServer, ServerOptions, gate};
//!
//! # async fn test() {
//! let Some(binary) = gate::server_or_announce("my test") else { return };
//! let server = IggyServer::start(ServerOptions::temporary().binary(binary)).await;
//! # }
//! ```

use std::env;
use std::io::Write as _;
use std::path::PathBuf;

use super::binary::find;
use super::error::ServerError;

/// The environment variable that says how much a server matters.
pub const NEED: &str = "EVENT_LOG_IGGY";

/// How much a server matters to the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// `required`: a missing server is a failure.
    Required,
    /// `auto`, or nothing: a missing server is announced.
    Auto,
    /// `off`: nobody looks for one, which is announced too.
    Off,
}

impl Need {
    /// What `EVENT_LOG_IGGY` says.
    ///
    /// # Errors
    ///
    /// A sentence, when it says something else.
    pub fn from_env() -> Result<Self, String> {
        Self::parse(env::var_os(NEED).map(|value| value.to_string_lossy().into_owned()).as_deref())
    }

    /// What a value of `EVENT_LOG_IGGY` means; `None` is that it is not set.
    ///
    /// # Errors
    ///
    /// A sentence, when it means nothing.
    pub fn parse(value: Option<&str>) -> Result<Self, String> {
        match value {
            None | Some("" | "auto") => Ok(Self::Auto),
            Some("required") => Ok(Self::Required),
            Some("off") => Ok(Self::Off),
            Some(other) => Err(format!("{NEED} is {other:?}: it must be required, auto or off")),
        }
    }
}

/// The server for the tests called `who`. If there is none, or none is wanted, the real standard error says
/// `{who}: not run: …`, also where the test's output is captured.
///
/// # Panics
///
/// When a server is required and there is none, or when `EVENT_LOG_IGGY` means nothing: both have to fail the test.
#[must_use]
pub fn server_or_announce(who: &str) -> Option<PathBuf> {
    let need = Need::from_env().unwrap_or_else(|problem| panic!("{problem}"));
    let found = match need {
        Need::Off => Err(None),
        Need::Auto | Need::Required => find(None).map_err(Some),
    };
    match decide(who, need, found) {
        Decision::Run(server) => Some(server),
        Decision::Announce(line) => {
            // Not `eprintln`, which the test harness captures. A standard error that is closed wants no announcement.
            let _closed = std::io::stderr().write_all(line.as_bytes());
            None
        }
        Decision::Fail(message) => panic!("{message}"),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Run(PathBuf),
    Announce(String),
    Fail(String),
}

fn decide(who: &str, need: Need, found: Result<PathBuf, Option<ServerError>>) -> Decision {
    match (need, found) {
        (_, Ok(server)) => Decision::Run(server),
        (Need::Required, Err(problem)) => {
            let problem = problem.map_or_else(String::new, |problem| format!(", but {problem}"));
            Decision::Fail(format!("{who}: {NEED}=required{problem}"))
        }
        (Need::Auto, Err(Some(problem))) => {
            Decision::Announce(format!("{who}: not run: no iggy-server ({problem})\n"))
        }
        (Need::Off | Need::Auto, Err(_)) => {
            Decision::Announce(format!("{who}: not run: no iggy-server is wanted ({NEED}=off)\n"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_need_is_one_of_three() {
        assert_eq!(Need::parse(None), Ok(Need::Auto));
        assert_eq!(Need::parse(Some("")), Ok(Need::Auto));
        assert_eq!(Need::parse(Some("required")), Ok(Need::Required));
        assert_eq!(Need::parse(Some("off")), Ok(Need::Off));
        assert!(Need::parse(Some("yes")).unwrap_err().contains("required, auto or off"));
    }

    #[test]
    fn a_missing_server_is_announced_or_a_failure_but_never_silent() {
        let missing = || Err(Some(ServerError::NotFound));
        let Decision::Announce(line) = decide("x", Need::Auto, missing()) else { panic!() };
        assert!(line.starts_with("x: not run: no iggy-server (") && line.ends_with('\n'), "{line}");
        let Decision::Announce(line) = decide("x", Need::Off, Err(None)) else { panic!() };
        assert!(line.starts_with("x: not run: no iggy-server"), "{line}");
        let Decision::Fail(message) = decide("x", Need::Required, missing()) else { panic!() };
        assert!(message.contains("required") && message.contains("PATH"), "{message}");
        let server = PathBuf::from("/bin/iggy-server");
        assert_eq!(decide("x", Need::Required, Ok(server.clone())), Decision::Run(server));
    }
}
