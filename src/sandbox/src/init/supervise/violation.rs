//! A system call that the profile does not allow: recorded, and the worker killed while the call waits.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rbee_hive_policy::{NetworkMode, call_name};
use rbee_hive_sys::seccomp::{Notified, fail_with, let_go_on, receive};

use super::Supervisor;
use crate::Verdict;
use crate::seccomp::Counted;

#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xc000_00b7;

/// Most netlink sockets that a worker has at a time: to list the interfaces takes one for a moment.
const MAX_NETLINK: usize = 64;
/// Most seccomp filters of its own that a worker loads in its life.
const MAX_FILTERS: usize = 16;

/// How many there are in the worker's network namespace, which is the init's, too; those that were never used among them, which
/// /proc/net/netlink leaves out.
fn netlink_sockets() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/net/protocols").ok()?;
    let mut line = text.lines().find(|l| l.starts_with("NETLINK "))?.split_whitespace();
    line.nth(2)?.parse().ok()
}

impl Supervisor {
    /// Takes what was notified: the first violation, or calls of a watched worker, a few at a time so that commands are heard.
    pub(super) fn hear_calls(&mut self) {
        const CALLS_A_TURN: usize = 256;
        for _ in 0..CALLS_A_TURN {
            let Some(listener) = self.context.listener.as_ref() else { return };
            let mut look = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
            let told = poll(&mut look, PollTimeout::ZERO).ok().and_then(|_| look[0].revents()).unwrap_or(PollFlags::empty());
            if !told.contains(PollFlags::POLLIN) {
                if !told.is_empty() {
                    // Hung up: no process is left under the filter.
                    self.context.listener = None;
                }
                return;
            }
            match receive(listener.as_fd()) {
                Ok(notified) => match &mut self.watcher {
                    Some(watcher) if notified.arch == NATIVE && watcher.allows(notified.number) => {
                        watcher.observe(listener.as_fd(), &notified, self.context.leaves.worker_leaf());
                    }
                    _ => match Counted::of(&notified) {
                        Some(what) => self.count(&notified, what),
                        // Nothing after it can happen any more.
                        None => return self.end_violation(notified),
                    },
                },
                // ENOENT: the thread was killed by something else in between.
                Err(e) => tracing::debug!(error = %e, "no notification was taken"),
            }
        }
    }

    /// Lets a call go on, unless it is one too many.
    fn count(&mut self, call: &Notified, what: Counted) {
        let Some(listener) = self.context.listener.as_ref() else { return };
        let granted = match what {
            // There they are the whole host's, and cannot be told apart.
            Counted::Netlink if self.context.plan.network == NetworkMode::Host => true,
            Counted::Netlink => netlink_sockets().is_some_and(|open| open < MAX_NETLINK),
            Counted::Filter => self.own_filters < MAX_FILTERS,
        };
        self.own_filters += usize::from(granted && what == Counted::Filter);
        // ENOENT: its thread has ended meanwhile.
        let _ = if granted { let_go_on(listener.as_fd(), call.id) } else { fail_with(listener.as_fd(), call.id, libc::ENOBUFS) };
    }

    /// Keeps the first violation and kills.
    fn end_violation(&mut self, notified: Notified) {
        self.violation.get_or_insert(notified);
        self.kill_all();
    }
}

/// The verdict on a violation.
pub(super) fn verdict(notified: &Notified) -> Verdict {
    let native = notified.arch == NATIVE;
    Verdict::SeccompKilled {
        syscall: native.then(|| call_name(i64::from(notified.number)).map(str::to_owned)).flatten(),
        number: Some(notified.number),
        args: Some(notified.args.iter().map(|a| format!("{a:#x}")).collect()),
    }
}
