//! One task owns one worker, from the launcher's answer to the last cgroup. Others send it commands and watch its view.

mod again;
mod attached;
mod end;
mod freeze;
mod gpus;
mod handle;
mod health;
mod idle;
mod latest;
mod limits;
mod memory;
mod notified;
mod run;
mod story;
mod unkillable;
mod verify;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use futures_util::future::BoxFuture;
use rbee_hive_narration::Narrator;
use rbee_hive_policy::{SandboxPlan, WorkerId};
use rbee_hive_sandbox::cgroup::unmeasured;
use rbee_hive_sandbox::protocol::{Resources, ToInit};
use rbee_hive_sandbox::{StoppedBy, Verdict};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

pub(crate) use again::{Down, Ends, NextLife, Starter};
pub(crate) use handle::{Command, Decision, InForce, Known, Told, WorkerHandle};
pub(crate) use run::{Ever, as_told, run};
pub(crate) use story::Story;

use crate::adoption::Verdicts;
use crate::channel::lock;
use crate::events::Teller;
use crate::init_link::InitLink;
use crate::launcher::LauncherClient;
use crate::reach::{Dialer, Forwarder, Gatekeeper, Usage};
use crate::registry::PortLease;
use crate::sampling::Sampler;
use crate::state::{Before, Event, State};
use crate::supervision::{Notified, Pings, Restarts};
use crate::view::{VerdictView, now};
use crate::{CgroupView, EventHub, EventKind, WorkerView};

/// Commands that may wait for a worker's task.
const MAX_COMMANDS: usize = 64;

/// How long after a stop's grace an init may take to say how its worker ended (or that it does not die) before the launcher ends both.
const INIT_SILENT: Duration = Duration::from_secs(15);

/// What a worker's task is given at its birth.
pub(crate) struct Born {
    pub(crate) plan: SandboxPlan,
    pub(crate) link: Arc<InitLink>,
    pub(crate) begins: Begins,
    pub(crate) port: Option<PortLease>,
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) view: watch::Sender<WorkerView>,
    pub(crate) story: Story,
    pub(crate) tools: Arc<Tools>,
    pub(crate) handle: WorkerHandle,
    /// `None`: it is never started again.
    pub(crate) again: Option<Arc<dyn Starter>>,
}

/// Where a worker is when its task begins.
pub(crate) enum Begins {
    /// Its init was just made.
    First(Ends),
    /// It has outlived the hive before, which has seen this of it: where it is now, its init will say.
    Found(Ends, Before),
    /// Its last life is over, and the next one is due: its view says so already.
    Down(Box<Down>),
}

/// What every task uses.
pub(crate) struct Tools {
    pub(crate) launcher: LauncherClient,
    pub(crate) narrator: Narrator,
    pub(crate) events: Arc<EventHub>,
    pub(crate) logs: Arc<OwnedFd>,
    /// What inits have written of ends that nobody heard of.
    pub(crate) verdicts: Option<Arc<Verdicts>>,
    pub(crate) sampler: Arc<Sampler>,
    /// Whether this hive leaves its workers to the next one.
    pub(crate) leaving: AtomicBool,
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
    notified: watch::Sender<Notified>,
    pings: watch::Sender<Pings>,
    life: ThisLife,
    restarts: Restarts,
    starter: Option<Arc<dyn Starter>>,
    last_probe: Option<String>,
    /// When an init that was told to stop and has not said a word since is given up.
    silent_at: Option<Instant>,
    /// What the hive before has seen of it, until its init has said where it is.
    before: Option<Before>,
    /// How long it had been starting when this hive came to it.
    started_before: Duration,
}

/// What is known of the life that it is in.
#[derive(Debug, Default)]
struct ThisLife {
    executed_at: Option<String>,
    ready_at: Option<String>,
    ready_since: Option<Instant>,
}

impl Worker {
    /// Moves on and shows it; `change` adds what the state itself does not say.
    fn step(&mut self, event: Event, change: impl FnOnce(&mut WorkerView)) {
        let show = self.moved(event);
        self.teller.change(&self.view, |view| {
            show(view);
            change(view);
            true
        });
    }

    /// Moves on; what is returned shows it.
    fn moved(&mut self, event: Event) -> impl FnOnce(&mut WorkerView) + use<> {
        self.state = self.state.clone().after(event);
        self.turn_gate();
        *lock(&self.known.frozen_by) = match self.state {
            State::Frozen { by, .. } => Some(by),
            _ => None,
        };
        *lock(&self.known.stopping) = match self.state {
            State::Stopping { by, .. } => Some(by),
            _ => None,
        };
        let (state, pid) = (self.state.shown(), self.state.process().and_then(|p| p.pid));
        let verdict = match &self.state {
            State::Ended { verdict } | State::GivenUp { verdict } => Some(said(verdict.clone())),
            _ => None,
        };
        move |view| {
            view.state = state;
            view.pid = pid;
            view.generation += 1;
            if verdict.is_some() {
                view.verdict = verdict;
                view.ended_at = Some(now());
            }
        }
    }

    async fn ask_to_stop(&mut self, by: StoppedBy, grace: Option<Duration>) {
        let grace_ms = grace.map_or(self.plan.stop.grace_ms, |g| u64::try_from(g.as_millis()).unwrap_or(u64::MAX));
        if let Err(error) = self.link.send(&ToInit::Stop { by, grace_ms }).await {
            // One that is gone needs no order; one that does not read is killed below.
            tracing::debug!(worker = %self.id, %error, "the init did not take the order to stop");
        }
        let silent_at = Instant::now() + Duration::from_millis(grace_ms).saturating_add(INIT_SILENT);
        let hastens = self.silent_at.is_none_or(|before| silent_at < before);
        let is_stopping = matches!(self.state, State::Stopping { .. });
        // An init that has said why nothing dies is not silent, and killing it would not help.
        if hastens && !self.is_unkillable() {
            self.silent_at = Some(silent_at);
            self.teller.tell(
                EventKind::Stop,
                self.view.borrow().generation,
                json!({"by": by, "grace_ms": grace_ms, "hastens": is_stopping}),
            );
        }
        if is_stopping {
            return;
        }
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
        status_text: None,
    }
}

/// A channel for commands, with its bound.
pub(crate) fn commands() -> (mpsc::Sender<Command>, mpsc::Receiver<Command>) {
    mpsc::channel(MAX_COMMANDS)
}
