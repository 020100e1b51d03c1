//! What has happened to a worker, and why it ended.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{LogLine, Resources, Verdict};

/// A worker's life and, where it is over, its end. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStory {
    /// As it is, or was at the end.
    pub state: String,
    /// When it was asked for.
    pub created_at: String,
    /// When it was executed.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When it answered first.
    #[serde(default)]
    pub ready_at: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// How it ended; `None` while it lives.
    #[serde(default)]
    pub verdict: Option<Verdict>,
    /// Figures, and what to change, in one line; `None` while it lives.
    #[serde(default)]
    pub summary: Option<String>,
    /// What proves the verdict.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// What to change, the likeliest first.
    #[serde(default)]
    pub remedies: Vec<String>,
    /// What a worker that never answered was last seen to do.
    #[serde(default)]
    pub last_probe: Option<String>,
    /// The last counters of its cgroup.
    #[serde(default)]
    pub resources: Resources,
    /// What happened, the oldest first: the first and the last events of the worker.
    #[serde(default)]
    pub timeline: Vec<Moment>,
    /// Events that the timeline lacks in between.
    #[serde(default)]
    pub timeline_left_out: u64,
    /// Its last lines, the oldest first.
    #[serde(default)]
    pub log_tail: Vec<LogLine>,
}

/// A figure that proves something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Its name.
    pub figure: String,
    /// Its value.
    #[serde(default)]
    pub value: Value,
    /// In a few words.
    pub text: String,
}

/// What happened at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The event's number.
    pub seq: u64,
    /// RFC 3339.
    pub time: String,
    /// The event's kind.
    pub kind: String,
    /// A few words.
    pub text: String,
}
