//! What a server is doing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::error::ServerError;

/// What a server is doing. Only the newest is kept: who looks seldom misses what was between.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerState {
    /// It was started by its owner, and does not let anybody in yet.
    Starting,
    /// It lets us in.
    Running {
        /// The id of its process.
        pid: u32,
        /// Where it listens.
        address: SocketAddr,
        /// How often it was started again after it had died by itself, since the [`IggyServer`](super::IggyServer)
        /// was made.
        restarts: u64,
    },
    /// It has died by itself. It is started again after the wait, or is being started right now.
    Restarting {
        /// The how manieth restart in a row this is, from 1.
        attempt: u32,
        /// The wait before it.
        wait: Duration,
        /// How it died.
        cause: Arc<ServerError>,
    },
    /// It was killed by its owner, or a start that its owner asked for has failed. Nothing happens until the owner
    /// starts it again.
    Down,
    /// It has died too often. Nothing happens until its owner starts it again.
    Failed {
        /// How.
        error: Arc<ServerError>,
    },
    /// It was stopped for good.
    Stopped,
}

impl ServerState {
    /// Whether the server lets us in, as far as its keeper knows.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// The id of the process that lets us in.
    #[must_use]
    pub const fn pid(&self) -> Option<u32> {
        match self {
            Self::Running { pid, .. } => Some(*pid),
            _ => None,
        }
    }
}

/// Where the server listens, as far as it is known: the last address that it had.
#[derive(Debug, Default)]
pub(super) struct Places {
    pub(super) tcp: Option<SocketAddr>,
    /// Only the log says it.
    pub(super) http: Option<SocketAddr>,
}
