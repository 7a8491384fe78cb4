//! A small disk that can be filled: a `tmpfs`, where this process may mount one.
//!
//! Nothing of it is left behind, however this process ends, also by a signal that nobody can catch: the file system is
//! taken out of the tree of folders as soon as it is there, and lives for as long as somebody has it open. The way to it
//! is then `/proc/<pid>/fd/<n>`, which leads anywhere an open file leads, and is the same for all processes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest piece of ballast, and the smallest: less than a block of any file system.
const PIECES: [usize; 2] = [1 << 20, 512];

/// A file system of its own, in memory. It goes away with this value and the last file that is open on it.
#[derive(Debug)]
pub struct SmallDisk {
    /// Keeps the file system.
    _root: File,
    path: PathBuf,
}

impl SmallDisk {
    /// A new one that holds so many bytes.
    ///
    /// # Errors
    ///
    /// A sentence, when there can be none here: only a superuser may mount, and only Linux has a `tmpfs`.
    pub fn mount(bytes: u64) -> Result<Self, String> {
        static DISKS: AtomicU64 = AtomicU64::new(0);

        let name = format!("event-log-disk-{}-{}", process::id(), DISKS.fetch_add(1, Ordering::Relaxed));
        let point = MountPoint::new(std::env::temp_dir().join(name))?;
        let size = format!("size={bytes},mode=0700");
        run("mount", &["-t", "tmpfs", "-o", &size, "tmpfs"], &point.0)?;
        let root = File::open(&point.0);
        // Whoever has it open keeps it.
        let unmounted = run("umount", &["--lazy"], &point.0);
        let root = root.map_err(|error| format!("{}: {error}", point.0.display()))?;
        unmounted?;
        let path = PathBuf::from(format!("/proc/{}/fd/{}", process::id(), descriptor(&root)));
        // That it can be reached, and written to, is better known now.
        let probe = fs::create_dir(path.join("data"));
        probe.map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { _root: root, path })
    }

    /// A folder on it.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Fills it to the last block.
    ///
    /// # Errors
    ///
    /// When anything else happens than that it is full.
    pub fn fill(&self) -> io::Result<()> {
        let mut ballast = OpenOptions::new().append(true).create(true).open(self.ballast())?;
        for piece in PIECES {
            let zeros = vec![0; piece];
            loop {
                match ballast.write(&zeros) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    ///
    /// # Errors
    ///
    /// When the ballast cannot be removed. That there is none is no error.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_file(self.ballast()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn ballast(&self) -> PathBuf {
        self.path.join("ballast")
    }
}

fn descriptor(file: &File) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(file)
}

/// A folder that is removed in any case, and whatever is mounted there before that.
struct MountPoint(PathBuf);

impl MountPoint {
    fn new(path: PathBuf) -> Result<Self, String> {
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for MountPoint {
    fn drop(&mut self) {
        // It fails as long as something is mounted there, which is so only if unmounting has failed before.
        if fs::remove_dir(&self.0).is_err() {
            let _tried = run("umount", &["--lazy"], &self.0);
            let _tried = fs::remove_dir(&self.0);
        }
    }
}

fn run(program: &str, args: &[&str], last: &Path) -> Result<(), String> {
    let output = Command::new(program).args(args).arg(last).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program}: {}", said.lines().next().unwrap_or("failed")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_be_filled_and_cleared_and_leaves_nothing() {
        let disk = match SmallDisk::mount(1 << 20) {
            Ok(disk) => disk,
            Err(reason) => {
                // Not `eprintln`, which the test harness captures.
                let line = format!("event-log-tests: disk full: not run: {reason}\n");
                let _closed = io::stderr().write_all(line.as_bytes());
                return;
            }
        };
        let file = disk.folder().join("file");
        disk.fill().expect("it can be filled");
        let refused = fs::write(&file, "x").expect_err("it is full");
        assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
        disk.clear().expect("it can be cleared");
        fs::write(&file, "x").expect("there is room");
        let mounts = fs::read_to_string("/proc/self/mounts").expect("there is a list");
        assert!(!mounts.contains("event-log-disk-"), "{mounts}");
        let path = disk.path.clone();
        drop(disk);
        assert!(!path.join("data").exists());
    }
}
