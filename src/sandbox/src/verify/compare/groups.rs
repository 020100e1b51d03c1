//! Cgroup membership: all of the sandbox is in its leaf, and nobody else.

use super::process_name;
use crate::cgroup::{Membership, membership};
use crate::verify::{Aspect, Drift, Expected, Seen};

pub(super) fn compare(expected: &Expected, seen: Seen<'_>) -> Vec<Drift> {
    let Some(leaf) = &expected.leaf else { return vec![] };
    let made = expected.made.as_ref().map(|m| m.groups.as_slice()).unwrap_or_default();
    let elsewhere = |name: &str, groups: &str| -> Vec<Drift> {
        let strays = membership(&expected.cgroup, leaf, made, groups);
        let tell = |m: Membership| format!("{name} is in the cgroup {} of {}, not in the worker's", m.path, m.hierarchy);
        strays.into_iter().map(|m| Drift::new(Aspect::Cgroup, tell(m))).collect()
    };
    let mut drift = Vec::new();
    for process in &seen.outside.processes {
        drift.extend(elsewhere(&process_name(process.pid, &process.status.name), &process.groups));
    }
    let Some(inside) = seen.inside else { return drift };
    let known = |pid: i32| seen.outside.processes.iter().any(|p| p.status.inner == pid);
    for process in inside.processes.iter().filter(|p| !known(p.pid)) {
        let groups = process.groups.and_then(|n| inside.groups.get(n));
        let name = format!("{} of the sandbox", process_name(process.pid, &process.name));
        drift.extend(groups.iter().flat_map(|groups| elsewhere(&name, groups)));
    }
    for process in &seen.outside.processes {
        if process.status.depth <= seen.outside.depth || !inside.knows(process.status.inner) {
            let text = format!("{} is in the worker's cgroup and not of its sandbox", process_name(process.pid, &process.status.name));
            drift.push(Drift::new(Aspect::Cgroup, text));
        }
    }
    drift
}
