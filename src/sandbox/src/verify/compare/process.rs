//! Who a process is and what it may do, from its `status`.

use std::str::FromStr;

use caps::Capability;

use super::process_name;
use crate::verify::{Aspect, Drift, Expected, ProcessSeen};

/// In the order of [`crate::verify::Status::capabilities`].
const SETS: [&str; 5] = ["inheritable", "permitted", "effective", "bounding", "ambient"];
/// `SECCOMP_MODE_FILTER`, as `status` shows it.
const FILTERED: u8 = 2;

pub(super) fn compare(expected: &Expected, process: &ProcessSeen) -> Vec<Drift> {
    let mut drift = identity(expected, process);
    drift.extend(capabilities(expected, process));
    let name = process_name(process.pid, &process.status.name);
    if !process.status.no_new_privs {
        drift.push(Drift::new(Aspect::NoNewPrivs, format!("{name} has no no_new_privs: it may gain privileges by execve")));
    }
    drift.extend(seccomp(expected, process, &name));
    // A process may raise its own, never lower it below what it was started with.
    if let Some(score) = process.oom_score_adj.filter(|score| *score < expected.plan.oom_score_adj) {
        let text = format!("{name} has oom_score_adj {score}, planned {}", expected.plan.oom_score_adj);
        drift.push(Drift::new(Aspect::OomScoreAdj, text));
    }
    drift
}

fn identity(expected: &Expected, process: &ProcessSeen) -> Vec<Drift> {
    let (plan, status) = (&expected.plan, &process.status);
    let name = process_name(process.pid, &status.name);
    let mut drift = Vec::new();
    // A policy that grants it lets the worker choose.
    if status.uids.iter().any(|uid| *uid != plan.credentials.uid) && !expected.grants("CAP_SETUID") {
        let text = format!("{name} has the uids {:?}, planned {}", status.uids, plan.credentials.uid);
        drift.push(Drift::new(Aspect::Identity, text));
    }
    if expected.grants("CAP_SETGID") {
        return drift;
    }
    if status.gids.iter().any(|gid| *gid != plan.credentials.gid) {
        let text = format!("{name} has the gids {:?}, planned {}", status.gids, plan.credentials.gid);
        drift.push(Drift::new(Aspect::Identity, text));
    }
    // In a user namespace of one user those of who started the hive stay, and count for nothing that is not theirs anyhow.
    let strange: Vec<u32> = status.groups.iter().filter(|g| !planned_group(expected, **g)).copied().collect();
    if !strange.is_empty() && !plan.user_namespace {
        drift.push(Drift::new(Aspect::Identity, format!("{name} has the supplementary groups {strange:?}, which are not planned")));
    }
    drift
}

fn planned_group(expected: &Expected, group: u32) -> bool {
    group == expected.plan.credentials.gid
}

fn capabilities(expected: &Expected, process: &ProcessSeen) -> Vec<Drift> {
    let names = &expected.plan.credentials.capabilities;
    let planned = names.iter().filter_map(|name| Capability::from_str(name).ok()).fold(0u64, |all, c| all | c.bitmask());
    let name = process_name(process.pid, &process.status.name);
    let more = SETS.iter().zip(process.status.capabilities).filter(|(_, set)| set & !planned != 0);
    more.map(|(which, set)| {
        let text = format!("{name} has {:#x} in its {which} capabilities, planned at most {planned:#x}", set);
        Drift::new(Aspect::Capabilities, text)
    })
    .collect()
}

fn seccomp(expected: &Expected, process: &ProcessSeen, name: &str) -> Option<Drift> {
    expected.plan.seccomp.as_ref()?;
    let status = &process.status;
    if status.seccomp != FILTERED {
        return Some(Drift::new(Aspect::Seccomp, format!("{name} runs without its seccomp filters (mode {})", status.seccomp)));
    }
    let (planned, loaded) = (expected.made.as_ref()?.filters?, status.filters?);
    let text = format!("{name} has {loaded} seccomp filters, {planned} were loaded");
    (loaded < planned).then(|| Drift::new(Aspect::Seccomp, text))
}
