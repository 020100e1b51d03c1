//! Policies, explained and judged.

use serde::{Deserialize, Serialize};

use super::{LimitValue, NotInForce};

/// One setting of a policy, and where it is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicySetting {
    /// Its key; entries of a list share one.
    pub setting: String,
    /// Its value as a file would have it.
    pub value: String,
    /// `FILE:LINE`, or `default`.
    pub from: String,
    /// The policy's file, an included one or the seccomp profile's.
    #[serde(default)]
    pub file: Option<String>,
    /// Line, from 1.
    #[serde(default)]
    pub line: Option<u64>,
}

/// What one setting adds to a score.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExposurePoint {
    /// Its key, or the name of what is not in force.
    pub setting: String,
    /// What the policy has there.
    pub value: String,
    /// Share in the whole, relative to the other points.
    pub weight: u32,
    /// What it adds.
    pub adds: f64,
    /// What it could add and does not.
    pub saves: f64,
    /// Why it counts as open whatever the policy says.
    #[serde(default)]
    pub not_in_force: Option<String>,
    /// What would lower it.
    #[serde(default)]
    pub remedy: Option<String>,
}

/// How open a policy or a worker is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Exposure {
    /// 0.0 (tight) to 10.0 (open).
    pub score: f64,
    /// `tight`, `guarded`, `exposed` or `open`.
    pub rating: String,
    /// What it is made of.
    pub points: Vec<ExposurePoint>,
}

/// Answer of `policy_explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyExplanation {
    /// Name.
    pub name: String,
    /// `embedded` or the file's path.
    pub source: String,
    /// Every setting.
    pub settings: Vec<PolicySetting>,
    /// Its score.
    pub exposure: Exposure,
}

/// Answer of `policy_score`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyScore {
    /// Name.
    pub name: String,
    /// `embedded` or the file's path.
    pub source: String,
    /// The score.
    #[serde(flatten)]
    pub exposure: Exposure,
}

/// What is to be said about a policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFinding {
    /// `error`, `warning` or `note`.
    pub level: String,
    /// The file; `text` for a text that was sent.
    pub file: String,
    /// Line, from 1.
    #[serde(default)]
    pub line: Option<u64>,
    /// The key.
    pub key: String,
    /// What is wrong, and what to do.
    pub message: String,
}

/// Answer of `policy_check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyCheck {
    /// Whether there is no error among the findings.
    pub valid: bool,
    /// By file and line. Hives of before give none.
    #[serde(default)]
    pub findings: Vec<PolicyFinding>,
}

/// A setting of a policy on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedSetting {
    /// Its key, or the name of what is not in force.
    pub setting: String,
    /// Its value as a file would have it.
    pub value: String,
    /// `enforced`, `partly` or `not_in_force`.
    pub state: String,
    /// Why not, or what else is to be known.
    #[serde(default)]
    pub why: Option<String>,
    /// Whether a start is refused for it.
    pub refuses: bool,
}

/// As whom it was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedAs {
    /// The launcher's effective uid.
    pub uid: u32,
}

/// Answer of `policy_doctor`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyJudgement {
    /// Name.
    pub name: String,
    /// `embedded` or the file's path.
    pub source: String,
    /// As whom.
    pub judged_as: JudgedAs,
    /// Whether a worker would be started.
    pub starts: bool,
    /// Why not.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Every setting.
    pub settings: Vec<JudgedSetting>,
    /// The score with what is not in force here.
    pub exposure: Exposure,
}

/// A limit of a worker, and who set it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedLimit {
    /// Its name.
    pub limit: String,
    /// Its value in the kernel's units.
    pub value: LimitValue,
    /// `policy`, `request`, `device_lease` or `unknown`.
    pub origin: String,
    /// For one of the policy's: `FILE:LINE`, or `default`.
    #[serde(default)]
    pub from: Option<String>,
}

/// Answer of `worker_explain`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerExplanation {
    /// The worker.
    pub worker_id: String,
    /// Its policy's name.
    pub policy: String,
    /// `embedded` or the file's path; `None` where the policy has changed since and was not kept, as are the next and `exposure`.
    #[serde(default)]
    pub source: Option<String>,
    /// Every setting as it was at the start.
    #[serde(default)]
    pub settings: Option<Vec<PolicySetting>>,
    /// Its limits.
    pub limits: Vec<ExplainedLimit>,
    /// What is not in force.
    pub not_in_force: Vec<NotInForce>,
    /// What has happened to its devices, the oldest first.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// The worker's score.
    #[serde(default)]
    pub exposure: Option<Exposure>,
}

/// Something that happened to a worker's devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// When, RFC 3339.
    pub time: String,
    /// One sentence, without its full stop.
    pub text: String,
}
