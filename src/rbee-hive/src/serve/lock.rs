//! One hive a state directory: an `flock` on `hive.lock`, whose content is the holder's pid.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// A held lock; released when dropped or when the process ends.
#[derive(Debug)]
pub(super) struct HiveLock {
    _file: Flock<File>,
    path: PathBuf,
}

/// Why the lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum LockError {
    /// Another hive holds it.
    #[error("another hive (pid {pid}) uses the state directory {dir:?}: stop it, or give another --state-dir")]
    Held {
        /// The state directory.
        dir: PathBuf,
        /// Who, as the file says.
        pid: String,
    },
    /// A file operation failed.
    #[error("{act} the lock {path:?}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

impl HiveLock {
    /// Takes the lock of the state directory `dir` and writes our pid into it.
    pub(super) fn take(dir: &Path) -> Result<Self, LockError> {
        let path = dir.join("hive.lock");
        loop {
            let file = lock(&path, dir)?;
            // Whoever held it before may have removed it between our open and our lock: then we hold a file that nobody else sees.
            let held = file.metadata().map_err(|source| io_error("look at", &path, source))?;
            if path.symlink_metadata().is_ok_and(|seen| seen.ino() == held.ino() && seen.dev() == held.dev()) {
                let lock = Self { _file: file, path };
                lock.write_pid()?;
                return Ok(lock);
            }
        }
    }

    /// Through a descriptor of its own: the one that is kept can't write, and the file is root's.
    fn write_pid(&self) -> Result<(), LockError> {
        let text = format!("{}\n", std::process::id());
        let opened = OpenOptions::new().write(true).truncate(true).custom_flags(nix::libc::O_NOFOLLOW).open(&self.path);
        let written = opened.and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| io_error("write", &self.path, source))
    }

    /// Removes the file and releases the lock. After a drop of privileges only the launcher may remove it.
    pub(super) fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(path = ?self.path, %error, "the lock file stays");
        }
    }
}

/// Tells a second hive early, before it starts a launcher; [`HiveLock::take`] is what counts.
pub(super) fn check_free(dir: &Path) -> Result<(), LockError> {
    let path = dir.join("hive.lock");
    if path.symlink_metadata().is_err() {
        return Ok(());
    }
    lock(&path, dir).map(drop)
}

fn lock(path: &Path, dir: &Path) -> Result<Flock<File>, LockError> {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o644).custom_flags(nix::libc::O_NOFOLLOW);
    let file = match options.open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let made = options.clone().write(true).create(true).truncate(false).open(path);
            made.and_then(|_| options.open(path))
        }
        opened => opened,
    };
    let file = file.map_err(|source| io_error("open", path, source))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, errno)| match errno {
        Errno::EWOULDBLOCK => LockError::Held { dir: dir.into(), pid: read_pid(&mut file) },
        other => io_error("lock", path, other.into()),
    })
}

fn read_pid(file: &mut File) -> String {
    let mut text = String::new();
    // Only for the message: a pid that can't be read is said to be unknown.
    let read = file.take(32).read_to_string(&mut text);
    match text.trim() {
        pid if read.is_ok() && !pid.is_empty() => pid.to_owned(),
        _ => "unknown".to_owned(),
    }
}

fn io_error(act: &'static str, path: &Path, source: io::Error) -> LockError {
    LockError::Io { act, path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_hive_is_told_who_holds_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        check_free(dir.path()).unwrap();
        let first = HiveLock::take(dir.path()).unwrap();
        for error in [HiveLock::take(dir.path()).unwrap_err(), check_free(dir.path()).unwrap_err()] {
            assert!(error.to_string().contains(&format!("pid {}", std::process::id())), "{error}");
        }
        first.remove();
        assert!(!dir.path().join("hive.lock").exists());
        HiveLock::take(dir.path()).unwrap();
    }
}
