//! Servers for tests.

use std::future::Future;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use event_log_iggy::server::gate::server_or_announce;
use event_log_iggy::server::{IggyServer, ServerOptions};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::disk::SmallDisk;

/// Who announces what is not run.
const WHO: &str = "event-log-tests";

/// The server that all tests of a process share, started when it is first asked for; it ends with the process. `None`
/// where there is none, which has been announced.
///
/// # Panics
///
/// When a server is required and missing, or does not start.
pub fn shared_server() -> Option<&'static IggyServer> {
    static SERVER: OnceLock<Option<IggyServer>> = OnceLock::new();

    SERVER.get_or_init(|| on_a_thread(own_server())).as_ref()
}

/// A server that a test has for itself, because it kills it.
///
/// # Panics
///
/// As [`shared_server`].
pub async fn own_server() -> Option<IggyServer> {
    start(ServerOptions::temporary()).await
}

async fn start(options: ServerOptions) -> Option<IggyServer> {
    tell_what_is_asked_for();
    let binary = server_or_announce(WHO)?;
    Some(IggyServer::start(options.binary(binary)).await.expect("the server starts"))
}

/// A server that a test has for itself, and the small disk that its data are on, if there is one.
#[derive(Debug)]
pub struct DiskServer {
    /// It has to go before its disk.
    pub server: IggyServer,
    /// Where its data are, and nothing else is.
    pub disk: Option<SmallDisk>,
    /// Whether somebody has appended to it.
    pub(crate) was_used: AtomicBool,
}

impl DiskServer {
    /// A server that was started in another way, on the usual disk.
    #[must_use]
    pub const fn on_usual_disk(server: IggyServer) -> Self {
        Self { server, disk: None, was_used: AtomicBool::new(false) }
    }

    /// Whether a run should have another one: a small disk holds no more than a few.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.disk.is_some() && self.was_used.load(Ordering::Relaxed)
    }

    /// A server on a disk of so many bytes; on the usual one, where there can be no other, which is announced. `None`
    /// where there is no server, which is announced too.
    ///
    /// # Panics
    ///
    /// As [`shared_server`].
    pub async fn start(bytes: u64) -> Option<Self> {
        let disk = match SmallDisk::mount(bytes) {
            Ok(disk) => Some(disk),
            Err(reason) => {
                announce(&format!("{WHO}: disk full: not run: {reason}\n"));
                None
            }
        };
        let options = match &disk {
            Some(disk) => ServerOptions::new(disk.folder()),
            None => ServerOptions::temporary(),
        };
        Some(Self { server: start(options).await?, disk, was_used: AtomicBool::new(false) })
    }
}

/// Also where the output of a test is captured.
fn announce(line: &str) {
    // A standard error that is closed wants no announcement.
    let _closed = std::io::stderr().write_all(line.as_bytes());
}

/// Shows what the log and the server say, where somebody asks for it with `RUST_LOG`.
fn tell_what_is_asked_for() {
    let nothing = LevelFilter::OFF.into();
    let filter = EnvFilter::builder().with_default_directive(nothing).from_env_lossy();
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Somebody else may have been first.
    let _is_set = subscriber.try_init();
}

/// From within a runtime too, whose thread must not drive another one.
fn on_a_thread<T: Send>(future: impl Future<Output = T> + Send) -> T {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    };
    std::thread::scope(|scope| scope.spawn(run).join()).expect("it does not panic")
}
