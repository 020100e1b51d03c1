//! Other limits for a worker that runs: judged like a spawn's, written to its leaf, to its record and to its processes, or not at all.
//!
//! ```text
//!  policy, plan, wish ──► policy::update ──► totals ──► cgroup files ──► plan.json ──► limits of each process
//!                                                         └────◄ put back where a later one fails ◄────┘
//! ```
//! Must never know: how a limit is spelled in a file.

mod processes;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use rbee_hive_policy::{LimitKey, LimitValue, Limits, NotInForce, SandboxPlan, WorkerId};

use super::directories::write_plan;
use super::resolve::devices::DeviceFacts;
use super::resolve::limits;
use super::serve::{Launcher, error_chain};
use super::spawn::{check_size, refused};
use crate::cgroup::{BelowUse, Cause, Change, ChangeError};
use crate::protocol::{LaunchError, LaunchErrorKind};
use crate::step::CallError;

impl Launcher {
    /// Changes the limits of a worker; all of its limits then, and what is not in force.
    ///
    /// Errors: `NotFound`; what the policy refuses; `AtCapacity`; `NotAllowedNow` below the present use; `SetupFailed` with the step for
    /// what the kernel refuses. Nothing is changed then.
    pub(super) fn update(
        &mut self,
        id: &WorkerId,
        asked: &BTreeMap<LimitKey, LimitValue>,
        below_use: BelowUse,
    ) -> Result<(Limits, Vec<NotInForce>), LaunchError> {
        let (plan, cgroup) = match self.ledger.entries.get(id).filter(|entry| entry.ended.is_none()) {
            Some(entry) => (entry.plan.clone(), entry.cgroup.clone()),
            None => return Err(LaunchError::new(LaunchErrorKind::NotFound, format!("no worker {id} runs"))),
        };
        let limits = self.judge_update(&plan, asked)?;
        let memory = self.ledger.admit_memory(id, &limits)?;
        let mut wanted = SandboxPlan { limits, ..*plan.clone() };
        check_size(&wanted)?;
        let state = self.directories.state_of(id.as_str()).map_err(|e| plan_not_written(CallError::new("open(plan.json)", e)))?;
        let change = Change { old: &plan.limits, new: &wanted.limits, below_use };
        let changed = self.tree.change_limits(id, change).map_err(|e| change_failed(&e, asked))?;
        wanted.not_in_force = notes(&wanted, asked, &changed.notes);
        let rest = write_plan(&state, &wanted, cgroup.as_deref()).map_err(plan_not_written);
        let rest = rest.map_err(|error| (error, None)).and_then(|()| self.limit_processes(id, (&plan, &wanted), asked));
        if let Err((error, kept)) = rest {
            let left = changed.put_back().into_iter().chain(put_back(&state, &plan, cgroup.as_deref())).chain(kept);
            return Err(with_left(error, &left.collect::<Vec<_>>()));
        }
        let answer = (wanted.limits.clone(), wanted.not_in_force.clone());
        if let Some(entry) = self.ledger.entries.get_mut(id) {
            (entry.memory, *entry.plan) = (memory, wanted);
        }
        Ok(answer)
    }

    /// The policy as it is now: what its owner has taken back since the start can't be asked for any more.
    fn judge_update(&self, plan: &SandboxPlan, asked: &BTreeMap<LimitKey, LimitValue>) -> Result<Limits, LaunchError> {
        let loaded = self.policies.load(&plan.policy)?;
        self.check_trusted(&plan.policy)?;
        let devices = DeviceFacts::of(&self.inventory, &plan.leased, &loaded.policy)?;
        let mut facts = self.host_facts(&loaded.policy, devices);
        facts.block_devices.extend(limits::block_devices(asked.values()));
        rbee_hive_policy::update(&loaded.policy, plan, asked, &facts).map_err(refused)
    }
}

/// What is not in force with the new limits. What was asked for holds by now, or is no limit any more; swap has its reason anew; everything
/// else keeps it.
fn notes(wanted: &SandboxPlan, asked: &BTreeMap<LimitKey, LimitValue>, anew: &[NotInForce]) -> Vec<NotInForce> {
    let judged_anew = |key: LimitKey| asked.contains_key(&key) || (key == LimitKey::SwapMax && wanted.limits.contains_key(&key));
    let stays = |note: &&NotInForce| !LimitKey::from_name(&note.setting).is_ok_and(judged_anew);
    wanted.not_in_force.iter().filter(stays).chain(anew).cloned().collect()
}

fn plan_not_written(error: CallError) -> LaunchError {
    LaunchError::setup("write the plan", error)
}

fn put_back(state: &OwnedFd, plan: &SandboxPlan, cgroup: Option<&str>) -> Option<String> {
    write_plan(state, plan, cgroup).err().map(|e| format!("plan.json could not be put back: {}", error_chain(&e)))
}

fn with_left(mut error: LaunchError, left: &[String]) -> LaunchError {
    if left.is_empty() {
        error.message.push_str("; every limit is as it was");
    } else {
        error.message.push_str(&format!("; {}", left.join("; ")));
    }
    error
}

fn change_failed(error: &ChangeError, asked: &BTreeMap<LimitKey, LimitValue>) -> LaunchError {
    let name = error.key.name();
    let value = asked.get(&error.key).map_or_else(String::new, |value| format!(" {}", rbee_hive_policy::explain::limit(error.key, value)));
    let step = format!("write {name}");
    let refusal = match &error.cause {
        Cause::BelowUse { of, used, reclaimed } => below_use(error.key, &value, (of.as_deref(), *used, *reclaimed)),
        Cause::NotEnforceable(why) => LaunchError::new(LaunchErrorKind::NotEnforceable, format!("{name} can't be enforced here: {why}")),
        Cause::Write(source) => {
            let text = format!("setup step {step:?} failed for{value}: {}", error_chain(source));
            let mut failed = LaunchError::new(LaunchErrorKind::SetupFailed, text);
            failed.errno = source.errno();
            failed.hint = source.hint();
            failed
        }
    };
    with_left(LaunchError { step: Some(step), ..refusal }, &error.left)
}

fn below_use(key: LimitKey, value: &str, (of, used, reclaimed): (Option<&str>, u64, Option<u64>)) -> LaunchError {
    let name = key.name();
    let shown = |n: u64| rbee_hive_policy::explain::limit(if of.is_some() { LimitKey::MemoryMax } else { key }, &LimitValue::Count(n));
    let of = of.map_or_else(String::new, |of| format!(" of {of}"));
    let text = match reclaimed {
        None => format!("{name}{value} is below the present use{of}, {}", shown(used)),
        Some(back) => format!("{name}{value} can't be reached: {} are in use after {} were reclaimed", shown(used), shown(back)),
    };
    let hint = match (key, reclaimed) {
        (LimitKey::MemoryMax | LimitKey::MemoryHigh, None) => "say reclaim, ask for more, or let the worker give some back",
        _ => "ask for more, or let the worker give some back",
    };
    LaunchError::new(LaunchErrorKind::NotAllowedNow, text).with_hint(hint)
}

#[cfg(test)]
mod tests {
    use rbee_hive_policy::{Enforce, PlannedLimit};

    use super::*;

    #[test]
    fn a_refusal_names_limit_value_use_and_what_to_do() {
        let asked = BTreeMap::from([(LimitKey::MemoryMax, LimitValue::Count(64 << 20))]);
        let of = |reclaimed| {
            let cause = Cause::BelowUse { of: None, used: 100 << 20, reclaimed };
            change_failed(&ChangeError { key: LimitKey::MemoryMax, cause, left: vec![] }, &asked)
        };
        let refused = of(None);
        assert_eq!(refused.message, "memory_max 64MiB is below the present use, 100MiB; every limit is as it was");
        assert!(refused.hint.is_some_and(|hint| hint.contains("reclaim")));
        let tried = of(Some(8 << 20)).message;
        assert!(tried.starts_with("memory_max 64MiB can't be reached: 100MiB are in use after 8MiB were reclaimed"), "{tried}");
    }

    #[test]
    fn a_limit_that_is_asked_for_and_written_is_not_listed_any_more() {
        let note = |setting: &str, why: &str| NotInForce { setting: setting.into(), why: why.into() };
        let limit = |n| PlannedLimit { value: LimitValue::Count(n), enforce: Enforce::Required };
        let mut wanted = crate::verify::tests::plan();
        wanted.limits = [(LimitKey::OpenFiles, limit(64)), (LimitKey::SwapMax, limit(0))].into();
        wanted.not_in_force = ["open_files", "pids_max", "memory_high", "swap_max", "landlock"].map(|name| note(name, "before")).to_vec();
        // "No limit" where there can be none is in no plan.
        let asked = BTreeMap::from([(LimitKey::OpenFiles, LimitValue::Count(64)), (LimitKey::MemoryHigh, LimitValue::max())]);
        let told = notes(&wanted, &asked, &[note("swap_max", "anew")]);
        let told: Vec<(&str, &str)> = told.iter().map(|n| (n.setting.as_str(), n.why.as_str())).collect();
        assert_eq!(told, [("pids_max", "before"), ("landlock", "before"), ("swap_max", "anew")]);
    }

    #[test]
    fn what_could_not_be_put_back_is_said() {
        let left = vec!["/c/pids.max could not be put back: gone".to_owned()];
        let cause = Cause::NotEnforceable("no".into());
        let error = change_failed(&ChangeError { key: LimitKey::SwapMax, cause, left }, &BTreeMap::new());
        assert!(error.message.ends_with("; /c/pids.max could not be put back: gone"), "{}", error.message);
        assert_eq!((error.kind, error.step.as_deref()), (LaunchErrorKind::NotEnforceable, Some("write swap_max")));
    }
}
