//! A worker's leaf by descriptors only: usable after `pivot_root`, in another pid namespace, by the worker's init.
//!
//! Kills by `cgroup.kill` (Linux 5.14), else by freezing, signalling every listed pid and thawing, until nothing is listed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Dir, FileType, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::protocol::Resources;

use super::counters::{self, Home};
use super::detect::{Hierarchy, Version};
use super::error::CgroupError;
use super::interface;
use super::nested;

/// Rounds of freezing and killing.
const MAX_ROUNDS: usize = 16;
/// How long one round waits for what it killed.
const ROUND_WAIT: Duration = Duration::from_millis(250);
/// Most processes signalled in one round: each costs a descriptor while it dies.
const MAX_BATCH: usize = 256;
/// Deepest sub-cgroup that is looked into.
const MAX_DEPTH: usize = 8;

/// Where a leaf's freezer is.
enum Freezer<'f> {
    V2(&'f OwnedFd),
    V1(&'f OwnedFd),
}

/// The directory of one worker leaf in every hierarchy; empty in mode `none`.
#[derive(Debug)]
pub struct WorkerLeaf {
    v2: Option<OwnedFd>,
    v1: Vec<(Vec<String>, OwnedFd)>,
}

impl WorkerLeaf {
    /// Opens `path` in every hierarchy that has it.
    pub(super) fn open(hierarchies: &[Hierarchy], path: &str) -> Result<Self, CgroupError> {
        let mut leaf = Self { v2: None, v1: Vec::new() };
        for hierarchy in hierarchies {
            let fd = match interface::open_dir(&hierarchy.dir(path)) {
                Ok(fd) => fd,
                Err(e) if e.errno() == Some(libc::ENOENT) => continue,
                Err(e) => return Err(e),
            };
            match hierarchy.version {
                Version::V2 => leaf.v2 = Some(fd),
                Version::V1 => leaf.v1.push((hierarchy.controllers.clone(), fd)),
            }
        }
        Ok(leaf)
    }

    /// Every descriptor that this holds, for a list of what to keep open.
    pub fn fds(&self) -> Vec<BorrowedFd<'_>> {
        self.v2.iter().chain(self.v1.iter().map(|(_, fd)| fd)).map(AsFd::as_fd).collect()
    }

    /// The v2 leaf's directory.
    pub fn v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.v2.as_ref().map(AsFd::as_fd)
    }

    /// Kills every process of the leaf. With `cgroup.kill` it returns at once, otherwise after at most a few seconds.
    ///
    /// Errors: a file that could not be written; `NotEmpty` where processes outlive their SIGKILL (state D).
    pub fn kill(&self) -> Result<(), CgroupError> {
        let Some(v2) = &self.v2 else { return self.kill_by_freezing() };
        match interface::write_at(v2, "cgroup.kill", "1") {
            Ok(()) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => self.kill_by_freezing(),
            Err(source) => Err(CgroupError::Write { path: "cgroup.kill".into(), value: "1".into(), source }),
        }
    }

    /// Kills by [`kill`](Self::kill), then what only a v1 hierarchy lists, and waits until all of it is gone: at most a few seconds.
    pub(super) fn kill_and_wait(&self) -> Result<(), CgroupError> {
        // The pidfds are opened before the kill: they tell the end of each without polling files.
        let before = self.open_listed();
        self.kill()?;
        wait_for_exit(before, Instant::now() + ROUND_WAIT);
        self.kill_by_freezing()
    }

    /// Freeze, kill what is listed, thaw, wait for it; until nothing is listed.
    pub(super) fn kill_by_freezing(&self) -> Result<(), CgroupError> {
        for _ in 0..MAX_ROUNDS {
            if self.pids().is_empty() {
                return Ok(());
            }
            // A freezer keeps a fork from slipping between the listing and the signal; without one the rounds have to do.
            let frozen = self.freeze();
            let victims = self.open_listed();
            for fd in &victims {
                // ESRCH: it has ended by itself.
                let _ = pidfd_send_signal(fd, Signal::KILL);
            }
            if frozen.is_ok() {
                let _ = self.thaw();
            }
            wait_for_exit(victims, Instant::now() + ROUND_WAIT);
        }
        if self.pids().is_empty() { Ok(()) } else { Err(CgroupError::NotEmpty { rounds: MAX_ROUNDS }) }
    }

    /// Whether any process is in the leaf or below it.
    ///
    /// Errors: `cgroup.events` cannot be read.
    pub fn populated(&self) -> Result<bool, CgroupError> {
        if let Some(v2) = &self.v2 {
            let text =
                interface::read_at(v2, "cgroup.events").map_err(|source| CgroupError::Read { path: "cgroup.events".into(), source })?;
            // On a hybrid host this speaks for v1, too: a worker is cloned into its v2 leaf and leaves all of them at once, when it ends.
            return Ok(counters::keyed(&text, "populated") == Some(1));
        }
        Ok(!self.pids().is_empty())
    }

    /// `cgroup.events` for `poll(POLLPRI)`; `None` without a v2 leaf.
    pub fn events_fd(&self) -> Option<OwnedFd> {
        let v2 = self.v2.as_ref()?;
        rustix::fs::openat(v2, "cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()
    }

    /// The leaf's counters.
    pub fn resources(&self) -> Resources {
        nested::with_kills_below(counters::collect(&mut |home, file| self.read(home, file)), || self.look_below())
    }

    /// Groups below the leaf whose kills its own count does not have.
    pub(super) fn look_below(&self) -> Option<nested::Below> {
        nested::look_below(self.v1_of("memory")?)
    }

    /// Tasks in the leaf at the moment.
    pub fn tasks(&self) -> Option<u64> {
        let text = self.read(Home::V1("pids"), "pids.current").or_else(|| self.read(Home::V2, "pids.current"))?;
        counters::count(&text)
    }

    /// The hard memory limit in bytes; `None` for no limit.
    pub fn memory_limit(&self) -> Option<u64> {
        counters::memory_limit(&|home, file| self.read(home, file))
    }

    /// Pids in the leaf and below it, as this process's pid namespace sees them (those outside of it are left out).
    pub fn pids(&self) -> Vec<i32> {
        let mut pids = Vec::new();
        for fd in self.v2.iter().chain(self.v1.iter().map(|(_, fd)| fd)) {
            list_pids(fd.as_fd(), MAX_DEPTH, &mut pids);
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    pub(super) fn read(&self, home: Home, file: &str) -> Option<String> {
        let dir = match home {
            Home::V2 => self.v2.as_ref()?,
            Home::V1(controller) => self.v1_of(controller)?,
        };
        interface::read_at(dir, file).ok()
    }

    pub(super) fn v1_of(&self, controller: &str) -> Option<&OwnedFd> {
        self.v1.iter().find(|(names, _)| names.iter().any(|n| n == controller)).map(|(_, fd)| fd)
    }

    /// Freezes every process of the leaf and below it; [`frozen`](Self::frozen) tells when they stand still.
    ///
    /// Errors: `ENOTSUP` where no hierarchy has a freezer; what the kernel says.
    pub fn freeze(&self) -> io::Result<()> {
        self.write_freezer("1", "FROZEN")
    }

    /// Lets them run again.
    ///
    /// Errors: as for [`freeze`](Self::freeze).
    pub fn thaw(&self) -> io::Result<()> {
        self.write_freezer("0", "THAWED")
    }

    /// Whether all of them stand still now: the kernel says so when the last one has stopped, not when it was told to.
    ///
    /// Errors: as for [`freeze`](Self::freeze).
    pub fn frozen(&self) -> io::Result<bool> {
        match self.freezer()? {
            Freezer::V2(dir) => Ok(counters::keyed(&interface::read_at(dir, "cgroup.events")?, "frozen") == Some(1)),
            Freezer::V1(dir) => Ok(interface::read_at(dir, "freezer.state")?.trim() == "FROZEN"),
        }
    }

    /// Takes about `bytes` back by `memory.reclaim` (v2, Linux 5.19).
    ///
    /// Errors: `ENOTSUP` where there is no such file; `EAGAIN` where the kernel found less than that.
    pub fn reclaim(&self, bytes: u64) -> io::Result<()> {
        let v2 = self.v2.as_ref().ok_or(io::Error::from_raw_os_error(libc::ENOTSUP))?;
        interface::write_at(v2, "memory.reclaim", &bytes.to_string()).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => io::Error::from_raw_os_error(libc::ENOTSUP),
            _ => e,
        })
    }

    fn write_freezer(&self, v2_value: &str, v1_value: &str) -> io::Result<()> {
        match self.freezer()? {
            Freezer::V2(dir) => interface::write_at(dir, "cgroup.freeze", v2_value),
            Freezer::V1(dir) => interface::write_at(dir, "freezer.state", v1_value),
        }
    }

    /// The v2 leaf's where the kernel has it (Linux 5.2), the v1 hierarchy's otherwise.
    fn freezer(&self) -> io::Result<Freezer<'_>> {
        let there =
            |dir: &&OwnedFd| rustix::fs::accessat(dir, "cgroup.freeze", rustix::fs::Access::EXISTS, rustix::fs::AtFlags::empty()).is_ok();
        if let Some(v2) = self.v2.as_ref().filter(there) {
            return Ok(Freezer::V2(v2));
        }
        self.v1_of("freezer").map(Freezer::V1).ok_or(io::Error::from_raw_os_error(libc::ENOTSUP))
    }

    /// Pidfds of what is listed. A pid that is still listed after its pidfd was opened cannot have been reused in between.
    fn open_listed(&self) -> Vec<OwnedFd> {
        let open = |pid: i32| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?));
        let opened: Vec<(i32, OwnedFd)> = self.pids().into_iter().take(MAX_BATCH).filter_map(open).collect();
        let still = self.pids();
        opened.into_iter().filter(|(pid, _)| still.binary_search(pid).is_ok()).map(|(_, fd)| fd).collect()
    }
}

fn list_pids(dir: BorrowedFd<'_>, depth: usize, pids: &mut Vec<i32>) {
    if let Ok(text) = interface::read_at(dir, "cgroup.procs") {
        // 0 is a process outside this pid namespace.
        pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    let Some(deeper) = depth.checked_sub(1) else { return };
    let Ok(entries) = Dir::read_from(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if entry.file_type() != FileType::Directory || name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        if let Ok(child) = rustix::fs::openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            list_pids(child.as_fd(), deeper, pids);
        }
    }
}

/// Waits until every pidfd is readable (the process has ended), at most until `deadline`.
fn wait_for_exit(mut processes: Vec<OwnedFd>, deadline: Instant) {
    while !processes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut polled: Vec<PollFd<'_>> = processes.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
        match poll(&mut polled, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) | Ok(0) => return,
            Ok(_) => {}
        }
        let mut ended = polled.iter().map(|p| !p.revents().is_empty()).collect::<Vec<_>>().into_iter();
        processes.retain(|_| !ended.next().unwrap_or(false));
    }
}

/// Kills everything in `path` of all hierarchies and waits for its end; errors are the caller's to report as what is left.
pub(super) fn kill_group(hierarchies: &[Hierarchy], path: &str) -> Result<(), CgroupError> {
    WorkerLeaf::open(hierarchies, path)?.kill_and_wait()
}

/// Whether `dir` is the real root of the v2 hierarchy, which alone has no `cgroup.events`.
pub(super) fn is_v2_root(dir: &Path) -> bool {
    !dir.join("cgroup.events").exists()
}
