//! MPS daemons: one for each group of workers that share GPUs under policies that want it.
//!
//! ```text
//!  first start ──► daemon started, answers ──► its client starts        a daemon that ends by itself: each client is told,
//!  more starts ──► the same daemon                                      the next start makes a new one
//!  last end ──► daemon stopped, its cgroup gone ──► the lease goes back
//! ```
//! A daemon is a sandbox like a worker's with a task like a worker's, and no worker: nothing lists, counts, measures or stops it but its group.
//! It ends before the last lease of its group does, so that nobody finds it on a GPU that is free.
//!
//! Must never know: which worker gets which GPU, nor how a daemon is confined.

mod roster;
mod start;

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
use crate::{About, EventKind, WorkerRegistry, WorkerState};

/// How long a daemon's end may take beyond its grace; what is left after that is told.
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

    /// Makes the worker a member of the group, and starts its daemon where there is none; its name. Waits until that answers, which the
    /// daemon's policy bounds.
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
        let there = lock(&self.roster).daemon(&key).cloned();
        if let Some(daemon) = there {
            if daemon.view.borrow().state == WorkerState::Ready {
                return Ok(daemon.id);
            }
            // It is on its way out by itself: its clients are to be told of it, not of the next one.
            self.ended(tools, (&key, &daemon)).await;
        }
        match self.start(tools, &key, policy).await {
            Ok(daemon) => {
                let (groups, tools, id) = (Arc::clone(self), Arc::clone(tools), daemon.id.clone());
                tokio::spawn(async move { groups.ended(&tools, (&key, &daemon)).await });
                Ok(id)
            }
            Err(why) => {
                let mut roster = lock(&self.roster);
                roster.leave(worker);
                roster.take_if_empty(&key);
                Err(why)
            }
        }
    }

    /// The worker is over, its cgroup empty. The last of a group ends its daemon, and waits for that.
    pub(crate) async fn leave(&self, worker: &WorkerId) {
        let Some((key, turn)) = lock(&self.roster).leave(worker) else { return };
        let _turn = turn.lock().await;
        let daemon = lock(&self.roster).take_if_empty(&key);
        if let Some(daemon) = daemon {
            self.stop(&daemon).await;
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
        let _ = daemon.commands.send(Command::Stop { by: StoppedBy::Request, grace: None }).await;
        let grace = daemon.known.grace.get().copied().unwrap_or_default();
        match timeout(grace.saturating_add(BEYOND_GRACE), daemon.until(crate::WorkerView::has_ended)).await {
            Ok(_) => self.forget(&daemon.id).await,
            Err(_) => tracing::error!(daemon = %daemon.id, "an MPS daemon does not end"),
        }
    }

    /// Its directories go as well.
    async fn forget(&self, daemon: &WorkerId) {
        let worker_id = daemon.clone();
        if let Err(error) = self.launcher.ask(|seq| ToLauncher::Forget { seq, worker_id }, &[]).await {
            tracing::warn!(%daemon, %error, "the directories of an MPS daemon stay");
        }
    }

    /// Waits for the daemon's end. One that its group did not ask for is told, once.
    async fn ended(&self, tools: &Arc<Tools>, (key, daemon): (&Key, &WorkerHandle)) {
        let end = daemon.until(crate::WorkerView::has_ended).await;
        let members = lock(&self.roster).lose(key, |there| there.is(daemon));
        let Some(members) = members else { return };
        let how = end.and_then(|view| view.verdict).map_or_else(|| "it ended".into(), |verdict| verdict.message);
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

/// To one client: the event, what explains it later, and what is in force.
fn tell(tools: &Tools, client: &WorkerHandle, (daemon, why): (&WorkerId, &str)) {
    client.known.gpus.lose_mps();
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
