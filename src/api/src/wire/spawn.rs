//! What a client asks for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Parameters of `worker_spawn`. What is `None` or empty is not sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpawnParams {
    /// `[A-Za-z0-9][A-Za-z0-9_-]{0,62}`; generated where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<String>,
    /// Name or path below the policy's `model_dirs`, or an opaque word.
    pub model: String,
    /// `0`, `"GPU-0"`, `"cuda:0"`, `"CPU-0"`, `"cpu"`, `"auto"`, a list of GPUs, or an object of constraints.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<Value>,
    /// Policy name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// Arguments for the worker.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Environment for the worker.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Integers (bytes, counts), numbers, or texts with a unit; `"max"` for none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, Value>,
    /// Free-form labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// A lease of somebody's to run on; without a device then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_id: Option<String>,
    /// When the answer comes; `ready` where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait: Option<SpawnWait>,
}

/// When `worker_spawn` answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SpawnWait {
    /// When the worker answers.
    Ready,
    /// As soon as `execve` has succeeded.
    Started,
}

/// What `worker_wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// The worker answers.
    Ready,
    /// It has ended and everything is taken back.
    Exit,
}

/// What becomes of a new limit that is below the present use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BelowUse {
    /// It is refused.
    #[default]
    Refuse,
    /// The kernel reclaims first; where that does not suffice it is refused.
    Reclaim,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_not_asked_for_is_not_sent() {
        let params = SpawnParams { model: "m".into(), ..SpawnParams::default() };
        assert_eq!(serde_json::to_value(&params).unwrap(), json!({"model": "m"}));
        let params = SpawnParams { wait: Some(SpawnWait::Started), ..params };
        assert_eq!(serde_json::to_value(&params).unwrap(), json!({"model": "m", "wait": "started"}));
    }
}
