//! Snapshots of workers, in the shape that `API.md` gives them.

use std::collections::BTreeMap;

use rbee_hive_policy::{GpuMemoryEnforcer, LimitKey, LimitValue, NotInForce};
use rbee_hive_sandbox::Verdict;
use rbee_hive_sandbox::cgroup::Unmeasured;
use rbee_hive_sandbox::protocol::{CgroupMode, Resources};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A worker's state as clients see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are the contract of API.md")]
pub enum WorkerState {
    Starting,
    Ready,
    Unhealthy,
    Frozen,
    Restarting,
    Stopping,
    Stopped,
    Failed,
}

/// Where the worker's cgroup is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupView {
    /// Layout.
    pub mode: CgroupMode,
    /// The leaf that holds `pid`, relative to each hierarchy's mount; `None` in mode none.
    pub path: Option<String>,
}

/// A verdict with its sentence. In JSON one object: `kind`, the figures of that kind, `message`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerdictView {
    /// Kind and its figures.
    pub verdict: Verdict,
    /// One sentence for a person.
    pub message: String,
}

// By hand, because some verdicts have a `message` of their own: flattened they would give the key twice.
impl Serialize for VerdictView {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut value = serde_json::to_value(&self.verdict).map_err(serde::ser::Error::custom)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("message".into(), self.message.clone().into());
        }
        value.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for VerdictView {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let message = value.get("message").and_then(|m| m.as_str()).unwrap_or_default().to_owned();
        let verdict = serde_json::from_value(value).map_err(serde::de::Error::custom)?;
        Ok(Self { verdict, message })
    }
}

/// Everything that a client sees of one worker. Times are RFC 3339 in UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the contract of API.md")]
pub struct WorkerView {
    pub worker_id: String,
    pub model: String,
    pub devices: Vec<String>,
    pub policy: String,
    pub labels: BTreeMap<String, String>,
    pub state: WorkerState,
    pub generation: u64,
    pub restarts: u32,
    pub pid: Option<i32>,
    pub init_pid: Option<i32>,
    pub port: Option<u16>,
    pub endpoint: Option<String>,
    pub created_at: String,
    pub started_at: Option<String>,
    pub ready_at: Option<String>,
    pub ended_at: Option<String>,
    pub cgroup: CgroupView,
    pub limits: BTreeMap<LimitKey, LimitValue>,
    pub not_in_force: Vec<NotInForce>,
    pub drift: Vec<String>,
    pub verified: Option<VerifiedView>,
    #[serde(default)]
    pub gpu_memory: Option<GpuMemoryView>,
    pub resources: Resources,
    pub unmeasured: Vec<Unmeasured>,
    pub verdict: Option<VerdictView>,
}

/// GPU memory of a worker that has a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuMemoryView {
    /// Bytes on all of its GPUs together, as last seen; `None` where the drivers do not tell of each of its processes.
    pub used_bytes: Option<u64>,
    /// Most bytes on each of its GPUs; `None` without a limit.
    pub limit_bytes: Option<u64>,
    /// What holds it to that; `None`: nothing.
    pub enforced_by: Option<GpuMemoryEnforcer>,
}

/// Something that happened to a worker's devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// When, RFC 3339 in UTC.
    pub time: String,
    /// One sentence, without its full stop.
    pub text: String,
}

/// The last look at a worker's sandbox. It is no change of the worker: `generation` does not count it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedView {
    /// When, RFC 3339 in UTC.
    pub at: String,
    /// How long it took, microseconds.
    pub usec: u64,
    /// What could not be looked at, so that `drift` says nothing of it.
    pub unseen: Vec<String>,
}

/// Which workers to list; `None` and empty match all.
#[derive(Clone, Debug, Default)]
pub struct WorkerFilter {
    /// State.
    pub state: Option<WorkerState>,
    /// Labels that must all be there with these values.
    pub labels: BTreeMap<String, String>,
}

/// One process of a worker, read through procfs. `pid` and `ppid` as the host sees them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the contract of API.md")]
pub struct ProcessView {
    pub pid: i32,
    pub ppid: i32,
    pub worker_id: String,
    pub name: String,
    pub cmdline: Vec<String>,
    pub state: String,
    pub threads: i64,
    pub rss_bytes: u64,
    /// Of it anonymous, mapped files, shared memory; and what is in swap.
    pub rss_anon_bytes: Option<u64>,
    pub rss_file_bytes: Option<u64>,
    pub rss_shmem_bytes: Option<u64>,
    pub swap_bytes: Option<u64>,
    /// The most it has had resident.
    pub rss_peak_bytes: Option<u64>,
    pub cpu_usage_usec: u64,
    pub cpu_user_usec: u64,
    pub cpu_system_usec: u64,
    pub minor_faults: u64,
    pub major_faults: u64,
    /// From and to block devices; `None` where neither hive nor init may read it.
    pub io_read_bytes: Option<u64>,
    pub io_write_bytes: Option<u64>,
    pub io_read_ops: Option<u64>,
    pub io_write_ops: Option<u64>,
    pub oom_score_adj: Option<i32>,
    pub started_at: Option<String>,
    /// Why each of the figures is `None` that is.
    pub unmeasured: Vec<Unmeasured>,
}

/// One line of a worker's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the contract of API.md")]
pub struct LogLine {
    pub time: String,
    pub stream: String,
    pub text: String,
    pub partial: bool,
}

/// Log lines, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the contract of API.md")]
pub struct LogPage {
    pub lines: Vec<LogLine>,
    pub truncated: bool,
}

/// The time now, RFC 3339 in UTC with milliseconds.
pub(crate) fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

#[cfg(test)]
mod tests {
    use rbee_hive_sandbox::SetupFailure;

    use super::*;

    #[test]
    fn a_verdict_says_its_message_once_and_reads_back() {
        let verdict = Verdict::SetupFailed(SetupFailure { step: "mount proc".into(), errno: Some(1), message: "m".into(), hint: None });
        let view = VerdictView { message: verdict.sentence(), verdict };
        let text = serde_json::to_string(&view).unwrap();
        assert_eq!(text.matches("\"message\"").count(), 1, "{text}");
        assert_eq!(serde_json::from_str::<VerdictView>(&text).unwrap(), view);
    }
}
