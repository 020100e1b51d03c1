//! What every request handler is given: the spawner, the host's facts and the jobs.
//!
//! Owns `HiveState`. Must never know HTTP or JSON-RPC.

mod caller;
#[cfg(test)]
pub(crate) mod fake;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;

use rbee_hive_sandbox::protocol::{CgroupFacts, HostFeature};
use rbee_hive_worker_lifecycle::EventHub;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::jobs::JobBoard;

pub(crate) use caller::{Caller, Connection, Use};
#[cfg(test)]
pub(crate) use workers::Outcome;
pub(crate) use workers::Workers;

/// Reads devices and notes, as `device_topology` has them; called on a blocking thread, because an inventory may ask a driver.
pub(crate) type DeviceReader = Box<dyn Fn() -> Value + Send + Sync>;

/// Shared by all handlers.
pub(crate) struct HiveState {
    /// The hive's own name, as `hive_id` in the jobs API: the host name.
    pub(crate) id: String,
    /// The spawner with its registry.
    pub(crate) workers: Arc<dyn Workers>,
    /// The cgroup tree, as the launcher found it.
    pub(crate) cgroup: CgroupFacts,
    /// The host's features.
    pub(crate) host: BTreeMap<String, HostFeature>,
    /// The devices.
    pub(crate) devices: DeviceReader,
    /// Everything that happens to workers and devices.
    pub(crate) events: Arc<EventHub>,
    /// Running and ended jobs.
    pub(crate) jobs: JobBoard,
    /// Cancelled when the hive is to stop.
    pub(crate) stopping: CancellationToken,
}

impl HiveState {
    /// The device list.
    pub(crate) async fn device_list(self: &Arc<Self>) -> Value {
        match self.device_topology().await.get_mut("devices") {
            Some(list) => list.take(),
            None => json!([]),
        }
    }

    /// Devices and notes, read off the runtime's threads.
    pub(crate) async fn device_topology(self: &Arc<Self>) -> Value {
        let state = Arc::clone(self);
        match tokio::task::spawn_blocking(move || (state.devices)()).await {
            Ok(told) => told,
            Err(source) => {
                tracing::error!(%source, "the device inventory failed");
                json!({"devices": [], "notes": ["the device inventory failed: the hive's log says how"], "source": ""})
            }
        }
    }
}
