//! Processes that were killed and do not go: told once, while the init goes on waiting for them.
//!
//! Only a process that waits in the kernel and hears no signal there (state D, or a frozen cgroup of v1) outlives SIGKILL. Nobody can end
//! it but what it waits for, so its leaf, port and devices stay taken, and the hive is told why.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Supervisor;
use super::as_worker::with_its_eyes;
use crate::StuckProcess;
use crate::Verdict;
use crate::protocol::FromInit;

/// After this, processes that were killed and are still there are told as unkillable.
const AFTER: Duration = Duration::from_secs(10);
/// Most of them that are told by name.
const MOST: usize = 64;

/// When the first kill of all processes was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Killed {
    since: Option<Instant>,
    told: bool,
}

impl Killed {
    /// Notes a kill; only the first counts.
    pub(super) fn note(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// When it is time to tell who is still there; `None` where nothing was killed, or that was told.
    pub(super) fn due(self) -> Option<Instant> {
        self.since.filter(|_| !self.told).map(|since| since + AFTER)
    }
}

impl Supervisor {
    /// Tells who is still there, once it is time for it.
    pub(super) fn tell_unkillable(&mut self) {
        if self.killed.due().is_none_or(|due| Instant::now() < due) {
            return;
        }
        self.killed.told = true;
        let pids = self.left_over();
        if pids.is_empty() {
            return;
        }
        let proc = Path::new("/proc");
        let look = || pids.iter().take(MOST).map(|pid| StuckProcess::read(proc, *pid)).collect();
        // Where it waits is open to its own uid alone; who it is, is told in any case.
        let processes: Vec<StuckProcess> = with_its_eyes(&self.context.plan.credentials, look).unwrap_or_else(|_| look());
        let resources = self.leaf().resources();
        self.say(FromInit::Ended { verdict: Verdict::Unkillable { pids, processes }, resources: Box::new(resources) }, vec![]);
    }

    /// By the leaf; without a cgroup everybody in the sandbox but the init, and who only waits to be reaped.
    fn left_over(&self) -> Vec<i32> {
        let listed = self.leaf().pids();
        if !listed.is_empty() || self.leaf().is_there() {
            return listed;
        }
        let all = procfs::process::all_processes().into_iter().flatten().flatten();
        let lives = |p: &procfs::process::Process| p.pid() != 1 && p.stat().is_ok_and(|s| !matches!(s.state, 'Z' | 'X'));
        all.filter(lives).map(|p| p.pid()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_kill_counts_and_it_is_told_once() {
        let mut killed = Killed::default();
        assert_eq!(killed.due(), None);
        let now = Instant::now();
        killed.note(now);
        killed.note(now + AFTER);
        assert_eq!(killed.due(), Some(now + AFTER));
        killed.told = true;
        assert_eq!(killed.due(), None);
    }
}
