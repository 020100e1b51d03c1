//! A spawner over fakes, with ports of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rbee_hive_devices::{DeviceSpec, Inventory};
use rbee_hive_narration::{JobStreams, Narrator};
use rbee_hive_policy::WorkerId;
use rbee_hive_sandbox::protocol::{CgroupFacts, CgroupMode};

use super::fake_launcher::{self, Seen};
use crate::{
    DeviceWatch, LauncherClient, LifecycleError, SpawnParams, SpawnerOptions, WaitFor, WorkerRegistry, WorkerSpawner, WorkerView,
    hear_found,
};

/// No test waits longer for what should come at once.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) struct Hive {
    pub(crate) spawner: Arc<WorkerSpawner>,
    pub(crate) launcher: LauncherClient,
    pub(crate) seen: Arc<Seen>,
    pub(crate) streams: Arc<JobStreams>,
    _directory: Arc<tempfile::TempDir>,
}

/// What hives that follow each other have in common.
#[derive(Clone)]
pub(crate) struct Place {
    directory: Arc<tempfile::TempDir>,
    seen: Arc<Seen>,
    first_port: u16,
    ports: u16,
}

impl Place {
    fn of(ports: u16) -> Self {
        static NEXT: AtomicU16 = AtomicU16::new(21_000);
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("logs")).unwrap();
        let first_port = NEXT.fetch_add(ports, Ordering::SeqCst);
        Self { directory: Arc::new(directory), seen: Arc::default(), first_port, ports }
    }

    /// One where workers outlive their hives, which keep records.
    pub(crate) fn lasting() -> Self {
        let place = Self::of(4);
        place.seen.world.outlives.store(true, Ordering::SeqCst);
        std::fs::create_dir(place.directory.path().join("hive")).unwrap();
        place
    }

    /// Has it written down that this worker's end was this.
    pub(crate) fn write_verdict(&self, name: &str, verdict: &serde_json::Value) {
        let directory = self.directory.path().join("workers").join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let record = serde_json::json!({"version": 1, "worker_id": name, "verdict": verdict, "resources": {"cpu_usage_usec": 9}});
        std::fs::write(directory.join("verdict.json"), record.to_string()).unwrap();
    }

    /// The hive's own directory.
    pub(crate) fn hive_directory(&self) -> std::path::PathBuf {
        self.directory.path().join("hive")
    }

    /// A hive that has taken over what is there.
    pub(crate) async fn hive(&self, devices: &str) -> Hive {
        let hive = self.not_adopted(devices);
        tokio::time::timeout(SOON, hive.spawner.adopt()).await.expect("adoption hangs");
        hive
    }

    /// A hive that has not yet.
    pub(crate) fn not_adopted(&self, devices: &str) -> Hive {
        Hive::at(self.clone(), (devices, None), 1000)
    }

    pub(crate) fn seen(&self) -> &Seen {
        &self.seen
    }
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

    fn made(ports: u16, devices: (&str, Option<DeviceWatch>), max_workers: usize) -> Self {
        Self::at(Place::of(ports), devices, max_workers)
    }

    fn at(place: Place, (devices, watch): (&str, Option<DeviceWatch>), max_workers: usize) -> Self {
        let Place { directory, seen, first_port, ports } = place;
        let path = directory.path();
        let channel = fake_launcher::start(path.to_owned(), &seen);
        let found = hear_found(&channel).unwrap();
        let cgroup = CgroupFacts {
            mode: CgroupMode::None,
            root: String::new(),
            mounts: [("unified".to_owned(), path.display().to_string())].into(),
            notes: vec![],
        };
        let launcher = LauncherClient::over(channel, cgroup, found).unwrap();
        let streams = Arc::new(JobStreams::new());
        let options = SpawnerOptions {
            inventory: Inventory::from_simulation(devices, "test").unwrap(),
            narrator: Narrator::new(Arc::clone(&streams)),
            logs: std::fs::File::open(path.join("logs")).unwrap().into(),
            max_workers,
            sample_interval: Duration::from_millis(50),
            devices: watch,
            records: std::fs::File::open(path.join("hive")).ok().map(Into::into),
            verdicts: std::fs::File::open(path.join("workers")).ok().map(Into::into),
        };
        let registry = Arc::new(WorkerRegistry::with_ports(first_port..=first_port + ports - 1));
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
