//! All jobs, behind the streams' lock.
//!
//! Owns which jobs are kept. Calls no listener and drops none: both happen outside the lock.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bounds::Bounds;
use super::job::Job;
use super::subscription::{Listener, ListenerId};
use super::{JobEnd, Next};

/// The jobs that are kept.
#[derive(Default)]
pub(super) struct Table {
    bounds: Bounds,
    jobs: HashMap<String, Job>,
    turns: u64,
}

/// The table, also after a panic elsewhere: no method leaves it half changed.
pub(super) fn locked(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    #[cfg(test)]
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, ..Self::default() }
    }

    fn turn(&mut self) -> u64 {
        self.turns += 1;
        self.turns
    }

    /// Adds a job and gives the one that had to go. `Err` where the id is taken.
    pub(super) fn create(&mut self, job_id: String) -> Result<Option<Job>, Taken> {
        if self.jobs.contains_key(&job_id) {
            return Err(Taken);
        }
        let evicted = if self.jobs.len() >= self.bounds.jobs { self.evict() } else { None };
        let turn = self.turn();
        self.jobs.insert(job_id, Job::new(turn));
        Ok(evicted)
    }

    /// Takes out the job that ended first or, where none has ended, the oldest.
    fn evict(&mut self) -> Option<Job> {
        let by_turn = |(_, job): &(&String, &Job)| (!job.has_ended(), job.turn);
        let job_id = self.jobs.iter().min_by_key(by_turn)?.0.clone();
        self.jobs.remove(&job_id)
    }

    /// Adds a line. `None` where nothing changed, else whom to call.
    pub(super) fn push(&mut self, job_id: &str, line: String) -> Option<Vec<Listener>> {
        let job = self.jobs.get_mut(job_id)?;
        job.push(line, &self.bounds).then(|| job.listeners())
    }

    /// Ends a job. `None` where nothing changed, else whom to call.
    pub(super) fn finish(&mut self, job_id: &str, end: JobEnd) -> Option<Vec<Listener>> {
        let turn = self.turn();
        let job = self.jobs.get_mut(job_id)?;
        job.finish(end, turn).then(|| job.listeners())
    }

    pub(super) fn next(&self, job_id: &str, position: usize) -> Next {
        self.jobs.get(job_id).map_or(Next::Unknown, |job| job.next(position))
    }

    /// Adds a listener. `None` where the job is unknown or has too many.
    pub(super) fn listen(&mut self, job_id: &str, listener: Listener) -> Option<ListenerId> {
        let id = ListenerId(self.turn());
        let job = self.jobs.get_mut(job_id)?;
        job.listen(id, listener, &self.bounds).then_some(id)
    }

    pub(super) fn forget(&mut self, job_id: &str, listener: ListenerId) -> Option<Listener> {
        self.jobs.get_mut(job_id)?.forget(listener)
    }
}

/// The job id is in use.
pub(super) struct Taken;
