//! From a request to a running init: name, policy, port, devices, launcher. What is refused leaves nothing.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use rbee_hive_devices::Lease;
use rbee_hive_policy::{Command, GpuLease, Life, NetworkMode, Policy, SandboxPlan, WorkerId, WorkerRequest};
use rbee_hive_sandbox::protocol::{FromLauncher, ToLauncher};
use rbee_hive_sandbox::{SetupFailure, Verdict};
use tokio::sync::watch;

use super::again::{Made, NotMade};
use super::leasing::Line;
use super::unborn::Unborn;
use super::warm::Seat;
use super::{Attached, LOG_TAIL, Result, WorkerSpawner};
use crate::events::Teller;
use crate::leases::as_policy_has_it;
use crate::records::Fate;
use crate::registry::PortLease;
use crate::task::{self, Begins, Born, Story, WorkerHandle, said};
use crate::view::now;
use crate::{ErrorKind, LifecycleError, RegistryError, SpawnParams, WorkerEntry, WorkerState, WorkerStatus, WorkerView};

impl WorkerSpawner {
    /// Admits a request and starts its worker's task.
    pub(super) async fn admit(&self, params: SpawnParams) -> Result<WorkerHandle> {
        let attached = self.attached()?;
        let story = Story::new(attached.tools.narrator.clone(), params.job_id.clone());
        let id = params.worker_id.clone().map_or_else(generated_id, Ok)?;
        story.tell("spawn_start", "starting {} with model {} under policy {}", &[&id, &params.model, &params.policy]);
        attached.may_start()?;
        let policy = policy(attached, &params.policy).await?;
        // Again: a drain may have begun while the launcher was asked.
        attached.may_start()?;
        self.register(&id, &params)?;
        let started = self.start_with_room(attached, (&id, &params, &policy), story).await;
        match &started {
            Ok(handle) => {
                // Also of one that was stopped before the launcher was asked.
                attached.records.begin(handle).await;
                self.keep_story_at_its_end(handle);
            }
            Err(_) => {
                attached.give_up(&id).await;
                if let Some(handle) = self.registry.handle(id.as_str()) {
                    attached.records.end(&handle, Fate::Refused).await;
                }
                self.registry.remove(id.as_str());
            }
        }
        started
    }

    fn register(&self, id: &WorkerId, params: &SpawnParams) -> Result<()> {
        let entry = WorkerEntry {
            id: id.to_string(),
            model_id: params.model.clone(),
            device: String::new(),
            pid: None,
            port: None,
            status: WorkerStatus::Starting,
            started_at: SystemTime::now(),
        };
        self.registry.register(entry).map_err(|e @ RegistryError::AlreadyExists { .. }| {
            let mut error = LifecycleError::new(ErrorKind::AlreadyExists, e.to_string());
            error.hint = Some("choose another name, or take the worker off the list with worker_delete".into());
            error
        })
    }

    /// Everything that can refuse the start comes before an idle worker is stopped for it.
    async fn start_with_room(
        &self,
        attached: &Attached,
        (id, params, policy): (&WorkerId, &SpawnParams, &Policy),
        story: Story,
    ) -> Result<WorkerHandle> {
        // Until the worker itself is counted, or will never be.
        let seat = self.take_seat(attached, id, (&params.policy, policy.idle))?;
        let mut unborn = Unborn::new(attached, (id, params), &story);
        let Some(leaver) = seat.as_ref().and_then(Seat::leaver) else {
            let port = self.reserve(attached, policy, &story)?;
            return self.start(attached, (id, params, policy), (port, story, unborn)).await;
        };
        // Where no port is free, the leaver's will be.
        let early = match self.reserve(attached, policy, &story) {
            Err(none) if none.kind == ErrorKind::NoFreePort && leaver.view.borrow().port.is_some() => {
                self.check_total(attached)?;
                None
            }
            reserved => Some(reserved?),
        };
        // That takes its time: it is seen, and can be stopped, meanwhile.
        self.registry.attach(id.as_str(), unborn.handle.clone());
        let Some(params) = self.make_room(attached, (id, params, policy), (leaver, &mut unborn)).await? else { return Ok(unborn.handle) };
        let port = early.map_or_else(|| self.reserve(attached, policy, &story), Ok)?;
        self.start(attached, (id, &params, policy), (port, story, unborn)).await
    }

    async fn start(
        &self,
        attached: &Attached,
        asked: (&WorkerId, &SpawnParams, &Policy),
        (port, story, unborn): (Option<PortLease>, Story, Unborn),
    ) -> Result<WorkerHandle> {
        let (id, params, policy) = asked;
        let Unborn { view, teller, mut commands, handle } = unborn;
        view.send_modify(|view| {
            view.port = port.as_ref().map(PortLease::port);
            view.endpoint = view.port.map(|p| format!("http://127.0.0.1:{p}"));
        });
        let line = Line { view: (&view, &teller), commands: &mut commands, story: &story, handle: &handle };
        let Some(lease) = self.lease(attached, asked, line).await? else { return Ok(handle) };
        view.send_modify(|view| view.devices.clone_from(&lease.devices));
        let _ = handle.known.lease_id.set(lease.id.clone());
        self.registry.attach(id.as_str(), handle.clone());
        story.tell("spawn_binary", "the policy's binary is {}", &[&policy.worker.binary]);
        let mut request = request(id, params, (port.as_ref(), &lease));
        request.mps = attached.mps(&request, policy).await;
        // It may have waited for others until here. What it has goes back with the start.
        attached.may_start()?;
        // Whatever ends the hive from here on: the next one knows that there may be a worker.
        attached.records.begin(&handle).await;
        let listener = port.as_ref().and_then(PortLease::listener).map(AsFd::as_fd);
        let made = match attached.make_init(request.clone(), listener).await {
            Ok(made) => made,
            Err(NotMade::Refused(failed)) if failed.kind == ErrorKind::SetupFailed => {
                attached.give_up(id).await;
                show_failure((&view, &teller), &failed);
                return Ok(handle);
            }
            Err(NotMade::Refused(refused)) => return Err(refused),
            Err(NotMade::Unclear(error)) => {
                // Before its lease goes back, as at every end: the last of a group ends its daemon. After that the watch decides whether
                // its devices are free.
                attached.mps.leave(id).await;
                attached.leases.release_worker(id);
                return Err(error);
            }
        };
        let notes = attached.take_note(&handle, &made, &request);
        let Made { plan, cgroup, init_pid, link, ends, .. } = made;
        show_plan((&view, &teller), (&plan, cgroup, init_pid), notes);
        attached.set_mps(&plan, &handle);
        self.remember(&handle, &params.policy);
        let again = self.starter(&handle, request);
        let (begins, tools) = (Begins::First(ends), Arc::clone(&attached.tools));
        let born = Born { plan, link, begins, port, commands, view, story, tools, handle: handle.clone(), again };
        tokio::spawn(task::run(born));
        Ok(handle)
    }

    fn reserve(&self, attached: &Attached, policy: &Policy, story: &Story) -> Result<Option<PortLease>> {
        // The port comes before other totals.
        let port = match policy.takes_port() {
            false => None,
            true => {
                Some(self.registry.ports().reserve(policy.network).map_err(|e| LifecycleError::new(ErrorKind::NoFreePort, e.to_string()))?)
            }
        };
        if let Some(port) = &port {
            let how = if policy.network == NetworkMode::Host { "reserved" } else { "held by the hive" };
            story.tell("spawn_port", "port {} is {}", &[&port.port(), &how]);
        }
        self.check_total(attached).map(|()| port)
    }

    fn check_total(&self, attached: &Attached) -> Result<()> {
        if self.registry.len() <= attached.max_workers {
            return Ok(());
        }
        let text = format!("there are {} workers, the most that the configuration allows", attached.max_workers);
        let mut error = LifecycleError::new(ErrorKind::AtCapacity, text);
        error.hint = Some("delete workers that have ended, or raise max_workers".into());
        Err(error)
    }

    /// The error of a start that ended.
    pub(super) async fn failed_start(&self, id: &WorkerId, view: &WorkerView) -> LifecycleError {
        let verdict = view.verdict.clone();
        let (kind, step, errno, hint) = match verdict.as_ref().map(|v| &v.verdict) {
            Some(Verdict::SetupFailed(f)) => (ErrorKind::SetupFailed, Some(f.step.clone()), f.errno, f.hint.clone()),
            Some(Verdict::ExecFailed { errno, .. }) => (ErrorKind::ExecFailed, None, Some(*errno), None),
            Some(Verdict::StartTimeout { .. }) => (ErrorKind::StartTimeout, None, None, None),
            _ => (ErrorKind::StartFailed, None, None, None),
        };
        let sentence = verdict.as_ref().map_or_else(|| "it ended".to_owned(), |v| v.message.clone());
        let tail = self.log_lines(id, LOG_TAIL, None).await.map(|page| page.lines).unwrap_or_default();
        LifecycleError {
            step,
            errno,
            hint,
            log_tail: tail.into_iter().map(|l| l.text).collect(),
            verdict,
            ..LifecycleError::new(kind, format!("worker {id} did not start: {sentence}"))
        }
    }
}

fn request(id: &WorkerId, params: &SpawnParams, (port, lease): (Option<&PortLease>, &Lease)) -> WorkerRequest {
    let of_gpus = lease.gpus().next().map(|_| GpuLease { id: lease.id.clone(), share: as_policy_has_it(lease.share) });
    WorkerRequest {
        worker_id: id.clone(),
        policy: params.policy.clone(),
        command: Command::Worker { model: params.model.clone(), args: params.args.clone() },
        devices: lease.devices.clone(),
        lease: of_gpus,
        mps: None,
        env: params.env.clone(),
        limits: params.limits.clone(),
        port: port.map(PortLease::port),
        life: Life::First,
    }
}

pub(super) async fn policy(attached: &Attached, name: &str) -> Result<Policy> {
    let name = name.to_owned();
    match attached.tools.launcher.ask(|seq| ToLauncher::PolicyShow { seq, name }, &[]).await? {
        (FromLauncher::Policy { resolved, .. }, _) => serde_json::from_value(resolved)
            .map_err(|e| LifecycleError::new(ErrorKind::InvalidPolicy, format!("the launcher's policy is not understood: {e}"))),
        (FromLauncher::Refused { error, .. }, _) => Err(error.into()),
        _ => Err(crate::launcher::gone()),
    }
}

pub(crate) fn show_plan(
    (view, teller): (&watch::Sender<WorkerView>, &Teller),
    (plan, cgroup, init_pid): (&SandboxPlan, Option<String>, i32),
    notes: Vec<rbee_hive_policy::NotInForce>,
) {
    teller.begin(view, |view| {
        view.generation += 1;
        view.init_pid = Some(init_pid);
        view.cgroup.path = cgroup;
        view.limits = plan.limits.iter().map(|(key, limit)| (*key, limit.value.clone())).collect::<BTreeMap<_, _>>();
        view.not_in_force = notes;
        view.port = plan.port;
        view.endpoint = plan.port.map(|p| format!("http://127.0.0.1:{p}"));
    });
}

/// A step of the launcher's failed: there was never a task, and the entry stays as it is.
fn show_failure((view, teller): (&watch::Sender<WorkerView>, &Teller), failed: &LifecycleError) {
    let verdict = Verdict::SetupFailed(SetupFailure {
        step: failed.step.clone().unwrap_or_default(),
        errno: failed.errno,
        message: failed.message.clone(),
        hint: failed.hint.clone(),
    });
    teller.begin(view, |view| {
        view.generation += 1;
        view.state = WorkerState::Failed;
        view.port = None;
        view.endpoint = None;
        view.ended_at = Some(now());
        view.verdict = Some(said(verdict));
    });
}

/// `w`, milliseconds since 1970 in hex, and a counter: unique on this hive, and sorted by age.
fn generated_id() -> Result<WorkerId> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let millis = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let text = format!("w{:x}-{:x}", millis, COUNTER.fetch_add(1, Ordering::Relaxed));
    WorkerId::parse(&text).map_err(|e| LifecycleError::new(ErrorKind::InvalidParams, e.to_string()))
}
