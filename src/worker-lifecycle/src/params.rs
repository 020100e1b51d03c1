//! What a caller may ask when starting a worker, already parsed.

use std::collections::BTreeMap;

use rbee_hive_devices::DeviceSpec;
use rbee_hive_policy::{LimitKey, LimitValue, WorkerId};

/// Until when `spawn` and `wait` wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitFor {
    /// `execve` has succeeded.
    Started,
    /// The worker answers.
    Ready,
    /// The worker has ended and everything is taken back.
    Exit,
}

/// A request to start a worker.
#[derive(Clone, Debug)]
pub struct SpawnParams {
    /// Name; generated where absent.
    pub worker_id: Option<WorkerId>,
    /// Model name, path or opaque word.
    pub model: String,
    /// Device wish.
    pub device: DeviceSpec,
    /// Policy name.
    pub policy: String,
    /// Arguments for `{args}`.
    pub args: Vec<String>,
    /// Environment.
    pub env: BTreeMap<String, String>,
    /// Limits.
    pub limits: BTreeMap<LimitKey, LimitValue>,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
    /// `Started` or `Ready`.
    pub wait: WaitFor,
    /// The job that narration goes to.
    pub job_id: Option<String>,
}
