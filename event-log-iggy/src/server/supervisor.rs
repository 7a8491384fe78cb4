//! The keeper of one server: starts it, starts it again when it dies, and does what its owner says.
//!
//! It has a thread and a small runtime of its own. So a server may be shared by tests that each have their runtime,
//! its keeper goes on working while its owner's runtime is busy or its clock is stopped, and dropping the owner
//! needs no runtime at all: the thread sees that nobody can give commands any more, ends the server, and then itself.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::TARGET;
use super::error::ServerError;
use super::folder::DataFolder;
use super::options::ServerOptions;
use super::process::Process;
use super::ready;
use super::state::{Places, ServerState};
use super::version::Version;
use crate::limits::SERVER_RESTART_MAX;

/// What the owner gets to know of a command.
pub(super) type Reply = oneshot::Sender<Result<(), ServerError>>;

/// What an owner says.
#[derive(Debug)]
pub(super) enum Command {
    /// Start, unless it runs or is about to.
    Start(Reply),
    /// End it as it should, and start it on another port.
    MoveToAnotherPort(Reply),
    /// End it, with so much time for it, and leave it down.
    End(Duration, Reply),
    Pause(Reply),
    Resume(Reply),
    /// End it, and then yourself.
    Stop(Reply),
}

#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) binary: PathBuf,
    pub(super) version: Version,
    pub(super) folder: Arc<DataFolder>,
    pub(super) options: ServerOptions,
    pub(super) state: watch::Sender<ServerState>,
    pub(super) places: Arc<Mutex<Places>>,
    phase: Phase,
    /// The port to ask for: 0 until one was assigned, and then always that one, so that clients come back.
    port: u16,
    /// A port that will not do.
    shunned: Option<u16>,
    /// Who waits for the start that is under way. Dropping it tells them that it was called off.
    waiter: Option<Reply>,
    /// Restarts since the server was last healthy, and all of them.
    in_a_row: u32,
    restarts: u64,
}

#[derive(Debug)]
enum Phase {
    /// Nothing happens without a command.
    Idle,
    /// A dead server is started again at this time.
    Waiting(Instant),
    /// It was started at this time and does not let us in yet.
    Starting(Process, Instant),
    /// It has let us in at this time.
    Running(Process, Instant),
}

/// What has happened by itself.
enum Change {
    WaitIsOver,
    Ready(SocketAddr),
    Broken(ServerError),
}

impl Supervisor {
    pub(super) fn new(
        binary: PathBuf,
        version: Version,
        folder: DataFolder,
        options: ServerOptions,
        state: watch::Sender<ServerState>,
    ) -> Self {
        Self {
            binary,
            version,
            folder: Arc::new(folder),
            port: options.tcp_port,
            options,
            state,
            places: Arc::default(),
            phase: Phase::Idle,
            shunned: None,
            waiter: None,
            in_a_row: 0,
            restarts: 0,
        }
    }

    /// Works until the owner says stop, or is gone.
    pub(super) async fn serve(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                // A command comes first: what its owner wants of a server that has just died is what counts.
                biased;
                command = commands.recv() => {
                    let command = command.unwrap_or_else(|| Command::Stop(oneshot::channel().0));
                    if self.obey(command).await.is_break() {
                        return;
                    }
                }
                change = self.change() => self.follow(change).await,
            }
        }
    }

    /// Waits for something to happen, and changes nothing: cancel safe.
    async fn change(&mut self) -> Change {
        match &mut self.phase {
            Phase::Idle => std::future::pending().await,
            Phase::Waiting(until) => {
                tokio::time::sleep_until(*until).await;
                Change::WaitIsOver
            }
            Phase::Starting(process, since) => {
                let deadline = *since + self.options.start_timeout;
                starting(process, &self.folder, deadline, self.options.start_timeout).await
            }
            Phase::Running(process, _) => Change::Broken(process.ended().await),
        }
    }

    async fn follow(&mut self, change: Change) {
        match change {
            Change::WaitIsOver => self.spawn(),
            // The kernel gives out ports at random, and may give the same one twice.
            Change::Ready(address) if self.shunned == Some(address.port()) => {
                match self.end(self.options.stop_grace).await {
                    Ok(()) => self.spawn(),
                    Err(error) => self.not_started(error),
                }
            }
            Change::Ready(address) => self.ready(address),
            Change::Broken(error) => self.broken(error).await,
        }
    }

    /// Does what the owner says. It breaks when there is nothing left to do.
    async fn obey(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Start(reply) => match self.phase {
                Phase::Running(..) => answer(reply, Ok(())),
                // It is under way by itself, or for somebody who has lost interest.
                Phase::Starting(..) => self.waiter = Some(reply),
                Phase::Idle | Phase::Waiting(_) => self.start(reply),
            },
            Command::MoveToAnotherPort(reply) => match self.end(self.options.stop_grace).await {
                Ok(()) => {
                    self.shunned = self.places.lock().tcp.map(|address| address.port());
                    self.port = 0;
                    self.start(reply);
                }
                Err(error) => answer(reply, Err(error)),
            },
            Command::End(grace, reply) => {
                self.waiter = None;
                let result = self.end(grace).await;
                self.state.send_replace(ServerState::Down);
                answer(reply, result);
            }
            Command::Pause(reply) => {
                let result = match self.process() {
                    Some(process) => process.pause().await,
                    None => Err(ServerError::NotRunning),
                };
                answer(reply, result);
            }
            Command::Resume(reply) => {
                let resumed = self.process().map(|process| process.signal(Signal::CONT));
                answer(reply, resumed.unwrap_or(Err(ServerError::NotRunning)));
            }
            Command::Stop(reply) => {
                let result = self.end(self.options.stop_grace).await;
                if let Err(error) = &result {
                    tracing::error!(target: TARGET, %error, "the server cannot be ended");
                }
                self.folder.close();
                self.state.send_replace(ServerState::Stopped);
                answer(reply, result);
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// A start that the owner asked for, and waits for.
    fn start(&mut self, reply: Reply) {
        self.waiter = Some(reply);
        self.in_a_row = 0;
        self.state.send_replace(ServerState::Starting);
        self.spawn();
    }

    fn spawn(&mut self) {
        self.places.lock().http = None;
        let spawned = ready::forget_last(&self.folder).and_then(|()| {
            let places = Arc::clone(&self.places);
            Process::spawn(&self.binary, &self.folder, &self.options, self.port, places)
        });
        match spawned {
            Ok(process) => self.phase = Phase::Starting(process, Instant::now()),
            Err(error) => self.not_started(error),
        }
    }

    fn ready(&mut self, address: SocketAddr) {
        let Phase::Starting(process, since) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        let pid = process.id();
        let took = since.elapsed();
        tracing::info!(target: TARGET, pid, %address, ?took, version = %self.version, "the server is ready");
        self.port = address.port();
        self.shunned = None;
        self.places.lock().tcp = Some(address);
        self.phase = Phase::Running(process, Instant::now());
        self.state.send_replace(ServerState::Running { pid, address, restarts: self.restarts });
        if let Some(waiter) = self.waiter.take() {
            answer(waiter, Ok(()));
        }
    }

    /// The server has died, or does not become ready.
    async fn broken(&mut self, error: ServerError) {
        if let Phase::Running(_, since) = &self.phase
            && since.elapsed() >= self.options.healthy_after
        {
            self.in_a_row = 0;
        }
        // One that is not ready in time, or refuses us, still runs.
        if let Err(error) = self.end(Duration::ZERO).await {
            tracing::error!(target: TARGET, %error, "a server that is not ready cannot be killed");
        }
        self.not_started(error);
    }

    /// Tells the one who waits for the start; if nobody does, tries again after a while.
    fn not_started(&mut self, error: ServerError) {
        self.phase = Phase::Idle;
        if let Some(waiter) = self.waiter.take() {
            self.state.send_replace(ServerState::Down);
            answer(waiter, Err(error));
            return;
        }
        let cause = Arc::new(error);
        if self.in_a_row == self.options.restarts {
            let error = Arc::new(ServerError::GaveUp { restarts: self.in_a_row, source: cause });
            tracing::error!(target: TARGET, %error, "the server stays down");
            self.state.send_replace(ServerState::Failed { error });
            return;
        }
        let doubled = 2_u32.saturating_pow(self.in_a_row);
        let wait = self.options.restart_initial.saturating_mul(doubled).min(SERVER_RESTART_MAX);
        self.in_a_row += 1;
        self.restarts += 1;
        tracing::warn!(target: TARGET, error = %cause, ?wait, attempt = self.in_a_row, "the server is started again");
        self.state.send_replace(ServerState::Restarting { attempt: self.in_a_row, wait, cause });
        self.phase = Phase::Waiting(Instant::now() + wait);
    }

    const fn process(&self) -> Option<&Process> {
        match &self.phase {
            Phase::Starting(process, _) | Phase::Running(process, _) => Some(process),
            Phase::Idle | Phase::Waiting(_) => None,
        }
    }

    /// Ends the process if there is one.
    async fn end(&mut self, grace: Duration) -> Result<(), ServerError> {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Starting(mut process, _) | Phase::Running(mut process, _) => process.end(grace).await,
            Phase::Idle | Phase::Waiting(_) => Ok(()),
        }
    }
}

/// Waits until a started process lets us in, ends, or has taken too long. Cancel safe.
async fn starting(
    process: &mut Process,
    folder: &DataFolder,
    deadline: Instant,
    timeout: Duration,
) -> Change {
    let mut last = None;
    let slow = tokio::select! {
        ready = tokio::time::timeout_at(deadline, ready::wait(folder, &mut last)) => match ready {
            Ok(Ok(address)) => return Change::Ready(address),
            Ok(Err(error)) => return Change::Broken(error),
            Err(_) => timeout,
        },
        error = process.ended() => return Change::Broken(error),
    };
    let source = last.map(Into::into);
    Change::Broken(ServerError::NotReady { waited: slow, log: process.output.tail(), source })
}

fn answer(reply: Reply, result: Result<(), ServerError>) {
    // The owner may not be waiting for it any more.
    let _unheard = reply.send(result);
}
