//! hive ⇄ launcher.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use rbee_hive_policy::{LimitKey, LimitValue, Limits, NotInForce, SandboxPlan, WorkerId, WorkerRequest};

use super::{Judgement, PolicyTexts, ProgramSeen};
pub use crate::cgroup::BelowUse;

/// What the hive asks of the launcher. `seq` comes back in the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum ToLauncher {
    /// Start a worker. Descriptors: the init's end of its control channel; for `run` then stdin, stdout, stderr.
    Spawn {
        /// Answer's number.
        seq: u64,
        /// What to start.
        request: Box<WorkerRequest>,
    },
    /// All policies by name.
    PolicyList {
        /// Answer's number.
        seq: u64,
    },
    /// One policy.
    PolicyShow {
        /// Answer's number.
        seq: u64,
        /// Its name.
        name: String,
    },
    /// What only root can say of a worker's sandbox.
    Inspect {
        /// Answer's number.
        seq: u64,
        /// Which.
        worker_id: WorkerId,
    },
    /// One policy's texts, those that it includes with it.
    PolicyTexts {
        /// Answer's number.
        seq: u64,
        /// Its name.
        name: String,
    },
    /// What of a policy this host enforces, tried as far as it can be tried without a worker.
    PolicyJudge {
        /// Answer's number.
        seq: u64,
        /// Its name.
        name: String,
    },
    /// Whether a policy's binary and a model are where a start would look for them.
    Find {
        /// Answer's number.
        seq: u64,
        /// The policy's name.
        policy: String,
        /// The model as a request names it.
        model: String,
    },
    /// Remove the state and log directories of an ended worker.
    Forget {
        /// Answer's number.
        seq: u64,
        /// Which.
        worker_id: WorkerId,
    },
    /// Other limits for a worker that runs: all of them or none. What may be asked for is what a spawn may ask for.
    Update {
        /// Answer's number.
        seq: u64,
        /// Which.
        worker_id: WorkerId,
        /// What is to change, in the kernel's units.
        limits: BTreeMap<LimitKey, LimitValue>,
        /// What becomes of a limit below the present use.
        #[serde(default)]
        below_use: BelowUse,
    },
    /// End a worker whose init answers nothing: it and everything in its cgroup are killed. No answer but `Released`.
    Kill {
        /// Which.
        worker_id: WorkerId,
    },
    /// Where the hive listens: closed to workers in the host's network. It only narrows, so the hive may say it. No answer.
    Ports {
        /// Its own TCP port.
        hive: u16,
        /// First and last port of its workers.
        workers: (u16, u16),
    },
    /// End every worker that is left, remove the cgroup root, exit.
    Shutdown,
}

/// Cgroup layout in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupMode {
    /// Everything on v2.
    Unified,
    /// Limits on v1, kill and freeze on v2.
    Hybrid,
    /// v1 only.
    Legacy,
    /// Nothing writable.
    None,
}

/// The cgroup tree that the launcher works in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupFacts {
    /// Layout.
    pub mode: CgroupMode,
    /// Our root, relative to each hierarchy's mount, with a leading slash.
    pub root: String,
    /// Mount points by controller (`"unified"` for the v2 tree), so that a reader finds the files.
    pub mounts: std::collections::BTreeMap<String, String>,
    /// Why the mode is `none`, or what is missing; empty if all is well.
    pub notes: Vec<String>,
}

/// One line of `doctor` and of `hive_info`'s `host`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFeature {
    /// Whether the host has it.
    pub supported: bool,
    /// Why not, or what it is used for.
    pub why: String,
}

/// A policy as `policy_list` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInfo {
    /// Name.
    pub name: String,
    /// Its description.
    pub description: String,
    /// `embedded` or the file's path.
    pub source: String,
    /// What is wrong with it, if it can't be used.
    pub error: Option<String>,
}

/// Kinds of launch errors; the text forms are `data.kind` in JSON-RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchErrorKind {
    /// The request goes beyond the policy.
    PolicyViolation,
    /// No such policy.
    UnknownPolicy,
    /// The policy's file is wrong.
    InvalidPolicy,
    /// No such device.
    NoSuchDevice,
    /// Taken by another worker.
    DeviceBusy,
    /// The binary is nowhere to be found.
    BinaryNotFound,
    /// The model is nowhere to be found.
    ModelNotFound,
    /// The worker's uid could not read the model.
    ModelNotReadable,
    /// A required setting can't be enforced here.
    NotEnforceable,
    /// A parameter is wrong in itself.
    InvalidParams,
    /// A worker of that name has not been taken down yet.
    AlreadyExists,
    /// A total is used up (workers, uids).
    AtCapacity,
    /// There is no such worker.
    NotFound,
    /// Not as things are at the moment, such as a limit below the present use.
    NotAllowedNow,
    /// The launcher takes nothing more.
    ShuttingDown,
    /// A step failed; the only kind that leaves a `failed` entry.
    SetupFailed,
}

/// Why nothing was started. Nothing is left behind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchError {
    /// Kind.
    pub kind: LaunchErrorKind,
    /// For a person, one sentence.
    pub message: String,
    /// The step, for `setup_failed`.
    pub step: Option<String>,
    /// `errno(3)` number.
    pub errno: Option<i32>,
    /// What to do.
    pub hint: Option<String>,
    /// Every place tried, for `binary_not_found` and `model_not_found`.
    pub tried: Vec<String>,
}

/// What the launcher says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum FromLauncher {
    /// First message, once: ready to serve, and the hive is in its own leaf.
    Hello {
        /// The cgroup tree.
        cgroup: CgroupFacts,
        /// Features of the host.
        host: std::collections::BTreeMap<String, HostFeature>,
    },
    /// The launcher can't start at all; it exits after this.
    Fatal {
        /// Why.
        error: LaunchError,
    },
    /// The init is running. Descriptors: its pidfd.
    Spawned {
        /// The request's number.
        seq: u64,
        /// What is being made.
        plan: Box<SandboxPlan>,
        /// The worker's leaf, relative to each hierarchy's mount; `None` in mode none.
        cgroup: Option<String>,
        /// The init's pid as the host sees it.
        init_pid: i32,
        /// What is not in force, the plan's list included.
        not_in_force: Vec<NotInForce>,
        /// [`PolicyTexts::digest`] of the policy that it was made from.
        policy_digest: u64,
    },
    /// Nothing was started.
    Refused {
        /// The request's number.
        seq: u64,
        /// Why.
        error: LaunchError,
    },
    /// The init is reaped and its cgroups are removed: the last word on a worker.
    Released {
        /// Which.
        worker_id: WorkerId,
        /// The init's exit status, where it exited.
        code: Option<i32>,
        /// The signal that killed the init, if one did.
        signal: Option<i32>,
        /// What could not be removed; empty normally.
        left: Vec<String>,
    },
    /// Answer to `PolicyList`.
    Policies {
        /// The request's number.
        seq: u64,
        /// By name.
        policies: Vec<PolicyInfo>,
    },
    /// Answer to `PolicyShow`.
    Policy {
        /// The request's number.
        seq: u64,
        /// `embedded` or the file's path.
        source: String,
        /// The text as written.
        text: String,
        /// The policy with its includes resolved, as `rbee_hive_policy::Policy`.
        resolved: serde_json::Value,
    },
    /// Answer to `Inspect`.
    Inspected {
        /// The request's number.
        seq: u64,
        /// The device program of its v2 leaf.
        program: ProgramSeen,
    },
    /// Answer to `PolicyTexts`.
    Texts {
        /// The request's number.
        seq: u64,
        /// The texts.
        texts: PolicyTexts,
    },
    /// Answer to `PolicyJudge`.
    Judged {
        /// The request's number.
        seq: u64,
        /// The judgement.
        judgement: Box<Judgement>,
    },
    /// Answer to `Update`: the new limits are in force and on disk.
    Updated {
        /// The request's number.
        seq: u64,
        /// All limits of the worker's plan.
        limits: Limits,
        /// What of the plan is not in force.
        not_in_force: Vec<NotInForce>,
    },
    /// Answer to `Find`, where they are, and to `Forget`.
    Done {
        /// The request's number.
        seq: u64,
    },
}
