//! When a worker is idle, and what follows from it.

use serde::{Deserialize, Serialize};

/// What is done to an idle worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IdleAction {
    /// Nothing: it only is the first to make room (`max_warm`).
    #[default]
    None,
    /// Its page cache is dropped, and the rest goes to swap where there is some.
    Reclaim,
    /// It stands still until the next connection.
    Freeze,
    /// It is stopped.
    Stop,
}

/// When a worker is idle, and what follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdlePlan {
    /// How long it must have had no open connection and used next to no CPU time, milliseconds; `None`: it never is idle.
    pub after_ms: Option<u64>,
    /// What is done then.
    pub action: IdleAction,
    /// Most workers of the policy that are up at a time, frozen ones among them; one more makes the idle one that was used last the longest
    /// ago go.
    pub max_warm: Option<u32>,
}
