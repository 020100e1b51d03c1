//! How a worker's process is scheduled: CPU, block devices, memory policy.

use serde::{Deserialize, Serialize};

/// How the kernel's scheduler treats the worker (sched(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scheduler {
    /// `SCHED_OTHER`
    Other,
    /// `SCHED_BATCH`
    Batch,
    /// `SCHED_IDLE`
    Idle,
}

/// How block devices treat the worker's requests (ioprio_set(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IoClass {
    /// In turn, by `io_priority`.
    BestEffort,
    /// When nobody else wants to.
    Idle,
}

/// Where memory is taken from (set_mempolicy(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NumaMode {
    /// The node of the CPU that asks.
    Default,
    /// These nodes alone.
    Bind,
    /// These nodes first.
    Preferred,
    /// Page by page in turn.
    Interleave,
}

/// A memory policy and its nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaPlan {
    /// How.
    pub mode: NumaMode,
    /// Nodes, in list format; empty for the default.
    pub nodes: String,
}

/// Scheduling of the worker process; what is absent is as it was for who started the hive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessPlan {
    /// Class of CPU scheduling.
    pub scheduler: Option<Scheduler>,
    /// `nice(2)` value, -20 to 19.
    pub nice: Option<i32>,
    /// Class of block I/O.
    pub io_class: Option<IoClass>,
    /// Priority within `best-effort`, 0 (first) to 7.
    pub io_priority: Option<u8>,
    /// Memory policy.
    pub numa: Option<NumaPlan>,
    /// How late timers may be, nanoseconds (`PR_SET_TIMERSLACK`).
    pub timer_slack_ns: Option<u64>,
}
