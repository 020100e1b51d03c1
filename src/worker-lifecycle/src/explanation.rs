//! What is told of a policy or of a worker's start, in the shape of the wire.

use rbee_hive_policy::explain::Explained;
use rbee_hive_policy::exposure::Exposure;
use rbee_hive_policy::{LimitKey, LimitValue, NotInForce};
use serde::Serialize;

use crate::Incident;

/// A policy, setting by setting.
///
/// In JSON `{"name", "source", "settings": [{"setting", "value", "from", "file", "line"}], "exposure": {"score", "rating", "points"}}`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyExplanation {
    /// Its name.
    pub name: String,
    /// `embedded` or the file's path.
    pub source: String,
    /// Every setting with its place.
    pub settings: Vec<Explained>,
    /// How open it is, as it is written.
    pub exposure: Exposure,
}

/// Who set a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LimitOrigin {
    /// The policy, or its defaults.
    Policy,
    /// Who asked for the worker.
    Request,
    /// Who changed it while the worker ran.
    Update,
    /// The device that it leased, which is on some CPUs and NUMA nodes.
    DeviceLease,
    /// The policy's file has changed since, and nothing tells any more.
    Unknown,
}

/// A limit that a worker has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LimitView {
    /// Its name.
    pub limit: LimitKey,
    /// Its value in the kernel's units.
    pub value: LimitValue,
    /// Who set it.
    pub origin: LimitOrigin,
    /// For one of the policy's: `FILE:LINE`, or `default`.
    pub from: Option<String>,
}

/// A worker's start, explained.
///
/// `source`, `settings` and `exposure` are `null` where the policy's file has changed since and what it said then was not kept.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The worker.
    pub worker_id: String,
    /// Its policy's name.
    pub policy: String,
    /// `embedded` or the policy's path.
    pub source: Option<String>,
    /// Every setting of the policy, as it was at the start, with its place.
    pub settings: Option<Vec<Explained>>,
    /// Its limits.
    pub limits: Vec<LimitView>,
    /// What of the policy is not in force.
    pub not_in_force: Vec<NotInForce>,
    /// What has happened to its devices, the oldest first; of many the last ones.
    pub incidents: Vec<Incident>,
    /// How open the worker is: the policy's score, with what is not in force counted as open.
    pub exposure: Option<Exposure>,
}
