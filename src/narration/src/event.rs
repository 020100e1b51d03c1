//! One thing that happened, told in one line.
//!
//! Owns the line format. An event is only made by [`Narration`](crate::Narration), so its text is already redacted, escaped and
//! bounded. Must never know where it is sent.

use std::fmt;

/// Who did what, for which job, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub(crate) actor: &'static str,
    pub(crate) action: &'static str,
    pub(crate) job: Option<String>,
    pub(crate) human: String,
}

impl Event {
    /// Who acts, `worker-lc` for one.
    pub fn actor(&self) -> &'static str {
        self.actor
    }

    /// What is done, `spawn_start` for one.
    pub fn action(&self) -> &'static str {
        self.action
    }

    /// The job this belongs to, if any.
    pub fn job_id(&self) -> Option<&str> {
        self.job.as_deref()
    }

    /// The text: redacted, without control characters, at most 8 KiB.
    pub fn human(&self) -> &str {
        &self.human
    }

    /// The line as job streams carry it: `[{actor:<10}] {action:<15}: {human}`, without a line end.
    pub fn line(&self) -> String {
        self.to_string()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:<10}] {:<15}: {}", self.actor, self.action, self.human)
    }
}
