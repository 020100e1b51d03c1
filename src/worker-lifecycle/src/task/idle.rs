//! Looks for idleness, where the policy asks for it.

use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use rbee_hive_sandbox::cgroup::read_resources;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::Worker;
use crate::idle::{Look, Watch};
use crate::state::State;

/// Looks within the time after which a worker is idle.
const LOOKS: u32 = 4;
/// Longest pause between two.
const LONGEST: Duration = Duration::from_secs(10);

/// The looks at one worker.
pub(super) struct IdleLooks {
    after: Duration,
    ticks: Interval,
    watch: Watch,
    /// When it was used last before the policy's action was carried out.
    acted_on: Option<Duration>,
}

/// Waits for the next look; for ever, where none is wanted.
pub(super) async fn due(looks: &mut Option<IdleLooks>) {
    match looks {
        Some(looks) => drop(looks.ticks.tick().await),
        None => pending().await,
    }
}

impl Worker {
    /// Begins to look, where the policy says when a worker is idle.
    pub(super) fn idle_looks(&self) -> Option<IdleLooks> {
        let after = Duration::from_millis(self.plan.idle.after_ms?);
        let pause = (after / LOOKS).min(LONGEST);
        let mut ticks = interval_at(Instant::now() + pause, pause);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(IdleLooks { after, ticks, watch: Watch::default(), acted_on: None })
    }

    /// Looks, and does what the policy says once it is idle.
    pub(super) async fn look_whether_idle(&mut self, looks: &mut Option<IdleLooks>) {
        let Some(looks) = looks else { return };
        // What is starting, frozen or stopping is not idle, and its time says nothing of the time after.
        if !matches!(self.state, State::Ready { .. }) {
            looks.watch = Watch::default();
            return;
        }
        let leaf = self.view.borrow().cgroup.path.clone();
        let cgroup = Arc::clone(&self.tools.launcher.cgroup);
        let cpu_usec = leaf.and_then(|leaf| read_resources(&cgroup, &leaf).cpu_usage_usec);
        self.usage.note_work(looks.watch.look(Look { now: self.usage.now(), cpu_usec }));
        let Some(idle) = self.usage.idle_for().filter(|idle| *idle >= looks.after) else { return };
        let since = self.usage.now().saturating_sub(idle);
        // Once, until it has been used again.
        if looks.acted_on.is_none_or(|acted| since > acted) {
            looks.acted_on = Some(self.usage.now());
            self.act_on_idle().await;
        }
    }
}
