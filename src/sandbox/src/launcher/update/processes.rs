//! Limits that each process has for itself, for every process of a running worker (prlimit(2)).
//!
//! A copy of the launcher does it, which takes the worker's real uid and gid: that is what the kernel compares where CAP_SYS_RESOURCE is
//! missing. Hard limits that were lowered can't be raised again without it, so what raises comes first, and what lowers last of all.
//! Must never know: cgroup limits.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::{Gid, Uid, setresgid, setresuid};
use rbee_hive_policy::{Credentials, LimitKey, LimitValue, SandboxPlan, WorkerId};
use rbee_hive_sys::clone::{Cloned, Namespaces, clone_process, exit_now};
use rustix::process::{Pid, Resource, Rlimit, Signal, pidfd_send_signal, prlimit};
use serde::{Deserialize, Serialize};

use super::super::serve::Launcher;
use crate::cgroup::Tree;
use crate::init::{bounds, resource};
use crate::oom::ordinary_child;
use crate::protocol::{LaunchError, LaunchErrorKind};
use crate::step::CallError;

/// Looks at who is there; a worker that forks for ever is not waited for.
const MAX_ROUNDS: usize = 64;
/// How long the copy may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest word of the copy's, bytes.
const MAX_WORD: u64 = 4096;

/// A limit that every process is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted {
    key: LimitKey,
    resource: Resource,
    soft: Option<u64>,
    hard: Option<u64>,
    /// Whether it is no more than what was planned before.
    lowers: bool,
}

/// What the copy could not do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    key: LimitKey,
    pid: i32,
    errno: i32,
    /// Processes that keep a new limit all the same.
    left: usize,
}

impl Launcher {
    /// Gives every process of the worker the limits that were asked for.
    ///
    /// Errors, each with what is not as it was: `NotEnforceable` for a hard limit that can't be raised, and where no cgroup lists the processes;
    /// `SetupFailed`.
    pub(super) fn limit_processes(
        &self,
        id: &WorkerId,
        (old, new): (&SandboxPlan, &SandboxPlan),
        asked: &BTreeMap<LimitKey, LimitValue>,
    ) -> Result<(), (LaunchError, Option<String>)> {
        let wanted: Vec<Wanted> = asked.keys().filter_map(|key| wanted(*key, old, new)).collect();
        let Some(first) = wanted.first() else { return Ok(()) };
        if self.ledger.entries.get(id).is_none_or(|entry| entry.cgroup.is_none()) {
            return Err((no_process_list(first.key), None));
        }
        match self.in_a_copy(id, &new.credentials, &wanted) {
            Ok(None) => Ok(()),
            Ok(Some(failure)) => Err((failure.told(new), failure.kept())),
            Err(error) => Err((error, Some("which limits its processes have now is not known".into()))),
        }
    }

    fn in_a_copy(&self, id: &WorkerId, who: &Credentials, wanted: &[Wanted]) -> Result<Option<Failure>, LaunchError> {
        let failed = |call: &str, e: std::io::Error| LaunchError::setup("limit its processes", CallError::new(call, e));
        let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(|e| failed("pipe", e.into()))?;
        // It takes the worker's uid.
        let clone = || clone_process(&self.proof, Namespaces::NONE, None);
        match ordinary_child(clone, |cloned| matches!(cloned, Cloned::Child)) {
            Ok(Cloned::Child) => {
                drop(reader);
                let done = take(who).and_then(|()| limit_all(&self.tree, id, wanted));
                let word = serde_json::to_vec(&done.err()).unwrap_or_default();
                exit_now(i32::from(std::fs::File::from(writer).write_all(&word).is_err()))
            }
            Ok(Cloned::Parent { pidfd, .. }) => {
                drop(writer);
                let word = hear(reader, &pidfd);
                while let Err(nix::errno::Errno::EINTR) = waitid(Id::PIDFd(pidfd.as_fd()), WaitPidFlag::WEXITED) {}
                word.and_then(|text| serde_json::from_slice(&text).map_err(Into::into)).map_err(|e| failed("prlimit", e))
            }
            Err(e) => Err(failed("clone3", e)),
        }
    }
}

/// Everything that the copy says. One that takes too long is killed.
fn hear(reader: OwnedFd, copy: &OwnedFd) -> std::io::Result<Vec<u8>> {
    let mut list = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    if poll(&mut list, timeout)? == 0 {
        let _ = pidfd_send_signal(copy, Signal::KILL);
        return Err(std::io::ErrorKind::TimedOut.into());
    }
    let mut text = Vec::new();
    std::fs::File::from(reader).take(MAX_WORD).read_to_end(&mut text)?;
    Ok(text)
}

fn wanted(key: LimitKey, old: &SandboxPlan, new: &SandboxPlan) -> Option<Wanted> {
    let inherited = nix::sys::resource::getrlimit(resource(key)?).map_or(libc::RLIM_INFINITY, |(_, hard)| hard);
    let planned = |plan: &SandboxPlan| plan.limits.get(&key).map(|limit| bounds(key, limit.value.count(), inherited));
    let before = planned(old);
    let (soft, hard) = planned(new).filter(|after| before != Some(*after))?;
    let bounded = |n: u64| (n != libc::RLIM_INFINITY).then_some(n);
    let lowers = hard <= before.map_or(inherited, |(_, hard)| hard);
    Some(Wanted { key, resource: in_rustix(key)?, soft: bounded(soft), hard: bounded(hard), lowers })
}

fn in_rustix(key: LimitKey) -> Option<Resource> {
    Some(match key {
        LimitKey::OpenFiles => Resource::Nofile,
        LimitKey::CoreSize => Resource::Core,
        LimitKey::FileSize => Resource::Fsize,
        LimitKey::StackSize => Resource::Stack,
        LimitKey::LockedMemory => Resource::Memlock,
        LimitKey::MessageQueues => Resource::Msgqueue,
        LimitKey::PendingSignals => Resource::Sigpending,
        LimitKey::UserTasks => Resource::Nproc,
        LimitKey::CpuTime => Resource::Cpu,
        _ => return None,
    })
}

/// Takes the worker's real ids and keeps the effective ones, with what capabilities there are (prlimit(2), PERMISSIONS).
fn take(who: &Credentials) -> Result<(), Failure> {
    let keep = (Uid::from_raw(u32::MAX), Gid::from_raw(u32::MAX));
    let taken = setresgid(Gid::from_raw(who.gid), keep.1, keep.1).and_then(|()| setresuid(Uid::from_raw(who.uid), keep.0, keep.0));
    taken.map_err(|errno| Failure { key: LimitKey::OpenFiles, pid: 0, errno: errno as i32, left: 0 })
}

/// A limit as one process had it.
struct Before {
    pid: Pid,
    wanted: Wanted,
    limit: Rlimit,
}

/// First what raises, which can be taken back, for all; then what lowers. Each until two looks in a row find nobody new: a child that was born
/// while its parent was looked at has the old limits.
fn limit_all(tree: &Tree, id: &WorkerId, wanted: &[Wanted]) -> Result<(), Failure> {
    let mut before = Vec::new();
    let (lower, raise): (Vec<Wanted>, Vec<Wanted>) = wanted.iter().partition(|w| w.lowers);
    for these in [raise, lower] {
        if let Err(failure) = until_nobody_is_new(tree, id, &these, &mut before) {
            return Err(Failure { left: put_back(before), ..failure });
        }
    }
    Ok(())
}

fn until_nobody_is_new(tree: &Tree, id: &WorkerId, wanted: &[Wanted], before: &mut Vec<Before>) -> Result<(), Failure> {
    let Some(first) = wanted.first() else { return Ok(()) };
    let failed = |key, pid: i32, errno: i32| Failure { key, pid, errno, left: 0 };
    let mut done = BTreeSet::new();
    let mut quiet = 0;
    for _ in 0..MAX_ROUNDS {
        let listed = tree.worker_pids(id).map_err(|e| failed(first.key, 0, e.errno().unwrap_or(libc::EIO)))?;
        let new: Vec<i32> = listed.into_iter().filter(|pid| done.insert(*pid)).collect();
        quiet = if new.is_empty() { quiet + 1 } else { 0 };
        if quiet == 2 {
            return Ok(());
        }
        for (pid, wanted) in new.iter().flat_map(|pid| wanted.iter().map(move |w| (*pid, w))) {
            match limit_one(pid, wanted, before) {
                // It has ended, and its number may be another's by now.
                Err(rustix::io::Errno::SRCH) => {}
                Err(_) if tree.worker_pids(id).is_ok_and(|now| !now.contains(&pid)) => {}
                Err(errno) => return Err(failed(wanted.key, pid, errno.raw_os_error())),
                // The number was another's by then: that one gets back what it had.
                Ok(()) if tree.worker_pids(id).is_ok_and(|now| !now.contains(&pid)) => take_back_from(pid, before),
                Ok(()) => {}
            }
        }
    }
    Err(failed(first.key, 0, libc::EAGAIN))
}

/// Gives a process what it had before, and forgets it.
fn take_back_from(pid: i32, before: &mut Vec<Before>) {
    while let Some(b) = before.pop_if(|b| b.pid.as_raw_nonzero().get() == pid) {
        // One that has ended needs nothing back.
        let _ = prlimit(Some(b.pid), b.wanted.resource, b.limit);
    }
}

fn limit_one(pid: i32, wanted: &Wanted, before: &mut Vec<Before>) -> rustix::io::Result<()> {
    let Some(pid) = Pid::from_raw(pid) else { return Ok(()) };
    let now = current(pid, wanted.key).ok_or(rustix::io::Errno::SRCH)?;
    let limit = fitting(wanted, now);
    if limit != now {
        prlimit(Some(pid), wanted.resource, limit)?;
        before.push(Before { pid, wanted: *wanted, limit: now });
    }
    Ok(())
}

/// What a process has now; `None` where there is none of this number.
fn current(pid: Pid, key: LimitKey) -> Option<Rlimit> {
    let limits = procfs::process::Process::new(pid.as_raw_nonzero().get()).and_then(|p| p.limits()).ok()?;
    let limit = match key {
        LimitKey::OpenFiles => limits.max_open_files,
        LimitKey::CoreSize => limits.max_core_file_size,
        LimitKey::FileSize => limits.max_file_size,
        LimitKey::StackSize => limits.max_stack_size,
        LimitKey::LockedMemory => limits.max_locked_memory,
        LimitKey::MessageQueues => limits.max_msgqueue_size,
        LimitKey::PendingSignals => limits.max_pending_signals,
        LimitKey::UserTasks => limits.max_processes,
        LimitKey::CpuTime => limits.max_cpu_time,
        _ => return None,
    };
    let number = |value| match value {
        procfs::process::LimitValue::Value(n) => Some(n),
        procfs::process::LimitValue::Unlimited => None,
    };
    Some(Rlimit { current: number(limit.soft_limit), maximum: number(limit.hard_limit) })
}

/// Where the worker's plan allows less than before, what a process has of itself given up already stays given up.
fn fitting(wanted: &Wanted, now: Rlimit) -> Rlimit {
    if !wanted.lowers {
        return Rlimit { current: wanted.soft, maximum: wanted.hard };
    }
    let least = |a: Option<u64>, b: Option<u64>| [a, b].into_iter().flatten().min();
    let maximum = least(wanted.hard, now.maximum);
    Rlimit { current: least(least(wanted.soft, now.current), maximum), maximum }
}

/// How many processes keep what they were given.
fn put_back(before: Vec<Before>) -> usize {
    let back = |b: &Before| prlimit(Some(b.pid), b.wanted.resource, b.limit).is_ok();
    let keeps = |b: &&Before| !back(b) && current(b.pid, b.wanted.key).is_some();
    before.iter().rev().filter(keeps).map(|b| b.pid.as_raw_nonzero().get()).collect::<BTreeSet<_>>().len()
}

impl Failure {
    /// What could not be put back.
    fn kept(&self) -> Option<String> {
        (self.left > 0).then(|| format!("{} processes keep lower limits, which can't be raised again", self.left))
    }

    fn told(&self, new: &SandboxPlan) -> LaunchError {
        let name = self.key.name();
        let value = new.limits.get(&self.key).map_or_else(String::new, |l| rbee_hive_policy::explain::limit(self.key, &l.value));
        let errno = nix::errno::Errno::from_raw(self.errno);
        let mut error = match self.errno {
            libc::EPERM => {
                let text =
                    format!("{name} can't be enforced here: the hard limits of running processes can't be raised to {value} ({errno})");
                LaunchError::new(LaunchErrorKind::NotEnforceable, text)
                    .with_hint("raising a hard limit needs CAP_SYS_RESOURCE: give it to the hive, or start the worker anew")
            }
            libc::EAGAIN => LaunchError::new(
                LaunchErrorKind::NotAllowedNow,
                format!("{name} {value}: new processes appear faster than they are limited"),
            ),
            _ => LaunchError::new(
                LaunchErrorKind::SetupFailed,
                format!("setup step \"write {name}\" failed: prlimit({}, {value}) => {errno}", self.pid),
            ),
        };
        error.errno = Some(self.errno);
        error.step = Some(format!("write {name}"));
        error
    }
}

fn no_process_list(key: LimitKey) -> LaunchError {
    let text = format!("{} can't be enforced here: no cgroup lists the processes of a running worker", key.name());
    LaunchError::new(LaunchErrorKind::NotEnforceable, text).with_hint("start the worker anew with this limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(hard: u64, lowers: bool) -> Wanted {
        Wanted { key: LimitKey::OpenFiles, resource: Resource::Nofile, soft: Some(hard), hard: Some(hard), lowers }
    }

    fn limit(current: Option<u64>, maximum: Option<u64>) -> Rlimit {
        Rlimit { current, maximum }
    }

    #[test]
    fn what_a_process_gave_up_by_itself_is_not_given_back_by_lowering() {
        assert_eq!(fitting(&wanted(64, true), limit(Some(32), Some(48))), limit(Some(32), Some(48)));
        assert_eq!(fitting(&wanted(64, true), limit(Some(32), Some(256))), limit(Some(32), Some(64)));
        assert_eq!(fitting(&wanted(64, true), limit(None, None)), limit(Some(64), Some(64)));
        assert_eq!(fitting(&wanted(64, false), limit(Some(32), Some(48))), limit(Some(64), Some(64)));
    }

    #[test]
    fn what_this_process_has_is_read_by_name() {
        let own = rustix::process::getrlimit(Resource::Nofile);
        assert_eq!(current(rustix::process::getpid(), LimitKey::OpenFiles), Some(own));
    }
}
