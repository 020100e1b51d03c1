//! Places under policies that bound how many of their workers are up at a time.
//!
//! A place is taken under one lock before anything is stopped or started, so that of two requests for the last one only one gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbee_hive_devices::WhenBusy;
use rbee_hive_policy::{IdlePlan, Policy, WorkerId};
use rbee_hive_sandbox::StoppedBy;
use rbee_hive_sandbox::protocol::{FromLauncher, LaunchErrorKind, ToLauncher};
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::unborn::Unborn;
use super::{Attached, Result, WorkerSpawner};
use crate::channel::lock;
use crate::events::About;
use crate::idle::{Choice, Warm, choose};
use crate::task::WorkerHandle;
use crate::{ErrorKind, EventKind, LifecycleError, SpawnParams, WorkerState, WorkerView};

/// How often it is looked whether a lease has its memory back.
const AGAIN: Duration = Duration::from_millis(50);

/// Who has a place without being seen as a worker, and who is seen without having one.
#[derive(Debug, Default)]
pub(super) struct Seats {
    /// Admitted, by name and policy: counted until they are seen as workers.
    taken: BTreeMap<String, String>,
    /// On their way out for somebody who has their place already.
    leaving: BTreeSet<String>,
}

/// A place; given back when it is dropped, which a worker that is seen no longer needs.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Mutex<Seats>>,
    id: String,
    /// Who is to go for it.
    leaver: Option<WorkerHandle>,
}

impl Seat {
    /// Who is to go for it.
    pub(super) fn leaver(&self) -> Option<&WorkerHandle> {
        self.leaver.as_ref()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = lock(&self.seats);
        seats.taken.remove(&self.id);
        if let Some(leaver) = &self.leaver {
            seats.leaving.remove(leaver.id.as_str());
        }
    }
}

impl WorkerSpawner {
    /// Takes a place for `id` under a policy; where all are taken the idle worker that was used last the longest ago is to go for it. It is
    /// left alone by others from now on, and stopped only when nothing else stands in the way of the new one: see [`Self::make_room`].
    ///
    /// Errors: `at_capacity` where none is idle.
    pub(super) fn take_seat(&self, attached: &Attached, id: &WorkerId, (policy, idle): (&str, IdlePlan)) -> Result<Option<Seat>> {
        let Some(most) = idle.max_warm.and_then(|n| usize::try_from(n).ok()) else { return Ok(None) };
        let after = idle_after(idle);
        let mut seats = lock(&attached.seats);
        let leaver = match choose(self.warm(&seats, policy, after), most) {
            Choice::Room => None,
            Choice::Evict(Some(handle)) => Some(handle),
            Choice::Evict(None) | Choice::Full => return Err(full(policy, most)),
        };
        seats.taken.insert(id.to_string(), policy.to_owned());
        seats.leaving.extend(leaver.as_ref().map(|handle| handle.id.to_string()));
        Ok(Some(Seat { seats: Arc::clone(&attached.seats), id: id.to_string(), leaver }))
    }

    /// Stops an idle worker for a start that would be refused for no other reason. What that one had of a lease may take its time to come
    /// back: the start waits for it, as long as memory may take. `None` where the start itself was stopped meanwhile: its view says so.
    ///
    /// Errors: what the start would be refused for; then nobody was stopped. `at_capacity` where the worker is idle no more, or does not end.
    pub(super) async fn make_room(
        &self,
        attached: &Attached,
        (id, params, policy): (&WorkerId, &SpawnParams, &Policy),
        (leaver, start): (&WorkerHandle, &mut Unborn),
    ) -> Result<Option<SpawnParams>> {
        Self::check_devices(attached, (id, params, policy), &leaver.id)?;
        attached.check_files(params).await?;
        // Nobody is stopped for a start that comes to nothing.
        if !start.goes_on(attached)? {
            return Ok(None);
        }
        Self::still_idle(leaver, (&params.policy, policy.idle))?;
        self.evict(attached, leaver, id).await?;
        if let Some(lease_id) = &params.lease_id {
            let deadline = Instant::now() + attached.memory_back;
            while start.goes_on(attached)? && attached.leases.is_releasing(lease_id) && Instant::now() < deadline {
                sleep(AGAIN).await;
            }
        }
        if !start.goes_on(attached)? {
            return Ok(None);
        }
        if params.lease_id.is_some() {
            return Ok(Some(params.clone()));
        }
        let device = match params.device.on_busy() {
            Some(WhenBusy::Refuse) => params.device.clone().when_busy(WhenBusy::Queue { timeout: Some(attached.memory_back) }),
            _ => params.device.clone(),
        };
        Ok(Some(SpawnParams { device, ..params.clone() }))
    }

    /// Workers of a policy that are up, and those to be; the latter are nobody's to stop.
    fn warm(&self, seats: &Seats, policy: &str, after: Duration) -> Vec<Warm<Option<WorkerHandle>>> {
        let up = |view: &WorkerView| view.policy == policy && !matches!(view.state, WorkerState::Stopping) && !view.has_ended();
        let handles = self.registry.handles().into_iter().filter(|h| up(&h.view.borrow()) && !seats.leaving.contains(h.id.as_str()));
        let seen: Vec<WorkerHandle> = handles.filter(|h| !seats.taken.contains_key(h.id.as_str())).collect();
        let starting = seats.taken.values().filter(|p| *p == policy).map(|_| Warm { worker: None, idle: None });
        seen.into_iter().map(|handle| Warm { idle: idle_for(&handle, after), worker: Some(handle) }).chain(starting).collect()
    }

    /// Whether the one that is to go is as idle as it was when it was chosen, or goes by itself: a client may have come to it since.
    fn still_idle(leaver: &WorkerHandle, (policy, idle): (&str, IdlePlan)) -> Result<()> {
        let goes = {
            let view = leaver.view.borrow();
            view.state == WorkerState::Stopping || view.has_ended()
        };
        let most = idle.max_warm.and_then(|n| usize::try_from(n).ok()).unwrap_or(usize::MAX);
        if goes || idle_for(leaver, idle_after(idle)).is_some() { Ok(()) } else { Err(full(policy, most)) }
    }

    async fn evict(&self, attached: &Attached, handle: &WorkerHandle, newcomer: &WorkerId) -> Result<()> {
        let data = json!({"action": "evict", "for": newcomer.as_str(), "idle_ms": handle.usage.idle_for().map(|t| t.as_millis() as u64)});
        attached.tools.events.tell(EventKind::Idle, About::worker(&handle.id, handle.view().generation), data);
        tracing::info!(worker = %handle.id, %newcomer, "an idle worker makes room");
        self.stop_one(handle, StoppedBy::Evicted, None).await.map(drop).map_err(|error| {
            let text = format!("worker {} was to make room for {newcomer} and does not end: {error}", handle.id);
            LifecycleError { hint: error.hint.clone(), ..LifecycleError::new(ErrorKind::AtCapacity, text) }
        })
    }
}

impl Attached {
    /// Whether the launcher would find the policy's binary and the model.
    async fn check_files(&self, params: &SpawnParams) -> Result<()> {
        let (policy, model) = (params.policy.clone(), params.model.clone());
        match self.tools.launcher.ask(|seq| ToLauncher::Find { seq, policy, model }, &[]).await? {
            // A total may well have room when somebody has gone.
            (FromLauncher::Refused { error, .. }, _) if error.kind != LaunchErrorKind::AtCapacity => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn idle_after(idle: IdlePlan) -> Duration {
    Duration::from_millis(idle.after_ms.unwrap_or(u64::MAX))
}

/// For how long it has been idle; `None`: it is not. One that is frozen does nothing, whatever could be seen of its work before.
fn idle_for(handle: &WorkerHandle, after: Duration) -> Option<Duration> {
    match handle.view.borrow().state {
        WorkerState::Frozen if handle.usage.open() == 0 => Some(handle.usage.now().saturating_sub(handle.usage.used()).max(after)),
        WorkerState::Ready | WorkerState::Unhealthy => handle.usage.idle_for().filter(|idle| *idle >= after),
        _ => None,
    }
}

fn full(policy: &str, most: usize) -> LifecycleError {
    let text = format!("{most} workers of policy {policy} are up, as many as its idle.max_warm allows, and none of them is idle");
    let mut error = LifecycleError::new(ErrorKind::AtCapacity, text);
    error.hint = Some("stop one, wait until one is idle (idle.after), or raise idle.max_warm".into());
    error
}
