//! A worker and its processes, as the hive shows them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Resources, Unmeasured, Verdict};

/// The object that every method about workers returns or lists. Times are RFC 3339.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Name.
    pub worker_id: String,
    /// Model as asked for.
    pub model: String,
    /// What it runs on: `["GPU-2"]` or `["CPU-0"]`.
    #[serde(default)]
    pub devices: Vec<String>,
    /// Policy name.
    pub policy: String,
    /// Free-form labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `starting`, `ready`, `unhealthy`, `frozen`, `restarting`, `stopping`, `stopped` or `failed`; later versions may add to them.
    pub state: String,
    /// Counts every change of this object.
    #[serde(default)]
    pub generation: u64,
    /// How often it was started again.
    #[serde(default)]
    pub restarts: u32,
    /// Its own process as the host sees it.
    #[serde(default)]
    pub pid: Option<i32>,
    /// The sandbox's PID 1 as the host sees it.
    #[serde(default)]
    pub init_pid: Option<i32>,
    /// Its port on 127.0.0.1.
    #[serde(default)]
    pub port: Option<u16>,
    /// URL of that port.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// When it was admitted.
    pub created_at: String,
    /// When `execve` succeeded.
    #[serde(default)]
    pub started_at: Option<String>,
    /// When it answered first.
    #[serde(default)]
    pub ready_at: Option<String>,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<String>,
    /// Its leaf.
    pub cgroup: Cgroup,
    /// Limits by name.
    #[serde(default)]
    pub limits: BTreeMap<String, LimitValue>,
    /// What its policy wants and the host can't do.
    #[serde(default)]
    pub not_in_force: Vec<NotInForce>,
    /// Where the sandbox differs from its plan.
    #[serde(default)]
    pub drift: Vec<serde_json::Value>,
    /// The last look at the sandbox; `None` before the first.
    #[serde(default)]
    pub verified: Option<Verified>,
    /// GPU memory; `None` without a GPU.
    #[serde(default)]
    pub gpu_memory: Option<GpuMemory>,
    /// Use, as the cgroup counts it.
    #[serde(default)]
    pub resources: Resources,
    /// Which of its figures were not measured, and why.
    #[serde(default)]
    pub unmeasured: Vec<Unmeasured>,
    /// How it ended; `None` while it lives.
    #[serde(default)]
    pub verdict: Option<Verdict>,
}

/// GPU memory of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuMemory {
    /// Bytes on all of its GPUs together; `None` where that is not known.
    #[serde(default)]
    pub used_bytes: Option<u64>,
    /// Most bytes on each of its GPUs; `None` without a limit.
    #[serde(default)]
    pub limit_bytes: Option<u64>,
    /// What holds it to that: `dmem`, `mps` (and watched besides) or `soft`; `None`: nothing.
    #[serde(default)]
    pub enforced_by: Option<String>,
}

impl Worker {
    /// Whether it has ended and will not be started again.
    pub fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "stopped" | "failed")
    }
}

/// Where a worker's cgroup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    /// `unified`, `hybrid`, `legacy` or `none`.
    pub mode: String,
    /// Relative to each hierarchy's mount.
    #[serde(default)]
    pub path: Option<String>,
}

/// A limit's value in the kernel's units.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LimitValue {
    /// Bytes or a count.
    Count(u64),
    /// Number of CPUs.
    Decimal(f64),
    /// `"max"`, or a list of CPUs or NUMA nodes.
    Text(String),
}

impl fmt::Display for LimitValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(n) => n.fmt(f),
            Self::Decimal(n) => n.fmt(f),
            Self::Text(text) => text.fmt(f),
        }
    }
}

/// A look at a worker's sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// RFC 3339.
    pub at: String,
    /// How long it took, microseconds.
    pub usec: u64,
    /// What could not be looked at.
    #[serde(default)]
    pub unseen: Vec<String>,
}

/// A setting that is not in force, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotInForce {
    /// The setting's name in the policy.
    pub setting: String,
    /// One clause for a person.
    pub why: String,
}

/// One process of a worker, in `worker_process_list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// As the host sees it.
    pub pid: i32,
    /// Its parent, as the host sees it.
    pub ppid: i32,
    /// Whose it is.
    pub worker_id: String,
    /// `comm`.
    pub name: String,
    /// Arguments; empty for a zombie.
    #[serde(default)]
    pub cmdline: Vec<String>,
    /// State as procfs gives it.
    pub state: String,
    /// Threads.
    pub threads: i64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
    /// Of it anonymous. This and every figure below is `None` where it could not be read.
    #[serde(default)]
    pub rss_anon_bytes: Option<u64>,
    /// Of it mapped files.
    #[serde(default)]
    pub rss_file_bytes: Option<u64>,
    /// Of it shared memory.
    #[serde(default)]
    pub rss_shmem_bytes: Option<u64>,
    /// In swap, bytes.
    #[serde(default)]
    pub swap_bytes: Option<u64>,
    /// The most it has had resident, bytes.
    #[serde(default)]
    pub rss_peak_bytes: Option<u64>,
    /// CPU time, microseconds.
    pub cpu_usage_usec: u64,
    /// Of it in user mode.
    #[serde(default)]
    pub cpu_user_usec: Option<u64>,
    /// Of it in the kernel.
    #[serde(default)]
    pub cpu_system_usec: Option<u64>,
    /// Page faults without reading.
    #[serde(default)]
    pub minor_faults: Option<u64>,
    /// Page faults with reading from a device.
    #[serde(default)]
    pub major_faults: Option<u64>,
    /// Bytes read from block devices, by it and by those children of it that have ended. `None` too where its init does not tell.
    #[serde(default)]
    pub io_read_bytes: Option<u64>,
    /// Bytes written to block devices, likewise.
    #[serde(default)]
    pub io_write_bytes: Option<u64>,
    /// Reads from block devices: no kernel counts them by process.
    #[serde(default)]
    pub io_read_ops: Option<u64>,
    /// Writes to block devices, likewise.
    #[serde(default)]
    pub io_write_ops: Option<u64>,
    /// How much likelier than others it is killed when memory is short: −1000 to 1000.
    #[serde(default)]
    pub oom_score_adj: Option<i32>,
    /// RFC 3339.
    #[serde(default)]
    pub started_at: Option<String>,
    /// Why each of the figures is `None` that is.
    #[serde(default)]
    pub unmeasured: Vec<super::Unmeasured>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_contracts_example_is_read() {
        let worker: Worker = serde_json::from_value(json!({
            "worker_id": "w1", "model": "m", "devices": ["CPU-0"], "policy": "cpu-gguf", "labels": {}, "state": "ready", "generation": 7,
            "restarts": 0, "pid": 4242, "init_pid": 4240, "port": 9100, "endpoint": "http://127.0.0.1:9100",
            "created_at": "2026-01-01T00:00:00Z", "started_at": "2026-01-01T00:00:00Z", "ready_at": null, "ended_at": null,
            "cgroup": {"mode": "hybrid", "path": "/r/workers/w-w1/worker"},
            "limits": {"memory_max": 2_147_483_648_u64, "pids_max": 64, "cpus": 1.5, "cpuset": "0-1", "swap_max": "max"},
            "not_in_force": [{"setting": "memory_high", "why": "cgroup v1 has no memory.high"}], "drift": [], "from_the_future": 1,
            "resources": {"memory_current": 0, "memory_peak": 0, "cpu_usage_usec": 0, "pids_current": 0, "oom_kills": 0},
            "verdict": null
        }))
        .unwrap();
        assert_eq!(worker.limits["memory_max"], LimitValue::Count(2 << 30));
        assert_eq!(worker.limits["cpus"], LimitValue::Decimal(1.5));
        assert_eq!(worker.limits["cpuset"].to_string(), "0-1");
        assert!(!worker.has_ended());
    }
}
