//! Ending workers.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use rbee_hive_policy::{OnHiveExit, WorkerId};
use rbee_hive_sandbox::protocol::{FromLauncher, ToLauncher};
use rbee_hive_sandbox::{StoppedBy, StuckProcess, Verdict};
use tokio::time::{sleep, timeout};

use super::{Attached, Deleted, Result, WorkerSpawner, not_found};
use crate::channel::lock;
use crate::records::{DELETED_KEPT, Fate};
use crate::state::{Ask, Permit, may};
use crate::task::{Command, WorkerHandle, said};
use crate::view::now;
use crate::{ErrorKind, LifecycleError, WorkerState, WorkerView, processes};

/// What a stop may take beyond its grace before it is told as stuck.
const BEYOND_GRACE: Duration = Duration::from_secs(30);
/// How long a worker whose processes were told not to die may still take, before who stops it is told so, too.
const LAST_CHANCE: Duration = Duration::from_secs(2);
/// How long it may take to see who is left.
const LOOK: Duration = Duration::from_secs(5);
/// How long the launcher may take to remove everything.
const LAUNCHER_END: Duration = Duration::from_secs(20);
/// How long a hive that ends waits for the records of workers to be written.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);
/// Most processes that are told by name.
const NAMED: usize = 64;
/// Signal numbers, signal(7).
const SIGNALS: std::ops::RangeInclusive<i32> = 1..=64;

impl WorkerSpawner {
    /// Stops a worker: `grace_ms` is the policy's where `None`; 0 kills at once. Idempotent; a second one can hasten the first. Returns when
    /// all is taken back.
    ///
    /// Errors: `not_found`; `timeout` with the verdict `unkillable` where its processes do not die: 2 s after its init has said so (10 s
    /// after the kill), else 30 s after the grace. It is `stopping` then, keeps port and leases, and ends when they do.
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
            Err(error) => return self.deleted_before(id).ok_or(error),
        };
        let view = self.stop_one(&handle, StoppedBy::Request, None).await?;
        // Before its log is gone.
        self.keep_story(&handle).await;
        let worker_id = id.clone();
        let kept = |why: &dyn std::fmt::Display| tracing::warn!(worker = %id, error = %why, "the records of a deleted worker stay on disk");
        match self.attached()?.tools.launcher.ask(|seq| ToLauncher::Forget { seq, worker_id }, &[]).await {
            Ok((FromLauncher::Refused { error, .. }, _)) => kept(&error.message),
            Ok(_) => {}
            Err(error) => kept(&error),
        }
        // Before its name can be another's. Of two deletes one finds that it is done already.
        let attached = self.attached()?;
        attached.records.end(&handle, Fate::Deleted { at: now() }).await;
        // Not by its name: of two deletes the slower one would take a new worker off the list.
        self.registry.remove_this(&handle, || attached.tell_deleted(&handle));
        handle.known.sampled.forget();
        for id in attached.keep_deleted(Deleted { view: view.clone(), known: handle.known }) {
            attached.records.forget_deleted(&id).await;
        }
        Ok(view)
    }

    fn deleted_before(&self, id: &WorkerId) -> Option<WorkerView> {
        let attached = self.attached.as_ref()?;
        lock(&attached.deleted).iter().find(|deleted| deleted.view.worker_id == id.as_str()).map(|deleted| deleted.view.clone())
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
        self.write_stories(&handles).await;
        self.write_records(handles.iter()).await;
        if let Some(attached) = &self.attached {
            attached.end_launcher().await;
        }
    }

    async fn write_records(&self, of: impl Iterator<Item = &WorkerHandle>) {
        let Some(attached) = &self.attached else { return };
        if timeout(WRITTEN_WITHIN, join_all(of.map(|handle| attached.records.flush(handle)))).await.is_err() {
            tracing::error!("the disk does not take the records of workers in time: the next hive knows of them what was written before");
        }
    }

    async fn write_stories(&self, ended: &[WorkerHandle]) {
        join_all(ended.iter().map(|h| self.keep_story(h))).await;
        if let Some(attached) = &self.attached {
            let stories = Arc::clone(&attached.stories);
            // A panic in it was told.
            let _ = tokio::task::spawn_blocking(move || stories.write()).await;
        }
    }

    /// Drains and stops the workers that end with the hive, and those that nothing runs of yet. The others go on without it: their records are
    /// written, and the launcher ends when this process does.
    pub async fn leave(&self) {
        if let Some(attached) = &self.attached {
            // Before anything is refused for the drain: what is between two lives is the next hive's.
            attached.tools.leaving.store(true, Ordering::SeqCst);
        }
        self.drain();
        let (staying, ending): (Vec<_>, Vec<_>) = self.registry.handles().into_iter().partition(outlives_the_hive);
        let stopped = join_all(ending.iter().map(|h| self.stop_one(h, StoppedBy::Shutdown, None))).await;
        for error in stopped.into_iter().filter_map(Result::err).filter(|e| e.kind != ErrorKind::NotFound) {
            tracing::error!(%error, "a worker could not be stopped");
        }
        self.write_stories(&ending).await;
        self.write_records(staying.iter().chain(&ending)).await;
        let living = staying.iter().filter(|handle| !handle.view.borrow().has_ended()).count();
        tracing::info!(living, "workers are left to their inits");
    }

    pub(super) async fn stop_one(&self, handle: &WorkerHandle, by: StoppedBy, grace: Option<Duration>) -> Result<WorkerView> {
        let view = handle.view();
        if may(Ask::Stop, view.state, view.pid) == Permit::Done {
            return Ok(view);
        }
        let limit = grace.or_else(|| handle.known.grace.get()).unwrap_or(BEYOND_GRACE).saturating_add(BEYOND_GRACE);
        let stopping = async {
            // A task that takes no commands any more is about to show its end.
            let _ = handle.commands.send(Command::Stop { by, grace }).await;
            handle.until(WorkerView::has_ended).await
        };
        let unkillable = async {
            handle.until(WorkerView::is_unkillable).await;
            sleep(LAST_CHANCE).await;
        };
        tokio::select! {
            ended = timeout(limit, stopping) => if let Ok(ended) = ended {
                return ended.ok_or_else(|| not_found(&handle.id));
            },
            () = unkillable => {}
        }
        let stuck = self.stuck(handle).await;
        // It may have come to its end while that was looked up.
        let view = handle.view();
        if view.has_ended() { Ok(view) } else { Err(stuck) }
    }

    /// What there is to say of a worker that does not end.
    async fn stuck(&self, handle: &WorkerHandle) -> LifecycleError {
        let id = &handle.id;
        if handle.view.borrow().init_pid.is_none() {
            let mut error = LifecycleError::new(ErrorKind::Timeout, format!("the launcher has not come to worker {id} yet"));
            error.hint = Some("it is stopped as soon as it is started".into());
            return error;
        }
        let mut error = LifecycleError::new(ErrorKind::Timeout, format!("worker {id} was told to end and is still there"));
        error.hint = Some("processes in state D do not die: look at /proc/<pid>/stack of those in its cgroup".into());
        // The init's own finding where there is one: it has looked at the cgroup's every process.
        error.verdict = Some(match handle.view().verdict {
            Some(verdict) => verdict,
            None => said(self.left_of(handle).await),
        });
        error
    }

    /// What can be seen of it from here: nothing that a process in state D could keep from being read.
    async fn left_of(&self, handle: &WorkerHandle) -> Verdict {
        let Ok(attached) = self.attached() else { return Verdict::Unkillable { pids: vec![], processes: vec![] } };
        let (facts, owner) = (Arc::clone(&attached.tools.launcher.cgroup), handle.owner());
        let look = tokio::task::spawn_blocking(move || {
            let pids: Vec<i32> = processes::pids(&facts, &owner).into_iter().collect();
            let proc = Path::new("/proc");
            let processes = pids.iter().take(NAMED).map(|pid| StuckProcess::read(proc, *pid)).collect();
            Verdict::Unkillable { pids, processes }
        });
        let seen = timeout(LOOK, look).await.ok().and_then(std::result::Result::ok);
        seen.unwrap_or(Verdict::Unkillable { pids: vec![], processes: vec![] })
    }
}

/// Whether it is over, or goes on without a hive.
fn outlives_the_hive(handle: &WorkerHandle) -> bool {
    let view = handle.view.borrow();
    let keeps = handle.known.on_hive_exit.get() == Some(OnHiveExit::Keep);
    // One between two lives has none.
    let goes_on = view.init_pid.is_some() || view.state == WorkerState::Restarting;
    view.has_ended() || (keeps && goes_on && view.state != WorkerState::Stopping)
}

impl Attached {
    /// Remembers a deleted worker; names of those that are not remembered any more.
    fn keep_deleted(&self, worker: Deleted) -> Vec<String> {
        let mut deleted = lock(&self.deleted);
        let last = deleted.len().min(DELETED_KEPT - 1);
        let gone: Vec<String> = deleted.drain(last..).map(|old| old.view.worker_id).collect();
        deleted.push_front(worker);
        gone.into_iter().filter(|id| deleted.iter().all(|kept| kept.view.worker_id != *id)).collect()
    }

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
