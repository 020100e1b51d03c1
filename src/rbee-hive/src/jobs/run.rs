//! Carries a job's operation out in a task of its own.

use std::sync::Arc;
use std::time::Duration;

use rbee_hive_policy::WorkerId;
use rbee_hive_worker_lifecycle::{ErrorKind, LifecycleError, SpawnParams, WorkerView};
use serde_json::json;
use tokio::task::JoinError;

use super::{Job, JobEnd, Operation};
use crate::hive::HiveState;
use crate::params::Refusal;

/// How often a cancelled spawn is looked for that is not listed yet, because it still waits for admission.
const RETRY_CANCEL: Duration = Duration::from_millis(20);

/// What a running job holds: the hive with registry and spawner, and its own lines.
struct JobState {
    hive: Arc<HiveState>,
    job: Arc<Job>,
}

/// Starts `operation` and returns at once.
pub(crate) fn start(hive: &Arc<HiveState>, operation: Operation) -> Result<Arc<Job>, Refusal> {
    let job = hive.jobs.open()?;
    let state = JobState { hive: Arc::clone(hive), job: Arc::clone(&job) };
    tokio::spawn(async move {
        // In a task within the task: a panic must end the stream, too, or its readers would wait for ever.
        let (hive, job) = (Arc::clone(&state.hive), Arc::clone(&state.job));
        let end = match tokio::spawn(async move { state.run(operation).await }).await {
            Ok(end) => end,
            Err(source) => {
                tracing::error!(job_id = job.id(), %source, "a job ended abnormally");
                JobEnd::Error { kind: "setup_failed".into(), message: "internal error".into() }
            }
        };
        job.finish(end);
        hive.jobs.close(&job);
    });
    Ok(job)
}

impl JobState {
    async fn run(&self, operation: Operation) -> JobEnd {
        let workers = &self.hive.workers;
        let outcome = match operation {
            Operation::Spawn(params) => return self.spawn(*params).await,
            Operation::Stop { worker, grace_ms } => workers.stop(&worker, grace_ms).await.map(|view| vec![view]),
            Operation::Delete(worker) => workers.delete(&worker).await.map(|view| vec![view]),
            Operation::Status(worker) => workers.status(&worker).await.map(|view| vec![view]),
            Operation::List(filter) => Ok(workers.list(&filter).await),
        };
        match outcome {
            Ok(views) => {
                views.iter().for_each(|view| self.narrate("worker_status", &summary(view)));
                JobEnd::Done
            }
            Err(error) => self.failed(error),
        }
    }

    async fn spawn(&self, mut params: SpawnParams) -> JobEnd {
        let id = match params.worker_id.clone().map_or_else(|| generated_id(self.job.id()), Ok) {
            Ok(id) => id,
            Err(refusal) => return JobEnd::from(&refusal),
        };
        params.worker_id = Some(id.clone());
        params.job_id = Some(self.job.id().to_owned());
        self.narrate(
            "worker_spawn_start",
            &format!("spawning worker '{id}' with model '{}' under policy '{}'", params.model, params.policy),
        );
        let workers = Arc::clone(&self.hive.workers);
        // A task of its own: it must go on while a stop is waited for.
        let mut spawn = tokio::spawn(async move { workers.spawn(params).await });
        tokio::select! {
            biased;
            outcome = &mut spawn => return self.spawned(outcome),
            () = self.job.cancelled() => {}
        }
        self.narrate("worker_spawn_error", &format!("cancelled: stopping worker '{id}'"));
        let mut retry = tokio::time::interval(RETRY_CANCEL);
        loop {
            tokio::select! {
                biased;
                outcome = &mut spawn => {
                    // It may have become ready before the stop reached it.
                    if matches!(outcome, Ok(Ok(_))) && let Err(error) = self.hive.workers.stop(&id, Some(0)).await {
                        return self.failed(error);
                    }
                    return JobEnd::Cancelled;
                }
                _ = retry.tick() => {
                    // Not found: not admitted yet, and the spawn's own outcome or the next try will tell.
                    if let Err(error) = self.hive.workers.stop(&id, Some(0)).await
                        && error.kind != ErrorKind::NotFound
                    {
                        return self.failed(error);
                    }
                }
            }
        }
    }

    fn spawned(&self, outcome: Result<Result<WorkerView, LifecycleError>, JoinError>) -> JobEnd {
        match outcome {
            Err(source) => {
                tracing::error!(%source, "a spawn ended abnormally");
                self.failed(LifecycleError::new(ErrorKind::SetupFailed, "internal error"))
            }
            Ok(Ok(view)) => {
                self.narrate("worker_spawn_complete", &summary(&view));
                JobEnd::Done
            }
            Ok(Err(error)) => {
                self.narrate("worker_spawn_error", &error.message);
                error.log_tail.iter().for_each(|line| self.narrate("worker_log", line));
                self.failed(error)
            }
        }
    }

    fn failed(&self, error: LifecycleError) -> JobEnd {
        if let Some(detail) = &error.detail {
            tracing::warn!(job_id = self.job.id(), message = error.message, detail, "a job failed");
        }
        JobEnd::from(&Refusal::from(error))
    }

    fn narrate(&self, action: &'static str, text: &str) {
        self.job.narrate(action, text);
    }
}

fn summary(view: &WorkerView) -> String {
    let place = view.endpoint.as_deref().unwrap_or("no port");
    format!("worker '{}' is {} ({place}, {})", view.worker_id, json!(view.state).as_str().unwrap_or_default(), view.devices.join(","))
}

/// A name of our own: the job must know it before the spawn begins, to be able to cancel it.
fn generated_id(job_id: &str) -> Result<WorkerId, Refusal> {
    let number = job_id.trim_start_matches("job-");
    WorkerId::parse(&format!("worker-{number}")).map_err(|e| Refusal::params("worker", e.to_string()))
}
