//! The directories of the launcher's own, used by descriptor once they are open.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, fchown};
use rbee_hive_policy::SandboxPlan;
use rustix::fs::{AtFlags, Mode, OFlags, mkdirat, open, openat, unlinkat};
use rustix::io::Errno;
use serde::Serialize;

use super::{LauncherOptions, Purpose};
use crate::init::write_whole;
use crate::step::{CallError, failed};

/// What a worker's state and log directories can hold: only these are ever removed.
const KNOWN_FILES: &[&str] = &["plan.json", "verdict.json", ".plan.json.new", ".verdict.json.new", "log", "log.1"];

pub(super) struct Directories {
    state: OwnedFd,
    logs: OwnedFd,
    /// Empty; each init mounts its root over it, unseen by all others.
    pub(super) staging: PathBuf,
    group: u32,
    workers: (PathBuf, PathBuf),
    /// A foreground command's own, innermost first: gone with it, also where `run` itself was killed.
    own: Vec<PathBuf>,
}

impl Directories {
    pub(super) fn open(options: &LauncherOptions) -> Result<Self, CallError> {
        let staging = options.state_dir.join("root");
        let mut own = vec![options.log_dir.clone(), options.state_dir.clone()];
        own.retain(|path| options.purpose == Purpose::Run && !path.exists());
        for path in [&options.state_dir, &options.log_dir, &staging] {
            std::fs::create_dir_all(path).map_err(failed(|| format!("mkdir({path:?})")))?;
        }
        let (state, logs) = (workers_in(&options.state_dir, options)?, workers_in(&options.log_dir, options)?);
        let staging = staging.canonicalize().map_err(failed(|| format!("realpath({staging:?})")))?;
        let workers = (options.state_dir.join("workers"), options.log_dir.join("workers"));
        Ok(Self { state, logs, staging, group: options.group, workers, own })
    }

    /// Makes the worker's state and log directories afresh.
    pub(super) fn make(&self, id: &str) -> Result<(OwnedFd, OwnedFd), CallError> {
        self.forget(id).map_err(failed(|| format!("remove the old directories of {id:?}")))?;
        let one = |parent: BorrowedFd<'_>| -> Result<OwnedFd, CallError> {
            mkdirat(parent, id, Mode::from_raw_mode(0o750)).map_err(failed(|| format!("mkdirat({id:?})")))?;
            let made = directory(parent, id).map_err(failed(|| format!("openat({id:?})")))?;
            fchown(&made, None, Some(Gid::from_raw(self.group))).map_err(failed(|| format!("fchown({id:?})")))?;
            // Set-group-ID: what the init writes there belongs to the same group, without a privilege.
            rustix::fs::fchmod(&made, Mode::from_raw_mode(0o2750)).map_err(failed(|| format!("fchmod({id:?})")))?;
            Ok(made)
        };
        let state = one(self.state.as_fd())?;
        let logs = one(self.logs.as_fd()).inspect_err(|_| drop(self.forget(id)))?;
        Ok((state, logs))
    }

    /// The worker's state directory.
    ///
    /// Errors: `NotFound` where it has none.
    pub(super) fn state_of(&self, id: &str) -> io::Result<OwnedFd> {
        Ok(directory(self.state.as_fd(), id)?)
    }

    /// Removes the hive's socket, which the hive itself may not: the state directory is root's.
    pub(super) fn remove_socket(&self) {
        let _ = std::fs::remove_file(self.staging.with_file_name("hive.sock"));
    }

    /// Takes back what `open` made, as far as it is empty: logs and records of ended workers stay.
    pub(super) fn remove_empty(&self) {
        for path in [&self.staging, &self.workers.0, &self.workers.1].into_iter().chain(&self.own) {
            // Not empty, or gone already: both are as they should be.
            let _ = std::fs::remove_dir(path);
        }
    }

    /// Removes the worker's directories, if they are there.
    pub(super) fn forget(&self, id: &str) -> io::Result<()> {
        remove(self.state.as_fd(), id)?;
        remove(self.logs.as_fd(), id)
    }
}

#[derive(Serialize)]
struct PlanRecord<'a> {
    version: u32,
    plan: &'a SandboxPlan,
    cgroup: Option<&'a str>,
}

/// Writes `plan.json` into a worker's state directory, whole: a reader sees the one before or this one.
pub(super) fn write_plan(state: &OwnedFd, plan: &SandboxPlan, cgroup: Option<&str>) -> Result<(), CallError> {
    let record = PlanRecord { version: 1, plan, cgroup };
    write_whole(state.as_fd(), "plan.json", &record).map_err(failed(|| "write(plan.json)".into()))
}

/// `workers/` in one of the two directories: both are the launcher's own, and no link leads to it.
fn workers_in(path: &Path, options: &LauncherOptions) -> Result<OwnedFd, CallError> {
    let top =
        open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(failed(|| format!("open({path:?})")))?;
    check_owner(&top, path, options.purpose)?;
    let shown = path.join("workers");
    match mkdirat(&top, "workers", Mode::from_raw_mode(0o750)) {
        Err(e) if e != Errno::EXIST => return Err(failed(|| format!("mkdir({shown:?})"))(e)),
        _ => {}
    }
    let fd = directory(top.as_fd(), "workers").map_err(failed(|| format!("open({shown:?}, O_NOFOLLOW)")))?;
    check_owner(&fd, &shown, options.purpose)?;
    fchown(&fd, None, Some(Gid::from_raw(options.group))).map_err(failed(|| format!("fchown({shown:?})")))?;
    rustix::fs::fchmod(&fd, Mode::from_raw_mode(0o750)).map_err(failed(|| format!("fchmod({shown:?})")))?;
    Ok(fd)
}

/// Who can write there could put links where the launcher makes files. A foreground command has only its caller to fear.
fn check_owner(fd: &OwnedFd, path: &Path, purpose: Purpose) -> Result<(), CallError> {
    let there = rustix::fs::fstat(fd).map_err(failed(|| format!("fstat({path:?})")))?;
    let own = there.st_uid == rustix::process::geteuid().as_raw() && there.st_mode & 0o022 == 0;
    if own || purpose == Purpose::Run {
        return Ok(());
    }
    let refused = CallError::new(format!("use {path:?}"), io::Error::from(io::ErrorKind::PermissionDenied));
    Err(refused.hint(format!(
        "it belongs to uid {} and has mode {:04o}: give it to who starts the hive (chown), and take write permission from others (chmod go-w)",
        there.st_uid,
        there.st_mode & 0o7777
    )))
}

fn directory(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, Errno> {
    openat(parent, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn remove(parent: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    let inside = match directory(parent, name) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(e) => return Err(e.into()),
    };
    for file in KNOWN_FILES {
        match unlinkat(&inside, *file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_ours_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let parent: OwnedFd = std::fs::File::open(dir.path()).unwrap().into();
        std::fs::create_dir(dir.path().join("w")).unwrap();
        std::fs::write(dir.path().join("w/verdict.json"), "{}").unwrap();
        std::fs::write(dir.path().join("w/precious"), "x").unwrap();
        assert!(remove(parent.as_fd(), "w").is_err(), "a stranger's file keeps the directory");
        assert!(dir.path().join("w/precious").exists());
        std::fs::remove_file(dir.path().join("w/precious")).unwrap();
        remove(parent.as_fd(), "w").unwrap();
        remove(parent.as_fd(), "w").unwrap();
        assert!(!dir.path().join("w").exists());
    }
}
