//! What happens to workers and devices.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number, from 1, without gaps as long as a hive runs.
    pub seq: u64,
    /// RFC 3339 in UTC.
    pub time: String,
    /// Whose it is, if it is a worker's.
    #[serde(default)]
    pub worker_id: Option<String>,
    /// The worker's generation when it happened.
    #[serde(default)]
    pub generation: Option<u64>,
    /// `state`, `verdict`, `limits`, `pressure`, `drift`, `device`, `lease`, `idle`, `cut` (events are missing here), or a later version's.
    pub kind: String,
    /// The job that the worker was started by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_id: Option<String>,
    /// What happened, by kind.
    #[serde(default)]
    pub data: Value,
}

/// Which events to read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Behind this number; from now on where it is `None`.
    pub after: Option<u64>,
    /// Of this worker only.
    pub worker_id: Option<String>,
    /// Of this kind only; a `cut` is told in any case.
    pub kind: Option<String>,
}

/// Where reading ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventEnd {
    /// With the last event that there is now.
    Now,
    /// With the hive.
    Hive,
}
