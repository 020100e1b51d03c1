//! What changes about GPUs while the machine runs: use of memory, processes, faults, whether they answer at all.
//!
//! Must never know: who may be there.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A process on a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// Its number on the host.
    pub pid: i32,
    /// Bytes of the GPU's memory that it holds, if the driver tells.
    pub memory_bytes: Option<u64>,
}

/// A fault that NVIDIA's driver has told (XID).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Xid {
    /// Its number in NVIDIA's list.
    pub code: u32,
    /// The process that it was blamed on, if the driver tells.
    pub pid: Option<i32>,
    /// What tells two of them apart: both are the same fault where it is the same.
    pub id: String,
}

/// One GPU at one moment. What was not told is `None`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuObservation {
    /// Why it does not answer; `None` where it does.
    pub silent: Option<String>,
    /// Bytes in use, by whomever.
    pub memory_used_bytes: Option<u64>,
    /// Processes on it; `None` where the driver lists none (not: where there are none).
    pub processes: Option<Vec<GpuProcess>>,
    /// Faults since the last observation.
    pub xids: Vec<Xid>,
}

/// All GPUs at one moment, by index; one that is not there was not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observation {
    /// By index.
    pub gpus: BTreeMap<u32, GpuObservation>,
}
