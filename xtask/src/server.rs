//! Whether, and which, iggy-server there is to test against.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

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
        Self::parse(env::var("EVENT_LOG_IGGY").ok().as_deref())
    }

    fn parse(value: Option<&str>) -> Result<Self, String> {
        match value {
            None | Some("" | "auto") => Ok(Self::Auto),
            Some("required") => Ok(Self::Required),
            Some("off") => Ok(Self::Off),
            Some(other) => Err(format!("EVENT_LOG_IGGY is {other:?}: it must be required, auto or off")),
        }
    }
}

/// Finds the server: the explicit path, else `IGGY_SERVER_BIN`, else `iggy-server` on `PATH`.
pub(crate) fn find(explicit: Option<&Path>) -> Result<PathBuf, String> {
    find_in(explicit, env::var_os("IGGY_SERVER_BIN").as_deref(), env::var_os("PATH").as_deref())
}

fn find_in(explicit: Option<&Path>, named: Option<&OsStr>, path: Option<&OsStr>) -> Result<PathBuf, String> {
    let named = named.filter(|named| !named.is_empty()).map(PathBuf::from);
    for (given, by) in [(explicit.map(Path::to_path_buf), "--server"), (named, "IGGY_SERVER_BIN")] {
        // Somebody who names a server does not want another one.
        if let Some(given) = given {
            return if given.is_file() {
                Ok(given)
            } else {
                Err(format!("there is no iggy-server at {}, which {by} names", given.display()))
            };
        }
    }
    let folders = env::split_paths(path.unwrap_or_default()).collect::<Vec<_>>();
    let found = folders.into_iter().map(|folder| folder.join("iggy-server")).find(|file| file.is_file());
    found.ok_or_else(|| "there is no iggy-server: use --server PATH, IGGY_SERVER_BIN or PATH".to_owned())
}

/// The line that says that the Iggy backend was not tested. It is never silent.
pub(crate) fn announcement() -> Result<String, String> {
    let why = match Need::from_env()? {
        Need::Off => "EVENT_LOG_IGGY=off",
        // The place to call `integration` from, as soon as there is something to integrate.
        Need::Required => {
            return Err("EVENT_LOG_IGGY=required, but the backend is not written yet".to_owned());
        }
        Need::Auto => "the backend is not written yet",
    };
    Ok(format!("event-log-iggy: not run ({why})"))
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
