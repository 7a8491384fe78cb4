//! Servers for tests.

use std::future::Future;
use std::sync::OnceLock;

use event_log_iggy::server::gate::server_or_announce;
use event_log_iggy::server::{IggyServer, ServerOptions};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

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
    tell_what_is_asked_for();
    let binary = server_or_announce("event-log-tests")?;
    let options = ServerOptions::temporary().binary(binary);
    Some(IggyServer::start(options).await.expect("the server starts"))
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
