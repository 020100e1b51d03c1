//! The worker's rights to files, for as long as one act.

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rbee_hive_policy::SandboxPlan;

/// Who the init is and who the worker is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rights {
    own: (Uid, Gid),
    worker: (Uid, Gid),
}

impl Rights {
    pub(super) fn of(plan: &SandboxPlan) -> Self {
        // Groups of the launcher's caller are not the worker's. Where they can't be dropped there is only one user anyway.
        let _ = nix::unistd::setgroups(&[]);
        Self { worker: (Uid::from_raw(plan.credentials.uid), Gid::from_raw(plan.credentials.gid)), ..Self::own() }
    }

    /// One's own on both sides.
    pub(super) fn own() -> Self {
        let own = (nix::unistd::geteuid(), nix::unistd::getegid());
        Self { own, worker: own }
    }

    /// Does `act` as the worker: what it may not open is not opened. Uids of the file system alone, so that the worker gets no right to
    /// this process (credentials(7)).
    pub(super) fn as_worker<T>(&self, act: impl FnOnce() -> T) -> T {
        if self.own == self.worker {
            return act();
        }
        setfsgid(self.worker.1);
        setfsuid(self.worker.0);
        let result = act();
        setfsuid(self.own.0);
        setfsgid(self.own.1);
        result
    }

    /// For files in `/proc`: they are the worker's own, or root's where its process has made itself unreadable (proc(5)).
    pub(super) fn as_either<T>(&self, act: impl Fn() -> Option<T>) -> Option<T> {
        self.as_worker(&act).or_else(act)
    }
}
