//! MPS daemons: one for each group of workers that share GPUs under policies that want it.
//!
//! ```text
//!  first start ──► daemon started, answers ──► its client starts        a daemon that ends by itself: each client is told,
//!  more starts ──► the same daemon                                      the next start makes a new one
//!  last end ──► daemon stopped, its cgroup gone ──► the lease goes back
//! ```
//! A daemon is a sandbox like a worker's with a task like a worker's, and no worker: nothing lists, counts, measures or stops it but its group.
//! It ends before the last lease of its group does, so that nobody finds it on a GPU that is free. Every wait for one is bounded: a group's
//! leases wait for its turn.
//!
//! Must never know: which worker gets which GPU, nor how a daemon is confined.

mod roster;
mod start;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbee_hive_devices::MpsView;
use rbee_hive_policy::{GpuMemoryEnforcer, NotInForce, WorkerId};
use rbee_hive_sandbox::StoppedBy;
use rbee_hive_sandbox::protocol::ToLauncher;
use serde_json::json;
use tokio::time::timeout;

pub(crate) use roster::Key;
use roster::Roster;

use crate::channel::lock;
use crate::launcher::LauncherClient;
use crate::task::{Command, Tools, WorkerHandle};
use crate::{About, EventKind, WorkerRegistry, WorkerState, WorkerView};

/// How long a daemon's end may take beyond its grace, and its start beyond its time to answer; what is left after that is told.
const BEYOND_GRACE: Duration = Duration::from_secs(30);

/// All groups.
#[derive(Debug)]
pub(crate) struct MpsGroups {
    launcher: LauncherClient,
    registry: Arc<WorkerRegistry>,
    roster: Mutex<Roster<WorkerHandle>>,
}

impl MpsGroups {
    pub(crate) fn new(launcher: LauncherClient, registry: Arc<WorkerRegistry>) -> Arc<Self> {
        Arc::new(Self { launcher, registry, roster: Mutex::default() })
    }

    /// Makes the worker a member of the group, and starts its daemon where there is none; its name. Waits until that answers: as long as the
    /// daemon's policy lets it, and [`BEYOND_GRACE`] more.
    ///
    /// Errors: why there is none, one clause; the worker is no member then.
    pub(crate) async fn join(
        self: &Arc<Self>,
        tools: &Arc<Tools>,
        key: Key,
        (worker, policy): (&WorkerId, &str),
    ) -> Result<WorkerId, String> {
        let turn = lock(&self.roster).enter(&key, worker);
        // One start or end of a group's daemon at a time.
        let _turn = turn.lock().await;
        let joined = self.daemon(tools, &key, policy).await;
        if joined.is_err() {
            let mut roster = lock(&self.roster);
            roster.leave(worker);
            roster.end_if_over(&key);
        }
        joined
    }

    /// The group's daemon, started where there is none. Called in the group's turn.
    async fn daemon(self: &Arc<Self>, tools: &Arc<Tools>, key: &Key, policy: &str) -> Result<WorkerId, String> {
        let there = lock(&self.roster).daemon(key).cloned();
        if let Some(daemon) = there {
            if daemon.view.borrow().state == WorkerState::Ready {
                return Ok(daemon.id);
            }
            // It is on its way out by itself: its clients are to be told of it, not of the next one. A verdict before the end says that it
            // does not come soon.
            let ended = timeout(BEYOND_GRACE, daemon.until(|view| view.has_ended() || view.verdict.is_some())).await;
            if !ended.is_ok_and(|view| view.is_none_or(|view| view.has_ended())) {
                return Err(format!(
                    "its group's MPS daemon {} has failed and does not end: stop the group's workers, the next start has a new one then",
                    daemon.id
                ));
            }
            self.lose(tools, (key, &daemon)).await;
        }
        self.start(tools, key, policy).await
    }

    /// The worker is over, its cgroup empty. The last of a group ends its daemon, and waits for that.
    pub(crate) async fn leave(&self, worker: &WorkerId) {
        let Some((key, turn)) = lock(&self.roster).leave(worker) else { return };
        let _turn = turn.lock().await;
        // It stays the group's while it ends: who comes meanwhile waits for that, and its processes are no strangers.
        let daemon = lock(&self.roster).unneeded(&key).cloned();
        match daemon {
            Some(daemon) => {
                self.stop(&daemon).await;
                lock(&self.roster).lose(&key, |there| there.is(&daemon));
                self.forget(&daemon.id).await;
            }
            None => lock(&self.roster).end_if_over(&key),
        }
    }

    /// To a client that was not known to be one when its daemon ended. Who was, is told at that moment.
    pub(crate) fn tell_if_lost(&self, tools: &Tools, client: &WorkerHandle) {
        let Some(server) = client.known.mps.get() else { return };
        if !lock(&self.roster).has(&client.id, |daemon| daemon.id == *server) {
            let why = format!("its group's MPS daemon {server} has ended while it was started; what is started from now on has a new one");
            tell(tools, client, (server, &why));
        }
    }

    /// Every daemon.
    pub(crate) fn daemons(&self) -> Vec<WorkerHandle> {
        lock(&self.roster).all().map(|(_, daemon, _)| daemon.clone()).collect()
    }

    /// The daemons on a GPU, by its name.
    pub(crate) fn on(&self, gpu: &str) -> Vec<MpsView> {
        let roster = lock(&self.roster);
        let here = roster.all().filter(|(key, ..)| key.gpus.contains(gpu));
        here.map(|(_, daemon, members)| {
            let view = daemon.view.borrow();
            let state = serde_json::to_value(view.state).ok().and_then(|s| s.as_str().map(str::to_owned)).unwrap_or_default();
            MpsView { id: daemon.id.to_string(), pid: view.pid, state, clients: members.iter().map(ToString::to_string).collect() }
        })
        .collect()
    }

    async fn stop(&self, daemon: &WorkerHandle) {
        let grace = daemon.known.grace.get().copied().unwrap_or_default();
        let stopping = async {
            let _ = daemon.commands.send(Command::Stop { by: StoppedBy::Request, grace: None }).await;
            daemon.until(WorkerView::has_ended).await
        };
        if timeout(grace.saturating_add(BEYOND_GRACE), stopping).await.is_err() {
            tracing::error!(daemon = %daemon.id, "an MPS daemon does not end: from now on its processes count as strangers'");
        }
    }

    /// Its directories go as well.
    async fn forget(&self, daemon: &WorkerId) {
        let worker_id = daemon.clone();
        if let Err(error) = self.launcher.ask(|seq| ToLauncher::Forget { seq, worker_id }, &[]).await {
            tracing::warn!(%daemon, %error, "the directories of an MPS daemon stay");
        }
    }

    /// Waits for the daemon's end.
    async fn watch(&self, tools: &Arc<Tools>, (key, daemon): (&Key, &WorkerHandle)) {
        daemon.until(WorkerView::has_ended).await;
        let Some(turn) = lock(&self.roster).turn(key) else { return };
        // Who starts or ends it sees to it himself.
        let _turn = turn.lock().await;
        self.lose(tools, (key, daemon)).await;
    }

    /// It has ended, and its group did not ask for it: that is told, once. Called in the group's turn.
    async fn lose(&self, tools: &Arc<Tools>, (key, daemon): (&Key, &WorkerHandle)) {
        let members = lock(&self.roster).lose(key, |there| there.is(daemon));
        let Some(members) = members else { return };
        let how = daemon.view().verdict.map_or_else(|| "it ended".into(), |verdict| verdict.message);
        let why = format!("its group's MPS daemon {} has ended: {how}; what is started from now on has a new one", daemon.id);
        tracing::warn!(daemon = %daemon.id, "{why}");
        for member in members.iter().filter_map(|id| self.registry.handle(id.as_str())) {
            if member.known.mps.get() == Some(&daemon.id) {
                tell(tools, &member, (&daemon.id, &why));
            }
        }
        self.forget(&daemon.id).await;
    }
}

/// To one client, once: the event, what explains it later, and what is in force.
fn tell(tools: &Tools, client: &WorkerHandle, (daemon, why): (&WorkerId, &str)) {
    if !client.known.gpus.lose_mps() {
        return;
    }
    client.known.gpus.add_incident(why);
    let (generation, devices) = {
        let view = client.view.borrow();
        (view.generation, view.devices.clone())
    };
    let now = client.known.gpus.memory().enforced_by == Some(GpuMemoryEnforcer::Soft);
    let data = json!({"act": "mps_ended", "daemon": daemon, "devices": devices, "why": why, "memory_is_watched": now});
    tools.events.tell(EventKind::Device, About::worker(&client.id, generation), data);
    let (commands, why) = (client.commands.clone(), why.to_owned());
    // Who has no room for a command is waited for, but not here.
    tokio::spawn(async move {
        let note = NotInForce { setting: "devices.mps".into(), why: why.clone() };
        let _ = commands.send(Command::NotInForce { note }).await;
        let _ = commands.send(Command::Tell { text: why }).await;
    });
}
