//! What a client asked for, in the form in which it reaches the launcher.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{GpuShare, LimitKey, LimitValue, MpsWish, WorkerId};

/// What runs in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// The policy's binary and command template, for a model.
    Worker {
        /// Name or path below the policy's `model_dirs`, or an opaque word.
        model: String,
        /// What `{args}` stands for.
        args: Vec<String>,
    },
    /// `rbee-hive run`: this command instead, resolved inside the sandbox by its PATH.
    Run {
        /// Program and arguments; never empty.
        argv: Vec<String>,
    },
    /// NVIDIA's MPS control daemon for a group of workers; only under the policy [`MPS_POLICY`](crate::MPS_POLICY).
    Mps {
        /// The policy of the worker that it is started for, which must want it. A `credentials.user` that it names is the daemon's, too.
        clients: String,
    },
}

/// The lease on a worker's GPUs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuLease {
    /// Its id, `lease:<number>`.
    pub id: String,
    /// How much of each GPU: no more than the policy gives.
    pub share: GpuShare,
}

/// A request to start one worker. Holds wishes only: every path, uid and device number is resolved by the launcher.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerRequest {
    /// The worker's name.
    pub worker_id: WorkerId,
    /// The policy's name.
    pub policy: String,
    /// What to run.
    pub command: Command,
    /// Leased devices by canonical name: `["CPU-0"]` or `["GPU-0", "GPU-1"]`; never empty.
    pub devices: Vec<String>,
    /// The lease on its GPUs; without one it has what the policy gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<GpuLease>,
    /// Its MPS daemon, where its policy wants one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mps: Option<MpsWish>,
    /// Environment asked for (needs `may_set` "env").
    pub env: BTreeMap<String, String>,
    /// Limits asked for, already in the kernel's units (needs `may_set` "limits").
    pub limits: BTreeMap<LimitKey, LimitValue>,
    /// The port that the hive holds for the worker, if it takes one.
    pub port: Option<u16>,
}
