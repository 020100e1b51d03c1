//! Other limits for a worker that runs: the same rules as at its start, for what is asked for and nothing else.

use std::collections::BTreeMap;

use super::{Violation, gpu, host, limits, writes};
use crate::file::{MaySet, Policy};
use crate::{HostFacts, LimitKey, LimitValue, Limits, SandboxPlan};

/// The worker's limits with `asked` in them. What is not asked for stays as it is, also where the policy says something else by now.
///
/// Errors: as [`super::compile`] for the same limits in a request; `InvalidParams` where nothing is asked for.
pub fn update(policy: &Policy, plan: &SandboxPlan, asked: &BTreeMap<LimitKey, LimitValue>, facts: &HostFacts) -> Result<Limits, Violation> {
    if asked.is_empty() {
        return Err(Violation::invalid("limits", "is empty: name at least one"));
    }
    if !policy.request.may_set.contains(&MaySet::Limits) {
        return Err(Violation::policy("limits", "the policy's [request] may_set does not list it"));
    }
    let mut all = plan.limits.clone();
    let mut changed = Limits::new();
    for (key, value) in asked {
        let limit = limits::asked(policy, facts, *key, value)?;
        let listed = plan.limits.get(key).is_some_and(|own| !own.value.is_max());
        if matches!(key, LimitKey::Cpuset | LimitKey::Mems) && limit.value.is_max() && listed {
            return Err(Violation::invalid(
                key.name(),
                "is a list that can't be taken back from a worker that runs: name the CPUs or nodes",
            ));
        }
        if let Some(why) = facts.unenforceable.get(key) {
            if !key.asks_nothing(&limit.value) {
                return Err(Violation::NotEnforceable { setting: key.name().into(), why: why.clone() });
            }
            // "No limit" holds everywhere, and there was none.
            continue;
        }
        changed.insert(*key, limit);
    }
    host::check_lists(&changed, facts)?;
    for (key, leased) in [(LimitKey::Cpuset, &facts.cpuset), (LimitKey::Mems, &facts.mems)] {
        if changed.contains_key(&key) {
            limits::pin(&mut changed, key, leased.as_deref())?;
        }
    }
    // Asked for is required: nothing is left out with a note.
    let mut notes = Vec::new();
    writes::check(&changed, &mut notes, facts)?;
    for key in LimitKey::OF_A_PROCESS {
        limits::raise(&mut changed, &mut notes, key, facts)?;
    }
    if changed.contains_key(&LimitKey::Dmem) {
        // What the policy gives of GPU memory bounds the kernel's regions, whatever is asked for of them.
        gpu::hold(policy, plan, facts, &mut changed);
    }
    all.extend(changed);
    host::check_burst(&all)?;
    host::check_memory(&all)?;
    Ok(all)
}
