//! Whether, and which, iggy-server there is to test against.
//!
//! `event_log_iggy::server` has the same rules for everybody else. They are written twice, so that this crate does
//! not have to build an SDK before it can say anything.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::step::Step;

const NEED: &str = "EVENT_LOG_IGGY";
const SERVER_BIN: &str = "IGGY_SERVER_BIN";

/// How much a server matters: `EVENT_LOG_IGGY`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A missing server is a failure.
    Required,
    /// A missing server is announced.
    Auto,
    /// Nobody looks for one.
    Off,
}

impl Need {
    pub(crate) fn from_env() -> Result<Self, String> {
        Self::parse(env::var_os(NEED).map(|value| value.to_string_lossy().into_owned()).as_deref())
    }

    fn parse(value: Option<&str>) -> Result<Self, String> {
        match value {
            None | Some("" | "auto") => Ok(Self::Auto),
            Some("required") => Ok(Self::Required),
            Some("off") => Ok(Self::Off),
            Some(other) => Err(format!("{NEED} is {other:?}: it must be required, auto or off")),
        }
    }
}

/// What a run of all tests does about the backend on Apache Iggy.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// Its tests run on this server, and may not do without.
    Run(PathBuf),
    /// They do not run, for this reason.
    NotRun(String),
}

impl Plan {
    /// Decided before anything runs, so that a bad setting is not found out after minutes of tests.
    pub(crate) fn from_env() -> Result<Self, String> {
        Self::decide(Need::from_env()?, || find(None))
    }

    fn decide(need: Need, find: impl FnOnce() -> Result<PathBuf, String>) -> Result<Self, String> {
        match need {
            Need::Off => Ok(Self::NotRun(format!("{NEED}=off"))),
            Need::Auto => Ok(find().map_or_else(Self::NotRun, Self::Run)),
            Need::Required => {
                find().map(Self::Run).map_err(|problem| format!("{NEED}=required, but {problem}"))
            }
        }
    }

    /// Tells the tests.
    pub(crate) fn apply(&self, step: Step) -> Step {
        match self {
            Self::Run(server) => step.env(NEED, "required").env(SERVER_BIN, server),
            Self::NotRun(_) => step.env(NEED, "off"),
        }
    }

    /// The line that says what became of the backend. It is never silent, and never says that it passed: whether the
    /// tests passed is for the step to say that ran them.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Run(server) => format!("event-log-iggy: run with {}", server.display()),
            Self::NotRun(why) => format!("event-log-iggy: not run ({why})"),
        }
    }
}

/// Finds the server: the explicit path, else `IGGY_SERVER_BIN`, else `iggy-server` on `PATH`. The path that it
/// returns is absolute: tests do not run in the folder that we run in.
pub(crate) fn find(explicit: Option<&Path>) -> Result<PathBuf, String> {
    find_in(explicit, env::var_os(SERVER_BIN).as_deref(), env::var_os("PATH").as_deref())
}

/// Whether somebody has said which server it must be.
pub(crate) fn is_named(explicit: Option<&Path>) -> bool {
    explicit.is_some() || env::var_os(SERVER_BIN).is_some_and(|named| !named.is_empty())
}

fn find_in(explicit: Option<&Path>, named: Option<&OsStr>, path: Option<&OsStr>) -> Result<PathBuf, String> {
    let named = named.filter(|named| !named.is_empty()).map(PathBuf::from);
    for (given, by) in [(explicit.map(Path::to_path_buf), "--server"), (named, SERVER_BIN)] {
        // Somebody who names a server does not want another one.
        if let Some(given) = given {
            return if given.is_file() {
                absolute(&given)
            } else {
                Err(format!("there is no iggy-server at {}, which {by} names", given.display()))
            };
        }
    }
    let folders = env::split_paths(path.unwrap_or_default()).collect::<Vec<_>>();
    let found = folders.into_iter().map(|folder| folder.join("iggy-server")).find(|file| file.is_file());
    let found = found.ok_or_else(|| {
        "there is no iggy-server: use `cargo xtask integration --server PATH`, IGGY_SERVER_BIN or PATH"
            .to_owned()
    })?;
    absolute(&found)
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_need_is_one_of_three() {
        assert_eq!(Need::parse(None), Ok(Need::Auto));
        assert_eq!(Need::parse(Some("required")), Ok(Need::Required));
        assert_eq!(Need::parse(Some("off")), Ok(Need::Off));
        assert!(Need::parse(Some("yes")).unwrap_err().contains("required, auto or off"));
    }

    #[test]
    fn a_missing_server_is_announced_or_a_failure_but_never_silent() {
        let missing = || Err("there is none".to_owned());
        let plan = |need| Plan::decide(need, missing);
        let line = plan(Need::Auto).unwrap().line();
        assert_eq!(line, "event-log-iggy: not run (there is none)");
        assert!(plan(Need::Required).unwrap_err().contains("there is none"));
        let off = Plan::decide(Need::Off, || panic!("nobody looks for one")).unwrap();
        assert_eq!(off.line(), "event-log-iggy: not run (EVENT_LOG_IGGY=off)");
        let server = PathBuf::from("/bin/iggy-server");
        for need in [Need::Auto, Need::Required] {
            assert_eq!(Plan::decide(need, || Ok(server.clone())), Ok(Plan::Run(server.clone())));
        }
    }

    #[test]
    fn a_named_server_that_is_missing_is_not_replaced_by_another() {
        let missing = Path::new("/nonexistent/iggy-server");
        assert!(find_in(Some(missing), None, None).unwrap_err().contains("--server"));
        assert!(find_in(None, Some(missing.as_os_str()), None).unwrap_err().contains("IGGY_SERVER_BIN"));
        let all_ways = find_in(None, None, Some(OsStr::new("/nonexistent"))).unwrap_err();
        assert!(["--server", "IGGY_SERVER_BIN", "PATH"].iter().all(|way| all_ways.contains(way)));
    }

    #[test]
    fn the_server_is_found_on_the_path() {
        let folder = env::temp_dir().join(format!("xtask-path-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let server = folder.join("iggy-server");
        std::fs::write(&server, "").unwrap();
        let found = find_in(None, None, Some(folder.as_os_str()));
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(found, Ok(server));
    }
}
