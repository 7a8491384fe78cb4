//! Which `iggy-server` to run, and whether the SDK can talk to it.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use super::error::ServerError;
use super::version::Version;
use crate::limits::SERVER_VERSION_TIMEOUT;

/// The environment variable that names the server.
pub const SERVER_BIN: &str = "IGGY_SERVER_BIN";

/// Finds the server: the given path, else the one that the environment variable `IGGY_SERVER_BIN` names, else the
/// first `iggy-server` on `PATH`. The path that it returns is absolute. Whether it is of a fitting version is only
/// found out when it is started.
///
/// # Errors
///
/// [`ServerError::NoSuchBinary`] when a server is named that is not there: who names one does not want another.
/// [`ServerError::NotFound`] when none is named and none is on `PATH`.
pub fn find(given: Option<&Path>) -> Result<PathBuf, ServerError> {
    find_in(given, env::var_os(SERVER_BIN).as_deref(), env::var_os("PATH").as_deref())
}

fn find_in(
    given: Option<&Path>,
    named: Option<&OsStr>,
    path: Option<&OsStr>,
) -> Result<PathBuf, ServerError> {
    let named = named.filter(|named| !named.is_empty()).map(Path::new);
    for (candidate, by) in [(given, "ServerOptions::binary"), (named, SERVER_BIN)] {
        if let Some(candidate) = candidate {
            return if candidate.is_file() {
                absolute(candidate)
            } else {
                Err(ServerError::NoSuchBinary { path: candidate.to_owned(), by })
            };
        }
    }
    let mut folders = env::split_paths(path.unwrap_or_default());
    let found = folders.find_map(|folder| Some(folder.join("iggy-server")).filter(|file| file.is_file()));
    found.map_or(Err(ServerError::NotFound), |file| absolute(&file))
}

/// The server runs in a folder of its own, where a relative path would lead elsewhere.
fn absolute(path: &Path) -> Result<PathBuf, ServerError> {
    std::path::absolute(path).map_err(ServerError::folder(path))
}

/// Asks the binary for its version, and refuses one that the SDK cannot talk to.
pub(super) async fn fitting_version(binary: &Path) -> Result<Version, ServerError> {
    let unknown = |said: String| ServerError::UnknownVersion { binary: binary.to_owned(), said };
    let mut command = Command::new(binary);
    command.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(SERVER_VERSION_TIMEOUT, command.output())
        .await
        .map_err(|_| unknown(format!("nothing within {SERVER_VERSION_TIMEOUT:?}")))?
        .map_err(|source| ServerError::Run { program: binary.to_owned(), source })?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = Version::parse(&said).ok_or_else(|| {
        let said = format!("{said}{}", String::from_utf8_lossy(&output.stderr));
        unknown(said.trim().chars().take(200).collect())
    })?;
    if version.fits() {
        Ok(version)
    } else {
        Err(ServerError::VersionMismatch { binary: binary.to_owned(), found: version.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_server_that_is_missing_is_not_replaced_by_another() {
        let missing = Path::new("/nonexistent/iggy-server");
        let message = |given, named| find_in(given, named, None).unwrap_err().to_string();
        assert!(message(Some(missing), None).contains("ServerOptions::binary"));
        assert!(message(None, Some(missing.as_os_str())).contains("IGGY_SERVER_BIN"));
    }

    #[test]
    fn that_there_is_none_names_all_the_ways() {
        let message = find_in(None, None, Some(OsStr::new("/nonexistent"))).unwrap_err().to_string();
        for way in ["ServerOptions::binary", "IGGY_SERVER_BIN", "PATH", "0.9"] {
            assert!(message.contains(way), "{message}");
        }
    }
}
