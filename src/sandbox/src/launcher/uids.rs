//! A uid for each worker, from a range that all hives and `run`s of the machine share.
//!
//! One lock file for the machine; byte n of it stands for uid `start + n`. An open file description lock (fcntl(2), F_OFD_SETLK) is
//! held through a descriptor that the init inherits, so a uid is free again when the worker's last keeper is gone, however it ended.
//! (Byte ranges of one file instead of a `flock` for each uid: the same promise without 65,536 files.)

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, fcntl};

use crate::launcher::LauncherOptions;

/// Where the lock file lies as root; elsewhere it is in the state directory.
const DIRECTORY: &str = "/run/rbee-hive";

/// Hands out uids.
pub(super) struct Uids {
    path: PathBuf,
    first: u32,
    count: u32,
    /// Where the search goes on: a uid just freed is the last to be used again.
    next: u32,
}

/// A uid in use; it is free when every copy of the descriptor is closed.
pub(super) struct UidLease {
    pub(super) uid: u32,
    pub(super) lock: OwnedFd,
}

impl Uids {
    pub(super) fn new(options: &LauncherOptions) -> io::Result<Self> {
        let directory = if nix::unistd::geteuid().is_root() { Path::new(DIRECTORY) } else { options.state_dir.as_path() };
        std::fs::create_dir_all(directory)?;
        let (first, last) = (*options.worker_uids.start(), *options.worker_uids.end());
        Ok(Self { path: directory.join("worker-uids.lock"), first, count: last.saturating_sub(first).saturating_add(1), next: 0 })
    }

    /// Locks a free uid; `None` when all are taken.
    pub(super) fn lease(&mut self) -> io::Result<Option<UidLease>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&self.path)?;
        for _ in 0..self.count {
            let offset = self.next;
            self.next = (self.next + 1) % self.count;
            let range = libc::flock {
                l_type: libc::F_WRLCK as libc::c_short,
                l_whence: libc::SEEK_SET as libc::c_short,
                l_start: i64::from(self.first + offset),
                l_len: 1,
                l_pid: 0,
            };
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&range)) {
                Ok(_) => return Ok(Some(UidLease { uid: self.first + offset, lock: file.into() })),
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EACCES) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(None)
    }
}

impl UidLease {
    /// The descriptor's number, for the list that an init keeps.
    pub(super) fn as_raw(&self) -> i32 {
        self.lock.as_raw_fd()
    }
}
