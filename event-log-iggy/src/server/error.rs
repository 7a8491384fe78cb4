//! Why there is no server.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error as ThisError;

use super::version::{SDK_SERIES, SERVER_SERIES};

/// Why an `iggy-server` could not be found, started, or told something.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ServerError {
    /// Nobody named a server, and there is none on `PATH`.
    #[error(
        "there is no iggy-server: name one with ServerOptions::binary or IGGY_SERVER_BIN, or put a folder \
         that has iggy-server on PATH (needed is version {SERVER_SERIES}.x)"
    )]
    NotFound,
    /// A server was named and is not there. It is not replaced by another.
    #[error("there is no iggy-server at {}, which {by} names", path.display())]
    NoSuchBinary {
        /// What was named.
        path: PathBuf,
        /// Who named it.
        by: &'static str,
    },
    /// The binary did not say its version.
    #[error("{} --version does not say a version, but {said:?}", binary.display())]
    UnknownVersion {
        /// The binary that was asked.
        binary: PathBuf,
        /// What it printed, or that it did not answer.
        said: String,
    },
    /// The server is of a version that the SDK within this crate cannot talk to.
    #[error(
        "{} is an iggy-server {found}, but this crate has the SDK {SDK_SERIES}, which needs \
         iggy-server {SERVER_SERIES}.x",
        binary.display()
    )]
    VersionMismatch {
        /// The binary that was asked.
        binary: PathBuf,
        /// Its version.
        found: String,
    },
    /// The operating system could not run something.
    #[error("cannot run {}", program.display())]
    Run {
        /// What should have been run.
        program: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something is wrong with a file or folder of the data folder.
    #[error("cannot use {}", path.display())]
    Folder {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: io::Error,
    },
    /// Another server has the data folder, in this process or in another.
    #[error("the data folder {} is in use", folder.display())]
    FolderInUse {
        /// The folder.
        folder: PathBuf,
    },
    /// The server ended by itself: while it started, or while it ran.
    #[error("the iggy-server ended with {status}{log}")]
    Exited {
        /// How.
        status: ExitStatus,
        /// The last that it said.
        log: LogTail,
    },
    /// The server does not take the password that the data folder has. The folder's data are from a server that was
    /// started in another way.
    #[error("the iggy-server refuses the password in {}", file.display())]
    Unauthorized {
        /// The file with the password.
        file: PathBuf,
        /// What the server said.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The server runs, but lets nobody in.
    #[error("the iggy-server was not ready within {waited:?}{log}")]
    NotReady {
        /// How long it was waited for.
        waited: Duration,
        /// The last that it said.
        log: LogTail,
        /// How the last attempt to sign in failed; `None` when the server had not even written down its port.
        #[source]
        source: Option<Box<dyn StdError + Send + Sync>>,
    },
    /// The server died too often in too short a time.
    #[error("the iggy-server was given up after {restarts} restarts in a row")]
    GaveUp {
        /// How often it was started again without becoming healthy.
        restarts: u32,
        /// How it died the last time.
        #[source]
        source: Arc<ServerError>,
    },
    /// There is no process now that could be sent a signal.
    #[error("the iggy-server is not running")]
    NotRunning,
    /// The operating system refused a signal.
    #[error("the iggy-server cannot be sent a signal")]
    Signal(#[source] io::Error),
    /// The server was stopped for good, or the start that was waited for was called off by another command.
    #[error("the iggy-server has been stopped")]
    Stopped,
}

impl ServerError {
    pub(super) fn folder(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { path, source }
    }
}

/// The last lines of a server's output, oldest first, without colours and without its password. It displays as lines
/// that are indented below the message which they explain, and as nothing when the server was silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogTail {
    lines: Vec<String>,
}

impl LogTail {
    pub(super) const fn new(lines: Vec<String>) -> Self {
        Self { lines }
    }

    /// The lines, oldest first.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

impl fmt::Display for LogTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.lines.is_empty() {
            f.write_str("; the last that it said:")?;
        }
        self.lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}
