//! A leaf read back, without privileges: its limits' files and who is where. The judging halves are pure.
//!
//! Must never know: what follows from a difference.

use std::path::{Path, PathBuf};

use rbee_hive_policy::{LimitKey, LimitValue, Limits};

use crate::protocol::CgroupFacts;

use super::detect::Version;
use super::files::{files, holder};
use super::{interface, named, protection, values};

/// The directory of `leaf` in the v1 hierarchy of `controller`, or in the v2 tree where v1 does not have it; with whether it is v1.
fn home(facts: &CgroupFacts, leaf: &str, controller: &str) -> Option<(PathBuf, bool)> {
    let (mount, v1) = match facts.mounts.get(controller) {
        Some(mount) => (mount, true),
        None => (facts.mounts.get("unified")?, false),
    };
    Some((Path::new(mount).join(leaf.trim_start_matches('/')), v1))
}

/// Reads the interface file of `key`: its name and its content. A v1 bandwidth is read from its two files, and shown as v2 has it.
///
/// `None`: the limit has no file here. Errors: what could not be read.
pub(crate) fn read_limit(facts: &CgroupFacts, leaf: &str, key: LimitKey) -> Option<Result<(String, String), String>> {
    let of_key = files(key)?;
    // A v1 hierarchy has it, or the v2 tree.
    let (dir, v1) = home(facts, holder(key, leaf), of_key.v1_controller)?;
    let version = if v1 { Version::V1 } else { Version::V2 };
    if key.is_named() {
        let file = (*of_key.names(version).first()?).to_owned();
        return Some(named::seen(key, version, &dir).map(|text| (file, text)).map_err(|e| e.to_string()));
    }
    if key == LimitKey::MemoryLow {
        let (file, mount) = (*of_key.names(version).first()?, facts.mounts.get("unified")?);
        let text = protection::least(Path::new(mount), &dir).map_err(|e| e.to_string());
        return Some(text.map(|text| (file.to_owned(), text)));
    }
    // Without swap on the host there is no such file, and nothing to limit.
    if key == LimitKey::SwapMax && of_key.in_dir(version, &dir).is_empty() {
        return None;
    }
    let file = match of_key.in_dir(version, &dir).first() {
        Some(file) => *file,
        None => *of_key.names(version).first()?,
    };
    let read = |file: &str| interface::read(&dir.join(file)).map_err(|e| format!("{e}"));
    let text = match (key, v1) {
        (LimitKey::Cpus, true) => read(file).and_then(|quota| {
            let quota = if quota.trim() == "-1" { "max" } else { quota.trim() };
            read("cpu.cfs_period_us").map(|period| format!("{quota} {}", period.trim()))
        }),
        _ => read(file),
    };
    Some(text.map(|text| (file.to_owned(), text)))
}

/// The content of `devices.list` where a v1 hierarchy holds the device list.
pub(crate) fn read_device_list(facts: &CgroupFacts, leaf: &str) -> Option<Result<String, String>> {
    let (dir, v1) = home(facts, leaf, "devices")?;
    v1.then(|| interface::read(&dir.join("devices.list")).map_err(|e| e.to_string()))
}

/// Whether an interface file with this name and content holds the planned value; `all`: what else is planned.
pub(crate) fn limit_holds((key, value): (LimitKey, &LimitValue), all: &Limits, (file, text): (&str, &str)) -> bool {
    let text = text.trim();
    let page = procfs::page_size().max(1);
    match key {
        LimitKey::MemoryMax | LimitKey::MemoryHigh | LimitKey::MemoryLow => {
            values::count_or_max(value).is_some_and(|wanted| values::same_bytes(wanted, text, page))
        }
        LimitKey::SwapMax if file == "memory.swap.max" => values::count_or_max(value).is_some_and(|w| values::same_bytes(w, text, page)),
        // v1 counts memory and swap together; without a memory limit there is nothing to add the swap to.
        LimitKey::SwapMax => match (values::count_or_max(value), all.get(&LimitKey::MemoryMax).and_then(|l| l.value.count())) {
            (Some(Some(swap)), Some(memory)) => values::same_bytes(Some(memory.saturating_add(swap)), text, page),
            (Some(None), _) => values::same_bytes(None, text, page),
            _ => true,
        },
        LimitKey::Cpus => values::bandwidth(value).is_some_and(|b| {
            let quota = b.quota.map_or_else(|| "max".to_owned(), |q| q.to_string());
            text == format!("{quota} {}", b.period)
        }),
        LimitKey::CpuBurst => value.count().is_some_and(|n| text == n.to_string()),
        LimitKey::IoWeight => value.count().is_some_and(|n| values::shown_weight(text) == Some(values::io_weight(file, n))),
        LimitKey::IoMax | LimitKey::Hugetlb | LimitKey::Dmem => match value {
            LimitValue::Text(wanted) => named::same(key, wanted, text),
            _ => false,
        },
        LimitKey::CpuWeight => value.count().is_some_and(|n| {
            let wanted = if file == "cpu.shares" { values::shares(n) } else { n };
            text == wanted.to_string()
        }),
        LimitKey::Cpuset | LimitKey::Mems => match value {
            LimitValue::Text(list) if !value.is_max() => values::same_list(list, text),
            _ => true,
        },
        LimitKey::OomGroup => value.count().is_some_and(|n| text == n.to_string()),
        LimitKey::PidsMax | LimitKey::CgroupDescendants | LimitKey::CgroupDepth => {
            values::count_or_max(value).is_some_and(|n| text == n.map_or_else(|| "max".to_owned(), |n| n.to_string()))
        }
        // Each process has these for itself.
        LimitKey::OpenFiles
        | LimitKey::CoreSize
        | LimitKey::FileSize
        | LimitKey::StackSize
        | LimitKey::LockedMemory
        | LimitKey::MessageQueues
        | LimitKey::PendingSignals
        | LimitKey::UserTasks
        | LimitKey::CpuTime => true,
    }
}

/// Where a process is that is not where it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Controllers of the hierarchy, or `unified`.
    pub(crate) hierarchy: String,
    /// Its group there.
    pub(crate) path: String,
}

/// The hierarchies of the tree in which a process with these `groups` (`/proc/<pid>/cgroup`) is neither in the leaf nor below it. `made` has
/// the lines of the worker's own process when it had just been started: in a container they begin with what a path relative to the mount lacks.
pub(crate) fn membership(facts: &CgroupFacts, leaf: &str, made: &[String], groups: &str) -> Vec<Membership> {
    let mut strays = Vec::new();
    for line in groups.lines() {
        let Some((hierarchy, path)) = parse(line).filter(|(name, _)| ours(facts, name)) else { continue };
        let first = made.iter().filter_map(|l| parse(l)).find(|(name, _)| *name == hierarchy).map(|(_, path)| path);
        let home = first.filter(|first| belongs(first, leaf));
        let inside = match home {
            Some(home) => path == home || path.strip_prefix(home).is_some_and(|rest| rest.starts_with('/')),
            None => belongs(path, leaf),
        };
        if !inside {
            strays.push(Membership { hierarchy: hierarchy.to_owned(), path: path.to_owned() });
        }
    }
    strays
}

/// Hierarchy and group of a line `ID:CONTROLLERS:PATH`.
fn parse(line: &str) -> Option<(&str, &str)> {
    let mut parts = line.splitn(3, ':');
    let (id, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
    let name = if id == "0" && controllers.is_empty() { "unified" } else { controllers };
    Some((name, path))
}

fn ours(facts: &CgroupFacts, hierarchy: &str) -> bool {
    hierarchy.split(',').any(|controller| facts.mounts.contains_key(controller))
}

/// Whether a path of `/proc/<pid>/cgroup` is `leaf` or below it. In a container it may begin with the container's own group, which a path
/// relative to the mount lacks.
pub fn belongs(path: &str, leaf: &str) -> bool {
    path.match_indices(leaf).any(|(at, _)| matches!(path.as_bytes().get(at + leaf.len()), None | Some(b'/')))
}

#[cfg(test)]
mod tests {
    use rbee_hive_policy::{Enforce, PlannedLimit};

    use super::*;
    use crate::protocol::CgroupMode;

    const LEAF: &str = "/r/workers/w-a/worker";

    fn facts() -> CgroupFacts {
        let mounts = [("memory", "/m"), ("unified", "/u")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        CgroupFacts { mode: CgroupMode::Hybrid, root: "/r".into(), mounts, notes: vec![] }
    }

    #[test]
    fn a_group_is_known_in_a_container_and_not_mistaken_for_its_neighbour() {
        let leaf = "/rbee-hive/x/workers/w-a/worker";
        for inside in [leaf.to_owned(), format!("{leaf}/inner"), format!("/docker/0123{leaf}")] {
            assert!(belongs(&inside, leaf), "{inside}");
        }
        for outside in ["/", "/rbee-hive/x/workers/w-a/worker2", "/rbee-hive/x/workers/w-ab/worker", "/rbee-hive/x/workers/w-a/init"] {
            assert!(!belongs(outside, leaf), "{outside}");
        }
    }

    #[test]
    fn a_process_is_in_its_leaf_in_every_hierarchy_of_the_tree_or_named() {
        let home = format!("5:devices:/elsewhere\n4:memory:{LEAF}\n0::{LEAF}/inner");
        assert_eq!(membership(&facts(), LEAF, &[], &home), []);
        let moved = format!("4:memory:/other\n0::{LEAF}");
        let stray = Membership { hierarchy: "memory".into(), path: "/other".into() };
        assert_eq!(membership(&facts(), LEAF, &[], &moved), [stray]);
    }

    #[test]
    fn a_group_of_the_same_name_elsewhere_is_not_the_leaf_once_that_is_known() {
        let made = [format!("4:memory:/box{LEAF}"), format!("0::/box{LEAF}")];
        let fine = format!("4:memory:/box{LEAF}\n0::/box{LEAF}/x");
        assert_eq!(membership(&facts(), LEAF, &made, &fine), []);
        let twin = format!("4:memory:/evil{LEAF}\n0::/box{LEAF}");
        assert_eq!(membership(&facts(), LEAF, &made, &twin).len(), 1);
    }

    #[test]
    fn each_limit_is_judged_by_its_files_spelling() {
        let planned = |v: LimitValue| PlannedLimit { value: v, enforce: Enforce::Required };
        let all = Limits::from([(LimitKey::MemoryMax, planned(LimitValue::Count(8192)))]);
        let table = [
            (LimitKey::MemoryMax, LimitValue::Count(8192), "memory.max", "8192\n", "12288"),
            (LimitKey::MemoryMax, LimitValue::max(), "memory.limit_in_bytes", "9223372036854771712", "8192"),
            (LimitKey::SwapMax, LimitValue::Count(4096), "memory.swap.max", "4096", "max"),
            (LimitKey::SwapMax, LimitValue::Count(4096), "memory.memsw.limit_in_bytes", "12288", "8192"),
            (LimitKey::Cpus, LimitValue::Decimal(1.5), "cpu.max", "150000 100000", "max 100000"),
            (LimitKey::CpuWeight, LimitValue::Count(100), "cpu.shares", "1024", "100"),
            (LimitKey::CpuWeight, LimitValue::Count(100), "cpu.weight", "100", "1024"),
            (LimitKey::Cpuset, LimitValue::Text("0-1".into()), "cpuset.cpus", "0,1", "0-2"),
            (LimitKey::OomGroup, LimitValue::Count(1), "memory.oom.group", "1", "0"),
            (LimitKey::PidsMax, LimitValue::Count(64), "pids.max", "64", "max"),
            (LimitKey::CpuBurst, LimitValue::Count(20_000), "cpu.max.burst", "20000", "0"),
            (LimitKey::IoWeight, LimitValue::Count(1200), "io.weight", "default 1200", "default 100"),
            (LimitKey::IoWeight, LimitValue::Count(1200), "blkio.bfq.weight", "200", "1200"),
            (LimitKey::IoMax, LimitValue::Text("8:0 rbps=1MiB".into()), "io.max", "8:0 rbps=1MiB", "8:0 rbps=2MiB"),
            (LimitKey::IoMax, LimitValue::max(), "io.max", "", "8:0 rbps=2MiB"),
            (LimitKey::Hugetlb, LimitValue::Text("2MiB=0".into()), "hugetlb.<size>.max", "2MiB=0", ""),
            (LimitKey::CgroupDepth, LimitValue::Count(0), "cgroup.max.depth", "0", "max"),
        ];
        for (key, value, file, holds, broken) in table {
            assert!(limit_holds((key, &value), &all, (file, holds)), "{file} {holds:?}");
            assert!(!limit_holds((key, &value), &all, (file, broken)), "{file} {broken:?}");
        }
    }
}
