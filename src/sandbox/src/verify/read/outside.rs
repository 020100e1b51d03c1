//! What the hive sees by itself: `status, cgroup, limits, mountinfo` of other uids, and interface files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rbee_hive_policy::LimitKey;

use super::process::{self, Process};
use super::{mounts, status::Status};
use crate::cgroup::{belongs, read_device_list, read_limit};
use crate::protocol::{Inside, MountSeen, Namespaces, Rlimit};
use crate::verify::Expected;

/// Most processes that are looked at one by one; a worker of more is told as not wholly seen.
const MAX_PROCESSES: usize = 256;

/// A process from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessSeen {
    /// As the hive numbers it.
    pub pid: i32,
    /// When it was started, clock ticks after boot.
    pub start_ticks: u64,
    /// Its status.
    pub status: Status,
    /// Its cgroups.
    pub groups: String,
    /// Its resource limits.
    pub limits: BTreeMap<String, Rlimit>,
    /// `oom_score_adj`
    pub oom_score_adj: Option<i32>,
}

/// A limit's interface file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitSeen {
    /// The limit.
    pub key: LimitKey,
    /// The file's name.
    pub file: String,
    /// Its content.
    pub text: String,
}

/// A sandbox from outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// The hive's own namespaces.
    pub own: Namespaces,
    /// In how many pid namespaces the hive is.
    pub depth: usize,
    /// The worker's own process; `None` once it has ended.
    pub main: Option<i32>,
    /// The processes of its leaf, and its own.
    pub processes: Vec<ProcessSeen>,
    /// The mount table of its own process.
    pub mounts: Vec<MountSeen>,
    /// Limits of its leaf.
    pub limits: Vec<LimitSeen>,
    /// `devices.list` of its leaf, where v1 holds it.
    pub device_list: Option<String>,
    /// What could not be looked at.
    pub unseen: Vec<String>,
}

/// Looks at a sandbox. `pid` is the worker's own process, started at `start_ticks`. Blocks: reads procfs and cgroupfs, a millisecond at most.
pub fn look(expected: &Expected, pid: i32, start_ticks: Option<u64>) -> Outside {
    let mut seen = Outside::default();
    let main = Process::open(&pid.to_string()).ok().and_then(|p| Some((one(pid, &p)?, p)));
    let Some((main, directory)) = main.filter(|(seen, _)| start_ticks.is_none_or(|ticks| ticks == seen.start_ticks)) else {
        seen.unseen.push("the worker's own process has ended".into());
        return seen;
    };
    seen.main = Some(pid);
    match directory.read("mountinfo") {
        Ok(text) => seen.mounts = mounts::parse(&text),
        Err(e) => seen.unseen.push(format!("the mount table: {e}")),
    }
    match Process::open("self").and_then(|own| Ok((own.namespaces()?, own.read("status")?))) {
        Ok((own, status)) => {
            seen.own = own;
            seen.depth = Status::parse(&status).map_or(0, |s| s.depth);
        }
        Err(e) => seen.unseen.push(format!("the hive's own namespaces: {e}")),
    }
    seen.processes.push(main);
    match &expected.leaf {
        Some(leaf) => look_at_leaf(expected, leaf, &mut seen),
        None => seen.unseen.push("processes but the worker's own, from outside: there is no cgroup that lists them".into()),
    }
    seen
}

fn look_at_leaf(expected: &Expected, leaf: &str, seen: &mut Outside) {
    let mut members = members(expected, leaf);
    members.retain(|pid| seen.main != Some(*pid));
    if members.len() > MAX_PROCESSES {
        seen.unseen.push(format!("{} of its {} processes", members.len() - MAX_PROCESSES, members.len()));
    }
    for pid in members.into_iter().take(MAX_PROCESSES) {
        // One that has ended meanwhile is nobody's drift; nor is a later one of its number, which is in none of the worker's groups.
        let process = Process::open(&pid.to_string()).ok().and_then(|p| one(pid, &p));
        seen.processes.extend(process.filter(|p| p.groups.lines().any(|line| belongs(line, leaf))));
    }
    for key in expected.plan.limits.keys() {
        match read_limit(&expected.cgroup, leaf, *key) {
            Some(Ok((file, text))) => seen.limits.push(LimitSeen { key: *key, file, text }),
            Some(Err(why)) => seen.unseen.push(format!("the limit {}: {why}", key.name())),
            None => {}
        }
    }
    match read_device_list(&expected.cgroup, leaf) {
        Some(Ok(text)) => seen.device_list = Some(text),
        Some(Err(why)) => seen.unseen.push(format!("the device list: {why}")),
        None => {}
    }
}

/// Who is in the leaf, in any hierarchy: whoever was taken out of one is still in the others.
fn members(expected: &Expected, leaf: &str) -> BTreeSet<i32> {
    let mounts: BTreeSet<&String> = expected.cgroup.mounts.values().collect();
    let mut pids = BTreeSet::new();
    for mount in mounts {
        let path = Path::new(mount).join(leaf.trim_start_matches('/')).join("cgroup.procs");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        pids.extend(text.lines().filter_map(|l| l.parse::<i32>().ok()).filter(|pid| *pid > 0));
    }
    pids
}

/// `None` for a process that has ended, a zombie included: it holds nothing any more.
fn one(pid: i32, process: &Process) -> Option<ProcessSeen> {
    let (_, state, start_ticks) = process::stat(&process.read("stat").ok()?)?;
    if matches!(state, 'Z' | 'X') {
        return None;
    }
    let status = Status::parse(&process.read("status").ok()?)?;
    let limits = process::limits(&process.read("limits").ok()?);
    let groups = process.read("cgroup").ok()?;
    let oom_score_adj = process.read("oom_score_adj").ok().and_then(|t| t.trim().parse().ok());
    Some(ProcessSeen { pid, start_ticks, status, groups, limits, oom_score_adj })
}

/// Of the processes that `inside` does not list, keeps those that live still: the others have ended between the two looks.
pub fn settle(outside: &mut Outside, inside: &Inside) {
    outside.processes.retain(|seen| {
        let listed = inside.knows(seen.status.inner);
        let now = || Process::open(&seen.pid.to_string()).ok().and_then(|p| process::stat(&p.read("stat").ok()?));
        listed || now().is_some_and(|(_, state, ticks)| ticks == seen.start_ticks && !matches!(state, 'Z' | 'X'))
    });
    if outside.main.is_some_and(|main| !outside.processes.iter().any(|p| p.pid == main)) {
        outside.main = None;
        outside.unseen.push("the worker's own process has ended".into());
    }
}
