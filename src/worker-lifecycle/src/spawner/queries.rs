//! Looking at workers.

use std::time::Duration;

use futures_util::future::join_all;
use rbee_hive_devices::{DeviceView, Observation, Topology};
use rbee_hive_policy::WorkerId;
use rbee_hive_sandbox::cgroup::unmeasured;
use rbee_hive_sandbox::protocol::{FromLauncher, PolicyInfo, ProcessIo, ToLauncher};

use tokio::time::timeout;

use super::{Result, WorkerSpawner};
use crate::sampling::{self, Freshness};
use crate::task::WorkerHandle;
use crate::{ErrorKind, HistoryRange, LifecycleError, LogPage, ProcessView, WorkerFilter, WorkerHistory, WorkerView, logs, processes};

/// Most lines of one answer.
const MAX_TAIL: usize = 100_000;
/// How long an init may take to count what each of its processes has read and written; after that it is not known.
const COUNTING: Duration = Duration::from_millis(500);

impl WorkerSpawner {
    /// A worker as it is now, its figures fresh from the cgroup.
    ///
    /// Errors: `not_found`.
    pub async fn status(&self, id: &WorkerId) -> Result<WorkerView> {
        Ok(self.measured(&self.handle(id)?).await)
    }

    /// All workers that match, their figures at most a second old.
    pub async fn list(&self, filter: &WorkerFilter) -> Vec<WorkerView> {
        let matches = |v: &WorkerView| {
            filter.state.is_none_or(|s| s == v.state) && filter.labels.iter().all(|(k, value)| v.labels.get(k) == Some(value))
        };
        // Chosen before they are measured: figures are read only of those that are told.
        let chosen: Vec<WorkerHandle> = self.registry.handles().into_iter().filter(|h| matches(&h.view.borrow())).collect();
        let spawner = self.clone();
        // Some files a worker: many workers would keep the runtime's thread from its other tasks.
        let counting = tokio::task::spawn_blocking(move || {
            let one = |handle: WorkerHandle| (spawner.counted(&handle, Freshness::Recent), handle);
            chosen.into_iter().map(one).collect::<Vec<_>>()
        });
        let counted = counting.await.unwrap_or_default();
        join_all(counted.into_iter().map(|(view, handle)| async move { self.with_io(view, (&handle, Freshness::Recent)).await })).await
    }

    /// The worker with its figures.
    pub(super) async fn measured(&self, handle: &WorkerHandle) -> WorkerView {
        self.with_io(self.counted(handle, Freshness::Now), (handle, Freshness::Now)).await
    }

    /// The worker with what its cgroup has counted.
    fn counted(&self, handle: &WorkerHandle, freshness: Freshness) -> WorkerView {
        let mut view = handle.view();
        if let (false, Some(leaf), Some(attached)) = (view.has_ended(), &view.cgroup.path, &self.attached) {
            view.resources = handle.known.sampled.figures(&attached.tools.sampler, (leaf, freshness));
        }
        if view.devices.iter().any(|name| name.starts_with("GPU-")) {
            let memory = handle.known.gpus.memory();
            // What was seen last of one that has ended is not there any more.
            let used_bytes = memory.used_bytes.filter(|_| !view.has_ended());
            view.gpu_memory = Some(crate::GpuMemoryView { used_bytes, ..memory });
        }
        view
    }

    /// Where no cgroup counts what is read and written, the init counts it by process; what is missing then is told with its reason.
    async fn with_io(&self, mut view: WorkerView, (handle, freshness): (&WorkerHandle, Freshness)) -> WorkerView {
        let Some(tools) = self.attached.as_ref().map(|attached| &attached.tools) else { return view };
        if view.has_ended() {
            return view;
        }
        if view.pid.is_some() && view.resources.lacks_io() {
            let known = (freshness == Freshness::Recent).then(|| handle.known.sampled.recent_io(&tools.sampler)).flatten();
            view.resources = view.resources.or_io(match known {
                Some(bytes) => Some(bytes),
                None => sampling::count(&tools.sampler, handle).await,
            });
        }
        view.unmeasured = unmeasured(&view.resources, &tools.launcher.cgroup);
        view
    }

    /// The last ten minutes of a worker, also of one that has ended.
    ///
    /// Errors: `not_found`; `invalid_params` for no points at all.
    pub async fn history(&self, id: &WorkerId, range: HistoryRange) -> Result<WorkerHistory> {
        if range.max_points == Some(0) {
            return Err(LifecycleError::new(ErrorKind::InvalidParams, "max_points is 0: ask for at least one point"));
        }
        let (known, sampler) = (self.handle(id)?.known, std::sync::Arc::clone(&self.attached()?.tools.sampler));
        let id = id.to_string();
        // Some tens of thousands of numbers.
        let telling = tokio::task::spawn_blocking(move || sampler.history((&id, &known.sampled), range));
        Ok(telling.await.unwrap_or_default())
    }

    /// Processes of one worker, or of all.
    ///
    /// Errors: `not_found`.
    pub async fn processes(&self, id: Option<&WorkerId>) -> Result<Vec<ProcessView>> {
        let handles = match id {
            Some(id) => vec![self.handle(id)?],
            None => self.registry.handles(),
        };
        let facts = std::sync::Arc::clone(&self.attached()?.tools.launcher.cgroup);
        let living: Vec<WorkerHandle> = handles.into_iter().filter(|h| !h.view.borrow().has_ended()).collect();
        let owners: Vec<_> = living.iter().map(WorkerHandle::owner).collect();
        let reading = tokio::task::spawn_blocking(move || owners.iter().map(|owner| processes::list(&facts, owner)).collect::<Vec<_>>());
        // The hive may not read what a process of another uid has read and written: its init may.
        let counting = join_all(living.iter().map(process_io));
        let (lists, counts) = tokio::join!(reading, counting);
        let lists = lists.unwrap_or_default().into_iter().zip(counts);
        Ok(lists.flat_map(|(list, counts)| list.into_iter().map(move |listed| listed.with_io(&counts))).collect())
    }

    /// The last `tail` log lines; `since`: RFC 3339.
    ///
    /// Errors: `not_found`; `invalid_params` for a `since` that is no time.
    pub async fn logs(&self, id: &WorkerId, tail: usize, since: Option<String>) -> Result<LogPage> {
        self.handle(id)?;
        let since = since.map(|text| text.parse::<jiff::Timestamp>()).transpose();
        let since = since.map_err(|e| LifecycleError::new(ErrorKind::InvalidParams, format!("since is no RFC 3339 time: {e}")))?;
        self.log_lines(id, tail.min(MAX_TAIL), since).await
    }

    pub(super) async fn log_lines(&self, id: &WorkerId, tail: usize, since: Option<jiff::Timestamp>) -> Result<LogPage> {
        let (directory, id) = (std::sync::Arc::clone(&self.attached()?.tools.logs), id.clone());
        let read = tokio::task::spawn_blocking(move || logs::read(&directory, &id, tail, since));
        Ok(read.await.unwrap_or_default())
    }

    /// All policies.
    pub async fn policy_list(&self) -> Result<Vec<PolicyInfo>> {
        match self.attached()?.tools.launcher.ask(|seq| ToLauncher::PolicyList { seq }, &[]).await? {
            (FromLauncher::Policies { policies, .. }, _) => Ok(policies),
            _ => Err(crate::launcher::gone()),
        }
    }

    /// A policy: (source, text, resolved).
    ///
    /// Errors: `unknown_policy`, `invalid_policy`.
    pub async fn policy_show(&self, name: &str) -> Result<(String, String, serde_json::Value)> {
        let name = name.to_owned();
        match self.attached()?.tools.launcher.ask(|seq| ToLauncher::PolicyShow { seq, name }, &[]).await? {
            (FromLauncher::Policy { source, text, resolved, .. }, _) => Ok((source, text, resolved)),
            (FromLauncher::Refused { error, .. }, _) => Err(error.into()),
            _ => Err(crate::launcher::gone()),
        }
    }

    /// Every device with its holder.
    pub fn devices(&self) -> Vec<DeviceView> {
        self.topology(&Observation::default()).devices
    }

    /// Every device with its holder and what was last seen of it, and what could not be found out.
    pub fn topology(&self, seen: &Observation) -> Topology {
        let Some(attached) = &self.attached else { return Topology::default() };
        let mut topology = attached.leases.topology(seen);
        topology.devices.iter_mut().for_each(|device| device.mps = attached.mps.on(&device.id));
        topology
    }
}

/// What each of a worker's processes has read and written, as its init counts it; empty where that is not known.
async fn process_io(handle: &WorkerHandle) -> Vec<ProcessIo> {
    let Some(link) = handle.link() else { return Vec::new() };
    timeout(COUNTING, link.process_io()).await.ok().and_then(std::result::Result::ok).unwrap_or_default()
}
