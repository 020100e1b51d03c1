//! Scheduling of the worker process, as far as this host lets it be.

use super::Violation;
use crate::file::{Policy, Setting};
use crate::{Ability, Enforce, HostFacts, LimitKey, LimitValue, Limits, NotInForce, NumaMode, NumaPlan, ProcessPlan};

pub(super) fn compile(policy: &Policy, limits: &Limits, facts: &HostFacts, notes: &mut Vec<NotInForce>) -> Result<ProcessPlan, Violation> {
    let section = &policy.process;
    let nice = match (section.nice, &facts.raise_priority) {
        (Some(nice), Ability::Missing { why }) if nice.value < facts.nice => {
            let why = format!("{} comes before {}, the value of who started the hive, and {why}", nice.value, facts.nice);
            left_out("process.nice", &nice, why, notes)?;
            None
        }
        (nice, _) => nice.map(|n| n.value),
    };
    let numa = match (section.numa, &facts.memory_policy) {
        (Some(numa), Ability::Missing { why }) => {
            left_out("process.numa", &numa, why.clone(), notes)?;
            None
        }
        (numa, _) => numa.map(|n| NumaPlan { mode: n.value, nodes: nodes(n.value, limits, facts) }),
    };
    Ok(ProcessPlan {
        scheduler: section.scheduler,
        nice,
        io_class: section.io_class,
        io_priority: section.io_priority,
        numa,
        timer_slack_ns: section.timer_slack_ns,
    })
}

fn left_out<T>(name: &str, setting: &Setting<T>, why: String, notes: &mut Vec<NotInForce>) -> Result<(), Violation> {
    if setting.enforce == Enforce::Required {
        return Err(Violation::NotEnforceable { setting: name.into(), why });
    }
    notes.push(NotInForce { setting: name.into(), why });
    Ok(())
}

/// The worker's own nodes; all of the host's where it has no list of its own.
fn nodes(mode: NumaMode, limits: &Limits, facts: &HostFacts) -> String {
    match (mode, limits.get(&LimitKey::Mems).map(|l| &l.value)) {
        (NumaMode::Default, _) => String::new(),
        (_, Some(LimitValue::Text(own))) => own.clone(),
        _ => facts.mems.clone().unwrap_or_else(|| facts.host_mems.clone()),
    }
}
