//! What is compared: the plan with what belongs to it, and what was seen.

use std::sync::Arc;

use rbee_hive_policy::SandboxPlan;

use super::Outside;
use crate::protocol::{CgroupFacts, Inside, Made, ProgramSeen};

/// What a sandbox is to be.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Its plan, with what is not in force.
    pub plan: SandboxPlan,
    /// Its leaf, relative to each hierarchy's mount.
    pub leaf: Option<String>,
    /// The tree of that leaf.
    pub cgroup: Arc<CgroupFacts>,
    /// As it was made; `None` where the init has not told.
    pub made: Option<Made>,
}

/// What was seen of it.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// From outside, by the hive.
    pub outside: &'a Outside,
    /// From within, by the init.
    pub inside: Option<&'a Inside>,
    /// By the launcher.
    pub program: Option<&'a ProgramSeen>,
}

impl Expected {
    /// Whether the status says already that `setting` is not in force.
    pub(super) fn given_up(&self, setting: &str) -> bool {
        self.plan.not_in_force.iter().any(|n| n.setting == setting)
    }

    /// Whether the plan grants `capability`.
    pub(super) fn grants(&self, capability: &str) -> bool {
        self.plan.credentials.capabilities.iter().any(|c| c == capability)
    }
}
