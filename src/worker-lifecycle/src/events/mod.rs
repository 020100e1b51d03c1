//! What happens to workers and devices, as one ordered, numbered stream that can be resumed within a bound.
//!
//! Readers pull: who is slow misses what the ring has lost by then, is told so by a `cut`, and holds up nobody. Must never know: who reads,
//! nor by which protocol.

mod feed;
mod hub;
mod tell;

use rbee_hive_policy::WorkerId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use feed::{Feed, Filter};
pub use hub::EventHub;
pub(crate) use tell::Teller;

/// What an event is about; the names are the contract of API.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// A worker is in another state: `{"state", "pid"}`.
    State,
    /// How a worker ended: the verdict object.
    Verdict,
    /// Limits were changed: `{"limits"}`.
    Limits,
    /// A worker is short of something: `{"resource", "source", …}`.
    Pressure,
    /// A sandbox is not, or again, as planned: `{"drift"}`.
    Drift,
    /// A device failed, is back, or is used by a stranger.
    Device,
    /// A lease was taken, queued, or given back.
    Lease,
    /// Something was done to an idle worker, or one was woken: `{"action": "reclaim"|"freeze"|"wake"|"stop"|"evict", …}`.
    Idle,
    /// Events are missing here: `{"missed"}`. It has the number of the last one that is missing.
    Cut,
}

impl EventKind {
    /// Every kind, in the order of API.md.
    pub const ALL: [Self; 9] =
        [Self::State, Self::Verdict, Self::Limits, Self::Pressure, Self::Drift, Self::Device, Self::Lease, Self::Idle, Self::Cut];

    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Verdict => "verdict",
            Self::Limits => "limits",
            Self::Pressure => "pressure",
            Self::Drift => "drift",
            Self::Device => "device",
            Self::Lease => "lease",
            Self::Idle => "idle",
            Self::Cut => "cut",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HiveEvent {
    /// Its number, from 1, without gaps as long as the hive runs.
    pub seq: u64,
    /// RFC 3339 in UTC with milliseconds.
    pub time: String,
    /// Whose it is, if it is a worker's.
    pub worker_id: Option<String>,
    /// The worker's generation when it happened.
    pub generation: Option<u64>,
    /// What it is about.
    pub kind: EventKind,
    /// The job that the worker was started by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// What happened, by kind.
    pub data: Value,
}

/// Whose event it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// The worker.
    pub worker_id: Option<WorkerId>,
    /// Its generation.
    pub generation: Option<u64>,
    /// Its job.
    pub job_id: Option<String>,
}

impl About {
    /// Of a worker.
    pub fn worker(id: &WorkerId, generation: u64) -> Self {
        Self { worker_id: Some(id.clone()), generation: Some(generation), job_id: None }
    }

    /// The same, of a worker that was started by a job.
    #[must_use]
    pub fn of_job(self, job_id: Option<&str>) -> Self {
        Self { job_id: job_id.map(str::to_owned), ..self }
    }
}
