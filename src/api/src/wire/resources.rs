//! What is measured of a worker, and its history.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Figures of a worker's cgroup: now, or at its end. What was not measured is `None`, never 0; [`Worker::unmeasured`](super::Worker) says why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Bytes in use.
    pub memory_current: Option<u64>,
    /// Highest use so far, bytes.
    pub memory_peak: Option<u64>,
    /// Bytes in swap.
    pub swap_current: Option<u64>,
    /// Most bytes in swap.
    pub swap_peak: Option<u64>,
    /// Bytes in use by what they are for.
    pub memory_by_kind: MemoryKinds,
    /// How often memory was short.
    pub memory_events: MemoryEvents,
    /// Page faults.
    pub page_faults: PageFaults,
    /// CPU time, microseconds.
    pub cpu_usage_usec: Option<u64>,
    /// Of it in user mode.
    pub cpu_user_usec: Option<u64>,
    /// Of it in the kernel.
    pub cpu_system_usec: Option<u64>,
    /// Time without a CPU because of the limit on them.
    pub cpu_throttled: Throttled,
    /// Tasks.
    pub pids_current: Option<u64>,
    /// Most tasks.
    pub pids_peak: Option<u64>,
    /// Out-of-memory kills.
    pub oom_kills: Option<u64>,
    /// Bytes read from block devices.
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices.
    pub io_write_bytes: Option<u64>,
    /// Reads from block devices.
    pub io_read_ops: Option<u64>,
    /// Writes to block devices.
    pub io_write_ops: Option<u64>,
    /// Time lost for want of something.
    pub pressure: Pressure,
}

/// Bytes by kind. `mapped` and `shmem` are parts of `file`; `slab`, `kernel_stack` and `page_tables` are parts of `kernel`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryKinds {
    /// Anonymous.
    pub anon: Option<u64>,
    /// Page cache, shared memory and tmpfs among it.
    pub file: Option<u64>,
    /// Mapped files.
    pub mapped: Option<u64>,
    /// Shared memory and tmpfs.
    pub shmem: Option<u64>,
    /// The kernel's own, for the worker.
    pub kernel: Option<u64>,
    /// Its objects.
    pub slab: Option<u64>,
    /// Stacks of the worker's threads in the kernel.
    pub kernel_stack: Option<u64>,
    /// Page tables.
    pub page_tables: Option<u64>,
    /// Network buffers.
    pub sock: Option<u64>,
}

/// How often memory was short, of the leaf and what is below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryEvents {
    /// Reclaimed below `memory_low`.
    pub low: Option<u64>,
    /// Throttled above `memory_high`.
    pub high: Option<u64>,
    /// Use was about to go over `memory_max`.
    pub max: Option<u64>,
    /// Nothing could be reclaimed at the limit.
    pub oom: Option<u64>,
    /// Processes killed for it.
    pub oom_kill: Option<u64>,
    /// Whole groups killed for it.
    pub oom_group_kill: Option<u64>,
}

/// Page faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageFaults {
    /// Without reading.
    pub minor: Option<u64>,
    /// With reading from a device.
    pub major: Option<u64>,
}

/// What the CPU limit took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Throttled {
    /// Periods in which the limit applied.
    pub periods: Option<u64>,
    /// Of them those in which it was reached.
    pub throttled_periods: Option<u64>,
    /// Microseconds without a CPU.
    pub usec: Option<u64>,
}

/// Time lost by resource: the kernel's pressure stall information.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// For want of a CPU.
    pub cpu: Stalls,
    /// For want of memory.
    pub memory: Stalls,
    /// For want of block devices.
    pub io: Stalls,
}

/// Stalls for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stalls {
    /// Some task waited.
    pub some: Option<Stall>,
    /// All of them waited.
    pub full: Option<Stall>,
}

/// Share of time that was lost, and how much in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Stall {
    /// Percent of the last 10 seconds.
    pub avg10: f64,
    /// Percent of the last minute.
    pub avg60: f64,
    /// Percent of the last five minutes.
    pub avg300: f64,
    /// Microseconds since the worker was started.
    pub total_usec: u64,
}

/// A figure that was not measured, or a whole group of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmeasured {
    /// Its name in `resources`, where a dot leads into a group (`memory_by_kind.slab`), or the group's (`pressure`). In a history the
    /// column's.
    pub figure: String,
    /// One clause for a person.
    pub why: String,
}

/// Answer of `worker_history`: at most the last ten minutes, oldest first, as columns over common times.
///
/// Columns: `memory_bytes`, `memory_limit_bytes`, `memory_peak_bytes`, `memory_anon_bytes`, `memory_file_bytes`, `memory_shmem_bytes`,
/// `memory_kernel_bytes`, `swap_bytes`, `pids` are what was in use, `oom_kills` how many there had been; `cpus` is CPU time by time (1.5: one
/// and a half CPUs), of it `cpus_user` and `cpus_system`; `io_read_bytes_per_s`, `io_write_bytes_per_s`, `io_read_ops_per_s`,
/// `io_write_ops_per_s`, `minor_faults_per_s`, `major_faults_per_s` are rates since the sample before; `cpu_throttled_percent`,
/// `pressure_cpu_some_percent`, `pressure_cpu_full_percent`, `pressure_memory_some_percent`, `pressure_memory_full_percent`,
/// `pressure_io_some_percent`, `pressure_io_full_percent` are shares of that time (throttling adds up over CPUs and may be above 100).
///
/// Where no cgroup counts block I/O its rates are of what the init has counted by process, since its count before: each second with up to 32
/// such workers, less often with more, and `None` in between. Later versions may add columns. Where points were merged, each value is the
/// largest of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerHistory {
    /// Whose.
    pub worker_id: String,
    /// How far apart points are meant to be, milliseconds. Two that are much farther apart have a gap between them: nothing was sampled.
    pub interval_ms: u64,
    /// RFC 3339, by the hive's clock as it is now: to go on from the last one as `since` may give that point again.
    pub times: Vec<String>,
    /// A value a time; `None` where nothing was measured.
    pub columns: BTreeMap<String, Vec<Option<f64>>>,
    /// The columns in which nothing was measured.
    #[serde(default)]
    pub unmeasured: Vec<Unmeasured>,
}
