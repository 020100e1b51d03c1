//! A worker in the seed's terms.

use std::time::SystemTime;

use crate::{WorkerState, WorkerView};

/// How a worker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerStatus {
    /// Not answering yet.
    Starting,
    /// Answering.
    Ready,
    /// Answering, with open connections.
    Busy,
    /// Asked to end.
    Stopping,
    /// Ended as it should.
    Stopped,
    /// Ended otherwise.
    Failed {
        /// The verdict's sentence.
        error: String,
    },
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerEntry {
    /// Name.
    pub id: String,
    /// Model.
    pub model_id: String,
    /// Devices, joined by commas.
    pub device: String,
    /// The worker's own process on the host.
    pub pid: Option<i32>,
    /// Its port.
    pub port: Option<u16>,
    /// Status.
    pub status: WorkerStatus,
    /// When it was asked for.
    pub started_at: SystemTime,
}

impl WorkerEntry {
    pub(super) fn of(view: &WorkerView, connections: usize, started_at: SystemTime) -> Self {
        let status = match view.state {
            WorkerState::Ready if connections > 0 => WorkerStatus::Busy,
            WorkerState::Ready | WorkerState::Unhealthy | WorkerState::Frozen => WorkerStatus::Ready,
            WorkerState::Starting | WorkerState::Restarting => WorkerStatus::Starting,
            WorkerState::Stopping => WorkerStatus::Stopping,
            WorkerState::Stopped => WorkerStatus::Stopped,
            WorkerState::Failed => WorkerStatus::Failed { error: view.verdict.as_ref().map_or_else(String::new, |v| v.message.clone()) },
        };
        Self {
            id: view.worker_id.clone(),
            model_id: view.model.clone(),
            device: view.devices.join(","),
            pid: view.pid,
            port: view.port,
            status,
            started_at,
        }
    }
}
