//! Which interface files hold a limit, on v1 and on v2, and where they lie.
//!
//! Must never know: what is written to them.

use std::path::{Path, PathBuf};

use rbee_hive_policy::LimitKey;

use super::detect::{Hierarchy, Version};
use super::interface::read;
use super::tree::Tree;

/// Stands for no controller: every v2 cgroup but the root has these files.
pub(super) const CORE: &str = "cgroup";

/// The limits of a cgroup.
pub(super) const CGROUP_LIMITS: [LimitKey; 17] = [
    LimitKey::MemoryMax,
    LimitKey::MemoryHigh,
    LimitKey::MemoryLow,
    LimitKey::SwapMax,
    LimitKey::OomGroup,
    LimitKey::Cpus,
    LimitKey::CpuBurst,
    LimitKey::CpuWeight,
    LimitKey::Cpuset,
    LimitKey::Mems,
    LimitKey::PidsMax,
    LimitKey::IoWeight,
    LimitKey::IoMax,
    LimitKey::Hugetlb,
    LimitKey::Dmem,
    LimitKey::CgroupDescendants,
    LimitKey::CgroupDepth,
];

/// A limit's controllers, and the names of its files: those that are there are used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files {
    /// On v1.
    pub(super) v1_controller: &'static str,
    /// None: v2 only.
    pub(super) v1: &'static [&'static str],
    /// On v2.
    pub(super) v2_controller: &'static str,
    /// Never empty.
    pub(super) v2: &'static [&'static str],
}

impl Files {
    const fn both(controller: &'static str, v1: &'static [&'static str], v2: &'static [&'static str]) -> Self {
        Self { v1_controller: controller, v1, v2_controller: controller, v2 }
    }

    /// The files' names in this version.
    pub(super) fn names(&self, version: Version) -> &'static [&'static str] {
        match version {
            Version::V1 => self.v1,
            Version::V2 => self.v2,
        }
    }

    /// Those that `dir` has.
    pub(super) fn in_dir(&self, version: Version, dir: &Path) -> Vec<&'static str> {
        self.names(version).iter().copied().filter(|name| dir.join(name).exists()).collect()
    }
}

/// Where a limit is held; `None` for one that each process has for itself (`LimitKey::OF_A_PROCESS`).
pub(super) fn files(key: LimitKey) -> Option<Files> {
    Some(match key {
        LimitKey::MemoryMax => Files::both("memory", &["memory.limit_in_bytes"], &["memory.max"]),
        LimitKey::MemoryHigh => Files::both("memory", &[], &["memory.high"]),
        LimitKey::MemoryLow => Files::both("memory", &[], &["memory.low"]),
        LimitKey::SwapMax => Files::both("memory", &["memory.memsw.limit_in_bytes"], &["memory.swap.max"]),
        LimitKey::OomGroup => Files::both("memory", &[], &["memory.oom.group"]),
        LimitKey::Cpus => Files::both("cpu", &["cpu.cfs_quota_us"], &["cpu.max"]),
        LimitKey::CpuBurst => Files::both("cpu", &["cpu.cfs_burst_us"], &["cpu.max.burst"]),
        LimitKey::CpuWeight => Files::both("cpu", &["cpu.shares"], &["cpu.weight"]),
        LimitKey::Cpuset => Files::both("cpuset", &["cpuset.cpus"], &["cpuset.cpus"]),
        LimitKey::Mems => Files::both("cpuset", &["cpuset.mems"], &["cpuset.mems"]),
        LimitKey::PidsMax => Files::both("pids", &["pids.max"], &["pids.max"]),
        LimitKey::IoWeight => Files {
            v1_controller: "blkio",
            v1: &["blkio.bfq.weight", "blkio.weight"],
            v2_controller: "io",
            v2: &["io.weight", "io.bfq.weight"],
        },
        LimitKey::IoMax => Files { v1_controller: "blkio", v1: &["blkio.throttle.read_bps_device"], v2_controller: "io", v2: &["io.max"] },
        // One a size; this stands for all of them.
        LimitKey::Hugetlb => Files::both("hugetlb", &["hugetlb.<size>.limit_in_bytes"], &["hugetlb.<size>.max"]),
        LimitKey::Dmem => Files::both("dmem", &[], &["dmem.max"]),
        LimitKey::CgroupDescendants => Files::both(CORE, &[], &["cgroup.max.descendants"]),
        LimitKey::CgroupDepth => Files::both(CORE, &[], &["cgroup.max.depth"]),
        LimitKey::OpenFiles
        | LimitKey::CoreSize
        | LimitKey::FileSize
        | LimitKey::StackSize
        | LimitKey::LockedMemory
        | LimitKey::MessageQueues
        | LimitKey::PendingSignals
        | LimitKey::UserTasks
        | LimitKey::CpuTime => return None,
    })
}

/// The group that holds a limit of the worker whose leaf is `leaf`: the leaf itself. A weight is compared with those of the group's siblings
/// (Documentation/admin-guide/cgroup-v2.rst, "Weights"), and the leaf's only sibling is its init's: a weight is the whole worker's group's.
pub(super) fn holder(key: LimitKey, leaf: &str) -> &str {
    match key {
        LimitKey::CpuWeight | LimitKey::IoWeight => group_of(leaf),
        _ => leaf,
    }
}

/// `w-<id>`, which holds the leaf and that of its init.
pub(super) fn group_of(leaf: &str) -> &str {
    leaf.rsplit_once('/').map_or(leaf, |(group, _)| group)
}

/// Where a limit's files of the group `path` lie; `None` where no hierarchy has them.
pub(super) fn home(tree: &Tree, files: &Files, path: &str) -> Option<(Version, PathBuf)> {
    if let Some(v1) = tree.v1(files.v1_controller) {
        return Some((Version::V1, v1.dir(path)));
    }
    let v2 = tree.v2().filter(|_| files.v2_controller == CORE || tree.v2_controllers().contains(files.v2_controller))?;
    Some((Version::V2, v2.dir(path)))
}

/// Whether any disk shares its time out by weight: by its scheduler, or by the cost model that only the root of the v2 tree tells of.
pub(super) fn weighs_io(v2: Option<&Hierarchy>) -> bool {
    let by_cost = v2.and_then(|h| read(&h.mount.join("io.cost.qos")).ok()).is_some_and(|text| text.contains("enable=1"));
    let scheduler = |disk: std::fs::DirEntry| read(&disk.path().join("queue/scheduler")).is_ok_and(|text| text.contains("[bfq]"));
    by_cost || std::fs::read_dir("/sys/block").into_iter().flatten().flatten().any(scheduler)
}
