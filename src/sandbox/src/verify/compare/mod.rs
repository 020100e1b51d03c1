//! The comparison, one aspect a file. Pure: the same sights give the same findings.

mod descriptors;
mod devices;
mod groups;
mod limits;
mod mounts;
mod namespaces;
mod process;

use super::{Aspect, Drift, Expected, Findings, Seen};

/// Most differences that are told; a sandbox that is torn apart is no reason for a flood.
const MAX_DRIFT: usize = 32;

/// Compares a sandbox with its plan.
pub fn compare(expected: &Expected, seen: Seen<'_>) -> Findings {
    let mut found = Findings::default();
    found.unseen.extend(seen.outside.unseen.iter().cloned());
    if seen.outside.main.is_none() {
        return found;
    }
    for process in &seen.outside.processes {
        found.drift.extend(process::compare(expected, process));
        found.drift.extend(limits::of_process(expected, process, seen.outside.main));
    }
    found.drift.extend(limits::of_cgroup(expected, seen.outside));
    found.drift.extend(mounts::compare(expected, &seen.outside.mounts));
    found.drift.extend(devices::list(expected, seen.outside));
    // An init that could not look at itself has seen nothing.
    let sighted = seen.inside.filter(|inside| !inside.own.is_empty());
    found.drift.extend(groups::compare(expected, Seen { inside: sighted, ..seen }));
    match seen.inside {
        Some(inside) => {
            found.unseen.extend(inside.unseen.iter().cloned());
            found.drift.extend(namespaces::compare(expected, &seen.outside.own, inside));
            found.drift.extend(descriptors::compare(expected, &seen.outside.own, inside));
        }
        None => found.unseen.push("namespaces and descriptors: the init has not told".into()),
    }
    match seen.program {
        Some(program) => devices::program(program, &mut found),
        None => found.unseen.push("the device program: the launcher has not told".into()),
    }
    match &expected.made {
        Some(made) => found.unseen.extend(made.unseen.iter().cloned()),
        None => found.unseen.push("mounts and limits as they were made: the init has not told".into()),
    }
    found.drift.sort();
    found.drift.dedup();
    shorten(&mut found.drift);
    found
}

fn shorten(drift: &mut Vec<Drift>) {
    if drift.len() > MAX_DRIFT {
        let more = drift.split_off(MAX_DRIFT - 1);
        let aspect = more.first().map_or(Aspect::Cgroup, |d| d.aspect);
        drift.push(Drift::new(aspect, format!("and {} more differences", more.len())));
    }
}

/// `12 (name)`, as sentences have it.
fn process_name(pid: i32, name: &str) -> String {
    format!("process {pid} ({name})")
}
