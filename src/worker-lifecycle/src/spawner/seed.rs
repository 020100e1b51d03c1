//! The seed's own methods.

use std::path::PathBuf;
use std::sync::Arc;

use rbee_hive_devices::DeviceSpec;
use rbee_hive_policy::{NetworkMode, WorkerId};

use super::{Result, WorkerSpawner, find_worker_binary};
use crate::{ErrorKind, LifecycleError, PortLease, SpawnParams, WaitFor, WorkerRegistry};

impl WorkerSpawner {
    /// A spawner without a launcher: it knows its registry and its binary, and starts nothing.
    ///
    /// Errors: `binary_not_found`, with every place tried.
    pub fn new(registry: Arc<WorkerRegistry>) -> Result<Self> {
        Ok(Self { registry, worker_binary: find_worker_binary()?, attached: None })
    }

    /// The seed's binary.
    ///
    /// Errors: `binary_not_found`, with every place tried.
    pub fn find_worker_binary() -> Result<PathBuf> {
        find_worker_binary()
    }

    /// A port for a worker in a private network, held by a listening socket until the lease is dropped.
    ///
    /// Errors: `no_free_port`.
    pub fn find_available_port(&self) -> Result<PortLease> {
        self.registry.ports().reserve(NetworkMode::Private).map_err(|e| LifecycleError::new(ErrorKind::NoFreePort, e.to_string()))
    }

    /// Starts a worker under the policy `default` and waits until it is ready; its id.
    ///
    /// Errors: as [`WorkerSpawner::spawn`].
    pub async fn spawn_worker(&self, job_id: &str, worker_id: &str, model_id: &str, device: &str) -> Result<String> {
        let invalid = |e: String| LifecycleError::new(ErrorKind::InvalidParams, e);
        let params = SpawnParams {
            worker_id: Some(WorkerId::parse(worker_id).map_err(|e| invalid(e.to_string()))?),
            model: model_id.to_owned(),
            device: DeviceSpec::parse_text(device).map_err(|e| invalid(e.to_string()))?,
            policy: "default".into(),
            args: vec![],
            env: Default::default(),
            limits: Default::default(),
            lease_id: None,
            client: None,
            labels: Default::default(),
            wait: WaitFor::Ready,
            job_id: Some(job_id.to_owned()),
        };
        self.spawn_and_wait(params).await.map(|view| view.worker_id)
    }
}
