//! Leases on devices.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A lease in `lease_list`. What does not apply is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// `lease:<number>`, never given twice.
    pub lease_id: String,
    /// `worker` or `external`.
    pub kind: String,
    /// The worker's name, or the name that the holder gave.
    pub holder: String,
    /// `["GPU-0"]`.
    pub devices: Vec<String>,
    /// `"exclusive"`, `{"ways": n}`, `{"memory": bytes}`; `None` for CPUs.
    pub share: Option<Value>,
    /// `held`, or `releasing` while its memory is awaited.
    pub state: String,
    /// The worker that runs on it, where that is not the holder.
    pub used_by: Option<String>,
    /// RFC 3339; `None` where nothing but its holder ends it.
    pub expires_at: Option<String>,
    /// Whether it ends with the connection that it was taken over.
    pub bound_to_connection: bool,
}

/// Parameters of `lease_acquire`. What is `None` is not sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LeaseParams {
    /// As for a spawn.
    pub device: Value,
    /// A name for others to read.
    pub holder: String,
    /// It ends by itself after so many milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// `refuse` (where absent) or `queue`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when_busy: Option<String>,
    /// How many milliseconds it waits in line at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_timeout_ms: Option<u64>,
}
