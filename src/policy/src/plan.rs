//! The plan of one sandbox: everything that the launcher and the init carry out, and nothing to decide any more.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::file::GpuMemoryAction;
use crate::learn::WatchPlan;
use crate::oom::{OnOom, PressurePlan};
use crate::{GpuLease, IdlePlan, Limits, MpsPlan, WorkerId};

/// Whether a setting must be in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Enforce {
    /// The start is refused where the host can't enforce it.
    Required,
    /// Listed in `not_in_force` where the host can't enforce it.
    IfAvailable,
}

/// A setting that is not in force, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotInForce {
    /// The setting's name in the policy.
    pub setting: String,
    /// One clause for a person.
    pub why: String,
}

/// The worker's view of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// A namespace with loopback only; the hive holds the port and forwards.
    Private,
    /// The host's network.
    Host,
    /// A namespace with loopback only and no port.
    None,
}

/// What happens to the worker when the hive ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnHiveExit {
    /// It goes on.
    Keep,
    /// It is killed at once.
    Kill,
}

/// How it is known that the worker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// `GET` of this path gives 2xx.
    Http {
        /// Path with its leading slash.
        path: String,
    },
    /// A connection is accepted.
    Tcp,
    /// The worker says `READY=1` by sd_notify.
    Notify,
    /// Ready at exec.
    None,
}

/// How the worker is asked to end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopPlan {
    /// Signal number sent to the worker's own process.
    pub signal: i32,
    /// How long it has until the cgroup is killed, in milliseconds; 0 kills at once.
    pub grace_ms: u64,
}

/// What a bind mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BindSource {
    /// This path of the host, links followed.
    Path {
        /// Absolute host path.
        path: PathBuf,
    },
    /// What the launcher opened under this index while it resolved the request (model, binary): no second look-up by name.
    Opened {
        /// Index into the list of opened descriptors.
        index: usize,
    },
}

/// One bind mount into the root. Read-only ones are nosuid and nodev, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// What is shown.
    pub source: BindSource,
    /// Where, as an absolute path inside.
    pub target: PathBuf,
    /// Whether the worker may write there.
    pub writable: bool,
    /// Whether an absent source is left out rather than an error.
    pub optional: bool,
}

/// A directory of the host that is the root, read-only, instead of a root made of binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootDirectory {
    /// Where it is on the host.
    pub path: PathBuf,
    /// Index into the list of opened descriptors.
    pub index: usize,
}

/// Character or block device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// `c`
    Char,
    /// `b`
    Block,
}

/// What may be done with a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeviceAccess {
    /// Open for reading.
    pub read: bool,
    /// Open for writing.
    pub write: bool,
    /// Make a node of it.
    pub mknod: bool,
}

/// A granted device node; it keeps its host path inside.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Absolute path below `/dev`.
    pub path: PathBuf,
    /// Character or block.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// What the device policy allows.
    pub access: DeviceAccess,
}

/// Most memory of each of a worker's GPUs, and what holds it to that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuMemoryPlan {
    /// Bytes on each GPU.
    pub limit_bytes: u64,
    /// What happens where it is only watched.
    pub action: GpuMemoryAction,
    /// What holds it; `None`: nothing.
    pub enforced_by: Option<GpuMemoryEnforcer>,
}

/// What holds a worker to its GPU memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GpuMemoryEnforcer {
    /// The cgroup controller of that name.
    Dmem,
    /// NVIDIA's MPS server, for a program that is its client; it is watched besides.
    Mps,
    /// Accounting by process: it is told, and stopped if it stays over.
    Soft,
}

/// Whether device nodes made in `/tmp` can be opened as far as the mount is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TmpNodes {
    /// `nodev`
    Nodev,
    /// Without `nodev`: only for policies that grant `CAP_MKNOD`.
    Dev,
}

/// A user's and a group's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Who the worker is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credentials {
    /// User id on the host.
    pub uid: u32,
    /// Group id on the host; there are no supplementary groups.
    pub gid: u32,
    /// What it takes itself for, where it is in a user namespace that is the worker's alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<Ids>,
    /// Capability names kept (`CAP_…`), normally none.
    pub capabilities: Vec<String>,
}

/// What follows from a sandbox that is no longer as planned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDrift {
    /// It is told.
    Report,
    /// It is told, and the worker is killed.
    Kill,
}

/// How often the sandbox is read back, and what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyPlan {
    /// Milliseconds between two looks; 0: only one, after exec.
    pub interval_ms: u64,
    /// What follows from a difference.
    pub on_drift: OnDrift,
}

/// The worker's Landlock domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockPlan {
    /// The kernel's ABI, from 1.
    pub abi: u32,
    /// TCP ports of the host that it can't connect to, its own excepted: the hive's and those of workers, each range with its first and last.
    /// Only where the network is the host's.
    pub closed_ports: Vec<(u16, u16)>,
}

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

/// Everything about one sandbox.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SandboxPlan {
    /// Format of this record.
    pub version: u32,
    /// The worker's name.
    pub worker_id: WorkerId,
    /// The policy it was compiled from.
    pub policy: String,
    /// Path of the executable inside; where it holds no `/` it is looked for by the PATH of `env`.
    pub executable: PathBuf,
    /// Arguments, the first being the program's name.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// Working directory inside.
    pub cwd: PathBuf,
    /// Home directory inside, an empty writable tmpfs.
    pub home: PathBuf,
    /// Host name inside.
    pub hostname: String,
    /// What the root is where it is not made of binds alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootDirectory>,
    /// Binds in the order in which they are made.
    pub binds: Vec<Bind>,
    /// Symbolic links in the root, from path to target: what is a link on the host (as `/lib64` on a merged `/usr`).
    pub symlinks: BTreeMap<PathBuf, PathBuf>,
    /// Size of `/tmp` and of the home directory, bytes each.
    pub tmp_size: u64,
    /// Size of `/dev/shm`, bytes.
    pub shm_size: u64,
    /// `nodev` of `/tmp`.
    pub tmp_nodes: TmpNodes,
    /// Granted device nodes, the basic ones (null, zero, full, random, urandom, tty) included.
    pub devices: Vec<DeviceNode>,
    /// Leased devices by name.
    pub leased: Vec<String>,
    /// The lease on its GPUs, if it has any and they were leased for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<GpuLease>,
    /// The limit of GPU memory; `None` without one, and without a GPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu_memory: Option<GpuMemoryPlan>,
    /// Its part in MPS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mps: Option<MpsPlan>,
    /// The network.
    pub network: NetworkMode,
    /// Limits to set.
    pub limits: Limits,
    /// Who it runs as.
    pub credentials: Credentials,
    /// Whether it is in a user namespace, where its uid and gid are the only ones.
    pub user_namespace: bool,
    /// The seccomp profile's name; `None` without one.
    pub seccomp: Option<String>,
    /// The Landlock domain; `None` without one.
    pub landlock: Option<LandlockPlan>,
    /// How it is scheduled.
    #[serde(default)]
    pub process: ProcessPlan,
    /// `umask(2)`.
    pub umask: u32,
    /// `oom_score_adj`, never below 0.
    pub oom_score_adj: i32,
    /// How it is stopped.
    pub stop: StopPlan,
    /// What becomes of it when the hive ends.
    pub on_hive_exit: OnHiveExit,
    /// How it is probed.
    pub readiness: Readiness,
    /// Absolute cap on starting, milliseconds.
    pub start_timeout_ms: u64,
    /// How long it may show no progress while starting, milliseconds.
    pub stall_timeout_ms: u64,
    /// TCP port inside (and on the host, where the hive holds it).
    pub port: Option<u16>,
    /// Unix socket inside that the worker serves instead of a port.
    pub socket: Option<PathBuf>,
    /// How it is verified while it runs.
    pub verify: VerifyPlan,
    /// What follows when one of its processes is killed for want of memory.
    #[serde(default)]
    pub on_oom: OnOom,
    /// When it is told to be short of memory.
    #[serde(default)]
    pub pressure: PressurePlan,
    /// When it is idle, and what follows.
    #[serde(default)]
    pub idle: IdlePlan,
    /// What the policy asks for and the host (or this version) does not enforce.
    pub not_in_force: Vec<NotInForce>,
    /// Set by the launcher of a `policy learn`, and by nothing else: what the worker does is watched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watch: Option<Box<WatchPlan>>,
}
