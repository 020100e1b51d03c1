//! The streams of lines that jobs leave behind, replayable from the first line, also after the job's end.
//!
//! Owns the lock and what happens outside it: listeners are called there. Everything is bounded ([`bounds`]). Must never know what
//! a job does, nor who reads it.
//!
//! ```text
//! create ──> open ──push──> open ──(bound reached)──> cut ──finish──> ended ──(MAX_JOBS later)──> unknown
//!              └───────────────finish────────────────────────────────────┘
//! ```

mod bounds;
mod end;
mod job;
mod subscription;
mod table;

use std::fmt;
use std::sync::{Arc, Mutex};

use crate::one_line;
use table::{Table, locked};

pub use bounds::{CUT_MARKER, MAX_JOB_BYTES, MAX_JOB_LINES, MAX_JOBS, MAX_LISTENERS};
pub use end::JobEnd;
pub use subscription::{Listener, Subscription};

/// What stands at a position of a job's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A line; ask for the next position.
    Line(String),
    /// No more lines will come.
    End(JobEnd),
    /// No line yet: wait for the listener.
    Pending,
    /// There is no such job, or it is no longer kept.
    Unknown,
}

/// The streams of the last [`MAX_JOBS`] jobs.
///
/// A reader that misses nothing subscribes first, then calls [`next`](Self::next) until `Pending`, and again when its listener was
/// called.
#[derive(Default)]
pub struct JobStreams {
    table: Arc<Mutex<Table>>,
}

impl JobStreams {
    /// No jobs yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a job's stream. False where the id is in use, which changes nothing.
    ///
    /// Beyond [`MAX_JOBS`] the job that ended first is forgotten or, where none has ended, the oldest; its listeners are called once
    /// more and find [`Next::Unknown`].
    pub fn create(&self, job_id: impl Into<String>) -> bool {
        let created = locked(&self.table).create(job_id.into());
        let Ok(evicted) = created else { return false };
        if let Some(job) = evicted {
            call(&job.listeners());
        }
        true
    }

    /// Adds a line, with control characters escaped and cut to 8 KiB and a little. It is not redacted: an [`Event`](crate::Event)'s line is already.
    ///
    /// False where nothing changed: the job is unknown, has ended, or was cut before. The line that reaches a bound becomes
    /// [`CUT_MARKER`].
    pub fn push(&self, job_id: &str, line: impl Into<String>) -> bool {
        let line = line.into();
        let line = one_line::cut(one_line::escaped(&line).into_owned(), one_line::MAX_LINE_BYTES);
        let changed = locked(&self.table).push(job_id, line);
        call_if(changed)
    }

    /// Ends a job. Its error's texts are redacted and cut. False where nothing changed: the job is unknown or has ended, and the
    /// first end stands.
    pub fn finish(&self, job_id: &str, end: JobEnd) -> bool {
        let end = end.kept();
        let changed = locked(&self.table).finish(job_id, end);
        call_if(changed)
    }

    /// What stands at `position`, counted from 0.
    pub fn next(&self, job_id: &str, position: usize) -> Next {
        locked(&self.table).next(job_id, position)
    }

    /// Has `listener` called after each change of the job, until the subscription is dropped. `None` where the job is unknown or has
    /// [`MAX_LISTENERS`].
    pub fn subscribe(&self, job_id: &str, listener: Listener) -> Option<Subscription> {
        // A second handle outlives the lock, so that a refused listener is dropped outside it.
        let kept = Listener::clone(&listener);
        let id = locked(&self.table).listen(job_id, kept)?;
        Some(Subscription { table: Arc::downgrade(&self.table), job_id: job_id.to_owned(), listener: id })
    }
}

impl fmt::Debug for JobStreams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the lines: printing a state that holds this must not print every job.
        f.debug_struct("JobStreams").finish_non_exhaustive()
    }
}

fn call(listeners: &[Listener]) {
    for listener in listeners {
        listener();
    }
}

fn call_if(changed: Option<Vec<Listener>>) -> bool {
    let Some(listeners) = changed else { return false };
    call(&listeners);
    true
}

#[cfg(test)]
mod tests;
