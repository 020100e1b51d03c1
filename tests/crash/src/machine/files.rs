//! Cgroups, mounts and files.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every cgroup at and below `root`, in each hierarchy that is mounted.
pub(super) fn cgroups(root: &str) -> BTreeSet<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = table.lines().filter(|line| line.contains(" - cgroup ") || line.contains(" - cgroup2 "));
    let mut found = BTreeSet::new();
    for mount in mounts.filter_map(|line| line.split(' ').nth(4)) {
        walk(&Path::new(mount).join(root.trim_start_matches('/')), Keep::Directories, &mut found);
    }
    found
}

/// Mounts whose place is below the directory.
pub(super) fn mounts(directory: &Path) -> BTreeSet<String> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let place = |line: &str| line.split(' ').nth(4).map(str::to_owned);
    table.lines().filter_map(place).filter(|place| Path::new(place).starts_with(directory)).collect()
}

/// The hive's own records of the last stories and of leases: of bounded size, and there from the first on.
const OWN: [&str; 2] = ["state/hive/explained.json", "state/hive/leases.json"];

/// Everything in `state` and `log`.
pub(super) fn below(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    ["state", "log"].iter().for_each(|name| walk(&directory.join(name), Keep::All, &mut found));
    found.retain(|path| !OWN.iter().any(|name| *path == directory.join(name)));
    found
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Directories,
    All,
}

fn walk(top: &Path, keep: Keep, found: &mut BTreeSet<PathBuf>) {
    let Ok(entries) = fs::read_dir(top) else { return };
    found.insert(top.to_path_buf());
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), keep, found);
        } else if keep == Keep::All {
            found.insert(entry.path());
        }
    }
}
