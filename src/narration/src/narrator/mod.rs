//! Where events go: the job's stream and the log.
//!
//! Owns the routing by job id. Must never change an event's text.

use std::sync::Arc;

use crate::event::Event;
use crate::streams::JobStreams;

/// Tells events. Cheap to clone; every clone tells the same streams.
#[derive(Clone, Debug)]
pub struct Narrator {
    streams: Arc<JobStreams>,
}

impl Narrator {
    /// A narrator for these streams.
    pub fn new(streams: Arc<JobStreams>) -> Self {
        Self { streams }
    }

    /// The streams this narrator tells.
    pub fn streams(&self) -> &Arc<JobStreams> {
        &self.streams
    }

    /// Sends the event's line to its job, if it has one, and the event to `tracing` at info.
    ///
    /// A job that is unknown or has ended gets nothing: the log still has the event.
    pub fn tell(&self, event: Event) {
        tracing::info!(actor = event.actor(), action = event.action(), job_id = event.job_id(), "{}", event.human());
        if let Some(job_id) = event.job_id() {
            self.streams.push(job_id, event.line());
        }
    }
}

#[cfg(test)]
mod tests;
