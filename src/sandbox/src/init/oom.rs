//! What an init is given to see its worker run out of memory by, and what keeps the init itself from being the one that is killed.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};

use super::InitContext;
use crate::cgroup::MemorySource;
use crate::oom::KernelLog;
use crate::step::CallError;

/// What the launcher opened.
#[derive(Default)]
pub(crate) struct OomContext {
    /// The kernel's log, from the init's birth on.
    pub(crate) log: Option<KernelLog>,
    /// The worker's leaf as the log names it.
    pub(crate) leaf: Option<String>,
    /// What tells of want of memory.
    pub(crate) sources: Vec<MemorySource>,
}

impl OomContext {
    pub(super) fn raw_fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.log.iter().map(AsRawFd::as_raw_fd).chain(self.sources.iter().map(AsRawFd::as_raw_fd))
    }
}

/// The host's numbers of this process's own descriptors of processes: `fdinfo` of a pidfd has the pid as the mount of /proc sees it (proc(5)).
/// Opened before the sandbox has its own /proc.
pub(crate) struct HostNumbers(OwnedFd);

/// As a step: where it can't be had, the log's numbers mean nothing.
pub(super) fn open_host_numbers(context: &mut InitContext) -> Result<(), CallError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    context.host_numbers = rustix::fs::open("/proc/self/fdinfo", flags, Mode::empty()).ok().map(HostNumbers);
    Ok(())
}

impl HostNumbers {
    /// The number of the process that `pidfd` is of; `None` once it is reaped.
    pub(super) fn of(&self, pidfd: &OwnedFd) -> Option<i32> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.0, pidfd.as_raw_fd().to_string(), flags, Mode::empty()).ok()?;
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::fs::File::from(file), &mut text).ok()?;
        text.lines().find_map(|l| l.strip_prefix("Pid:")).and_then(|n| n.trim().parse().ok()).filter(|pid| *pid > 0)
    }
}

/// When the host runs out of memory, the init is not to go before what it has to tell of. Only after the worker is born: what the worker has
/// inherited it could come back to. Host feature `init_oom_score` says whether it can be had.
pub(super) fn spare_the_init() {
    crate::oom::spare();
}
