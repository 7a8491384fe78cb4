//! An `iggy-server` of one's own: found, started, watched over, and stopped.
//!
//! For an application that brings its log along, and for tests. The server listens on 127.0.0.1 only, on a port that
//! is free; only who can read its data folder has the password. It ends with its owner, however that one ends.
//!
//! ```no_run
//! use event_log_iggy::server::{IggyServer, ServerOptions};
//!
//! # async fn example() -> Result<(), event_log_iggy::server::ServerError> {
//! let server = IggyServer::start(ServerOptions::new("/var/lib/my-app/log")).await?;
//! let endpoint = server.endpoint();
//! // … use it …
//! server.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! # In the data folder
//!
//! | name | what |
//! |---|---|
//! | `lock` | locked for as long as a server has the folder, also if that one has outlived us for a moment |
//! | `root-password` | the password of the user `iggy`; the mode is 0600 |
//! | `local_data` | what the server keeps |
//!
//! # What it does not do
//!
//! A server that runs but no longer answers is not restarted: only one that has ended is. That is also what becomes of
//! one whose disk is full: it has to be ended, given room, and looked after before it is started again (DESIGN.md has
//! the details). And a cluster has to be started by other means.

mod binary;
mod error;
mod folder;
pub mod gate;
mod options;
mod output;
mod process;
mod ready;
mod state;
mod supervisor;
mod version;

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::dispatcher::{self, Dispatch};
use tracing::subscriber::NoSubscriber;

pub use self::binary::{SERVER_BIN, find};
pub use self::error::{LogTail, ServerError};
use self::folder::DataFolder;
pub use self::options::ServerOptions;
use self::state::Places;
pub use self::state::ServerState;
use self::supervisor::{Command, Reply, Supervisor};
use crate::config::Endpoint;
use crate::limits::SERVER_COMMANDS;

/// The target of everything that the server and its keeper log.
const TARGET: &str = "event_log_iggy::server";

/// The user whose password is in the data folder.
const ROOT_USER: &str = "iggy";

/// A server that runs for as long as this value lives, and is started again when it dies.
///
/// The methods need no particular runtime, and one server may be used from several, such as those of many tests: in a
/// `static`, it ends with the process. Dropping the value ends the server as [`stop`](Self::stop) does, without waiting
/// for it.
///
/// A command (to stop, kill, shut down, start, move, pause or resume it) is given when its future is first polled, unless
/// [`SERVER_COMMANDS`] others are waiting. What was given is carried out, in order, even if the future is dropped.
pub struct IggyServer {
    commands: mpsc::Sender<Command>,
    state: watch::Receiver<ServerState>,
    prepared: Prepared,
}

/// What does not change over the life of a server.
struct Prepared {
    binary: PathBuf,
    version: String,
    folder: Arc<DataFolder>,
    places: Arc<Mutex<Places>>,
    stop_grace: Duration,
}

impl fmt::Debug for IggyServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IggyServer")
            .field("binary", &self.prepared.binary)
            .field("version", &self.prepared.version)
            .field("data_folder", &self.data_folder())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

impl IggyServer {
    /// Finds the server, checks its version, starts it, and waits until it lets us in: about a third of a second.
    ///
    /// # Errors
    ///
    /// A [`ServerError`] of any kind but [`GaveUp`](ServerError::GaveUp). A first start that fails is not repeated, and
    /// leaves no process.
    ///
    /// # Cancel safety
    ///
    /// What was started is ended again.
    pub async fn start(options: ServerOptions) -> Result<Self, ServerError> {
        let (commands, inbox) = mpsc::channel(SERVER_COMMANDS);
        let (published, state) = watch::channel(ServerState::Starting);
        let (prepared, is_prepared) = oneshot::channel();
        let subscriber = dispatcher::get_default(Clone::clone);
        thread::Builder::new()
            .name("iggy-server".to_owned())
            .spawn(move || {
                with_subscriber(&subscriber, || keep(options, inbox, published, prepared));
            })
            .map_err(|source| ServerError::Run { program: "a thread for the iggy-server".into(), source })?;
        let prepared = is_prepared.await.map_err(|_| ServerError::Stopped)??;
        let server = Self { commands, state, prepared };
        match server.start_again().await {
            Ok(()) => Ok(server),
            Err(error) => {
                // So that the folder is free when the error is seen. What else may go wrong now is logged.
                let _logged = server.stop().await;
                Err(error)
            }
        }
    }

    /// How to reach the server, with its password. It stays the same over restarts, but not after
    /// [`restart_on_another_port`](Self::restart_on_another_port).
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        ready::endpoint(self.tcp_address(), &self.prepared.folder)
    }

    /// Where the server listens, or has listened last.
    #[must_use]
    pub fn tcp_address(&self) -> SocketAddr {
        // It is always known once the first start has succeeded, which is before anybody can ask.
        self.prepared.places.lock().tcp.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Where the server answers HTTP. `None` until it has said so in its log, which it does about when it lets us in
    /// and only at the level `INFO` or below. Each restart has another.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.prepared.places.lock().http
    }

    /// The id of the server's process, while it lets us in.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.state.borrow().pid()
    }

    /// Where the server has its data.
    #[must_use]
    pub fn data_folder(&self) -> &Path {
        self.prepared.folder.path()
    }

    /// The program that is run.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.prepared.binary
    }

    /// The version that the program has said it has.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.prepared.version
    }

    /// What the server is doing.
    #[must_use]
    pub fn state(&self) -> ServerState {
        self.state.borrow().clone()
    }

    /// For waiting until the server does something else.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<ServerState> {
        self.state.clone()
    }

    /// Ends the server for good: it writes what it has not flushed, and is killed if that takes longer than the
    /// [grace](ServerOptions::stop_grace). When this returns, the process is gone, the data folder can be used again,
    /// and a temporary one has been removed.
    ///
    /// # Errors
    ///
    /// [`ServerError::Signal`] when the process cannot be ended. [`ServerError::Stopped`] when it was stopped before.
    ///
    /// # Cancel safety
    ///
    /// A command that was given is carried out: see [`IggyServer`].
    pub async fn stop(&self) -> Result<(), ServerError> {
        self.tell(Command::Stop).await
    }

    /// Kills the server as a crash would, and leaves it dead until it is [started again](Self::start_again): for tests
    /// of what depends on it. To see it restarted by itself, send a signal to its [`pid`](Self::pid).
    ///
    /// # Errors
    ///
    /// [`ServerError::Signal`] and [`ServerError::Stopped`]. Killing a dead one is no error.
    ///
    /// # Cancel safety
    ///
    /// A command that was given is carried out: see [`IggyServer`].
    pub async fn kill(&self) -> Result<(), ServerError> {
        self.tell(|reply| Command::End(Duration::ZERO, reply)).await
    }

    /// Ends the server as [`stop`](Self::stop) does, and leaves it down until it is
    /// [started again](Self::start_again): for tests of clients whose server is restarted by its operator.
    ///
    /// # Errors
    ///
    /// [`ServerError::Signal`] and [`ServerError::Stopped`]. Ending one that is down is no error.
    ///
    /// # Cancel safety
    ///
    /// A command that was given is carried out: see [`IggyServer`].
    pub async fn shut_down(&self) -> Result<(), ServerError> {
        let grace = self.prepared.stop_grace;
        self.tell(|reply| Command::End(grace, reply)).await
    }

    /// Starts a server that is down, on the port that it had, and waits until it lets us in. Does nothing to one that
    /// runs, and does not wait for the time of the next restart.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). The server then stays down.
    ///
    /// # Cancel safety
    ///
    /// A command that was given is carried out: see [`IggyServer`]. The server goes down if the
    /// start fails.
    pub async fn start_again(&self) -> Result<(), ServerError> {
        self.tell(Command::Start).await
    }

    /// Ends the server as [`stop`](Self::stop) does, and starts it on a port that is surely another: for tests of
    /// clients that find it again. It has that port from now on.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start). The server then stays down.
    ///
    /// # Cancel safety
    ///
    /// A command that was given is carried out: see [`IggyServer`].
    pub async fn restart_on_another_port(&self) -> Result<(), ServerError> {
        self.tell(Command::MoveToAnotherPort).await
    }

    /// Stops the clock of the server's process: when this returns, connections stay and nothing answers. For tests of deadlines.
    ///
    /// # Errors
    ///
    /// [`ServerError::NotRunning`], [`ServerError::Signal`], and [`ServerError::Stopped`].
    ///
    /// # Cancel safety
    ///
    /// A command that was given is carried out: see [`IggyServer`].
    pub async fn pause(&self) -> Result<(), ServerError> {
        self.tell(Command::Pause).await
    }

    /// Lets a [paused](Self::pause) process go on. Does nothing to one that is not paused.
    ///
    /// # Errors
    ///
    /// As [`pause`](Self::pause).
    ///
    /// # Cancel safety
    ///
    /// A command that was given is carried out: see [`IggyServer`].
    pub async fn resume(&self) -> Result<(), ServerError> {
        self.tell(Command::Resume).await
    }

    async fn tell(&self, command: impl FnOnce(Reply) -> Command) -> Result<(), ServerError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| ServerError::Stopped)?;
        answer.await.map_err(|_| ServerError::Stopped)?
    }
}

/// What is logged on the keeper's thread goes where the one who started it logs to, also if that is not the
/// subscriber of the whole process.
fn with_subscriber(subscriber: &Dispatch, work: impl FnOnce()) {
    if subscriber.is::<NoSubscriber>() {
        // There may be one later.
        work();
    } else {
        dispatcher::with_default(subscriber, work);
    }
}

/// The life of the keeper's thread.
fn keep(
    options: ServerOptions,
    inbox: mpsc::Receiver<Command>,
    published: watch::Sender<ServerState>,
    prepared: oneshot::Sender<Result<Prepared, ServerError>>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| ServerError::Run { program: "a runtime".into(), source });
    let outcome = runtime.and_then(|runtime| {
        let supervisor = runtime.block_on(prepare(options, published))?;
        Ok((runtime, supervisor))
    });
    let (answer, work) = match outcome {
        Ok((runtime, supervisor)) => (Ok(supervisor.prepared()), Some((runtime, supervisor))),
        Err(error) => (Err(error), None),
    };
    // If nobody waits for it any more, nobody can give commands either, and the work is over at once.
    let _unheard = prepared.send(answer);
    if let Some((runtime, supervisor)) = work {
        runtime.block_on(supervisor.serve(inbox));
    }
}

async fn prepare(
    options: ServerOptions,
    published: watch::Sender<ServerState>,
) -> Result<Supervisor, ServerError> {
    let binary = find(options.binary.as_deref())?;
    let version = binary::fitting_version(&binary).await?;
    let folder = DataFolder::open(options.folder.as_deref())?;
    Ok(Supervisor::new(binary, version, folder, options, published))
}

impl Supervisor {
    fn prepared(&self) -> Prepared {
        Prepared {
            binary: self.binary.clone(),
            version: self.version.to_string(),
            folder: Arc::clone(&self.folder),
            places: Arc::clone(&self.places),
            stop_grace: self.options.stop_grace,
        }
    }
}
