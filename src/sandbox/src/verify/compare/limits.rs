//! Limits: of each process, and of the cgroup.

use std::ops::RangeInclusive;

use rbee_hive_policy::LimitKey;

use super::process_name;
use crate::cgroup::limit_holds;
use crate::verify::{Aspect, Drift, Expected, Outside, ProcessSeen};

/// Limits of a process by the kernel's names (fs/proc/base.c).
const NAMES: [(&str, LimitKey); 9] = [
    ("Max open files", LimitKey::OpenFiles),
    ("Max core file size", LimitKey::CoreSize),
    ("Max file size", LimitKey::FileSize),
    ("Max stack size", LimitKey::StackSize),
    ("Max locked memory", LimitKey::LockedMemory),
    ("Max msgqueue size", LimitKey::MessageQueues),
    ("Max pending signals", LimitKey::PendingSignals),
    ("Max processes", LimitKey::UserTasks),
    ("Max cpu time", LimitKey::CpuTime),
];

/// Which hard limits are as planned; `None` where the plan says nothing.
fn planned(expected: &Expected, name: &str) -> Option<RangeInclusive<u64>> {
    let key = NAMES.iter().find(|(known, _)| *known == name)?.1;
    let limit = expected.plan.limits.get(&key);
    match (key, limit.and_then(|l| l.value.count())) {
        // 1 is no dump at all; 0 where even that could not be had.
        (LimitKey::CoreSize, Some(0)) => Some(0..=1),
        (LimitKey::CoreSize, None) if limit.is_none() => Some(0..=1),
        // SIGKILL comes a second after SIGXCPU.
        (LimitKey::CpuTime, Some(seconds)) => Some(seconds..=seconds.saturating_add(1)),
        (_, wanted) => wanted.map(|n| n..=n),
    }
}

/// `main` is the worker's own process: what it was given it has, its children may have less.
pub(super) fn of_process(expected: &Expected, process: &ProcessSeen, main: Option<i32>) -> Vec<Drift> {
    let mut drift = Vec::new();
    for (name, seen) in &process.limits {
        let most = |n: Option<u64>| n.unwrap_or(u64::MAX);
        let (wanted, differs) = match (planned(expected, name), expected.made.as_ref().and_then(|m| m.limits.get(name))) {
            (Some(wanted), _) if main == Some(process.pid) => (Some(*wanted.start()), !wanted.contains(&most(seen.hard))),
            (Some(wanted), _) => (Some(*wanted.end()), most(seen.hard) > *wanted.end()),
            // With it the worker may raise its own.
            (None, Some(_)) if expected.grants("CAP_SYS_RESOURCE") => continue,
            (None, Some(made)) => (made.hard, most(seen.hard) > most(made.hard)),
            (None, None) => continue,
        };
        if differs {
            let show = |n: Option<u64>| n.map_or_else(|| "unlimited".to_owned(), |n| n.to_string());
            let text = format!("{} has the hard limit {name:?} {}, planned {}", named(process), show(seen.hard), show(wanted));
            drift.push(Drift::new(Aspect::Limits, text));
        }
    }
    drift
}

fn named(process: &ProcessSeen) -> String {
    process_name(process.pid, &process.status.name)
}

pub(super) fn of_cgroup(expected: &Expected, outside: &Outside) -> Vec<Drift> {
    let limits = &expected.plan.limits;
    let mut drift = Vec::new();
    for seen in outside.limits.iter().filter(|seen| !expected.given_up(seen.key.name())) {
        let Some(limit) = limits.get(&seen.key) else { continue };
        if !limit_holds((seen.key, &limit.value), limits, (&seen.file, &seen.text)) {
            let value = serde_json::to_string(&limit.value).unwrap_or_default();
            let text = format!("the cgroup's {} is {:?}, planned {} = {value}", seen.file, seen.text.trim(), seen.key.name());
            drift.push(Drift::new(Aspect::Limits, text));
        }
    }
    drift
}
