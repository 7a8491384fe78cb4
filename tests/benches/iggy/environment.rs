//! What the figures depend on: the machine, the versions, the settings.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::bench::{Bench, Settings};
use crate::contenders::IN_FLIGHT;
use crate::event::{EVENT_BYTES, PARTITIONS, SESSIONS};

/// Where a run took place.
#[derive(Debug, Serialize)]
pub(crate) struct Environment {
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// Of the file system that the server writes to: `persisted` is as fast as it syncs.
    file_system: String,
    rustc: String,
    server: String,
    /// Those that matter here, as `Cargo.lock` has them.
    crates: Vec<(String, String)>,
    commit: String,
    command_line: Vec<String>,
    seed: u64,
    settings: Settings,
    partitions: u32,
    sessions: usize,
    event_bytes: usize,
    in_flight: u64,
}

const CRATES: &[&str] = &[
    "event-log-core",
    "event-log-iggy",
    "iggy",
    "iggy_binary_protocol",
    "iggy_common",
    "tokio",
    "serde_json",
    "async-nats",
];

impl Environment {
    pub(crate) fn of(bench: &Bench) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: field("/proc/meminfo", "MemTotal")
                .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1_024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .map_or_else(|_| unknown(), |text| text.trim().to_owned()),
            file_system: file_system(bench.server.data_folder()).unwrap_or_else(unknown),
            rustc: output(&root, "rustc", &["--version"]).unwrap_or_else(unknown),
            server: bench.server.version().to_owned(),
            crates: crates(&root),
            commit: output(&root, "git", &["describe", "--always", "--dirty", "--abbrev=12"])
                .unwrap_or_else(unknown),
            command_line: std::env::args().skip(1).collect(),
            seed: bench.args.seed,
            settings: bench.settings,
            partitions: PARTITIONS,
            sessions: SESSIONS,
            event_bytes: EVENT_BYTES,
            in_flight: IN_FLIGHT,
        }
    }

    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let crates: Vec<_> = self.crates.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let Settings { rounds, window, .. } = self.settings;
        vec![
            format!("{}, {} cores, {} MiB, Linux {}", self.cpu, self.cores, self.memory_mib, self.kernel),
            format!("server {} on {}; client and server share the machine", self.server, self.file_system),
            format!("{}; commit {}; {}", self.rustc, self.commit, crates.join(", ")),
            format!(
                "{rounds} rounds of {} ms; {EVENT_BYTES} B JSON, {SESSIONS} sessions, {PARTITIONS} partitions; seed {}",
                window.as_millis(),
                self.seed
            ),
        ]
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The first field of this name in a file of lines `name : value`.
fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The type of the file system that has a folder: that of the longest mount point that the path begins with.
fn file_system(folder: &Path) -> Option<String> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holds = mounts.filter(|(point, _)| folder.starts_with(point));
    holds.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

fn output(folder: &Path, program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).current_dir(folder).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// The versions in the lock file, whose packages are a name and a version, one line each.
fn crates(root: &Path) -> Vec<(String, String)> {
    let lock = fs::read_to_string(root.join("Cargo.lock")).unwrap_or_default();
    let value = |line: &str, key: &str| {
        Some(line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')?.to_owned())
    };
    let lines: Vec<_> = lock.lines().collect();
    let packages =
        lines.windows(2).filter_map(|pair| Some((value(pair[0], "name")?, value(pair[1], "version")?)));
    packages.filter(|(name, _)| CRATES.contains(&name.as_str())).collect()
}
