//! Stopping: the policy's signal to the worker's own process, a grace time, then the whole cgroup.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Supervisor;
use crate::StoppedBy;

/// A stop under way.
pub(super) struct Stopping {
    pub(super) by: StoppedBy,
    pub(super) forced: bool,
    kill_at: Instant,
}

impl Stopping {
    /// When the grace ends; `None` once the kill is sent.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.forced).then_some(self.kill_at)
    }
}

impl Supervisor {
    /// Starts a stop, or hastens the one under way; a later one never grants more time.
    pub(super) fn stop(&mut self, by: StoppedBy, grace: Duration) {
        let kill_at = Instant::now() + grace;
        match &mut self.stopping {
            Some(under_way) => under_way.kill_at = under_way.kill_at.min(kill_at),
            None => {
                self.stopping = Some(Stopping { by, forced: false, kill_at });
                if !grace.is_zero() {
                    self.signal_worker(self.context.plan.stop.signal);
                    // After the signal: it is the first thing that it meets.
                    let _ = self.run_again();
                }
            }
        }
        self.enforce_grace();
    }

    /// Kills everything once the grace is over.
    pub(super) fn enforce_grace(&mut self) {
        if let Some(stopping) = &mut self.stopping
            && !stopping.forced
            && Instant::now() >= stopping.kill_at
        {
            stopping.forced = true;
            self.kill_all();
        }
    }

    /// Kills every process of the sandbox but the init.
    pub(super) fn kill_all(&self) {
        // The cgroup's kill is the one without a race; kill(-1) is what there is without a cgroup, and reaches the whole pid namespace.
        let _ = self.leaf().kill();
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
}
