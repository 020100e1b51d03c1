//! What a caller may ask when starting a worker, already parsed.

use std::collections::BTreeMap;

use rbee_hive_devices::DeviceSpec;
use rbee_hive_policy::{LimitKey, LimitValue, WorkerId};
use tokio::sync::watch;

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
    /// A lease of somebody's to run on; no device is asked for then.
    pub lease_id: Option<String>,
    /// Tells when nobody waits for the answer any more: a start that waits in line for a device is given up then.
    pub client: Option<ClientGone>,
}

/// Comes when the other half is dropped.
#[derive(Clone, Debug)]
pub struct ClientGone(watch::Receiver<()>);

impl ClientGone {
    /// What the caller holds as long as it waits, and what tells of its going.
    pub fn pair() -> (watch::Sender<()>, Self) {
        let (here, gone) = watch::channel(());
        (here, Self(gone))
    }

    /// Waits until the caller is gone.
    pub async fn gone(&mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
