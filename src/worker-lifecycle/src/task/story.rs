//! What a worker's start looks like to who follows its job.

use std::fmt::Display;

use rbee_hive_narration::{Narration, Narrator};

const ACTOR: &str = "worker-lc";

/// Narrates for one job, or for the log alone.
#[derive(Clone)]
pub(crate) struct Story {
    narrator: Narrator,
    job_id: Option<String>,
}

impl Story {
    pub(crate) fn new(narrator: Narrator, job_id: Option<String>) -> Self {
        Self { narrator, job_id }
    }

    /// The job that follows it.
    pub(crate) fn job(&self) -> Option<&str> {
        self.job_id.as_deref()
    }

    pub(crate) fn tell(&self, action: &'static str, human: &str, contexts: &[&dyn Display]) {
        let narration = Narration::new(ACTOR, action).job(self.job_id.as_deref());
        let narration = contexts.iter().fold(narration, |n, context| n.context(context));
        self.narrator.tell(narration.human(human));
    }
}
