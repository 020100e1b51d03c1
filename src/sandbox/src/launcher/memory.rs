//! What an init is given to see its worker run out of memory, and what of that this host has.

use std::collections::BTreeMap;

use caps::{CapSet, Capability};
use rbee_hive_policy::SandboxPlan;

use super::serve::Launcher;
use crate::cgroup::{CgroupError, Leaves, Tree};
use crate::init::OomContext;
use crate::oom::{KernelLog, is_spared};
use crate::protocol::{HostFeature, LaunchError, LaunchErrorKind};

impl Launcher {
    /// Opens it for a worker whose leaf has its limits; what is not in force is added to the plan.
    pub(super) fn oom_context(&self, plan: &mut SandboxPlan, leaves: &Leaves) -> Result<OomContext, LaunchError> {
        let sources = self.tree.memory_sources(&plan.worker_id, plan, leaves.worker_leaf()).map_err(|e| match *e.source {
            CgroupError::Limit { setting, why } => {
                LaunchError::new(LaunchErrorKind::NotEnforceable, format!("{setting} can't be enforced here: {why}"))
                    .with_hint("write { value = …, enforce = \"if_available\" }, or \"off\"")
            }
            source => LaunchError::new(LaunchErrorKind::SetupFailed, super::serve::error_chain(&source)),
        })?;
        plan.not_in_force.extend(sources.notes);
        // The host feature says why there is none.
        let log = KernelLog::open().ok();
        Ok(OomContext { log, leaf: self.tree.logged_leaf(&plan.worker_id), sources: sources.list })
    }
}

/// For `doctor` and `hive_info`.
pub(super) fn features(tree: &Tree) -> BTreeMap<String, HostFeature> {
    let of = |found: Result<(), String>, there: &str| match found {
        Ok(()) => HostFeature { supported: true, why: there.to_owned() },
        Err(why) => HostFeature { supported: false, why },
    };
    let log = KernelLog::open().map(drop).map_err(|e| format!("/dev/kmsg: {e}; who was killed for want of memory stays unnamed"));
    let all = ["self".to_owned(), nix::unistd::getppid().to_string()].iter().all(|pid| is_spared(pid));
    let spared = all.then_some(()).ok_or_else(|| {
        let why = match caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_RESOURCE) {
            Ok(true) => "oom_score_adj can't be lowered",
            _ => "CAP_SYS_RESOURCE is missing",
        };
        format!("{why}: when the host runs out of memory, hive, launcher and inits are killed like everybody else")
    });
    BTreeMap::from([
        ("kernel_log".to_owned(), of(log, "names who was killed for want of memory")),
        ("memory_pressure".to_owned(), of(tree.tells_stalls(), "a worker that waits for memory is told before the kernel kills")),
        ("init_oom_score".to_owned(), of(spared, "hive, launcher and inits are spared when the host runs out of memory")),
    ])
}
