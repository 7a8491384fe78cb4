//! What the tests of the server need around it.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use event_log_iggy::server::{ServerOptions, ServerState};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

/// Only an upper bound for a test that fails.
const LONG: Duration = Duration::from_secs(60);

/// A folder that is removed at the end of a test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("event-log-iggy-test-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: it is among the temporary ones.
        let _left = fs::remove_dir_all(&self.0);
    }
}

/// A script that stands for a server.
pub(crate) fn script(folder: &Folder, body: &str) -> PathBuf {
    let path = folder.path().join("fake-iggy-server");
    // Written under another name by a process that ends: a program that any process has open for writing, be it one
    // that another test is forking right now, cannot be run.
    let copy = "cat >\"$1.new\" && chmod 755 \"$1.new\" && mv \"$1.new\" \"$1\"";
    let mut writer = Command::new("/bin/sh");
    let mut writer = writer.args(["-c", copy, "sh"]).arg(&path).stdin(Stdio::piped()).spawn().unwrap();
    write!(writer.stdin.take().unwrap(), "#!/bin/sh\n{body}\n").unwrap();
    assert!(writer.wait().unwrap().success());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
    path
}

/// Waits for a state.
pub(crate) async fn until(
    watch: &mut watch::Receiver<ServerState>,
    wanted: impl FnMut(&ServerState) -> bool,
) -> ServerState {
    tokio::time::timeout(LONG, watch.wait_for(wanted)).await.expect("in time").unwrap().clone()
}

/// Waits for what nobody announces: it concerns processes that are not ours.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let look = async {
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, look).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

pub(crate) fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

/// The state and the parent of a process, as the kernel shows them.
fn stat(pid: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// The letter of a process: `T` is stopped, `Z` is dead and not yet buried.
pub(crate) fn state(pid: u32) -> Option<char> {
    stat(pid).map(|(state, _)| state)
}

/// The letters of its threads.
pub(crate) fn states_of_threads(pid: u32) -> Vec<char> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads.filter_map(|thread| state(thread.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

pub(crate) fn children(pid: u32) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|child| stat(*child).is_some_and(|(_, parent)| parent == pid)).collect()
}

pub(crate) fn accepts(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_ok()
}

const HELPER_BINARY: &str = "EVENT_LOG_IGGY_TEST_HELPER_BINARY";
const HELPER_FOLDER: &str = "EVENT_LOG_IGGY_TEST_HELPER_FOLDER";

/// What the helper is to start; `None` when this process is no helper.
pub(crate) fn helper_options() -> Option<ServerOptions> {
    let binary = env::var_os(HELPER_BINARY)?;
    let options = env::var_os(HELPER_FOLDER).map_or_else(ServerOptions::temporary, ServerOptions::new);
    Some(options.binary(binary).stop_grace(Duration::from_secs(1)))
}

/// Another process that owns a server.
pub(crate) struct Helper(Child);

impl Helper {
    pub(crate) fn start(binary: &Path, folder: Option<&Path>) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "helper", "--nocapture"]).env(HELPER_BINARY, binary);
        if let Some(folder) = folder {
            command.env(HELPER_FOLDER, folder);
        }
        Self(command.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Waits until its server is ready: the process id and the data folder.
    pub(crate) fn ready(&mut self) -> (u32, PathBuf) {
        let lines = BufReader::new(self.0.stdout.take().unwrap()).lines();
        let ready = lines.map(Result::unwrap).find_map(|line| line.strip_prefix("ready ").map(str::to_owned));
        let ready = ready.expect("the helper has ended");
        let (pid, folder) = ready.split_once(' ').unwrap();
        (pid.parse().unwrap(), folder.into())
    }

    pub(crate) fn kill_9(&mut self) {
        send(self.0.id(), Signal::KILL);
        self.0.wait().unwrap();
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Usually it is dead already.
        let _dead = self.0.kill();
        let _buried = self.0.wait();
    }
}
