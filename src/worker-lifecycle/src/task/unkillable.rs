//! A worker whose processes do not die: shown with who they are on the host. It stays `stopping`, and keeps its port and its leases.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rbee_hive_sandbox::protocol::Resources;
use rbee_hive_sandbox::{StuckProcess, Verdict};
use tokio::time::timeout;

use super::{Worker, said};
use crate::processes::{self, Numbers, Owner};

/// How long the look at who is who may take; nothing in it waits for the processes themselves.
const LOOK: Duration = Duration::from_secs(5);

impl Worker {
    /// News, not the end: the init goes on waiting for them, and says so when they are gone.
    pub(super) async fn does_not_die(&mut self, (pids, processes): (Vec<i32>, Vec<StuckProcess>), resources: Resources) {
        self.silent_at = None;
        let facts = Arc::clone(&self.tools.launcher.cgroup);
        let owner = Owner::of(&self.view.borrow(), self.known.start_ticks.get());
        let look = tokio::task::spawn_blocking(move || processes::numbers(&facts, &owner));
        let numbers = timeout(LOOK, look).await.ok().and_then(Result::ok).unwrap_or_default();
        let verdict = Verdict::on_the_host((&pids, processes), &numbers);
        self.teller.change(&self.view, |view| {
            view.generation += 1;
            view.resources = resources;
            view.verdict = Some(said(verdict));
            true
        });
    }

    /// Whether it was told that its processes do not die, and has not ended since.
    pub(super) fn is_unkillable(&self) -> bool {
        self.view.borrow().is_unkillable()
    }
}

/// From the init's numbers to the host's.
trait OnTheHost {
    fn on_the_host(told: (&[i32], Vec<StuckProcess>), numbers: &[Numbers]) -> Self;
}

impl OnTheHost for Verdict {
    fn on_the_host((pids, processes): (&[i32], Vec<StuckProcess>), numbers: &[Numbers]) -> Self {
        let host: BTreeMap<i32, i32> = numbers.iter().map(|n| (n.inner.unwrap_or(n.host), n.host)).collect();
        // One that nobody sees by now is not told under a number that is another's here.
        let pids = pids.iter().filter_map(|pid| host.get(pid).copied()).collect();
        let own = |p: StuckProcess| StuckProcess { pid: p.pid.and_then(|pid| host.get(&pid).copied()), ..p };
        Self::Unkillable { pids, processes: processes.into_iter().map(own).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inits_numbers_become_the_hosts_and_what_is_not_known_is_none() {
        let stuck = |pid, name: &str| StuckProcess { pid, name: Some(name.into()), ..StuckProcess::default() };
        let numbers = [Numbers { host: 4242, inner: Some(2) }, Numbers { host: 9, inner: None }];
        let told = Verdict::on_the_host((&[2, 7, 9], vec![stuck(Some(2), "a"), stuck(Some(7), "b")]), &numbers);
        assert_eq!(told, Verdict::Unkillable { pids: vec![4242, 9], processes: vec![stuck(Some(4242), "a"), stuck(None, "b")] });
    }
}
