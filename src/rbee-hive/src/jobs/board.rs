//! All jobs by id: those that run, and the last that ended.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rbee_hive_narration::Narrator;
use rbee_hive_worker_lifecycle::{ErrorKind, LifecycleError};
use sha2::{Digest as _, Sha256};

use super::Job;
use crate::params::Refusal;

/// Ended jobs that are kept for replay.
const KEPT: usize = 1000;
/// Most jobs that run at one time.
const MAX_RUNNING: usize = 1000;

/// The jobs of this hive.
#[derive(Debug)]
pub(crate) struct JobBoard {
    inner: Mutex<Inner>,
    narrator: Narrator,
}

#[derive(Debug, Default)]
struct Inner {
    jobs: HashMap<String, Arc<Job>>,
    /// Ended jobs, oldest first.
    ended: VecDeque<String>,
    created: u64,
}

impl JobBoard {
    /// An empty board; what is told of its jobs goes to `narrator`'s streams.
    pub(crate) fn new(narrator: Narrator) -> Self {
        Self { inner: Mutex::default(), narrator }
    }

    /// Opens a new job.
    pub(crate) fn open(&self) -> Result<Arc<Job>, Refusal> {
        let mut inner = self.lock();
        if inner.jobs.len() - inner.ended.len() >= MAX_RUNNING {
            return Err(LifecycleError::new(ErrorKind::AtCapacity, format!("{MAX_RUNNING} jobs are running already")).into());
        }
        inner.created += 1;
        let job = Arc::new(Job::new(format!("job-{}", short_id(inner.created)), self.narrator.clone()));
        inner.jobs.insert(job.id().to_owned(), Arc::clone(&job));
        Ok(job)
    }

    /// Notes that a job has ended, and forgets the oldest beyond the number kept.
    pub(crate) fn close(&self, job: &Job) {
        let mut inner = self.lock();
        inner.ended.push_back(job.id().to_owned());
        while inner.ended.len() > KEPT {
            if let Some(oldest) = inner.ended.pop_front() {
                inner.jobs.remove(&oldest);
            }
        }
    }

    /// A job by id.
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Job>> {
        self.lock().jobs.get(id).cloned()
    }

    // Every change keeps the maps consistent before it can panic.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Twelve hexadecimal digits that differ between jobs and between starts of the hive; unique, not secret.
fn short_id(number: u64) -> String {
    let now = jiff::Timestamp::now().as_nanosecond();
    let digest = Sha256::digest(format!("{} {now} {number}", std::process::id()));
    digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jobs::JobEnd;

    #[test]
    fn the_last_thousand_ended_jobs_are_kept() {
        let board = JobBoard::new(Narrator::new(Arc::new(rbee_hive_narration::JobStreams::new())));
        let ids: Vec<_> = (0..KEPT + 2)
            .map(|_| {
                let job = board.open().unwrap();
                job.finish(JobEnd::Done);
                board.close(&job);
                job.id().to_owned()
            })
            .collect();
        assert!(board.get(&ids[0]).is_none() && board.get(&ids[1]).is_none());
        assert!(ids[2..].iter().all(|id| board.get(id).is_some()));
    }

    #[test]
    fn running_jobs_are_bounded() {
        let board = JobBoard::new(Narrator::new(Arc::new(rbee_hive_narration::JobStreams::new())));
        let first = board.open().unwrap();
        for _ in 1..MAX_RUNNING {
            board.open().unwrap();
        }
        assert_eq!(board.open().unwrap_err().kind(), "at_capacity");
        board.close(&first);
        assert!(board.open().is_ok());
    }
}
