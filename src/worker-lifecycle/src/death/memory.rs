//! Deaths for want of memory.

use rbee_hive_policy::LimitKey;
use rbee_hive_sandbox::{OomBound, Verdict};

use super::size::size;
use super::{Case, Findings};

pub(super) fn oom_killed(case: &Case<'_>, verdict: &Verdict, found: &mut Findings) {
    let Verdict::OomKilled { peak, limit, victim, victim_memory, bound, .. } = verdict else { return };
    let resources = &case.view.resources;
    found.prove("memory_max", limit.or_else(|| case.limit(LimitKey::MemoryMax)), |n| format!("memory_max {}", size(n)));
    found.prove("memory_peak", peak.or(resources.memory_peak), |n| format!("peak {}", size(n)));
    found.prove("victim", victim.clone(), |name| format!("victim {name}"));
    found.prove("victim_memory", *victim_memory, |n| format!("which had {}", size(n)));
    found.prove("oom_kills", resources.oom_kills, |n| format!("{n} processes killed"));
    found.prove("memory_events.max", resources.memory_events.max.filter(|n| *n > 0), |n| format!("at memory_max {n} times"));
    found.prove("swap_peak", resources.swap_peak.filter(|n| *n > 0), |n| format!("{} in swap", size(n)));
    match bound {
        Some(OomBound::Host) => {
            found.advise("run less beside it: the host was out of memory, and the worker's own limit was not reached");
            found.advise("protect it with memory_low, or bound the others with memory_max");
        }
        Some(OomBound::Nested) => found.advise("raise the limit of the group that it made within its own, or use less there"),
        Some(OomBound::Worker) | None if limit.is_some() => {
            found.advise("raise memory_max, or use a smaller context or model");
            let set_by = case.set_by(LimitKey::MemoryMax);
            if !set_by.is_empty() {
                found.advise(format!(
                    "memory_max is {}{set_by}: --limit memory_max=… raises it as far as the policy's [request.max] goes",
                    size(limit.unwrap_or(0))
                ));
            }
        }
        _ => found.advise("raise memory_max, or use a smaller context or model; which limit was reached is not known"),
    }
}

/// What the counters say of kills that were not the verdict.
pub(super) fn kills(case: &Case<'_>, found: &mut Findings) {
    if let Some(n @ 1..) = case.view.resources.oom_kills {
        found.prove("oom_kills", Some(n), |n| format!("the kernel killed {n} of its processes for want of memory"));
        found.prove("memory_max", case.limit(LimitKey::MemoryMax), |n| format!("memory_max {}", size(n)));
        found.advise("one of its processes was killed for want of memory before: raise memory_max, or use less");
    }
}

/// That it was not for want of memory, where that is what one would think.
pub(super) fn no_kills(case: &Case<'_>, found: &mut Findings) {
    found.prove("oom_kills", case.view.resources.oom_kills.filter(|n| *n == 0), |_| "not for want of memory (oom_kills 0)".into());
}
