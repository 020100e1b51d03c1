//! Places under policies that bound how many of their workers are up at a time.
//!
//! A place is taken under one lock before anything is stopped or started, so that of two requests for the last one only one gets it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbee_hive_policy::{IdlePlan, WorkerId};
use rbee_hive_sandbox::StoppedBy;
use serde_json::json;

use super::{Attached, Result, WorkerSpawner};
use crate::channel::lock;
use crate::events::About;
use crate::idle::{Choice, Warm, choose};
use crate::task::WorkerHandle;
use crate::{ErrorKind, EventKind, LifecycleError, WorkerState, WorkerView};

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
    /// Who went for it.
    evicted: Option<String>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seats = lock(&self.seats);
        seats.taken.remove(&self.id);
        if let Some(evicted) = &self.evicted {
            seats.leaving.remove(evicted);
        }
    }
}

impl WorkerSpawner {
    /// Takes a place for `id` under a policy; where all are taken the idle worker that was used last the longest ago is stopped for it.
    ///
    /// Errors: `at_capacity` where none is idle, or the one that was chosen does not end.
    pub(super) async fn take_seat(&self, attached: &Attached, id: &WorkerId, (policy, idle): (&str, IdlePlan)) -> Result<Option<Seat>> {
        let Some(most) = idle.max_warm.and_then(|n| usize::try_from(n).ok()) else { return Ok(None) };
        let after = Duration::from_millis(idle.after_ms.unwrap_or(u64::MAX));
        let (seat, evicted) = {
            let mut seats = lock(&attached.seats);
            let evicted = match choose(self.warm(&seats, policy, after), most) {
                Choice::Room => None,
                Choice::Evict(Some(handle)) => Some(handle),
                Choice::Evict(None) | Choice::Full => return Err(full(policy, most)),
            };
            seats.taken.insert(id.to_string(), policy.to_owned());
            let leaving = evicted.as_ref().map(|handle| handle.id.to_string());
            seats.leaving.extend(leaving.clone());
            (Seat { seats: Arc::clone(&attached.seats), id: id.to_string(), evicted: leaving }, evicted)
        };
        if let Some(handle) = evicted {
            self.evict(attached, &handle, id).await?;
        }
        Ok(Some(seat))
    }

    /// Workers of a policy that are up, and those to be; the latter are nobody's to stop.
    fn warm(&self, seats: &Seats, policy: &str, after: Duration) -> Vec<Warm<Option<WorkerHandle>>> {
        let up = |view: &WorkerView| view.policy == policy && !matches!(view.state, WorkerState::Stopping) && !view.has_ended();
        let handles = self.registry.handles().into_iter().filter(|h| up(&h.view.borrow()) && !seats.leaving.contains(h.id.as_str()));
        let seen: Vec<WorkerHandle> = handles.filter(|h| !seats.taken.contains_key(h.id.as_str())).collect();
        let starting = seats.taken.values().filter(|p| *p == policy).map(|_| Warm { worker: None, idle: None });
        seen.into_iter().map(|handle| Warm { idle: idle_for(&handle, after), worker: Some(handle) }).chain(starting).collect()
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
