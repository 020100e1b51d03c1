//! A daemon's start: as a worker's, without a name, a port, a lease and a model that somebody asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rbee_hive_devices::DeviceSpec;
use rbee_hive_policy::exposure::Remains;
use rbee_hive_policy::{Command, MPS_POLICY, WorkerId, WorkerRequest};
use rbee_hive_sandbox::protocol::FromLauncher;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{BEYOND_GRACE, Key, MpsGroups};
use crate::channel::lock;
use crate::events::Teller;
use crate::init_link::InitLink;
use crate::spawner::show_plan;
use crate::task::{self, Born, Decision, Story, Tools, WorkerHandle, first_view};
use crate::{LifecycleError, SpawnParams, WaitFor};

/// Lines of a daemon's log that say why it did not come up.
const TAIL: usize = 3;

impl MpsGroups {
    /// A daemon that answers; its name. Errors: why there is none, one clause; it is the group's no more then.
    pub(super) async fn start(self: &Arc<Self>, tools: &Arc<Tools>, key: &Key, policy: &str) -> Result<WorkerId, String> {
        let (daemon, limit) = self.begin(tools, key, policy).await.map_err(|error| {
            let hint = error.hint.map(|hint| format!("; {hint}")).unwrap_or_default();
            format!("its group's MPS daemon can't be started: {}{hint}", error.message)
        })?;
        lock(&self.roster).set_daemon(key, daemon.clone());
        let (groups, of, its, there) = (Arc::clone(self), Arc::clone(tools), key.clone(), daemon.clone());
        tokio::spawn(async move { groups.watch(&of, (&its, &there)).await });
        let how = match timeout(limit, daemon.until(|view| view.has_ended() || view.ready_at.is_some())).await {
            Ok(Some(view)) if !view.has_ended() => return Ok(daemon.id),
            Ok(view) => view.and_then(|view| view.verdict).map_or_else(|| "it ended".into(), |verdict| verdict.message),
            // Its own time begins only when its program runs: it hangs before that.
            Err(_) => {
                self.stop(&daemon).await;
                format!("it was not up after {} s", limit.as_secs())
            }
        };
        lock(&self.roster).lose(key, |there| there.is(&daemon));
        let said = last_lines(tools, &daemon.id).await;
        self.forget(&daemon.id).await;
        Err(format!("its group's MPS daemon did not come up: {how}{said}"))
    }

    /// A daemon, and how long it may take until it answers.
    async fn begin(&self, tools: &Arc<Tools>, key: &Key, policy: &str) -> Result<(WorkerHandle, Duration), LifecycleError> {
        let io = |e: std::io::Error| LifecycleError::new(crate::ErrorKind::SetupFailed, format!("make the channel to the init: {e}"));
        let (link, theirs, events) = InitLink::open().map_err(io)?;
        let (id, story) = (name()?, Story::new(tools.narrator.clone(), None));
        let params = params(&id);
        let mut view = first_view(&id, &params, &tools.launcher);
        view.devices = key.gpus.iter().cloned().collect();
        let request = request(&id, policy, view.devices.clone());
        let view = watch::Sender::new(view);
        let (commands_in, commands) = task::commands();
        let handle =
            WorkerHandle { id: id.clone(), commands: commands_in, view: view.subscribe(), usage: Arc::default(), known: Arc::default() };
        let ((answer, mut fds), released) = tools.launcher.spawn(request, theirs).await?;
        let (plan, cgroup, init_pid, notes, policy_digest) = match answer {
            FromLauncher::Spawned { plan, cgroup, init_pid, not_in_force, policy_digest, .. } => {
                (plan, cgroup, init_pid, not_in_force, policy_digest)
            }
            FromLauncher::Refused { error, .. } => return Err(error.into()),
            _ => return Err(crate::launcher::gone()),
        };
        let init = fds.pop().ok_or_else(crate::launcher::gone)?;
        let teller = Teller::new(Arc::clone(&tools.events), id, None);
        show_plan((&view, &teller), (&plan, cgroup, init_pid), notes);
        let _ = handle.known.link.set(Arc::downgrade(&link));
        let _ = handle.known.grace.set(Duration::from_millis(plan.stop.grace_ms));
        let _ = handle.known.decision.set(Decision { policy_digest, asked: vec![], remains: Remains::from(&*plan) });
        let limit = Duration::from_millis(plan.start_timeout_ms).saturating_add(BEYOND_GRACE);
        let (plan, tools) = (*plan, Arc::clone(tools));
        let born = Born { plan, link, events, init, released, port: None, commands, view, story, tools, handle: handle.clone() };
        tokio::spawn(task::run(born));
        Ok((handle, limit))
    }
}

/// What the daemon wrote last, if it wrote anything.
async fn last_lines(tools: &Tools, id: &WorkerId) -> String {
    let (directory, id) = (Arc::clone(&tools.logs), id.clone());
    let read = tokio::task::spawn_blocking(move || crate::logs::read(&directory, &id, TAIL, None)).await.unwrap_or_default();
    let lines: Vec<String> = read.lines.into_iter().map(|line| line.text).collect();
    if lines.is_empty() { String::new() } else { format!("; it wrote {:?}", lines.join(" / ")) }
}

/// `mps`, milliseconds since 1970 in hex, and a counter: nobody else's name.
fn name() -> Result<WorkerId, LifecycleError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let millis = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
    let text = format!("mps-{:x}-{:x}", millis, COUNTER.fetch_add(1, Ordering::Relaxed));
    WorkerId::parse(&text).map_err(|e| LifecycleError::new(crate::ErrorKind::SetupFailed, e.to_string()))
}

fn request(id: &WorkerId, policy: &str, devices: Vec<String>) -> WorkerRequest {
    WorkerRequest {
        worker_id: id.clone(),
        policy: MPS_POLICY.into(),
        command: Command::Mps { clients: policy.into() },
        devices,
        lease: None,
        mps: None,
        env: Default::default(),
        limits: Default::default(),
        port: None,
    }
}

/// For its view, which has a worker's shape.
fn params(id: &WorkerId) -> SpawnParams {
    SpawnParams {
        worker_id: Some(id.clone()),
        model: String::new(),
        device: DeviceSpec::Auto,
        policy: MPS_POLICY.into(),
        args: vec![],
        env: Default::default(),
        limits: Default::default(),
        labels: Default::default(),
        wait: WaitFor::Ready,
        job_id: None,
        lease_id: None,
        client: None,
    }
}
