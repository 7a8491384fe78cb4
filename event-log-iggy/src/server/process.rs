//! One process of the server, from its start to its end.
//!
//! A server must not outlive the one who started it, not even when that one is killed with a signal that nobody can
//! catch. The kernel's own means (`PR_SET_PDEATHSIG`) would have to be asked for between `fork` and `exec`, which
//! takes `unsafe` code; and it goes by the thread, not the process. So the server is started by a small shell
//! (`watchdog.sh`), whose standard input is a pipe that we hold: the *lifeline*. The shell leaves a watchdog behind,
//! and then turns itself into the server, so that our child is the server, with its process id and its exit status.
//! However we end, the kernel closes the pipe, and the watchdog asks the server to end, and kills it if it does not.
//! There is no moment without a watchdog: it is there before the server is, and if we die before it is, it finds
//! the pipe closed.
//!
//! The two are a process group of their own. A Ctrl-C in the terminal reaches us and not the server, which is still
//! needed for what we have to write; and what kills our group does not kill the watchdog.
//!
//! The server also holds the lock of the data folder: a second one is kept out until it has ended, not only until we
//! have.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::retry_on_intr;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};
use secrecy::ExposeSecret as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin, Command};

use super::ROOT_USER;
use super::error::ServerError;
use super::folder::DataFolder;
use super::options::ServerOptions;
use super::output::Output;
use super::state::Places;

const WATCHDOG: &str = include_str!("watchdog.sh");

const SHELL: &str = "/bin/sh";

/// A process that was started. Dropping it closes the lifeline, which ends it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    id: u32,
    lifeline: Option<ChildStdin>,
    pub(super) output: Output,
}

impl Process {
    /// Starts the server on this TCP port; on a free one if it is 0.
    pub(super) fn spawn(
        binary: &Path,
        folder: &DataFolder,
        options: &ServerOptions,
        port: u16,
        places: Arc<Mutex<Places>>,
    ) -> Result<Self, ServerError> {
        let mut command = Command::new(SHELL);
        command.arg("-c").arg(WATCHDOG).arg("event-log-iggy-watchdog");
        command.arg(options.stop_grace.as_millis().div_ceil(100).to_string());
        command.arg(if folder.is_temporary() { folder.path() } else { Path::new("") });
        command.arg(binary).current_dir(folder.path()).process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::from(folder.lock()?));
        set_environment(&mut command, folder, options, port);
        let failed = |source| ServerError::Run { program: SHELL.into(), source };
        let mut child = command.spawn().map_err(failed)?;
        let lifeline = child.stdin.take();
        let (Some(id), Some(stdout)) = (child.id(), child.stdout.take()) else {
            return Err(failed(io::Error::other("it was started without an id or an output")));
        };
        let output = Output::follow(stdout, folder.password().clone(), places);
        Ok(Self { child, id, lifeline, output })
    }

    pub(super) const fn id(&self) -> u32 {
        self.id
    }

    /// Waits until the process has ended, and says how. Cancel safe.
    pub(super) async fn ended(&mut self) -> ServerError {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(source) => return ServerError::Run { program: SHELL.into(), source },
        };
        self.output.drained().await;
        // The watchdog must neither look for another process of this id, nor tidy up a folder that is still in use.
        if let Some(lifeline) = &mut self.lifeline {
            // It may be gone already, which is what was wanted.
            let _gone = lifeline.write_all(b"go\n").await;
            self.lifeline = None;
        }
        ServerError::Exited { status, log: self.output.tail() }
    }

    /// Sends the signal to the server alone.
    pub(super) fn signal(&self, signal: Signal) -> Result<(), ServerError> {
        kill_process(self.pid()?, signal).map_err(|error| ServerError::Signal(error.into()))
    }

    /// Stops the process for a while, and returns when it stands still: its threads stop one after the other.
    pub(super) async fn pause(&self) -> Result<(), ServerError> {
        self.signal(Signal::STOP)?;
        let pid = self.pid()?;
        // Its end is found out elsewhere, and so neither is consumed here.
        let news = WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let standing = tokio::task::spawn_blocking(move || retry_on_intr(|| waitid(WaitId::Pid(pid), news)));
        let standing = standing.await.map_err(|error| ServerError::Signal(error.into()))?;
        standing.map(drop).map_err(|error| ServerError::Signal(error.into()))
    }

    /// Ends the process: asks it to, and kills it if it has not followed within the grace.
    pub(super) async fn end(&mut self, grace: Duration) -> Result<(), ServerError> {
        if grace > Duration::ZERO && self.signal(Signal::TERM).is_ok() {
            // A stopped process gets the first signal only when it continues.
            self.signal(Signal::CONT)?;
            if tokio::time::timeout(grace, self.ended()).await.is_ok() {
                return Ok(());
            }
            tracing::warn!(target: super::TARGET, pid = self.id, ?grace, "the server does not end, and is killed");
        }
        self.kill().await
    }

    /// Kills the process, its watchdog, and whatever else is in its group. Nothing is left when it returns.
    pub(super) async fn kill(&mut self) -> Result<(), ServerError> {
        match self.pid() {
            Ok(pid) => kill_process_group(pid, Signal::KILL).map_err(|e| ServerError::Signal(e.into()))?,
            // It has ended in the meantime.
            Err(_) => return Ok(()),
        }
        // Nobody is left to read from it.
        self.lifeline = None;
        self.ended().await;
        Ok(())
    }

    /// The id for a signal. As long as nobody has waited for the end of a child, its id is not given to another process.
    fn pid(&self) -> Result<Pid, ServerError> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        id.and_then(Pid::from_raw).ok_or(ServerError::NotRunning)
    }
}

fn set_environment(command: &mut Command, folder: &DataFolder, options: &ServerOptions, port: u16) {
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"IGGY_") {
            command.env_remove(name);
        }
    }
    command
        // The one name for it that all servers of this series know; RUST_LOG wins over their own settings.
        .env("RUST_LOG", options.log_level.as_str())
        .env("IGGY_TCP_ADDRESS", format!("127.0.0.1:{port}"))
        .env("IGGY_HTTP_ADDRESS", "127.0.0.1:0")
        .env("IGGY_QUIC_ENABLED", "false")
        .env("IGGY_WEBSOCKET_ENABLED", "false")
        .env("IGGY_ROOT_USERNAME", ROOT_USER)
        .env("IGGY_ROOT_PASSWORD", folder.password().expose_secret())
        .envs(&options.env);
}
