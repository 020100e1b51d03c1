//! Ending workers.

use std::time::Duration;

use futures_util::future::join_all;
use rbee_hive_policy::WorkerId;
use rbee_hive_sandbox::protocol::{FromLauncher, ToLauncher};
use rbee_hive_sandbox::{StoppedBy, Verdict};
use tokio::time::timeout;

use super::{Attached, Deleted, Result, WorkerSpawner, not_found};
use crate::channel::lock;
use crate::state::{Ask, Permit, may};
use crate::task::{Command, WorkerHandle, said};
use crate::{ErrorKind, LifecycleError, ProcessView, WorkerView};

/// What a stop may take beyond its grace before it is told as stuck.
const BEYOND_GRACE: Duration = Duration::from_secs(30);
/// How long the launcher may take to remove everything.
const LAUNCHER_END: Duration = Duration::from_secs(20);
/// Deleted workers whose end is still known.
const DELETED_KEPT: usize = 256;
/// Signal numbers, signal(7).
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

impl WorkerSpawner {
    /// Stops a worker: `grace_ms` is the policy's where `None`; 0 kills at once. Idempotent; a second one can hasten the first. Returns when
    /// all is taken back.
    ///
    /// Errors: `not_found`; `timeout` after the grace and 30 s where its processes do not die, with the verdict `unkillable`.
    pub async fn stop(&self, id: &WorkerId, grace_ms: Option<u64>) -> Result<WorkerView> {
        self.stop_one(&self.handle(id)?, StoppedBy::Request, grace_ms.map(Duration::from_millis)).await
    }

    /// Stops it if need be and takes it off the list, with its records and logs. Idempotent: of the last ones that were deleted the end is
    /// told again.
    ///
    /// Errors: as [`WorkerSpawner::stop`]; it stays listed then.
    pub async fn delete(&self, id: &WorkerId) -> Result<WorkerView> {
        let handle = match self.handle(id) {
            Ok(handle) => handle,
            Err(error) => return self.deleted_before(id).map(|deleted| deleted.view).ok_or(error),
        };
        let view = self.stop_one(&handle, StoppedBy::Request, None).await?;
        let worker_id = id.clone();
        let kept = |why: &dyn std::fmt::Display| tracing::warn!(worker = %id, error = %why, "the records of a deleted worker stay on disk");
        match self.attached()?.tools.launcher.ask(|seq| ToLauncher::Forget { seq, worker_id }, &[]).await {
            Ok((FromLauncher::Refused { error, .. }, _)) => kept(&error.message),
            Ok(_) => {}
            Err(error) => kept(&error),
        }
        // Not by its name: of two deletes the slower one would take a new worker off the list.
        self.registry.remove_this(&handle);
        handle.known.sampled.forget();
        let mut deleted = lock(&self.attached()?.deleted);
        deleted.truncate(DELETED_KEPT - 1);
        deleted.push_front(Deleted { view: view.clone(), known: handle.known });
        drop(deleted);
        Ok(view)
    }

    pub(super) fn deleted_before(&self, id: &WorkerId) -> Option<Deleted> {
        let attached = self.attached.as_ref()?;
        lock(&attached.deleted).iter().find(|deleted| deleted.view.worker_id == id.as_str()).cloned()
    }

    /// A signal to the worker's own process.
    ///
    /// Errors: `not_found`; `invalid_params` for what is no signal; `not_allowed_now` where there is no process.
    pub async fn signal(&self, id: &WorkerId, signal: i32) -> Result<WorkerView> {
        let handle = self.handle(id)?;
        if !SIGNALS.contains(&signal) {
            return Err(LifecycleError::new(ErrorKind::InvalidParams, format!("there is no signal {signal}: they are 1 to 64")));
        }
        let view = handle.view();
        let told = may(Ask::Signal, view.state, view.pid) == Permit::Go && handle.commands.send(Command::Signal { signal }).await.is_ok();
        if told {
            Ok(self.measured(&handle).await)
        } else {
            Err(LifecycleError::new(ErrorKind::NotAllowedNow, format!("worker {id} has no process now")))
        }
    }

    /// Drains, stops every worker, tells the launcher to take down what is left, and waits for its end.
    pub async fn shutdown(&self) {
        self.drain();
        let handles = self.registry.handles();
        let stopped = join_all(handles.iter().map(|h| self.stop_one(h, StoppedBy::Shutdown, None))).await;
        for error in stopped.into_iter().filter_map(Result::err).filter(|e| e.kind != ErrorKind::NotFound) {
            tracing::error!(%error, "a worker could not be stopped");
        }
        if let Some(attached) = &self.attached {
            attached.end_launcher().await;
        }
    }

    pub(super) async fn stop_one(&self, handle: &WorkerHandle, by: StoppedBy, grace: Option<Duration>) -> Result<WorkerView> {
        let view = handle.view();
        if may(Ask::Stop, view.state, view.pid) == Permit::Done {
            return Ok(view);
        }
        let limit = grace.or_else(|| handle.known.grace.get().copied()).unwrap_or(BEYOND_GRACE).saturating_add(BEYOND_GRACE);
        let stopping = async {
            // A task that takes no commands any more is about to show its end.
            let _ = handle.commands.send(Command::Stop { by, grace }).await;
            handle.until(WorkerView::has_ended).await
        };
        match timeout(limit, stopping).await {
            Ok(ended) => ended.ok_or_else(|| not_found(&handle.id)),
            Err(_) => {
                let stuck = self.stuck(handle).await;
                // It may have come to its end while that was looked up.
                let view = handle.view();
                if view.has_ended() { Ok(view) } else { Err(stuck) }
            }
        }
    }

    /// What there is to say of a worker that does not end.
    async fn stuck(&self, handle: &WorkerHandle) -> LifecycleError {
        let id = &handle.id;
        if handle.view.borrow().init_pid.is_none() {
            let mut error = LifecycleError::new(ErrorKind::Timeout, format!("the launcher has not come to worker {id} yet"));
            error.hint = Some("it is stopped as soon as it is started".into());
            return error;
        }
        let there = self.processes(Some(id)).await.unwrap_or_default();
        let pids: Vec<i32> = there.into_iter().map(|p: ProcessView| p.pid).collect();
        let mut error = LifecycleError::new(ErrorKind::Timeout, format!("worker {id} was told to end and is still there"));
        error.hint = Some("processes in state D do not die: look at /proc/<pid>/stack of those in its cgroup".into());
        // The init's own finding where there is one: it has looked at the cgroup's every process.
        error.verdict = handle.view().verdict.or_else(|| Some(said(Verdict::Unkillable { pids })));
        error
    }
}

impl Attached {
    async fn end_launcher(&self) {
        let launcher = &self.tools.launcher;
        let ending = async {
            if launcher.send(&ToLauncher::Shutdown).await.is_ok() {
                launcher.wait_gone().await;
            }
        };
        if timeout(LAUNCHER_END, ending).await.is_err() {
            tracing::error!("the launcher does not end");
        }
    }
}
