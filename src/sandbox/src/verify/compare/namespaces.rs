//! Namespaces: the sandbox's differ from the hive's, and all of its processes share them.

use rbee_hive_policy::NetworkMode;

use crate::protocol::{Inside, InsideProcess, Namespaces};
use crate::verify::{Aspect, Drift, Expected};

use super::process_name;

/// All that a process has but the cgroup namespace, which the worker never shares with its init.
const KINDS: [&str; 7] = ["mnt", "pid", "ipc", "uts", "net", "user", "time"];

/// Kinds of which the sandbox is to have its own.
pub(super) fn apart(expected: &Expected) -> Vec<&'static str> {
    let mut own = vec!["mnt", "pid", "ipc", "uts", "cgroup"];
    own.extend((expected.plan.network != NetworkMode::Host).then_some("net"));
    own.extend((expected.plan.user_namespace || expected.plan.credentials.inside.is_some()).then_some("user"));
    own
}

/// Kinds that are the worker's alone, without its init.
fn workers_alone(expected: &Expected) -> Vec<&'static str> {
    let user = expected.plan.credentials.inside.is_some().then_some("user");
    std::iter::once("cgroup").chain(user).collect()
}

pub(super) fn compare(expected: &Expected, hive: &Namespaces, inside: &Inside) -> Vec<Drift> {
    let alone = workers_alone(expected);
    let mut drift = Vec::new();
    for kind in apart(expected).into_iter().filter(|kind| !alone.contains(kind)) {
        if let (Some(hive), Some(init)) = (hive.get(kind), inside.own.get(kind))
            && hive == init
        {
            drift.push(Drift::new(Aspect::Namespaces, format!("the sandbox has no {kind} namespace of its own: it is the hive's")));
        }
    }
    let seen = |process: &InsideProcess| inside.namespaces.get(process.namespaces?);
    let first = inside.processes.iter().find_map(seen);
    for process in &inside.processes {
        let Some(seen) = seen(process) else { continue };
        let name = format!("{} of the sandbox", process_name(process.pid, &process.name));
        for kind in KINDS.into_iter().filter(|kind| !alone.contains(kind)) {
            if let (Some(init), Some(process)) = (inside.own.get(kind), seen.get(kind))
                && init != process
            {
                drift.push(Drift::new(Aspect::Namespaces, format!("{name} is in another {kind} namespace than its sandbox")));
            }
        }
        for kind in &alone {
            let Some(own) = seen.get(*kind) else { continue };
            if inside.own.get(*kind) == Some(own) || hive.get(*kind) == Some(own) {
                drift.push(Drift::new(Aspect::Namespaces, format!("{name} is in the hive's {kind} namespace")));
            } else if first.and_then(|first| first.get(*kind)).is_some_and(|first| first != own) {
                drift.push(Drift::new(Aspect::Namespaces, format!("{name} is in another {kind} namespace than the rest of the worker")));
            }
        }
    }
    drift
}
