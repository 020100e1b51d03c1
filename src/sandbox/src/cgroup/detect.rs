//! Which cgroup hierarchies there are and how they are laid out, from `/proc/self/mountinfo` and `/proc/self/cgroup`.
//!
//! `/proc/cgroups` is not asked: kernels list controllers there whose v1 side can no longer be mounted. Must never know: our own tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use procfs::process::MountInfo;
use procfs::{FromBufRead, ProcessCGroups};

use crate::protocol::CgroupMode;

/// v1 controllers that we use, where they are mounted.
const V1_CONTROLLERS: [&str; 9] = ["memory", "pids", "cpu", "cpuacct", "cpuset", "devices", "blkio", "hugetlb", "freezer"];

/// Version of a hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// `cgroup`
    V1,
    /// `cgroup2`
    V2,
}

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hierarchy {
    /// Version.
    pub(super) version: Version,
    /// v1: controllers that we use; v2: empty.
    pub(super) controllers: Vec<String>,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// The cgroup that is at the mount point, as `/proc/self/cgroup` would name it.
    pub(super) mount_root: String,
}

impl Hierarchy {
    /// The directory of a path of ours in this hierarchy.
    pub(super) fn dir(&self, path: &str) -> PathBuf {
        self.mount.join(path.trim_start_matches('/'))
    }

    /// Whether this is the v1 hierarchy of `controller`.
    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|c| c == controller)
    }
}

/// All hierarchies that we could use, v2 first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    /// Each hierarchy once.
    pub(super) hierarchies: Vec<Hierarchy>,
    /// Why others are not among them.
    pub(super) notes: Vec<String>,
}

impl Layout {
    /// The mode that these hierarchies give.
    pub(super) fn mode(&self) -> CgroupMode {
        let v2 = self.hierarchies.iter().any(|h| h.version == Version::V2);
        let v1 = self.hierarchies.iter().any(|h| h.version == Version::V1);
        match (v2, v1) {
            (true, false) => CgroupMode::Unified,
            (true, true) => CgroupMode::Hybrid,
            (false, true) => CgroupMode::Legacy,
            (false, false) => CgroupMode::None,
        }
    }

    /// Drops the v1 hierarchies that serve for nothing but the freezer where v2 freezes and kills.
    pub(super) fn drop_needless_freezer(&mut self) {
        if self.hierarchies.iter().any(|h| h.version == Version::V2) {
            self.hierarchies.retain(|h| h.version == Version::V2 || h.controllers != ["freezer"]);
        }
    }
}

/// Reads the layout off the text of a mountinfo file; `usable` says of a mount why it can't be used.
pub(super) fn layout(mountinfo: &str, usable: &dyn Fn(&MountInfo) -> Result<(), String>) -> Layout {
    let mut found = Layout::default();
    let mut unusable: BTreeMap<String, Vec<String>> = BTreeMap::new();
    // A line that we don't understand is another file system's business.
    for mount in mountinfo.lines().filter_map(|line| MountInfo::from_line(line).ok()) {
        let Some(hierarchy) = hierarchy(&mount) else { continue };
        if let Err(why) = usable(&mount) {
            unusable.entry(why).or_default().push(hierarchy.mount.display().to_string());
            continue;
        }
        let known = found.hierarchies.iter_mut().find(|h| h.version == hierarchy.version && h.controllers == hierarchy.controllers);
        match known {
            // The same hierarchy mounted twice: the mount that shows more of it.
            Some(known) if known.mount_root.len() > hierarchy.mount_root.len() => *known = hierarchy,
            Some(_) => {}
            None => found.hierarchies.push(hierarchy),
        }
    }
    // By reason: a dozen hierarchies are often out of use for one.
    found.notes.extend(unusable.iter().map(|(why, mounts)| unused(mounts, why)));
    found.hierarchies.sort_by_key(|h| h.version == Version::V1);
    found.drop_needless_freezer();
    found
}

/// One note for all hierarchies that are out of use for one reason.
pub(super) fn unused(mounts: &[String], why: &str) -> String {
    match mounts {
        [] => String::new(),
        [mount] => format!("{mount} is not used: {why}"),
        [first, others @ ..] => format!("{first} and {} more are not used: {why}", others.len()),
    }
}

fn hierarchy(mount: &MountInfo) -> Option<Hierarchy> {
    let (version, controllers) = match mount.fs_type.as_str() {
        "cgroup2" => (Version::V2, Vec::new()),
        "cgroup" => {
            let ours: Vec<String> =
                V1_CONTROLLERS.iter().filter(|c| mount.super_options.contains_key(**c)).map(|c| (*c).to_owned()).collect();
            (Version::V1, ours)
        }
        _ => return None,
    };
    if version == Version::V1 && controllers.is_empty() {
        return None;
    }
    let mount_point = unescape(&mount.mount_point.to_string_lossy());
    Some(Hierarchy { version, controllers, mount: PathBuf::from(mount_point), mount_root: unescape(&mount.root) })
}

/// Undoes mountinfo's `\040` and the like (proc_pid_mountinfo(5)).
fn unescape(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")].iter().fold(text.to_owned(), |t, (from, to)| t.replace(from, to))
}

/// Whether a mount can be written and is the one that its mount point shows.
pub(super) fn usable_here(mount: &MountInfo) -> Result<(), String> {
    if mount.mount_options.contains_key("ro") || mount.super_options.contains_key("ro") {
        return Err("it is mounted read-only".to_owned());
    }
    let path = unescape(&mount.mount_point.to_string_lossy());
    let found = rustix::fs::stat(Path::new(&path)).map_err(|e| format!("stat says {e}"))?;
    let majmin = format!("{}:{}", rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev));
    if majmin == mount.majmin { Ok(()) } else { Err("another mount hides it".to_owned()) }
}

/// The directory, in `hierarchy`, of the group that `/proc/self/cgroup` (`text`) names; `None` where it lies outside the mount.
pub(super) fn own_group(text: &str, hierarchy: &Hierarchy) -> Option<String> {
    let groups = ProcessCGroups::from_buf_read(text.as_bytes()).ok()?;
    let ours = groups.0.into_iter().find(|g| match hierarchy.version {
        Version::V2 => g.hierarchy == 0 && g.controllers.is_empty(),
        Version::V1 => {
            let named: BTreeSet<&str> = g.controllers.iter().map(String::as_str).collect();
            hierarchy.controllers.iter().any(|c| named.contains(c.as_str()))
        }
    })?;
    below_mount(&ours.pathname, &hierarchy.mount_root)
}

/// A cgroup path relative to a mount that shows `mount_root`; starts with a slash.
fn below_mount(path: &str, mount_root: &str) -> Option<String> {
    let rest = path.strip_prefix(mount_root.trim_end_matches('/'))?;
    // Outside the cgroup namespace's root the kernel writes `/..`.
    let inside = (rest.is_empty() || rest.starts_with('/')) && !rest.split('/').any(|part| part == "..");
    inside.then(|| if rest.is_empty() { "/".to_owned() } else { rest.to_owned() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    fn all(text: &str) -> Layout {
        layout(text, &|_| Ok(()))
    }

    fn names(layout: &Layout) -> Vec<String> {
        layout.hierarchies.iter().map(|h| format!("{}={}", h.controllers.join("+"), h.mount.display())).collect()
    }

    #[test]
    fn hybrid_has_v2_first_and_leaves_the_freezer_alone() {
        let found = all(HYBRID);
        assert_eq!(found.mode(), CgroupMode::Hybrid);
        assert_eq!(names(&found), ["=/sys/fs/cgroup/unified", "cpu+cpuacct=/sys/fs/cgroup/cpu,cpuacct", "memory=/sys/fs/cgroup/memory"]);
    }

    #[test]
    fn legacy_uses_the_freezer() {
        let text: String = HYBRID.lines().filter(|l| !l.contains("cgroup2")).map(|l| format!("{l}\n")).collect();
        let found = all(&text);
        assert_eq!(found.mode(), CgroupMode::Legacy);
        assert!(found.hierarchies.iter().any(|h| h.has("freezer")));
    }

    #[test]
    fn unified_is_a_cgroup2_mount_alone_even_with_a_v1_systemd() {
        let found = all(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n40 31 0:37 / /x rw - cgroup cgroup rw,name=systemd\n",
        );
        assert_eq!(found.mode(), CgroupMode::Unified);
    }

    #[test]
    fn a_mount_that_cannot_be_used_is_a_note() {
        let found = layout(HYBRID, &|m| if m.fs_type == "cgroup2" { Err("it is mounted read-only".into()) } else { Ok(()) });
        assert_eq!(found.mode(), CgroupMode::Legacy);
        assert_eq!(found.notes, ["/sys/fs/cgroup/unified is not used: it is mounted read-only"]);
        assert_eq!(layout(HYBRID, &|_| Err("x".into())).mode(), CgroupMode::None);
    }

    #[test]
    fn each_hierarchy_is_used_once_by_its_widest_mount() {
        let twice = "1 1 0:9 /docker/abc /a rw - cgroup cgroup rw,memory\n2 1 0:9 / /b\\040c rw - cgroup cgroup rw,memory\n";
        assert_eq!(names(&all(twice)), ["memory=/b c"]);
    }

    #[test]
    fn own_group_is_relative_to_the_mount_in_containers_too() {
        let v2 = |mount_root: &str| Hierarchy {
            version: Version::V2,
            controllers: vec![],
            mount: "/sys/fs/cgroup".into(),
            mount_root: mount_root.into(),
        };
        assert_eq!(own_group("0::/user.slice/x\n", &v2("/")).as_deref(), Some("/user.slice/x"));
        assert_eq!(own_group("0::/\n", &v2("/")).as_deref(), Some("/"));
        assert_eq!(own_group("0::/docker/abc/y\n", &v2("/docker/abc")).as_deref(), Some("/y"));
        assert_eq!(own_group("0::/docker/abc\n", &v2("/docker/abc")).as_deref(), Some("/"));
        assert_eq!(own_group("0::/docker/abcd\n", &v2("/docker/abc")), None);
        assert_eq!(own_group("0::/../other\n", &v2("/")), None);
        let memory = &all(HYBRID).hierarchies[2];
        assert_eq!(own_group("4:memory:/a/b\n1:cpu,cpuacct:/c\n0::/\n", memory).as_deref(), Some("/a/b"));
        assert_eq!(own_group("0::/\n", memory), None);
    }

    proptest! {
        #[test]
        fn parsers_of_proc_files_never_panic(text in "([ -~]{0,60}\n){0,6}", mount in "[0-9]{1,3} 1 0:9 [/a-z.]{1,9} /[a-z\\\\0]{0,9} rw - cgroup2? x [a-z,=]{0,20}") {
            let found = all(&format!("{text}{mount}\n"));
            for h in &found.hierarchies {
                let _ = own_group(&text, h);
            }
        }
    }
}
