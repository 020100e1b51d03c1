//! `policy learn`: every system call of the worker is notified, noted, and let go on.
//!
//! ```text
//!  notification ─► words (paths, addresses) from the thread's memory ─► does it still wait? ─► walk the paths as the worker ─► note ─► go on
//! ```
//! It watches and does not guard: what the base policy refuses, the kernel refuses before anything is notified, and what the base does not
//! allow is a violation as ever. What a hostile worker can do is to be noted wrongly, and the proposal never goes beyond the base.
//!
//! Exact and slow: no call is taken for granted, since a filter can't be changed once it is loaded.
//!
//! Must never know: what a policy is made of what was noted.

mod calls;
mod notes;
mod program;
mod rights;
mod socket;
mod walk;
mod words;

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rbee_hive_policy::learn::{Gap, Observations, Use};
use rbee_hive_policy::{SandboxPlan, call_name, call_number};
use rbee_hive_sys::seccomp::{self, Notified};

use super::report::{ReportReader, Said, WorkerReport};
use crate::cgroup::WorkerLeaf;
use crate::step::{CallError, failed};
use calls::Deed;
use notes::Notes;
use rights::Rights;
use walk::{Found, walk};
use words::Thread;

/// Why there is no watching, and so no proposal: nothing is guessed.
pub(super) fn unwatched(call: &str, error: std::io::Error) -> CallError {
    let hint = match error.raw_os_error() {
        Some(libc::EBUSY) => "something above listens to this process's system calls already: learn outside of it (a container, a tracer)",
        _ => "this kernel can't let notified system calls go on (Linux 5.5): learn on a newer one, nothing is guessed",
    };
    CallError::new(call, error).hint(hint)
}

/// Lets the worker process's own steps go on until its program runs, and gives the listener.
pub(super) fn until_executed(reader: &ReportReader) -> Result<WorkerReport, CallError> {
    let report = |e| CallError::new("recvmsg(report)", e);
    let listener = match reader.next().map_err(report)? {
        Said::Nothing => return Ok(WorkerReport::Died),
        Said::Failed(failure) => return Ok(WorkerReport::Failed(failure)),
        Said::AboutToExecute { listener: Some(listener) } => listener,
        Said::AboutToExecute { listener: None } => {
            return Err(unwatched("seccomp(listener)", std::io::Error::from_raw_os_error(libc::ENOSYS)));
        }
    };
    // Only faster with it.
    let _ = seccomp::wake_on_same_cpu(listener.as_fd());
    loop {
        let mut list = [PollFd::new(reader.as_fd(), PollFlags::POLLIN), PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut list, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(failed(|| "poll(report)".into())(e)),
        }
        let call = list[1].revents().is_some_and(|r| r.contains(PollFlags::POLLIN));
        // Asked once more: what a new program calls comes after the end of the report, and is for the watcher.
        if is_ready(reader.as_fd()) {
            match reader.next().map_err(report)? {
                Said::Nothing => return Ok(WorkerReport::Executed { listener: Some(listener) }),
                Said::Failed(failure) => return Ok(WorkerReport::Failed(failure)),
                Said::AboutToExecute { .. } => {}
            }
        } else if call {
            let gone_on = seccomp::receive(listener.as_fd()).and_then(|notified| seccomp::let_go_on(listener.as_fd(), notified.id));
            match gone_on {
                Err(e) if e.raw_os_error() != Some(libc::ENOENT) => return Err(unwatched("ioctl(SECCOMP_IOCTL_NOTIF_SEND, CONTINUE)", e)),
                _ => {}
            }
        }
    }
}

fn is_ready(fd: BorrowedFd<'_>) -> bool {
    let mut list = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut list, PollTimeout::ZERO).is_ok() && list[0].any().unwrap_or(false)
}

/// What is watched, and what was seen of it.
pub(super) struct Watcher {
    /// Numbers that the base allows; `None` where it has no profile.
    allowed: Option<BTreeSet<i64>>,
    rights: Rights,
    notes: Notes,
}

impl Watcher {
    /// For a plan that asks for it; the program has just been executed.
    pub(super) fn new(plan: &SandboxPlan) -> Option<Self> {
        let watch = plan.watch.as_ref()?;
        let calls = |profile: &rbee_hive_policy::SeccompProfile| {
            profile.allow.iter().flat_map(|a| &a.calls).filter_map(|name| call_number(name)).collect()
        };
        let allowed = watch.profile.as_ref().map(calls);
        let mut watcher = Self { allowed, rights: Rights::of(plan), notes: Notes::new(plan) };
        watcher.note_program(plan);
        Some(watcher)
    }

    /// Whether the base allows the call.
    pub(super) fn allows(&self, number: i32) -> bool {
        self.allowed.as_ref().is_none_or(|calls| calls.contains(&i64::from(number)))
    }

    /// Notes a call whose thread waits, and lets it go on.
    pub(super) fn observe(&mut self, listener: BorrowedFd<'_>, notified: &Notified, leaf: &WorkerLeaf) {
        let name = call_name(i64::from(notified.number));
        let mut thread = Thread::of(notified.tid, self.rights);
        let deeds = name.map_or_else(Vec::new, |name| calls::deeds(name, &notified.args, &mut thread));
        let by = self.notes.program(notified, name);
        // Whatever was read above was that thread's, if it waits even now.
        if seccomp::still_waits(listener, notified.id).is_ok() {
            self.notes.call(notified, name, &by);
            self.count(name, notified, leaf);
            for deed in deeds {
                self.note(deed, notified.tid, &by);
            }
        }
        // ENOENT: the thread was killed meanwhile.
        let _ = seccomp::let_go_on(listener, notified.id);
    }

    fn count(&mut self, name: Option<&str>, notified: &Notified, leaf: &WorkerLeaf) {
        match name {
            Some("clone" | "clone3" | "fork" | "vfork") => self.notes.tasks(leaf.tasks().map(|n| n + 1)),
            Some(name) if calls::makes_descriptors(name) => self.notes.descriptors(words::descriptor_table(notified.tid)),
            _ => {}
        }
    }

    fn note(&mut self, deed: Deed, tid: u32, by: &str) {
        match deed {
            Deed::Path { start, path, what, follow } => {
                let whole = start.join(&path);
                // What `/proc/self` stands for is another thing for each process.
                let lasting = !whole.starts_with("/proc");
                if lasting && self.notes.knows(&whole, (what, follow), by) {
                    return;
                }
                let walked = self.rights.as_worker(|| walk(&start, &path, (what, follow), tid));
                let there = walked.there().map(ToOwned::to_owned);
                self.notes.walked(walked, what, by);
                let Some(there) = there else { return };
                if lasting {
                    self.notes.remember(whole, (what, follow), by);
                }
                if what == Use::Execute {
                    self.note_interpreters(&there, by);
                }
            }
            Deed::Bound(port) => self.notes.bound(port),
            Deed::Listened => self.notes.listened(),
            Deed::Datagrams => self.notes.datagrams(),
            Deed::Target(target) => self.notes.target(target),
            Deed::Unread(gap) => self.notes.gap(gap),
        }
    }

    /// The kernel opens a program's interpreter by itself, without a call.
    fn note_interpreters(&mut self, program: &std::path::Path, by: &str) {
        let root = std::path::Path::new("/");
        let mut next = Some(program.to_owned());
        for _ in 0..program::MAX_DEPTH {
            let Some(interpreter) = next.take().and_then(|p| self.rights.as_worker(|| program::interpreter(&p))) else { return };
            let walked = self.rights.as_worker(|| walk(root, &interpreter, (Use::Execute, true), 0));
            next = walked.there().map(ToOwned::to_owned);
            self.notes.walked(walked, Use::Execute, by);
        }
    }

    fn note_program(&mut self, plan: &SandboxPlan) {
        let by = plan.argv.first().map_or("", |name| name.rsplit('/').next().unwrap_or(name)).to_owned();
        for candidate in super::worker::candidates(plan) {
            let walked = self.rights.as_worker(|| walk(&plan.cwd, &candidate, (Use::Execute, true), 0));
            let Found::There { path, .. } = &walked.found else { continue };
            let path = path.clone();
            self.notes.executed(plan.cwd.join(&candidate));
            self.notes.walked(walked, Use::Execute, &by);
            return self.note_interpreters(&path, &by);
        }
    }

    /// Everything, in at most `count` parts of about `bytes` each; without the paths where they need more, and it says so.
    pub(super) fn into_parts(self, count: usize, bytes: usize) -> Vec<Observations> {
        let mut parts = self.notes.into_observations().into_parts(bytes);
        if parts.len() > count {
            parts.truncate(1);
            parts[0].gaps.insert(Gap::Paths);
        }
        parts
    }
}

impl From<words::Unreadable> for Deed {
    fn from(_: words::Unreadable) -> Self {
        Self::Unread(Gap::Words)
    }
}
