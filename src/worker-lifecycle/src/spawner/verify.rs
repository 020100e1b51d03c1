//! Looking at a sandbox now, on request.

use rbee_hive_policy::WorkerId;
use tokio::sync::oneshot;

use super::{Result, WorkerSpawner};
use crate::{ErrorKind, LifecycleError, WorkerView};

impl WorkerSpawner {
    /// Reads a worker's sandbox back and compares it with its plan; the worker then, with its drift.
    ///
    /// Errors: `not_found`; `not_allowed_now` where nothing runs.
    pub async fn verify(&self, id: &WorkerId) -> Result<WorkerView> {
        let handle = self.handle(id)?;
        let nothing_runs = || LifecycleError::new(ErrorKind::NotAllowedNow, format!("worker {id} has no process now"));
        let requests = handle.known.verify.get().ok_or_else(nothing_runs)?;
        let (tell, told) = oneshot::channel();
        requests.send(tell).await.map_err(|_| nothing_runs())?;
        // Unanswered where it ends meanwhile.
        told.await.map_err(|_| nothing_runs())?;
        Ok(self.measured(&handle).await)
    }
}
