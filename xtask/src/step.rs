//! Running a command as one announced and timed step.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

/// One command line, from the root of the workspace.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) name: &'static str,
    command: Command,
}

impl Step {
    /// A step that runs cargo, the same one that runs this.
    pub(crate) fn cargo(name: &'static str, args: &[&str]) -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(args).current_dir(root());
        // Cargo has told us about ourselves. Build scripts that look at that (ring's does) would find it changed, and
        // everything would be built once for `cargo xtask` and once more without it.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                command.env_remove(name);
            }
        }
        Self { name, command }
    }

    pub(crate) fn args(mut self, args: &[String]) -> Self {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it, with its output going where ours goes. An error is a sentence.
    pub(crate) fn run(mut self) -> Result<Duration, String> {
        let shown: Vec<_> = self.command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        println!("\n=== {}: cargo {}", self.name, shown.join(" "));
        let start = Instant::now();
        let status = self.command.status().map_err(|error| format!("{}: {error}", self.name))?;
        if status.success() { Ok(start.elapsed()) } else { Err(format!("{} failed: {status}", self.name)) }
    }

    /// Runs it likewise, and returns its exit code, which means something to the caller. An error is a sentence.
    pub(crate) fn status(mut self) -> Result<u8, String> {
        let status = self.command.status().map_err(|error| format!("{}: {error}", self.name))?;
        let code = status.code().ok_or_else(|| format!("{} was ended: {status}", self.name))?;
        Ok(u8::try_from(code).unwrap_or(1))
    }

    /// Runs it and returns what it prints.
    pub(crate) fn output(mut self) -> Result<String, String> {
        let output = self.command.output().map_err(|error| format!("{}: {error}", self.name))?;
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            return Err(format!("{} failed: {}\n{stderr}", self.name, output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    // It stays as it is if it is absolute.
    root().join(target)
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().map_or_else(|| manifest.clone(), PathBuf::from)
}
