//! What this crate makes of the kernel's own text, from the text alone: for whoever has the files of a host and not the host itself.
//!
//! Must never know: this machine.

use std::path::PathBuf;

use super::{counters, detect, values};
use crate::protocol::{CgroupMode, Resources};

/// A host's hierarchies, as its `mountinfo` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchies {
    /// What they give together.
    pub mode: CgroupMode,
    /// Where each is mounted, and the directory of the own group there, where it has one.
    pub mounts: Vec<(PathBuf, Option<PathBuf>)>,
}

/// Reads the texts of `/proc/self/mountinfo` and `/proc/self/cgroup`; every mount counts as usable.
pub fn hierarchies(mountinfo: &str, own: &str) -> Hierarchies {
    let layout = detect::layout(mountinfo, &|_| Ok(()));
    let group = |h: &detect::Hierarchy| detect::own_group(own, h).map(|path| h.dir(&path));
    Hierarchies { mode: layout.mode(), mounts: layout.hierarchies.iter().map(|h| (h.mount.clone(), group(h))).collect() }
}

/// The counters of a leaf in which the file of each figure holds what `file` gives for its name; v2 where `v1` has no file.
pub fn counters(v1: &dyn Fn(&str) -> Option<String>, v2: &dyn Fn(&str) -> Option<String>) -> Resources {
    counters::collect(&mut |home, name| match home {
        counters::Home::V1(_) => v1(name),
        counters::Home::V2 => v2(name),
    })
}

/// Whether two lists of CPUs or nodes, one written and one read back, are the same set.
pub fn same_list(wanted: &str, got: &str) -> bool {
    values::same_list(wanted, got)
}

/// Whether a memory file that reads `got` holds `wanted` bytes (`None`: no limit) on a machine with pages of 4 KiB.
pub fn same_bytes(wanted: Option<u64>, got: &str) -> bool {
    values::same_bytes(wanted, got, 4096)
}
