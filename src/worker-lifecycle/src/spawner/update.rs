//! Other limits for a running worker.

use std::collections::BTreeMap;

use rbee_hive_policy::{LimitKey, LimitValue, WorkerId};
use rbee_hive_sandbox::protocol::{BelowUse, FromLauncher, ToLauncher};
use tokio::sync::oneshot;

use super::{Result, WorkerSpawner};
use crate::channel::lock;
use crate::state::{Ask, Permit, may};
use crate::task::{Command, InForce, WorkerHandle};
use crate::{ErrorKind, LifecycleError, WorkerView};

impl WorkerSpawner {
    /// Changes limits of a running worker, all of them or none; the worker then. It goes on when the caller stops waiting. Two updates of one
    /// worker come one after the other.
    ///
    /// Errors: `not_found`; `invalid_params`, `policy_violation`, `not_enforceable`, `at_capacity` as for a spawn; `not_allowed_now` where
    /// nothing runs, and for a limit below the present use (after reclaim, where that was asked for); `setup_failed` with the step.
    pub async fn update(&self, id: &WorkerId, limits: BTreeMap<LimitKey, LimitValue>, below_use: BelowUse) -> Result<WorkerView> {
        let handle = self.handle(id)?;
        let spawner = self.clone();
        // What the launcher has carried out must become known, whoever waits for it.
        let updating = tokio::spawn(async move { spawner.update_one(&handle, limits, below_use).await.map(|()| handle) });
        let cut_off = |e| LifecycleError::new(ErrorKind::SetupFailed, format!("the update was cut off: {e}"));
        let handle = updating.await.map_err(cut_off)??;
        Ok(self.measured(&handle).await)
    }

    async fn update_one(&self, handle: &WorkerHandle, limits: BTreeMap<LimitKey, LimitValue>, below_use: BelowUse) -> Result<()> {
        let worker_id = handle.id.clone();
        let nothing_runs = || LifecycleError::new(ErrorKind::NotAllowedNow, format!("worker {worker_id} has no process now"));
        // From here on nobody looks at the sandbox until what is planned is what is in force.
        let mut in_force = handle.known.in_force.write().await;
        let view = handle.view();
        if may(Ask::Update, view.state, view.pid) != Permit::Go {
            return Err(nothing_runs());
        }
        let changed: Vec<LimitKey> = limits.keys().copied().collect();
        let asked = |seq| ToLauncher::Update { seq, worker_id: worker_id.clone(), limits, below_use };
        let now = match self.attached()?.tools.launcher.ask(asked, &[]).await? {
            (FromLauncher::Updated { limits, not_in_force, .. }, _) => InForce { limits, not_in_force },
            (FromLauncher::Refused { error, .. }, _) => return Err(error.into()),
            _ => return Err(crate::launcher::gone()),
        };
        *in_force = Some(now.clone());
        lock(&handle.known.updated).extend(&changed);
        let (tell, shown) = oneshot::channel();
        // One that has ended meanwhile has shown its end, and takes no commands.
        let _ = handle.commands.send(Command::ShowLimits { now, changed, shown: tell }).await;
        drop(in_force);
        let _ = shown.await;
        Ok(())
    }
}
