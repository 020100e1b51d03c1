//! Letting a worker stand still, and go on.

use rbee_hive_policy::WorkerId;
use tokio::sync::oneshot;

use super::{Result, WorkerSpawner};
use crate::state::{Ask, Permit, may};
use crate::task::{Command, Told, WorkerHandle};
use crate::{ErrorKind, LifecycleError, WorkerState, WorkerView};

impl WorkerSpawner {
    /// Freezes a worker; its processes stand still when this returns. Connections to its port wait until it is thawed, for as long as the
    /// kernel's backlog takes them. Idempotent; one that is frozen because it was idle is from then on not woken by a connection.
    ///
    /// Errors: `not_found`; `not_allowed_now` where it is not ready; `not_enforceable` where the host has no freezer; `timeout` where a process
    /// waits in the kernel and does not freeze: it runs again then.
    pub async fn freeze(&self, id: &WorkerId) -> Result<WorkerView> {
        let handle = self.handle(id)?;
        let view = handle.view();
        match may(Ask::Freeze, view.state, view.pid) {
            Permit::No => return Err(not_now(&view, "frozen")),
            Permit::Done => {}
            Permit::Go => carry_out(&handle, |tell| Command::Freeze { tell }).await?,
        }
        Ok(self.measured(&handle).await)
    }

    /// Thaws a worker; it answers its probe again when this returns. Idempotent.
    ///
    /// Errors: `not_found`; `not_allowed_now` where it is neither frozen nor ready; `start_failed` where it ended instead, as it does when it
    /// does not answer within its policy's start time.
    pub async fn thaw(&self, id: &WorkerId) -> Result<WorkerView> {
        let handle = self.handle(id)?;
        let view = handle.view();
        match may(Ask::Thaw, view.state, view.pid) {
            Permit::No => return Err(not_now(&view, "thawed")),
            Permit::Done => return Ok(self.measured(&handle).await),
            Permit::Go => carry_out(&handle, |tell| Command::Thaw { tell }).await?,
        }
        // The task has said that it runs; what is seen of it before its answer is `frozen`.
        let view = handle.until(|v| v.state != WorkerState::Frozen).await.ok_or_else(|| super::not_found(id))?;
        match view.state {
            WorkerState::Stopping | WorkerState::Stopped | WorkerState::Failed => {
                let mut error =
                    LifecycleError::new(ErrorKind::StartFailed, format!("worker {id} did not answer again after it was thawed"));
                error.verdict = handle.view().verdict;
                Err(error)
            }
            _ => Ok(self.measured(&handle).await),
        }
    }
}

async fn carry_out(handle: &WorkerHandle, command: impl FnOnce(Told) -> Command) -> Result<()> {
    let (tell, told) = oneshot::channel();
    let over = || LifecycleError::new(ErrorKind::NotAllowedNow, format!("worker {} has ended", handle.id));
    handle.commands.send(command(tell)).await.map_err(|_| over())?;
    told.await.map_err(|_| over())?
}

fn not_now(view: &WorkerView, wanted: &str) -> LifecycleError {
    let state = serde_json::to_value(view.state).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default();
    let mut error =
        LifecycleError::new(ErrorKind::NotAllowedNow, format!("worker {} is {state} and can't be {wanted} now", view.worker_id));
    error.hint = Some("only a worker that has become ready can be frozen, and only one that is frozen thawed".into());
    error
}
