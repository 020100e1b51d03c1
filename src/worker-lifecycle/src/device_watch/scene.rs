//! What is known of workers when an observation has been made.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rbee_hive_devices::{Budget, Observation, Scene};
use rbee_hive_policy::GpuMemoryEnforcer;
use tokio::task::spawn_blocking;

use super::{AwaitedSince, Watcher};
use crate::processes::{self, Owner};
use crate::task::WorkerHandle;

/// Most processes on GPUs that are looked at.
const MAX_PROCESSES: usize = 4096;

impl Watcher {
    /// Looks whose the observed processes are: after the observation, so that whoever began during it is known.
    pub(super) async fn scene(
        &self,
        handles: &[WorkerHandle],
        observation: &Observation,
        (awaited, now): (&AwaitedSince, Duration),
    ) -> Scene {
        let on_gpus = observation.gpus.values().filter_map(|gpu| gpu.processes.as_ref()).flatten().map(|p| p.pid);
        let pids: BTreeSet<i32> = on_gpus.take(MAX_PROCESSES).collect();
        // A daemon of ours is no stranger on a GPU.
        let owners: Vec<Owner> = handles.iter().chain(&self.mps.daemons()).map(WorkerHandle::owner).collect();
        let facts = Arc::clone(&self.tools.launcher.cgroup);
        let looking = spawn_blocking(move || {
            let mut known = BTreeMap::new();
            // Who has no process on a GPU owns none.
            for owner in owners.iter().filter(|_| !pids.is_empty()) {
                let own = processes::pids(&facts, owner);
                known.extend(own.intersection(&pids).map(|pid| (*pid, owner.worker_id.clone())));
            }
            let ended = pids.iter().filter(|pid| !Path::new("/proc").join(pid.to_string()).exists()).copied().collect();
            (known, ended)
        });
        let (owners, ended) = looking.await.unwrap_or_default();
        let (holders, lent) = self.leases.held();
        let budgets = handles.iter().filter_map(|handle| {
            let plan = handle.known.gpus.limit.get().filter(|plan| is_watched(plan.enforced_by))?;
            Some((handle.id.to_string(), Budget { limit: plan.limit_bytes, gpus: gpus(handle) }))
        });
        Scene { now, holders, lent, awaited: awaited.clone(), owners, ended, budgets: budgets.collect() }
    }
}

/// A program can go past MPS, so that it is watched besides.
fn is_watched(enforced_by: Option<GpuMemoryEnforcer>) -> bool {
    matches!(enforced_by, Some(GpuMemoryEnforcer::Soft | GpuMemoryEnforcer::Mps))
}

/// A worker's GPUs.
pub(super) fn gpus(handle: &WorkerHandle) -> Vec<u32> {
    handle.view.borrow().devices.iter().filter_map(|name| name.strip_prefix("GPU-")?.parse().ok()).collect()
}
