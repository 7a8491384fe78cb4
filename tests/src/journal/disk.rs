//! The files, and what a power failure leaves of them.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// Files that only grow, in a folder that goes away with this value.
///
/// It outlives a crash of the backend, as the machine does: what was written and not synced is in the page cache.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    files: BTreeMap<String, OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    len: u64,
    /// What a power failure leaves.
    synced: u64,
}

impl Disk {
    pub(super) fn new() -> io::Result<Self> {
        static FOLDERS: AtomicU64 = AtomicU64::new(0);

        let name = format!("event-log-journal-{}-{}", process::id(), FOLDERS.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder)?;
        Ok(Self { folder, files: BTreeMap::new() })
    }

    /// The file, which is made when it is not there.
    fn file(&mut self, name: &str) -> io::Result<&mut OpenFile> {
        if !self.files.contains_key(name) {
            let opened = open(&self.folder.join(name))?;
            self.files.insert(name.to_owned(), opened);
        }
        self.files.get_mut(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Writes behind the end. Returns where that was.
    pub(super) fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<u64> {
        let open = self.file(name)?;
        let at = open.len;
        open.file.write_all(bytes)?;
        open.len += bytes.len() as u64;
        Ok(at)
    }

    pub(super) fn sync(&mut self, name: &str) -> io::Result<()> {
        let open = self.file(name)?;
        open.file.sync_data()?;
        open.synced = open.len;
        Ok(())
    }

    pub(super) fn read_at(&mut self, name: &str, at: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.file(name)?.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    pub(super) fn read(&mut self, name: &str) -> io::Result<Vec<u8>> {
        let len = self.file(name)?.len;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.read_at(name, 0, len)
    }

    /// Ends the file here, and syncs that.
    pub(super) fn truncate(&mut self, name: &str, len: u64) -> io::Result<()> {
        let open = self.file(name)?;
        open.file.set_len(len)?;
        open.len = len;
        self.sync(name)
    }

    /// Every file ends where it was last synced.
    pub(super) fn lose_power(&mut self) -> io::Result<()> {
        for open in self.files.values_mut() {
            open.file.set_len(open.synced)?;
            open.len = open.synced;
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<OpenFile> {
    let file = OpenOptions::new().read(true).append(true).create(true).open(path)?;
    let len = file.metadata()?.len();
    Ok(OpenFile { file, len, synced: len })
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _in_the_way_of_none = fs::remove_dir_all(&self.folder);
    }
}
