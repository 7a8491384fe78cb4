//! How to run a server.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tracing::Level;

use crate::limits::{
    SERVER_HEALTHY_AFTER, SERVER_RESTART_INITIAL, SERVER_RESTARTS, SERVER_START_TIMEOUT, SERVER_STOP_GRACE,
};

/// How to run a server. Only where its data are has to be said.
#[derive(Clone)]
pub struct ServerOptions {
    pub(super) binary: Option<PathBuf>,
    pub(super) folder: Option<PathBuf>,
    pub(super) tcp_port: u16,
    pub(super) log_level: Level,
    pub(super) env: BTreeMap<OsString, OsString>,
    pub(super) start_timeout: Duration,
    pub(super) stop_grace: Duration,
    pub(super) restarts: u32,
    pub(super) restart_initial: Duration,
    pub(super) healthy_after: Duration,
}

impl ServerOptions {
    /// A server with its data in this folder, which is made if there is none.
    pub fn new(data_folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(data_folder.into()), ..Self::temporary() }
    }

    /// A server with its data in a new folder among the system's temporary ones. The folder is removed when the
    /// server is stopped or dropped, and also when this process dies: for tests.
    #[must_use]
    pub fn temporary() -> Self {
        Self {
            binary: None,
            folder: None,
            tcp_port: 0,
            log_level: Level::INFO,
            env: BTreeMap::new(),
            start_timeout: SERVER_START_TIMEOUT,
            stop_grace: SERVER_STOP_GRACE,
            restarts: SERVER_RESTARTS,
            restart_initial: SERVER_RESTART_INITIAL,
            healthy_after: SERVER_HEALTHY_AFTER,
        }
    }

    /// The server to run. By default it is looked for: see [`find`](super::find).
    #[must_use]
    pub fn binary(mut self, path: impl Into<PathBuf>) -> Self {
        self.binary = Some(path.into());
        self
    }

    /// The port of 127.0.0.1 to listen on. The default is one that is free at the first start, and the same one from
    /// then on, until the [`IggyServer`](super::IggyServer) is gone.
    #[must_use]
    pub const fn tcp_port(mut self, port: u16) -> Self {
        self.tcp_port = port;
        self
    }

    /// What the server itself logs. The default is `INFO`. Above it, [`http_address`](super::IggyServer::http_address)
    /// is not known, since the server says it only there.
    #[must_use]
    pub const fn log_level(mut self, level: Level) -> Self {
        self.log_level = level;
        self
    }

    /// An environment variable for the server, such as one of its settings. It wins over those that are set here.
    /// Variables of this process that begin with `IGGY_`, and `RUST_LOG`, are not passed on: they may be meant for
    /// another server, or for this process. The server has to keep its data in its working directory.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// How long a start may take. The default is [`SERVER_START_TIMEOUT`].
    #[must_use]
    pub const fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = timeout;
        self
    }

    /// How long the server may take to write what it has not flushed, before it is killed. The default is
    /// [`SERVER_STOP_GRACE`].
    #[must_use]
    pub const fn stop_grace(mut self, grace: Duration) -> Self {
        self.stop_grace = grace;
        self
    }

    /// How often in a row a server that dies is started again before it is given up; 0 for never. The first wait is
    /// `initial` and each is twice the one before; a server that has run for `healthy_after` starts from the beginning.
    /// The defaults are [`SERVER_RESTARTS`], [`SERVER_RESTART_INITIAL`] and [`SERVER_HEALTHY_AFTER`].
    #[must_use]
    pub const fn restarts(mut self, limit: u32, initial: Duration, healthy_after: Duration) -> Self {
        self.restarts = limit;
        self.restart_initial = initial;
        self.healthy_after = healthy_after;
        self
    }
}

impl fmt::Debug for ServerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerOptions")
            .field("binary", &self.binary)
            .field("folder", &self.folder)
            .field("tcp_port", &self.tcp_port)
            .field("log_level", &self.log_level)
            // Only the names: a value may be a secret.
            .field("env", &self.env.keys())
            .field("start_timeout", &self.start_timeout)
            .field("stop_grace", &self.stop_grace)
            .field("restarts", &self.restarts)
            .field("restart_initial", &self.restart_initial)
            .field("healthy_after", &self.healthy_after)
            .finish()
    }
}
