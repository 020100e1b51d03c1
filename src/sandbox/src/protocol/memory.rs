//! What an init tells of its worker's want of memory while the worker runs.

use serde::{Deserialize, Serialize};

use crate::oom::Victim;

/// Most victims in one message.
pub const MAX_VICTIMS: usize = 16;

/// By what a worker is known to be short of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PressureSource {
    /// Some of its tasks wait for memory (pressure stall information).
    #[serde(rename = "psi")]
    Psi,
    /// It is above `memory_high` and slowed down.
    #[serde(rename = "memory.high")]
    High,
    /// It has reached `memory_max`, and something was to be reclaimed.
    #[serde(rename = "memory.max")]
    Max,
    /// It uses nine tenths of `memory_max`.
    #[serde(rename = "usage")]
    Usage,
}

/// That a worker is short of memory. What was not measured is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPressure {
    /// How it is known.
    pub source: PressureSource,
    /// Microseconds that some task has waited for memory, since the worker's start.
    pub stalled_usec: Option<u64>,
    /// Times that the limit of `source` was reached, since the worker's start.
    pub breaches: Option<u64>,
    /// Bytes in use.
    pub memory_current: Option<u64>,
    /// `memory_max`, bytes.
    pub memory_max: Option<u64>,
    /// Tellings by the same source that were left out since the last one.
    pub unsaid: u64,
}

/// That the kernel has killed processes of a worker for want of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomKills {
    /// How many since the worker's start.
    pub oom_kills: u64,
    /// Those that the kernel's log has named since the last time, at most [`MAX_VICTIMS`], the last ones.
    pub victims: Vec<Victim>,
}
