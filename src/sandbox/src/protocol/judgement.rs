//! What of a policy a host enforces, setting by setting.

use rbee_hive_policy::exposure::Exposure;
use serde::{Deserialize, Serialize};

/// Whether a setting holds here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InForce {
    /// All of it.
    Enforced,
    /// A part of it.
    Partly,
    /// Nothing of it.
    NotInForce,
}

/// One setting, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedSetting {
    /// Its key in the policy, or the name of what is not in force.
    pub setting: String,
    /// Its value as the file would have it.
    pub value: String,
    /// Whether it holds here.
    pub state: InForce,
    /// Why not, or what of it does not.
    pub why: Option<String>,
    /// Whether a start is refused for it.
    pub refuses: bool,
}

/// What would become of a worker under a policy on this host.
///
/// In JSON `{"name", "source", "judged_as": {"uid": 0}, "starts": true, "refusal": null, "settings": [{"setting", "value", "state":
/// "enforced" | "partly" | "not_in_force", "why", "refuses"}], "exposure": {…}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The policy's name.
    pub name: String,
    /// `embedded` or the file's path.
    pub source: String,
    /// As whom.
    pub judged_as: JudgedAs,
    /// Whether it would be started.
    pub starts: bool,
    /// Why not.
    pub refusal: Option<String>,
    /// Every setting of the policy, then what else is not in force.
    pub settings: Vec<JudgedSetting>,
    /// The policy's score with what is not in force here.
    pub exposure: Exposure,
}

/// Whose rights decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JudgedAs {
    /// The launcher's effective uid.
    pub uid: u32,
}
