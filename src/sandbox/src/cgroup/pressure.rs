//! What the kernel can tell of a leaf's want of memory before and when it kills: descriptors to poll, opened by who may.
//!
//! | source | where | tells |
//! |---|---|---|
//! | a trigger on `memory.pressure` | the v2 leaf, with or without the memory controller | tasks wait for memory |
//! | `memory.events` | v2 with the memory controller | `memory.high`, `memory.max`, kills |
//! | a threshold on `memory.usage_in_bytes` | v1 | nine tenths of the limit are in use |
//! | `memory.oom_control` | v1 | nothing can be reclaimed at the leaf's limit or at one above it: a kill follows |
//! | `/dev/kmsg` | v1 | the kernel says something: it may be of a kill in a group below, or for want of the host's memory |

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::eventfd::{EfdFlags, EventFd};
use rbee_hive_policy::{Enforce, NotInForce, SandboxPlan, StallTrigger, WorkerId};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};

use super::error::{CgroupError, LeafError};
use super::interface;
use super::leaf::WorkerLeaf;
use super::tree::Tree;
use crate::oom::KernelLog;

/// The setting's name.
pub(crate) const SETTING: &str = "pressure.memory";
/// Longest content of `memory.events`.
const CONTENT: usize = 4096;

/// What a descriptor tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// Tasks wait for memory.
    Stall,
    /// A count of `memory.events` has changed.
    Events,
    /// Usage has come over, or gone back below, so many bytes.
    Usage {
        /// Bytes.
        threshold: u64,
    },
    /// Nothing can be reclaimed any more.
    OutOfMemory,
    /// The kernel has logged something, of whatever.
    Logged,
}

/// One descriptor to poll.
#[derive(Debug)]
pub(crate) struct Source {
    /// What it tells.
    pub(crate) tells: Tells,
    fd: OwnedFd,
}

/// What a look at a source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// No news.
    Nothing,
    /// News; it is quiet now until the next.
    News,
    /// It will never tell anything again.
    Gone,
}

impl Source {
    #[cfg(test)]
    pub(crate) fn of(tells: Tells, fd: OwnedFd) -> Self {
        Self { tells, fd }
    }

    /// To be polled for [`flags`](Self::flags).
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// What to poll for.
    pub(crate) fn flags(&self) -> PollFlags {
        match self.tells {
            Tells::Stall | Tells::Events => PollFlags::PRI,
            Tells::Usage { .. } | Tells::OutOfMemory | Tells::Logged => PollFlags::IN,
        }
    }

    /// Whether it has news, which are taken off it. Never waits.
    pub(crate) fn look(&self) -> Told {
        let mut list = [PollFd::new(&self.fd, self.flags())];
        if poll(&mut list, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_err() {
            return Told::Nothing;
        }
        let seen = list[0].revents();
        if !seen.intersects(self.flags()) {
            return if seen.is_empty() { Told::Nothing } else { Told::Gone };
        }
        match self.tells {
            // The kernel takes it off as it is polled; with an error the trigger is gone (psi_trigger_poll).
            Tells::Stall if seen.contains(PollFlags::ERR) => Told::Gone,
            Tells::Stall => Told::News,
            // Told until it is read (kernfs_generic_poll).
            Tells::Events => self.taken(rustix::io::pread(&self.fd, &mut [0; CONTENT][..], 0)),
            Tells::Usage { .. } | Tells::OutOfMemory => self.taken(rustix::io::read(&self.fd, &mut [0; 8][..])),
            // Who reads the log has a descriptor of its own: here one call takes off however much was said.
            Tells::Logged => self.taken(rustix::fs::seek(&self.fd, rustix::fs::SeekFrom::End(0))),
        }
    }

    fn taken<T>(&self, read: rustix::io::Result<T>) -> Told {
        if read.is_ok() { Told::News } else { Told::Gone }
    }
}

impl AsRawFd for Source {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// All sources of one leaf.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// In the order in which they are looked at: what comes before a kill first.
    pub(crate) list: Vec<Source>,
    /// What is not in force.
    pub(crate) notes: Vec<NotInForce>,
}

impl Tree {
    /// Opens all that tells of the want of memory of a worker's `leaf`, which must have its limits.
    ///
    /// Errors: `Limit` where the plan requires to be told and there is no trigger to be had.
    pub(crate) fn memory_sources(&self, id: &WorkerId, plan: &SandboxPlan, worker: &WorkerLeaf) -> Result<Sources, LeafError> {
        let leaf = format!("{}/worker", self.group(id));
        let mut sources = Sources::default();
        if let Some(trigger) = plan.pressure.memory {
            match self.stall(&leaf, trigger) {
                Ok(source) => sources.list.push(source),
                Err(why) if plan.pressure.enforce == Enforce::Required => {
                    let source = Box::new(CgroupError::Limit { setting: SETTING.to_owned(), why });
                    return Err(LeafError { step: "watch memory", source });
                }
                Err(why) => {
                    let instead = self.v1("memory").map_or("", |_| "; use of nine tenths of memory_max is told instead");
                    sources.notes.push(NotInForce { setting: SETTING.to_owned(), why: format!("{why}{instead}") });
                }
            }
        }
        if let Some(dir) = worker.v1_of("memory") {
            sources.list.extend(worker.usage_source());
            sources.list.extend(event(dir, "memory.oom_control", "").map(|fd| Source { tells: Tells::OutOfMemory, fd }));
            // Without it the init looks from time to time.
            sources.list.extend(KernelLog::open().ok().map(|log| Source { tells: Tells::Logged, fd: log.into() }));
        } else if let Some(v2) = self.v2() {
            let opened = rustix::fs::open(v2.dir(&leaf).join("memory.events"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
            sources.list.extend(opened.ok().map(|fd| Source { tells: Tells::Events, fd }));
        }
        Ok(sources)
    }

    /// Whether leaves can tell that tasks wait for memory, and why not.
    pub(crate) fn tells_stalls(&self) -> Result<(), String> {
        let v2 = self.v2().ok_or_else(|| "there is no cgroup v2 here, which tells of pressure".to_owned())?;
        interface::read(&v2.dir(&format!("{}/hive/memory.pressure", self.root))).map(drop).map_err(|e| {
            let source = std::error::Error::source(&e).map(|s| format!(": {s}")).unwrap_or_default();
            format!("this kernel has no pressure stall information (boot with psi=1): {e}{source}")
        })
    }

    pub(super) fn stall(&self, leaf: &str, trigger: StallTrigger) -> Result<Source, String> {
        self.tells_stalls()?;
        let Some(v2) = self.v2() else { return Err("there is no cgroup v2 here".to_owned()) };
        let path = v2.dir(leaf).join("memory.pressure");
        let words = format!("some {} {}", trigger.stall_ms.saturating_mul(1000), trigger.window_ms.saturating_mul(1000));
        let failed = |call: &str, e: rustix::io::Errno| match e {
            // Before Linux 6.4 triggers were for the privileged alone.
            rustix::io::Errno::PERM | rustix::io::Errno::ACCESS => {
                format!("{call}({}): {e}: before Linux 6.4 it takes CAP_SYS_RESOURCE", path.display())
            }
            e => format!("{call}({}): {e}", path.display()),
        };
        let fd =
            rustix::fs::open(&path, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).map_err(|e| failed("open", e))?;
        rustix::io::write(&fd, words.as_bytes()).map_err(|e| failed("write", e))?;
        Ok(Source { tells: Tells::Stall, fd })
    }

    /// The worker's leaf as the kernel's log names it; `None` where there is no memory controller, or this is not the host's cgroup namespace.
    pub(crate) fn logged_leaf(&self, id: &WorkerId) -> Option<String> {
        /// Number of the first cgroup namespace's file (PROC_CGROUP_INIT_INO in the kernel's proc_ns.h).
        const FIRST_CGROUP_NAMESPACE: u64 = 0xEFFF_FFFB;
        use std::os::unix::fs::MetadataExt;
        if !std::fs::metadata("/proc/self/ns/cgroup").is_ok_and(|ns| ns.ino() == FIRST_CGROUP_NAMESPACE) {
            return None;
        }
        let home = self.v1("memory").or_else(|| self.v2().filter(|_| self.v2_controllers().contains("memory")))?;
        Some(format!("{}{}/worker", home.mount_root.trim_end_matches('/'), self.group(id)))
    }
}

impl WorkerLeaf {
    /// Nine tenths of the limit that is in force now, bytes; `None` without a limit, and where nothing tells of it but the limit itself (v2).
    pub(crate) fn usage_threshold(&self) -> Option<u64> {
        self.v1_of("memory")?;
        self.memory_limit().map(|limit| limit / 10 * 9)
    }

    /// Tells when so much is in use.
    pub(crate) fn usage_source(&self) -> Option<Source> {
        let threshold = self.usage_threshold()?;
        let fd = event(self.v1_of("memory")?, "memory.usage_in_bytes", &threshold.to_string())?;
        Some(Source { tells: Tells::Usage { threshold }, fd })
    }
}

/// An eventfd that a v1 file's events are told to (Documentation/admin-guide/cgroup-v1/memory.rst); `None` where this kernel has none. Closing
/// it ends that, and does not wait for it (memcg_event_wake).
fn event(dir: &OwnedFd, file: &str, words: &str) -> Option<OwnedFd> {
    let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).ok()?;
    let watched = rustix::fs::openat(dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let line = format!("{} {} {words}", event.as_fd().as_raw_fd(), watched.as_raw_fd());
    interface::write_at(dir, "cgroup.event_control", line.trim_end()).ok()?;
    Some(event.into())
}
