//! A server of one's own: it starts, is watched over, and never outlives its owner. Tests with a script in its place
//! need none; the others say so when there is no real one.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

#[path = "server/support.rs"]
mod support;

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use event_log_iggy::server::{IggyServer, ServerError, ServerOptions, ServerState, gate};
use event_log_iggy::{Credentials, limits};
use rustix::process::Signal;

use self::support::{Folder, Helper, accepts, eventually, is_alive, script, send, until};

/// Scripts that stand for a server start with this: it is asked for its version first.
const FITTING: &str = "if [ \"$1\" = --version ]; then echo 'server 0.9.0'; exit 0; fi\n";

fn binary(test: &str) -> Option<PathBuf> {
    gate::server_or_announce(&format!("event-log-iggy server {test}"))
}

fn real(test: &str) -> Option<ServerOptions> {
    Some(ServerOptions::temporary().binary(binary(test)?))
}

fn fake(folder: &Folder, body: &str) -> ServerOptions {
    ServerOptions::new(folder.path().join("data")).binary(script(folder, &format!("{FITTING}{body}")))
}

async fn refused(options: ServerOptions) -> ServerError {
    match IggyServer::start(options).await {
        Ok(server) => panic!("it has started: {server:?}"),
        Err(error) => error,
    }
}

#[tokio::test]
async fn it_starts_lets_us_in_and_stops() {
    let Some(options) = real("it_starts_lets_us_in_and_stops") else { return };
    let server = IggyServer::start(options).await.unwrap();
    let (pid, folder) = (server.pid().unwrap(), server.data_folder().to_owned());
    assert!(is_alive(pid));
    assert!(accepts(server.tcp_address()));
    assert!(server.version().starts_with("0.9."), "{}", server.version());
    server.endpoint().validate().unwrap();
    assert_eq!(server.endpoint().addresses, [server.tcp_address().to_string()]);
    let http = eventually("it says where it answers HTTP", || server.http_address()).await;
    assert!(accepts(http));

    server.stop().await.unwrap();
    assert!(matches!(server.state(), ServerState::Stopped));
    assert!(!is_alive(pid), "the process is gone when stop returns");
    assert!(!folder.exists(), "the temporary folder is removed");
    assert!(matches!(server.start_again().await, Err(ServerError::Stopped)));
    assert!(matches!(server.stop().await, Err(ServerError::Stopped)));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let error = refused(ServerOptions::temporary().binary("/nonexistent/iggy-server")).await;
    assert!(matches!(error, ServerError::NoSuchBinary { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("/nonexistent/iggy-server") && message.contains("ServerOptions::binary"));
}

#[tokio::test]
async fn a_server_of_another_version_is_refused_with_the_one_that_is_needed() {
    let folder = Folder::new();
    let binary = script(&folder, "echo 'server 0.8.1'");
    let error = refused(ServerOptions::new(folder.path().join("data")).binary(&binary)).await;
    assert!(matches!(error, ServerError::VersionMismatch { .. }), "{error:?}");
    let message = error.to_string();
    for part in ["0.8.1", "SDK 0.11", "iggy-server 0.9.x"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!folder.path().join("data").exists(), "nothing is made for a server that does not fit");

    fs::write(&binary, "#!/bin/sh\necho 'not a server'\n").unwrap();
    let error = refused(ServerOptions::temporary().binary(&binary)).await;
    assert!(
        matches!(&error, ServerError::UnknownVersion { said, .. } if said == "not a server"),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_server_that_ends_early_says_why() {
    let folder = Folder::new();
    let options = fake(&folder, "echo 'WARN first'; echo 'no room for a server' >&2; exit 3");
    let error = refused(options.clone()).await;
    let ServerError::Exited { status, log } = &error else { panic!("{error:?}") };
    assert_eq!(status.code(), Some(3));
    assert_eq!(log.lines(), ["WARN first", "no room for a server"]);
    assert!(error.to_string().contains("no room for a server"), "{error}");
    // The folder is free again.
    assert!(matches!(refused(options).await, ServerError::Exited { .. }));
}

#[tokio::test]
async fn a_server_that_never_gets_ready_is_ended() {
    let folder = Folder::new();
    let options = fake(&folder, "echo $$ >pid; echo here; exec sleep 1000");
    let error = refused(options.start_timeout(Duration::from_millis(300))).await;
    assert!(matches!(&error, ServerError::NotReady { source: None, .. }), "{error:?}");
    assert!(error.to_string().contains("here"), "{error}");
    let pid = fs::read_to_string(folder.path().join("data/pid")).unwrap().trim().parse().unwrap();
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_folder_has_one_server() {
    let Some(binary) = binary("a_folder_has_one_server") else { return };
    let folder = Folder::new();
    let options = ServerOptions::new(folder.path()).binary(binary);
    let server = IggyServer::start(options.clone()).await.unwrap();
    let error = refused(options.clone()).await;
    assert!(
        matches!(&error, ServerError::FolderInUse { folder: used } if used == folder.path()),
        "{error:?}"
    );
    server.stop().await.unwrap();

    // And the next one has the password of the first.
    let again = IggyServer::start(options).await.unwrap();
    again.stop().await.unwrap();
    assert!(folder.path().join("root-password").exists(), "a folder that was named is kept");
}

#[tokio::test]
async fn a_server_with_another_password_is_no_use() {
    let Some(options) = real("a_server_with_another_password_is_no_use") else { return };
    let error = refused(options.env("IGGY_ROOT_PASSWORD", "not-the-one-in-the-file")).await;
    let ServerError::Unauthorized { file, .. } = &error else { panic!("{error:?}") };
    assert!(file.ends_with("root-password"));
    assert!(std::error::Error::source(&error).is_some());
}

#[tokio::test]
async fn a_killed_server_is_started_again_on_its_port() {
    let Some(options) = real("a_killed_server_is_started_again_on_its_port") else { return };
    let server = IggyServer::start(options).await.unwrap();
    let (pid, address) = (server.pid().unwrap(), server.tcp_address());
    let mut watch = server.watch();
    for round in 1..=2_u64 {
        // The kernel remembers an open connection of a dead server for a while, which must not keep the port from the
        // next one.
        let _open = TcpStream::connect(server.tcp_address()).unwrap();
        send(server.pid().unwrap(), Signal::KILL);
        let state = until(
            &mut watch,
            |state| matches!(state, ServerState::Running { restarts, .. } if *restarts >= round),
        );
        let state = state.await;
        let ServerState::Running { pid: new, address: same, .. } = state else { panic!("{state:?}") };
        assert_ne!(pid, new);
        assert_eq!(address, same);
        assert!(accepts(server.tcp_address()));
    }
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_keeps_dying_is_given_up() {
    let Some(real) = binary("a_server_that_keeps_dying_is_given_up") else { return };
    let folder = Folder::new();
    // The first start succeeds.
    let body = format!(
        "echo x >>../starts\n[ $(wc -l <../starts) -gt 1 ] && exit 7\nexec {} \"$@\"",
        real.display()
    );
    let options = fake(&folder, &body).restarts(3, Duration::from_millis(1), limits::SERVER_HEALTHY_AFTER);
    let server = IggyServer::start(options).await.unwrap();
    send(server.pid().unwrap(), Signal::KILL);
    let state = until(&mut server.watch(), |state| matches!(state, ServerState::Failed { .. })).await;
    let ServerState::Failed { error } = state else { panic!("{state:?}") };
    assert!(
        matches!(&*error, ServerError::GaveUp { restarts: 3, source } if matches!(**source, ServerError::Exited { .. }))
    );
    assert_eq!(fs::read_to_string(folder.path().join("starts")).unwrap().lines().count(), 4);

    // Its owner may try again.
    assert!(matches!(server.start_again().await, Err(ServerError::Exited { .. })));
    assert!(matches!(server.state(), ServerState::Down));
    fs::remove_file(folder.path().join("starts")).unwrap();
    server.start_again().await.unwrap();
    assert!(server.state().is_running());
    server.stop().await.unwrap();
}

#[tokio::test]
async fn what_its_owner_does_to_it_is_no_crash() {
    let Some(options) = real("what_its_owner_does_to_it_is_no_crash") else { return };
    let server = IggyServer::start(options).await.unwrap();
    let (pid, address) = (server.pid().unwrap(), server.tcp_address());

    server.kill().await.unwrap();
    assert!(!is_alive(pid));
    assert!(matches!(server.state(), ServerState::Down));
    assert!(matches!(server.pause().await, Err(ServerError::NotRunning)));
    server.kill().await.unwrap();
    server.start_again().await.unwrap();
    server.start_again().await.unwrap();
    assert_eq!(server.tcp_address(), address);

    server.restart_on_another_port().await.unwrap();
    assert_ne!(server.tcp_address(), address);
    assert!(!accepts(address));
    assert!(accepts(server.tcp_address()));

    for _ in 0..20 {
        server.pause().await.unwrap();
        let threads = support::states_of_threads(server.pid().unwrap());
        assert!(threads.iter().all(|&thread| thread == 'T'), "not all stand still: {threads:?}");
        server.pause().await.unwrap();
        server.resume().await.unwrap();
        eventually("it goes on", || (support::state(server.pid()?)? != 'T').then_some(())).await;
    }

    // A paused one can be stopped too.
    server.pause().await.unwrap();
    let pid = server.pid().unwrap();
    assert!(matches!(server.state(), ServerState::Running { restarts: 0, .. }));
    server.stop().await.unwrap();
    assert!(!is_alive(pid));
}

#[test]
fn dropping_it_ends_it_without_any_runtime() {
    let Some(options) = real("dropping_it_ends_it_without_any_runtime") else { return };
    let start = || {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(IggyServer::start(options.clone())).unwrap()
    };
    // The runtime that it was started on is gone, and it runs. A static may have it.
    const fn may_be_shared(_: &(impl Send + Sync + 'static)) {}
    let server = start();
    may_be_shared(&server);
    let (pid, folder) = (server.pid().unwrap(), server.data_folder().to_owned());
    assert!(is_alive(pid) && accepts(server.tcp_address()));
    let mut watch = server.watch();
    drop(server);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        until(&mut watch, |state| matches!(state, ServerState::Stopped)).await;
        // The keeper's thread has ended, and the sender with it.
        while watch.changed().await.is_ok() {}
    });
    assert!(!is_alive(pid));
    assert!(!folder.exists());
}

#[tokio::test]
async fn a_start_that_is_given_up_leaves_nothing() {
    let folder = Folder::new();
    let options = fake(&folder, "echo $$ >pid.new; mv pid.new pid; exec sleep 1000");
    let pid_file = folder.path().join("data/pid");
    tokio::select! {
        started = IggyServer::start(options) => panic!("{started:?}"),
        () = eventually("the script has started", || pid_file.exists().then_some(())) => {}
    }
    let pid = fs::read_to_string(pid_file).unwrap().trim().parse().unwrap();
    eventually("the process is gone", || (!is_alive(pid)).then_some(())).await;
}

/// Not a test, but the owner of a server in a process of its own, which the tests below kill.
#[tokio::test]
async fn helper() {
    let Some(options) = support::helper_options() else { return };
    let server = IggyServer::start(options).await.unwrap();
    println!("\nready {} {}", server.pid().unwrap(), server.data_folder().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_killed_owner_leaves_no_server() {
    let Some(binary) = binary("a_killed_owner_leaves_no_server") else { return };
    let mut owner = Helper::start(&binary, None);
    let (pid, folder) = owner.ready();
    assert!(is_alive(pid) && folder.exists());
    let watchdogs = support::children(pid);
    assert_eq!(watchdogs.len(), 1);
    owner.kill_9();
    eventually("the server is gone", || (!is_alive(pid)).then_some(())).await;
    eventually("its temporary folder is removed", || (!folder.exists()).then_some(())).await;
    eventually("its watchdog is gone", || (!is_alive(watchdogs[0])).then_some(())).await;
}

#[tokio::test]
async fn an_owner_killed_while_it_starts_leaves_no_server_even_a_stubborn_one() {
    let folder = Folder::new();
    let body =
        format!("{FITTING}trap '' TERM\necho $$ >pid.new\nmv pid.new pid\nwhile :; do sleep 0.05; done");
    let data = folder.path().join("data");
    let mut owner = Helper::start(&script(&folder, &body), Some(&data));
    let pid = eventually("the script has started", || fs::read_to_string(data.join("pid")).ok()).await;
    let pid = pid.trim().parse().unwrap();
    owner.kill_9();
    // As long as it ends, it keeps others out of its folder.
    if is_alive(pid) {
        let error = refused(ServerOptions::new(&data).binary(script(&folder, FITTING))).await;
        assert!(matches!(error, ServerError::FolderInUse { .. }) || !is_alive(pid), "{error:?}");
    }
    eventually("the script is gone", || (!is_alive(pid)).then_some(())).await;
    assert!(data.exists(), "a folder that was named is kept");
}

#[tokio::test]
async fn the_password_is_for_its_owner_alone() {
    let Some(options) = real("the_password_is_for_its_owner_alone") else { return };
    let options = options.env("SOME_TOKEN", "a-token");
    assert!(!format!("{options:?}").contains("a-token"));
    let server = IggyServer::start(options).await.unwrap();
    let file = server.data_folder().join("root-password");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(server.data_folder()).unwrap().permissions().mode() & 0o777, 0o700);
    let password = fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(password.len(), 2 * limits::SERVER_PASSWORD_BYTES);
    let endpoint = server.endpoint();
    assert!(matches!(&endpoint.credentials, Credentials::Password { username, .. } if username == "iggy"));
    let mut shown = format!("{server:?} {endpoint:?} {:?}", server.state());
    server.stop().await.unwrap();
    shown += &format!("{server:?} {:?}", server.state());
    assert!(!shown.contains(&password), "{shown}");
}

#[tokio::test]
async fn settings_reach_the_server_and_those_of_others_do_not() {
    let folder = Folder::new();
    let options = fake(&folder, "env >env; echo done; exit 1");
    let options = options.env("IGGY_HTTP_ENABLED", "false").env("IGGY_QUIC_ENABLED", "true");
    refused(options.log_level(tracing::Level::WARN)).await;
    let env = fs::read_to_string(folder.path().join("data/env")).unwrap();
    for line in [
        "IGGY_HTTP_ENABLED=false",
        "IGGY_QUIC_ENABLED=true",
        "IGGY_TCP_ADDRESS=127.0.0.1:0",
        "IGGY_ROOT_USERNAME=iggy",
        "RUST_LOG=WARN",
    ] {
        assert!(env.lines().any(|set| set == line), "{line} is not in {env}");
    }
    assert!(!env.contains("IGGY_SERVER_BIN"), "what is meant for us is not passed on");
}
