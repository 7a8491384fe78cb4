//! The data folder: one server at a time, and the password that only its owner can read.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};

use super::error::ServerError;
use crate::limits::SERVER_PASSWORD_BYTES;

/// A data folder that is ours for as long as this value, or a process that has its lock, lives.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    lock: File,
    password: SecretString,
    temporary: bool,
}

impl DataFolder {
    /// Makes the folder and its password if there are none. Without a path, it is a temporary one.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, ServerError> {
        let temporary = path.is_none();
        let path = match path {
            Some(path) => std::path::absolute(path).map_err(ServerError::folder(path))?,
            None => {
                let name = random_hex(8).map_err(ServerError::folder("/dev/urandom"))?;
                std::env::temp_dir().join(format!("event-log-iggy-{name}"))
            }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(ServerError::folder(&path))?;
        let lock = lock(&path)?;
        let password = password(&path.join("root-password"))?;
        Ok(Self { path, lock, password, temporary })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn password_file(&self) -> PathBuf {
        self.path.join("root-password")
    }

    /// Where the server writes its port after it has bound it.
    pub(super) fn runtime_config(&self) -> PathBuf {
        self.path.join("local_data/runtime/current_config.toml")
    }

    pub(super) const fn password(&self) -> &SecretString {
        &self.password
    }

    pub(super) const fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// The locked file, for the server: the folder stays locked until it is gone, even if it outlives us.
    pub(super) fn lock(&self) -> Result<File, ServerError> {
        self.lock.try_clone().map_err(ServerError::folder(&self.path))
    }

    /// Gives the folder back, and removes a temporary one. The server must have ended.
    pub(super) fn close(&self) {
        if self.temporary
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            let path = self.path.display();
            tracing::warn!(target: super::TARGET, %path, %error, "a temporary folder cannot be removed");
        }
        // Said explicitly, because the lock belongs to all who have the file, and the watchdog that has been told to
        // go may need a moment.
        if let Err(error) = self.lock.unlock() {
            tracing::warn!(target: super::TARGET, %error, "the data folder cannot be unlocked");
        }
    }
}

/// An operating system's lock goes away with its holders, however they end: there are no stale ones.
fn lock(folder: &Path) -> Result<File, ServerError> {
    let path = folder.join("lock");
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(ServerError::folder(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ServerError::FolderInUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(ServerError::Folder { path, source }),
    }
}

/// The server takes a password at its first start only, so that it has to be the same one ever after.
fn password(file: &Path) -> Result<SecretString, ServerError> {
    match fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => {
            let source = io::Error::new(io::ErrorKind::InvalidData, "there is no password in it");
            Err(ServerError::Folder { path: file.to_owned(), source })
        }
        Ok(text) => {
            // It may have been copied from elsewhere.
            fs::set_permissions(file, Permissions::from_mode(0o600)).map_err(ServerError::folder(file))?;
            Ok(SecretString::from(text.trim().to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            new_password(file).map_err(ServerError::folder(file))
        }
        Err(source) => Err(ServerError::Folder { path: file.to_owned(), source }),
    }
}

/// In place as a whole or not at all, and on the disk before the server can have learnt it.
fn new_password(file: &Path) -> io::Result<SecretString> {
    let password = SecretString::from(random_hex(SERVER_PASSWORD_BYTES)?);
    let unfinished = file.with_extension("new");
    let mut options = OpenOptions::new();
    let mut written = options.write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    writeln!(written, "{}", password.expose_secret())?;
    written.sync_all()?;
    fs::rename(&unfinished, file)?;
    Ok(password)
}

fn random_hex(bytes: usize) -> io::Result<String> {
    let mut random = vec![0; bytes];
    File::open("/dev/urandom")?.read_exact(&mut random)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}
