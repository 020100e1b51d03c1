//! Cgroups: the layout, what of it can be written, and which limits it enforces.

use std::collections::BTreeMap;

use procfs::process::MountInfo;
use rbee_hive_policy::LimitKey;

use super::facts::HostTexts;
use super::finding::{Finding, State};
use super::kernel::version;

/// v1 controllers that the launcher uses, where they are mounted.
const V1_CONTROLLERS: [&str; 9] = ["memory", "pids", "cpu", "cpuacct", "cpuset", "devices", "blkio", "hugetlb", "freezer"];

/// Mount points of the hierarchies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mounts {
    /// The v2 hierarchy's.
    pub(super) v2: Option<String>,
    /// The v1 hierarchies', by controller.
    pub(super) v1: BTreeMap<String, String>,
}

impl Mounts {
    /// Every mount point; those with several controllers several times.
    pub(super) fn all(&self) -> impl Iterator<Item = &str> {
        self.v2.iter().chain(self.v1.values()).map(String::as_str)
    }

    fn mode(&self) -> &'static str {
        match (self.v2.is_some(), self.v1.is_empty()) {
            (true, true) => "unified",
            (true, false) => "hybrid",
            (false, false) => "legacy",
            (false, true) => "none",
        }
    }
}

/// Reads them off a mountinfo file: `/proc/cgroups` lists controllers that can no longer be mounted.
pub(super) fn mounts(mountinfo: &str) -> Mounts {
    let mut found = Mounts::default();
    for mount in mountinfo.lines().filter_map(|line| MountInfo::from_line(line).ok()) {
        let path = mount.mount_point.to_string_lossy().into_owned();
        match mount.fs_type.as_str() {
            "cgroup2" => found.v2 = found.v2.or(Some(path)),
            "cgroup" => {
                // A hierarchy without one of these, such as `name=systemd`, is none that the launcher uses.
                for option in mount.super_options.keys().filter(|o| V1_CONTROLLERS.contains(&o.as_str())) {
                    found.v1.entry(option.clone()).or_insert_with(|| path.clone());
                }
            }
            _ => {}
        }
    }
    found
}

/// Layout, kill, devices, and every limit.
pub(super) fn judge(texts: &HostTexts) -> Vec<Finding> {
    let host = Host { mounts: mounts(&texts.mountinfo), texts };
    let mut findings = vec![host.layout(), host.kill(), host.devices()];
    findings.extend(LimitKey::ALL.into_iter().map(|key| host.limit(key)));
    findings
}

struct Host<'t> {
    mounts: Mounts,
    texts: &'t HostTexts,
}

impl Host<'_> {
    fn layout(&self) -> Finding {
        let mode = self.mounts.mode();
        let closed: Vec<&str> = self.mounts.all().filter(|path| !self.texts.writable.contains(*path)).collect();
        if mode == "none" {
            return Finding::new("cgroups", State::Missing, "no cgroup hierarchy is mounted")
                .with_remedy("mount -t cgroup2 none /sys/fs/cgroup");
        }
        let Some(first) = closed.first() else {
            return Finding::new("cgroups", State::Ok, format!("{mode}, writable"));
        };
        Finding::new("cgroups", State::Missing, format!("{mode}, but this process may not write {first}"))
            .with_remedy("start the hive as root; in a container, give it a writable cgroup tree of its own")
            .about_caller()
    }

    fn kill(&self) -> Finding {
        let name = "cgroup_kill";
        match (self.mounts.v2.is_some(), version(&self.texts.kernel) >= (5, 14), self.mounts.v1.contains_key("freezer")) {
            (true, true, _) => Finding::new(name, State::Ok, "cgroup.kill ends a worker at one stroke"),
            (true, false, _) => Finding::new(name, State::Ok, "by freezing first: this kernel has no cgroup.kill (5.14)"),
            (false, _, true) => Finding::new(name, State::Ok, "by the v1 freezer"),
            (false, _, false) => Finding::new(name, State::Missing, "neither a v2 hierarchy nor the v1 freezer is mounted")
                .with_remedy("mount -t cgroup2 none on a directory: it needs no controller for this"),
        }
    }

    fn devices(&self) -> Finding {
        let name = "device_list";
        match (self.mounts.v2.is_some(), self.mounts.v1.contains_key("devices")) {
            (_, true) => Finding::new(name, State::Ok, "by the v1 devices controller"),
            (true, false) => Finding::new(name, State::Ok, "by an eBPF program on the worker's cgroup (needs CAP_BPF or CAP_SYS_ADMIN)"),
            (false, false) => Finding::new(name, State::Missing, "neither a v2 hierarchy nor the v1 devices controller is mounted")
                .with_remedy("mount -t cgroup2 none on a directory: it needs no controller for this"),
        }
    }

    fn limit(&self, key: LimitKey) -> Finding {
        let (controller, generation) = need(key);
        let Some(controller) = controller else {
            return Finding::new(key.name(), State::Ok, "by setrlimit(2)");
        };
        if controller == CORE {
            return match (self.mounts.v2.is_some(), generation) {
                (true, _) => Finding::new(key.name(), State::Ok, "by the v2 hierarchy itself"),
                (false, Generation::OnlyV2(file)) => Finding::new(key.name(), State::Missing, format!("cgroup v1 has no {file}"))
                    .with_remedy("mount -t cgroup2 none on a directory: it needs no controller for this"),
                (false, Generation::Both) => Finding::new(key.name(), State::Missing, "no v2 hierarchy is mounted"),
            };
        }
        let v2_has = self.texts.v2_controllers.as_deref().is_some_and(|list| list.split_whitespace().any(|c| c == controller));
        let v1_has = self.mounts.v1.contains_key(if controller == "io" { "blkio" } else { controller });
        if v2_has {
            return Finding::new(key.name(), State::Ok, format!("by the v2 controller {controller}"));
        }
        match (v1_has, generation) {
            (true, Generation::Both) if key == LimitKey::SwapMax && !self.texts.v1_memsw => {
                Finding::new(key.name(), State::Missing, "the v1 memory controller does not count swap here")
                    .with_remedy("boot with swapaccount=1")
            }
            (true, Generation::Both) => Finding::new(key.name(), State::Ok, format!("by the v1 controller {controller}")),
            (true, Generation::OnlyV2(file)) => Finding::new(key.name(), State::Missing, format!("cgroup v1 has no {file}"))
                .with_remedy("boot with systemd.unified_cgroup_hierarchy=1, or without the v1 hierarchies mounted"),
            (false, _) => Finding::new(key.name(), State::Missing, format!("no mounted hierarchy has the controller {controller}"))
                .with_remedy(format!("mount a hierarchy with {controller}; in a container, have it delegated")),
        }
    }
}

/// Which generations of cgroups can enforce a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Generation {
    Both,
    /// With the interface file that v1 lacks.
    OnlyV2(&'static str),
}

/// Stands for no controller: every cgroup of the v2 hierarchy has these files.
const CORE: &str = "cgroup";

/// A limit's controller, none where it is not a cgroup's.
fn need(key: LimitKey) -> (Option<&'static str>, Generation) {
    match key {
        LimitKey::MemoryMax | LimitKey::SwapMax => (Some("memory"), Generation::Both),
        LimitKey::MemoryHigh => (Some("memory"), Generation::OnlyV2("memory.high")),
        LimitKey::MemoryLow => (Some("memory"), Generation::OnlyV2("memory.low")),
        LimitKey::OomGroup => (Some("memory"), Generation::OnlyV2("memory.oom.group")),
        LimitKey::IoWeight | LimitKey::IoMax => (Some("io"), Generation::Both),
        LimitKey::Hugetlb => (Some("hugetlb"), Generation::Both),
        LimitKey::Dmem => (Some("dmem"), Generation::OnlyV2("dmem.max")),
        LimitKey::CgroupDescendants => (Some(CORE), Generation::OnlyV2("cgroup.max.descendants")),
        LimitKey::CgroupDepth => (Some(CORE), Generation::OnlyV2("cgroup.max.depth")),
        LimitKey::Cpus | LimitKey::CpuBurst | LimitKey::CpuWeight => (Some("cpu"), Generation::Both),
        LimitKey::Cpuset | LimitKey::Mems => (Some("cpuset"), Generation::Both),
        LimitKey::PidsMax => (Some("pids"), Generation::Both),
        // Each process has its own (LimitKey::OF_A_PROCESS).
        _ => (None, Generation::Both),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n";
    const HYBRID: &str = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
        36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
        40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n\
        41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

    fn texts(mountinfo: &str, kernel: &str) -> HostTexts {
        let writable = mounts(mountinfo).all().map(str::to_owned).collect();
        HostTexts { mountinfo: mountinfo.into(), kernel: kernel.into(), writable, ..HostTexts::default() }
    }

    fn find(texts: &HostTexts, feature: &str) -> Finding {
        judge(texts).into_iter().find(|f| f.feature == feature).unwrap()
    }

    #[test]
    fn the_layout_is_told_from_the_mounts() {
        for (mountinfo, mode) in [(V2, "unified"), (HYBRID, "hybrid"), ("", "none")] {
            assert_eq!(mounts(mountinfo).mode(), mode);
        }
        let legacy = HYBRID.lines().next().unwrap();
        assert_eq!(mounts(legacy).mode(), "legacy");
        // As the launcher has it: a hierarchy without a controller is none that it uses.
        let named_alone = HYBRID.lines().nth(2).unwrap();
        assert_eq!(mounts(named_alone).mode(), "none");
        assert_eq!(mounts(&format!("{V2}{named_alone}\n")).mode(), "unified");
    }

    #[test]
    fn on_v2_its_controllers_decide() {
        let mut host = texts(V2, "6.1.0");
        host.v2_controllers = Some("cpuset cpu memory\n".into());
        for key in ["memory_max", "memory_high", "swap_max", "cpus", "cpuset"] {
            assert_eq!(find(&host, key).state, State::Ok, "{key}");
        }
        let missing = find(&host, "pids_max");
        assert_eq!(missing.state, State::Missing);
        assert!(missing.remedy.is_some_and(|r| r.contains("pids")));
    }

    #[test]
    fn on_v1_what_it_never_had_is_missing() {
        let mut host = texts(HYBRID, "6.1.0");
        assert_eq!(find(&host, "memory_max").state, State::Ok);
        assert_eq!(find(&host, "cpus").state, State::Ok);
        let high = find(&host, "memory_high");
        assert_eq!((high.state, high.detail.as_str()), (State::Missing, "cgroup v1 has no memory.high"));
        assert_eq!(find(&host, "oom_group").detail, "cgroup v1 has no memory.oom.group");
        assert_eq!(find(&host, "swap_max").state, State::Missing);
        host.v1_memsw = true;
        assert_eq!(find(&host, "swap_max").state, State::Ok);
    }

    #[test]
    fn a_tree_that_cannot_be_written_is_missing() {
        let mut host = texts(V2, "6.1.0");
        assert_eq!(find(&host, "cgroups").state, State::Ok);
        host.writable.clear();
        assert_eq!(find(&host, "cgroups").state, State::Missing);
    }

    #[test]
    fn an_old_kernel_kills_by_freezing() {
        assert!(find(&texts(V2, "5.10.0-30"), "cgroup_kill").detail.contains("freezing"));
        assert!(find(&texts(V2, "5.14.0"), "cgroup_kill").detail.contains("cgroup.kill ends"));
        assert_eq!(find(&texts("", "6.1"), "cgroup_kill").state, State::Missing);
    }
}
