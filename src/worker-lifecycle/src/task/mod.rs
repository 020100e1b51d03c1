//! One task owns one worker, from the launcher's answer to the last cgroup. Others send it commands and watch its view.

mod end;
mod freeze;
mod gpus;
mod handle;
mod idle;
mod limits;
mod memory;
mod run;
mod story;
mod verify;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rbee_hive_narration::Narrator;
use rbee_hive_policy::{SandboxPlan, WorkerId};
use rbee_hive_sandbox::cgroup::unmeasured;
use rbee_hive_sandbox::protocol::{Resources, ToInit};
use rbee_hive_sandbox::{StoppedBy, Verdict};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

pub(crate) use handle::{Command, Decision, InForce, Known, Told, WorkerHandle};
pub(crate) use run::run;
pub(crate) use story::Story;

use crate::events::Teller;
use crate::init_link::{Event as InitEvent, InitLink};
use crate::launcher::{LauncherClient, Released};
use crate::reach::{Dialer, Forwarder, Gatekeeper, Usage};
use crate::registry::PortLease;
use crate::sampling::Sampler;
use crate::state::{Event, State};
use crate::view::{VerdictView, now};
use crate::{CgroupView, EventHub, WorkerView};

/// Commands that may wait for a worker's task.
const MAX_COMMANDS: usize = 64;

/// How long after a stop's grace an init may take to say how its worker ended (or that it does not die) before the launcher ends both.
const INIT_SILENT: Duration = Duration::from_secs(15);

/// What a worker's task is given at its birth: the init is running.
pub(crate) struct Born {
    pub(crate) plan: SandboxPlan,
    pub(crate) link: Arc<InitLink>,
    pub(crate) events: mpsc::Receiver<InitEvent>,
    /// The init's pidfd.
    pub(crate) init: OwnedFd,
    pub(crate) released: oneshot::Receiver<Released>,
    pub(crate) port: Option<PortLease>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) view: watch::Sender<WorkerView>,
    pub(crate) story: Story,
    pub(crate) tools: Arc<Tools>,
    pub(crate) handle: WorkerHandle,
}

/// What every task uses.
pub(crate) struct Tools {
    pub(crate) launcher: LauncherClient,
    pub(crate) narrator: Narrator,
    pub(crate) events: Arc<EventHub>,
    pub(crate) logs: Arc<OwnedFd>,
    pub(crate) sampler: Arc<Sampler>,
    /// Takes the worker out of its MPS group, and gives its leases back.
    pub(crate) release: Box<dyn Fn(WorkerId) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// A worker while its task runs.
struct Worker {
    id: WorkerId,
    plan: SandboxPlan,
    link: Arc<InitLink>,
    dialer: Arc<Dialer>,
    forwarder: Option<Forwarder>,
    port: Option<PortLease>,
    state: State,
    view: watch::Sender<WorkerView>,
    teller: Teller,
    story: Story,
    tools: Arc<Tools>,
    usage: Arc<Usage>,
    gate: Gatekeeper,
    /// What its init lets it do: stand still, or go on.
    doing: Option<freeze::Doing>,
    known: Arc<Known>,
    notified: watch::Sender<bool>,
    last_probe: Option<String>,
    /// When an init that was told to stop and has not said a word since is given up.
    silent_at: Option<Instant>,
}

impl Worker {
    /// Moves on and shows it; `change` adds what the state itself does not say.
    fn step(&mut self, event: Event, change: impl FnOnce(&mut WorkerView)) {
        self.state = self.state.clone().after(event);
        self.turn_gate();
        let (state, pid) = (self.state.shown(), self.state.process().and_then(|p| p.pid));
        let verdict = match &self.state {
            State::Ended { verdict } => Some(said(verdict.clone())),
            _ => None,
        };
        self.teller.change(&self.view, |view| {
            view.state = state;
            view.pid = pid;
            view.generation += 1;
            if verdict.is_some() {
                view.verdict = verdict;
                view.ended_at = Some(now());
            }
            change(view);
            true
        });
    }

    async fn ask_to_stop(&mut self, by: StoppedBy, grace: Option<Duration>) {
        let grace_ms = grace.map_or(self.plan.stop.grace_ms, |g| u64::try_from(g.as_millis()).unwrap_or(u64::MAX));
        if let Err(error) = self.link.send(&ToInit::Stop { by, grace_ms }).await {
            // One that is gone needs no order; one that does not read is killed below.
            tracing::debug!(worker = %self.id, %error, "the init did not take the order to stop");
        }
        let silent_at = Instant::now() + Duration::from_millis(grace_ms).saturating_add(INIT_SILENT);
        self.silent_at = Some(self.silent_at.map_or(silent_at, |before| before.min(silent_at)));
        self.step(Event::StopAsked { by }, |_| {});
    }
}

/// Waits for a moment that may never come.
async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// A verdict with its sentence.
pub(crate) fn said(verdict: Verdict) -> VerdictView {
    VerdictView { message: verdict.sentence(), verdict }
}

/// The first view of a worker: admitted, nothing running.
pub(crate) fn first_view(id: &WorkerId, params: &crate::SpawnParams, launcher: &LauncherClient) -> WorkerView {
    WorkerView {
        worker_id: id.to_string(),
        model: params.model.clone(),
        devices: vec![],
        policy: params.policy.clone(),
        labels: params.labels.clone(),
        state: crate::WorkerState::Starting,
        generation: 1,
        restarts: 0,
        pid: None,
        init_pid: None,
        port: None,
        endpoint: None,
        created_at: now(),
        started_at: None,
        ready_at: None,
        ended_at: None,
        cgroup: CgroupView { mode: launcher.cgroup.mode, path: None },
        limits: Default::default(),
        not_in_force: vec![],
        drift: vec![],
        verified: None,
        gpu_memory: None,
        resources: Resources::default(),
        unmeasured: unmeasured(&Resources::default(), &launcher.cgroup),
        verdict: None,
    }
}

/// A channel for commands, with its bound.
pub(crate) fn commands() -> (mpsc::Sender<Command>, mpsc::Receiver<Command>) {
    mpsc::channel(MAX_COMMANDS)
}
