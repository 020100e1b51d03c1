//! Removing by force what a broken hive left, and saying what it was.
//!
//! Owns: the cgroups below one test's own root. Must never know: anybody else's cgroups.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually::within;
use crate::snapshot::cgroup_mounts;

/// Kills every process and removes every cgroup below `root` in every hierarchy; lists what there was.
///
/// # Panics
/// When `root` is not a test's own.
pub(crate) fn cgroups(root: &str) -> Vec<String> {
    assert!(root.starts_with("/rbee-hive-test-"), "{root} is not a test's own cgroup");
    let mut found = Vec::new();
    for mount in cgroup_mounts() {
        let top = mount.join(root.trim_start_matches('/'));
        let end = Instant::now() + within(Duration::from_secs(10));
        let mut first = true;
        while top.is_dir() && Instant::now() < end {
            for folder in deepest_first(&top) {
                let processes = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
                if first {
                    found.push(format!(
                        "cgroup {} with processes {:?}",
                        folder.display(),
                        processes.split_whitespace().collect::<Vec<_>>()
                    ));
                }
                thaw(&folder);
                for pid in processes.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid > 1) {
                    // One that has ended since is what is wanted.
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                }
                let _ = fs::remove_dir(&folder);
            }
            first = false;
        }
    }
    found
}

/// A frozen cgroup keeps its killed processes.
fn thaw(folder: &Path) {
    for (file, text) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
        if folder.join(file).exists() {
            let _ = fs::write(folder.join(file), text);
        }
    }
}

fn deepest_first(top: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(top).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(deepest_first(&entry.path()));
        }
    }
    all.push(top.to_path_buf());
    all
}
