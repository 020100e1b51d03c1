//! What of one hive is on the machine, seen from outside: the kernel is asked, never the hive.
//!
//! Owns: which process, cgroup, socket, mount and file is that hive's. Must never know: which of them should be there.

mod files;
mod processes;
mod sockets;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

pub use processes::{Life, descriptors};

/// By what a hive's things are told from those of others.
#[derive(Clone, Debug)]
pub struct Owner {
    /// The fixture's directory: programs in `bin`, `state`, `log`.
    pub directory: PathBuf,
    /// The root of its cgroups, relative to each hierarchy's mount.
    pub cgroup_root: String,
    /// Its workers' ports.
    pub ports: RangeInclusive<u16>,
}

/// Everything of one hive at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Processes by pid, with the name of their program; dead ones that nobody has reaped are `zombie`.
    pub processes: BTreeMap<i32, String>,
    /// Cgroups below the root, of every hierarchy.
    pub cgroups: BTreeSet<PathBuf>,
    /// Ports on which something listens, and Unix sockets that are bound.
    pub sockets: BTreeSet<String>,
    /// Mounts of this namespace that lie in its directory.
    pub mounts: BTreeSet<String>,
    /// Files and directories below `state` and `log`.
    pub files: BTreeSet<PathBuf>,
}

impl Machine {
    /// Looks now.
    pub fn look(owner: &Owner) -> Self {
        Self {
            processes: processes::of(&owner.directory),
            cgroups: files::cgroups(&owner.cgroup_root),
            sockets: sockets::bound(&owner.directory, &owner.ports),
            mounts: files::mounts(&owner.directory),
            files: files::below(&owner.directory),
        }
    }

    /// How the things of this moment differ from those of another, pids aside; one line each.
    pub fn differences(&self, wanted: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        compare("cgroup", &self.cgroups, &wanted.cgroups, &mut lines);
        compare("socket", &self.sockets, &wanted.sockets, &mut lines);
        compare("mount", &self.mounts, &wanted.mounts, &mut lines);
        compare("file", &self.files, &wanted.files, &mut lines);
        let (have, want) = (self.by_name(), wanted.by_name());
        for name in have.keys().chain(want.keys()).collect::<BTreeSet<_>>() {
            let (have, want) = (have.get(name).copied().unwrap_or(0), want.get(name).copied().unwrap_or(0));
            if have != want {
                lines.push(format!("{have} processes {name}, should be {want}"));
            }
        }
        lines
    }

    fn by_name(&self) -> BTreeMap<&str, usize> {
        let mut count = BTreeMap::new();
        self.processes.values().for_each(|name| *count.entry(name.as_str()).or_insert(0) += 1);
        count
    }
}

fn compare<T: Ord + std::fmt::Debug>(kind: &str, have: &BTreeSet<T>, want: &BTreeSet<T>, lines: &mut Vec<String>) {
    lines.extend(have.difference(want).map(|thing| format!("{kind} {thing:?} is left")));
    lines.extend(want.difference(have).map(|thing| format!("{kind} {thing:?} is gone")));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_and_what_is_missing_is_told_and_a_pid_is_neither() {
        let mut before = Machine::default();
        before.processes.insert(7, "mock-worker".into());
        before.cgroups.insert("/a".into());
        let mut after = before.clone();
        after.processes = [(8, "mock-worker".to_owned())].into();
        assert_eq!(after.differences(&before), [""; 0]);
        after.processes.insert(9, "zombie".into());
        after.cgroups = ["/b".into()].into();
        let told = after.differences(&before);
        assert_eq!(told, ["cgroup \"/b\" is left", "cgroup \"/a\" is gone", "1 processes zombie, should be 0"]);
    }
}
