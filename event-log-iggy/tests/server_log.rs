//! What a server logs is logged by us, without its password.
//!
//! The one test of its process: `tracing` remembers of each place that logs whether anybody listens, and with a
//! subscriber of one thread it may remember what another thread has found.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fs;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use event_log_iggy::server::{IggyServer, ServerOptions, gate};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

#[tokio::test]
async fn the_log_is_ours_and_has_no_password() {
    let Some(binary) = gate::server_or_announce("event-log-iggy server_log") else { return };
    let log = Log::default();
    let _subscribed = log.subscribe();
    let server = IggyServer::start(ServerOptions::temporary().binary(binary)).await.unwrap();
    let password = fs::read_to_string(server.data_folder().join("root-password")).unwrap();
    server.stop().await.unwrap();

    let logged = log.text();
    assert!(logged.contains("INFO event_log_iggy::server: the server is ready"), "{logged}");
    assert!(logged.contains("INFO event_log_iggy::server: shard-0 "), "{logged}");
    assert!(logged.contains("WARN event_log_iggy::server: "), "{logged}");
    assert!(!logged.contains('\u{1b}'), "no colours");
    assert!(!logged.contains(password.trim()));
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// Takes what this thread logs.
    fn subscribe(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::fmt().with_writer(self.clone()).with_ansi(false).finish();
        tracing::subscriber::set_default(subscriber)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}
