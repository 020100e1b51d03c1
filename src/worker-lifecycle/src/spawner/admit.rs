//! From a request to a running init: name, policy, port, devices, launcher. What is refused leaves nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rbee_hive_devices::Lease;
use rbee_hive_policy::exposure::Remains;
use rbee_hive_policy::{Command, GpuLease, NetworkMode, Policy, SandboxPlan, WorkerId, WorkerRequest};
use rbee_hive_sandbox::protocol::{FromLauncher, ToInit, ToLauncher};
use rbee_hive_sandbox::{SetupFailure, StoppedBy, Verdict};
use tokio::sync::watch;
use tokio::time::timeout;

use super::leasing::Line;
use super::unborn::Unborn;
use super::warm::Seat;
use super::{Attached, LOG_TAIL, Result, WorkerSpawner};
use crate::events::Teller;
use crate::init_link::InitLink;
use crate::leases::as_policy_has_it;
use crate::registry::PortLease;
use crate::task::{self, Born, Decision, Story, WorkerHandle, said};
use crate::view::now;
use crate::{ErrorKind, LifecycleError, RegistryError, SpawnParams, WorkerEntry, WorkerState, WorkerStatus, WorkerView};

/// How long an init may take to end that was started without an answer, if one was.
const UNCLEAR_END: Duration = Duration::from_secs(10);

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
        if started.is_err() {
            attached.give_up(&id).await;
            self.registry.remove(id.as_str());
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
        let io = |e: std::io::Error| LifecycleError::new(ErrorKind::SetupFailed, format!("make the channel to the init: {e}"));
        let (link, theirs, mut events) = InitLink::open().map_err(io)?;
        view.send_modify(|view| {
            view.port = port.as_ref().map(PortLease::port);
            view.endpoint = view.port.map(|p| format!("http://127.0.0.1:{p}"));
        });
        let line = Line { view: (&view, &teller), commands: &mut commands, story: &story, handle: &handle };
        let Some(lease) = self.lease(attached, asked, line).await? else { return Ok(handle) };
        view.send_modify(|view| view.devices.clone_from(&lease.devices));
        self.registry.attach(id.as_str(), handle.clone());
        story.tell("spawn_binary", "the policy's binary is {}", &[&policy.worker.binary]);
        let mps = attached.mps((id, &params.policy, policy), &lease).await;
        // It may have waited for others until here. What it has goes back with the start.
        attached.may_start()?;
        let request = WorkerRequest { mps, ..request(id, params, (port.as_ref(), &lease)) };
        let asked = attached.tools.launcher.spawn(request, theirs).await;
        let unclear = match asked {
            Ok(((FromLauncher::Spawned { plan, cgroup, init_pid, not_in_force, policy_digest, .. }, mut fds), released)) => match fds.pop()
            {
                Some(init) => {
                    let idle = crate::idle::notes(plan.idle, &attached.tools.launcher.cgroup, cgroup.as_deref());
                    let notes = not_in_force.into_iter().chain(idle).collect();
                    show_plan((&view, &teller), (&plan, cgroup, init_pid), notes);
                    let _ = handle.known.link.set(Arc::downgrade(&link));
                    let _ = handle.known.grace.set(Duration::from_millis(plan.stop.grace_ms));
                    let _ = plan.gpu_memory.map(|limit| handle.known.gpus.limit.set(limit));
                    attached.set_mps(&plan, &handle);
                    let asked = params.limits.keys().copied().collect();
                    let _ = handle.known.decision.set(Decision { policy_digest, asked, remains: Remains::from(&*plan) });
                    self.remember(&handle, &params.policy);
                    let (plan, tools) = (*plan, Arc::clone(&attached.tools));
                    let born = Born { plan, link, events, init, released, port, commands, view, story, tools, handle: handle.clone() };
                    tokio::spawn(task::run(born));
                    return Ok(handle);
                }
                None => crate::launcher::gone(),
            },
            Ok(((FromLauncher::Refused { error, .. }, _), _)) => {
                return match LifecycleError::from(error) {
                    failed if failed.kind == ErrorKind::SetupFailed => {
                        attached.give_up(id).await;
                        show_failure((&view, &teller), &failed);
                        Ok(handle)
                    }
                    refused => Err(refused),
                };
            }
            Ok(_) => crate::launcher::gone(),
            Err(error) => error,
        };
        // Whether there is an init is not known. If there is one, it must not go on without an entry, and has its devices until it is gone:
        // its end of the link closes then. After that the watch decides whether they are free.
        let _ = link.send(&ToInit::Stop { by: StoppedBy::Request, grace_ms: 0 }).await;
        let _ = timeout(UNCLEAR_END, async { while events.recv().await.is_some() {} }).await;
        // Before its lease goes back, as at every end: the last of a group ends its daemon.
        attached.mps.leave(id).await;
        attached.leases.release_worker(id);
        Err(unclear)
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
    }
}

async fn policy(attached: &Attached, name: &str) -> Result<Policy> {
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
