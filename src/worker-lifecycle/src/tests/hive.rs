//! A spawner over fakes, with ports of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rbee_hive_devices::{DeviceSpec, Inventory};
use rbee_hive_narration::{JobStreams, Narrator};
use rbee_hive_policy::WorkerId;
use rbee_hive_sandbox::protocol::{CgroupFacts, CgroupMode};

use super::fake_launcher::{self, Seen};
use crate::{DeviceWatch, LauncherClient, LifecycleError, SpawnParams, SpawnerOptions, WaitFor, WorkerRegistry, WorkerSpawner, WorkerView};

/// No test waits longer for what should come at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Hive {
    pub(crate) spawner: Arc<WorkerSpawner>,
    pub(crate) launcher: LauncherClient,
    pub(crate) seen: Arc<Seen>,
    pub(crate) streams: Arc<JobStreams>,
    _directory: tempfile::TempDir,
}

impl Hive {
    pub(crate) fn start() -> Self {
        Self::with(10, "")
    }

    /// With this many ports, and devices.
    pub(crate) fn with(ports: u16, devices: &str) -> Self {
        Self::made(ports, (devices, None), 1000)
    }

    /// With this many ports, and as many workers at most.
    pub(crate) fn small(ports: u16) -> Self {
        Self::made(ports, ("", None), ports.into())
    }

    /// With GPUs that are looked at.
    pub(crate) fn watched(devices: &str, watch: DeviceWatch) -> Self {
        Self::made(10, (devices, Some(watch)), 1000)
    }

    fn made(ports: u16, (devices, watch): (&str, Option<DeviceWatch>), max_workers: usize) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(21_000);
        let first = NEXT.fetch_add(ports, Ordering::SeqCst);
        let directory = tempfile::tempdir().unwrap();
        let logs = directory.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let (channel, seen) = fake_launcher::start(directory.path().to_owned());
        let cgroup = CgroupFacts {
            mode: CgroupMode::None,
            root: String::new(),
            mounts: [("unified".to_owned(), directory.path().display().to_string())].into(),
            notes: vec![],
        };
        let launcher = LauncherClient::over(channel, cgroup).unwrap();
        let streams = Arc::new(JobStreams::new());
        let options = SpawnerOptions {
            inventory: Inventory::from_simulation(devices, "test").unwrap(),
            narrator: Narrator::new(Arc::clone(&streams)),
            logs: std::fs::File::open(logs).unwrap().into(),
            max_workers,
            sample_interval: Duration::from_millis(50),
            devices: watch,
            records: None,
        };
        let registry = Arc::new(WorkerRegistry::with_ports(first..=first + ports - 1));
        Self { spawner: WorkerSpawner::attach(registry, launcher.clone(), options), launcher, seen, streams, _directory: directory }
    }

    /// Starts `name`, which does what its model says.
    pub(crate) async fn spawn(&self, name: &str, model: &str, policy: &str) -> Result<WorkerView, LifecycleError> {
        self.spawn_with(params(name, model, policy)).await
    }

    pub(crate) async fn spawn_with(&self, params: SpawnParams) -> Result<WorkerView, LifecycleError> {
        tokio::time::timeout(SOON, self.spawner.spawn(params)).await.expect("a spawn hangs")
    }

    /// Waits until `done` holds of the worker.
    pub(crate) async fn until(&self, name: &str, done: impl Fn(&WorkerView) -> bool) -> WorkerView {
        let handle = self.spawner.registry().handle(name).unwrap();
        tokio::time::timeout(SOON, handle.until(done)).await.expect("it does not come to that").unwrap()
    }

    pub(crate) async fn stop(&self, name: &str, grace_ms: u64) -> WorkerView {
        tokio::time::timeout(SOON, self.spawner.stop(&id(name), Some(grace_ms))).await.expect("a stop hangs").unwrap()
    }

    /// Waits until every init has ended: nothing was left running.
    pub(crate) async fn until_no_init_is_left(&self) {
        eventually("an init is left", || self.seen.inits.load(Ordering::SeqCst) == 0).await;
    }
}

/// Polls, with a deadline, for what no channel tells.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + SOON;
    while !holds() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

pub(crate) fn id(name: &str) -> WorkerId {
    WorkerId::parse(name).unwrap()
}

pub(crate) fn params(name: &str, model: &str, policy: &str) -> SpawnParams {
    SpawnParams {
        worker_id: Some(id(name)),
        model: model.into(),
        device: DeviceSpec::Auto,
        policy: policy.into(),
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
