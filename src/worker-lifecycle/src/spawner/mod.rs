//! The surface of this crate: start, stop, watch workers.

mod admit;
mod binary;
mod explain;
mod freeze;
mod leasing;
mod mps;
mod queries;
mod seed;
mod stop;
mod unborn;
mod update;
mod verify;
mod warm;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rbee_hive_devices::Inventory;
use rbee_hive_narration::{Narration, Narrator};
use rbee_hive_policy::WorkerId;

use crate::device_watch::{DeviceWatch, Watcher};
use crate::launcher::LauncherClient;
use crate::leases::Leases;
use crate::mps::MpsGroups;
use crate::sampling::{self, Sampler};
use crate::state::{Hive, Refusal, may_start};
use crate::task::{Known, Tools, WorkerHandle};
use crate::{ErrorKind, EventHub, LifecycleError, SpawnParams, WaitFor, WorkerRegistry, WorkerState, WorkerView};

pub(crate) use admit::show_plan;
use binary::find_worker_binary;

type Result<T> = std::result::Result<T, LifecycleError>;

/// Most log lines that come with a failed start.
const LOG_TAIL: usize = 20;

/// How long a look at the GPUs and what follows from it may take.
const LOOK: Duration = Duration::from_secs(5);

/// What a spawner works with.
#[derive(Debug)]
pub struct SpawnerOptions {
    /// Devices, for admission.
    pub inventory: Inventory,
    /// Where the story of a spawn is told.
    pub narrator: Narrator,
    /// `workers/` of the log directory, opened.
    pub logs: OwnedFd,
    /// Most workers at a time.
    pub max_workers: usize,
    /// How often the figures of all workers are sampled.
    pub sample_interval: Duration,
    /// How GPUs are watched; `None`: what happens to them is not known, and their memory is taken to be back at once.
    pub devices: Option<DeviceWatch>,
    /// The hive's own directory, opened; `None`: leases do not outlive the hive.
    pub records: Option<OwnedFd>,
}

/// Starts workers. Without a launcher it starts none and says so. A clone is another handle on the same workers.
#[derive(Clone)]
pub struct WorkerSpawner {
    registry: Arc<WorkerRegistry>,
    worker_binary: PathBuf,
    attached: Option<Arc<Attached>>,
}

struct Attached {
    tools: Arc<Tools>,
    leases: Arc<Leases>,
    mps: Arc<MpsGroups>,
    max_workers: usize,
    draining: AtomicBool,
    /// The last ones first.
    deleted: Mutex<VecDeque<Deleted>>,
    /// Policies as they were when workers were started under them.
    versions: Mutex<explain::Versions>,
    /// Places under policies that bound their number.
    seats: Arc<Mutex<warm::Seats>>,
    /// How long a start waits for the memory of a worker that was stopped for it: as long as it may take, and a look more.
    memory_back: Duration,
}

/// A worker that is off the list.
#[derive(Clone)]
struct Deleted {
    view: WorkerView,
    known: Arc<Known>,
}

impl WorkerSpawner {
    /// The hive's spawner. Called inside the runtime.
    pub fn attach(registry: Arc<WorkerRegistry>, launcher: LauncherClient, options: SpawnerOptions) -> Arc<Self> {
        let events = Arc::new(EventHub::default());
        let leases = Leases::open(options.inventory, Arc::clone(&events), options.records.map(Arc::new));
        let mps = MpsGroups::new(launcher.clone(), Arc::clone(&registry));
        let (releasing, leaving) = (Arc::clone(&leases), Arc::clone(&mps));
        let sampler = Arc::new(Sampler::new(Arc::clone(&launcher.cgroup), options.sample_interval));
        tokio::spawn(sampling::run(Arc::clone(&sampler), Arc::downgrade(&registry)));
        let tools = Arc::new(Tools {
            launcher,
            narrator: options.narrator,
            events,
            logs: Arc::new(options.logs),
            sampler,
            release: Box::new(move |id: WorkerId| {
                let (leases, mps) = (Arc::clone(&releasing), Arc::clone(&leaving));
                Box::pin(async move {
                    mps.leave(&id).await;
                    leases.release_worker(&id);
                })
            }),
        });
        let tell = |action, human: &str| tools.narrator.tell(Narration::new("worker-lc", action).human(human));
        tell("worker_registry_init", "the registry of workers is ready");
        tell("worker_spawner_init", "the spawner of workers is ready");
        let attached = Attached {
            tools,
            leases,
            mps,
            max_workers: options.max_workers,
            draining: AtomicBool::new(false),
            deleted: Mutex::default(),
            versions: Mutex::default(),
            seats: Arc::default(),
            memory_back: options.devices.as_ref().map_or(Duration::ZERO, |w| w.patience.memory_back + w.interval) + LOOK,
        };
        if let Some(watch) = options.devices.filter(|_| attached.leases.have_gpus()) {
            attached.leases.watch();
            let watcher = Watcher {
                registry: Arc::clone(&registry),
                leases: Arc::clone(&attached.leases),
                mps: Arc::clone(&attached.mps),
                tools: Arc::clone(&attached.tools),
            };
            tokio::spawn(watcher.run(watch));
        }
        // The policy names the binary; this is the seed's, where it can be found.
        Arc::new(Self { registry, worker_binary: find_worker_binary().unwrap_or_default(), attached: Some(Arc::new(attached)) })
    }

    /// The list of workers.
    pub fn registry(&self) -> &Arc<WorkerRegistry> {
        &self.registry
    }

    /// The seed's binary; empty where it was not found.
    pub fn worker_binary(&self) -> &std::path::Path {
        &self.worker_binary
    }

    /// Everything that happens to workers and devices; `None` without a launcher.
    pub fn events(&self) -> Option<&Arc<EventHub>> {
        self.attached.as_ref().map(|a| &a.tools.events)
    }

    fn attached(&self) -> Result<&Attached> {
        self.attached.as_deref().ok_or_else(crate::launcher::gone)
    }

    fn handle(&self, id: &WorkerId) -> Result<WorkerHandle> {
        self.registry.handle(id.as_str()).ok_or_else(|| not_found(id))
    }

    /// Starts a worker. The start goes on when the caller stops waiting.
    ///
    /// Errors: refusals leave no entry; a start that failed stays listed with its verdict, which the error carries.
    pub async fn spawn(self: &Arc<Self>, params: SpawnParams) -> Result<WorkerView> {
        self.spawn_and_wait(params).await
    }

    async fn spawn_and_wait(&self, params: SpawnParams) -> Result<WorkerView> {
        let wait = params.wait;
        let spawner = self.clone();
        let admitted = tokio::spawn(async move { spawner.admit(params).await });
        let handle = admitted.await.map_err(|e| LifecycleError::new(ErrorKind::StartFailed, format!("the start was cut off: {e}")))??;
        let view = handle.until(|v| v.has_ended() || reached(v, wait)).await.ok_or_else(|| not_found(&handle.id))?;
        // An end right after it got there is told by the state.
        if reached(&view, wait) { Ok(self.measured(&handle).await) } else { Err(self.failed_start(&handle.id, &view).await) }
    }

    /// Waits for a worker.
    ///
    /// Errors: `timeout`; `start_failed` where it ended and `Started` or `Ready` was waited for; `not_found`, also where it was refused
    /// meanwhile.
    pub async fn wait(&self, id: &WorkerId, until: WaitFor, timeout: Option<Duration>) -> Result<WorkerView> {
        let handle = self.handle(id)?;
        let waiting = handle.until(|v| v.has_ended() || (reached(v, until) && v.state != WorkerState::Stopping));
        let view = match timeout {
            None => waiting.await,
            Some(limit) => tokio::time::timeout(limit, waiting).await.map_err(|_| {
                LifecycleError::new(ErrorKind::Timeout, format!("worker {id} did not get there within {} ms", limit.as_millis()))
            })?,
        };
        let view = view.ok_or_else(|| not_found(id))?;
        match until {
            WaitFor::Exit => Ok(self.measured(&handle).await),
            _ if view.has_ended() => Err(LifecycleError { kind: ErrorKind::StartFailed, ..self.failed_start(id, &view).await }),
            _ => Ok(self.measured(&handle).await),
        }
    }

    /// New spawns get `draining`.
    pub fn drain(&self) {
        if let Some(attached) = &self.attached {
            attached.draining.store(true, Ordering::SeqCst);
        }
    }

    /// Whether new spawns are refused.
    pub fn draining(&self) -> bool {
        self.attached.as_ref().is_some_and(|a| a.draining.load(Ordering::SeqCst))
    }
}

impl Attached {
    /// Whether this hive starts anything at all.
    fn may_start(&self) -> Result<()> {
        let hive = Hive { draining: self.draining.load(Ordering::SeqCst), launcher_gone: self.tools.launcher.is_gone() };
        may_start(hive).map_err(|refusal| match refusal {
            Refusal::Draining => LifecycleError::new(ErrorKind::Draining, "the hive is draining: it starts nothing any more"),
            Refusal::LauncherGone => crate::launcher::gone(),
        })
    }
}

/// Whether it got there, even if it has ended since.
fn reached(view: &WorkerView, until: WaitFor) -> bool {
    match until {
        WaitFor::Started => view.started_at.is_some(),
        WaitFor::Ready => view.ready_at.is_some(),
        WaitFor::Exit => view.has_ended(),
    }
}

fn not_found(id: &WorkerId) -> LifecycleError {
    LifecycleError::new(ErrorKind::NotFound, format!("there is no worker {id}"))
}
