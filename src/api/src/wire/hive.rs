//! The hive itself and its policies.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Answer of `hive_info`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HiveInfo {
    /// The hive's own id.
    #[serde(default)]
    pub id: Option<String>,
    /// Version of the program.
    pub version: String,
    /// The hive's pid.
    pub pid: i32,
    /// Where it works.
    pub cgroup: HiveCgroup,
    /// What this host can enforce, by feature.
    #[serde(default)]
    pub host: BTreeMap<String, HostFeature>,
    /// Number of listed workers.
    pub workers: u64,
    /// Whether new workers are refused.
    pub draining: bool,
}

/// The hive's cgroup tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiveCgroup {
    /// `unified`, `hybrid`, `legacy` or `none`.
    pub mode: String,
    /// Relative to each hierarchy's mount; `None` where nothing can be written.
    #[serde(default)]
    pub root: Option<String>,
    /// What is missing, and why.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One thing that a host can do or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFeature {
    /// Whether it is there.
    pub supported: bool,
    /// Why not, or what it is used for.
    #[serde(default)]
    pub why: Option<String>,
}

/// A policy in `policy_list`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInfo {
    /// Name.
    pub name: String,
    /// Its description.
    #[serde(default)]
    pub description: String,
    /// `embedded` or the file's path.
    #[serde(default)]
    pub source: String,
    /// What is wrong with it, if it can't be used.
    #[serde(default)]
    pub error: Option<String>,
}

/// Answer of `policy_show`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyText {
    /// Name.
    pub name: String,
    /// `embedded` or the file's path.
    pub source: String,
    /// As written.
    pub text: String,
    /// With its includes resolved and its defaults filled in.
    #[serde(default)]
    pub policy: Value,
}
