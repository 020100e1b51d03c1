//! What is on the machine at one moment, so that two moments can be compared.
//!
//! Owns: cgroups, mounts, network namespaces, processes, ports, descriptors and files. Must never know: why something is there.

mod kernel;
mod tree;

use std::collections::BTreeMap;
use std::path::PathBuf;

use nix::unistd::Pid;

pub(crate) use kernel::cgroup_mounts;

/// What a snapshot looks at.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// The hive whose descriptors are counted, and its launcher's.
    pub hive: Option<Pid>,
    /// The cgroup root whose cgroups are listed, relative to each hierarchy's mount.
    pub cgroup_root: String,
    /// The directory whose files are listed.
    pub directory: PathBuf,
}

/// How many there are of each thing, by a name a person can read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    things: BTreeMap<String, usize>,
}

impl Snapshot {
    /// Looks now.
    pub fn take(scope: &Scope) -> Self {
        let mut things = BTreeMap::new();
        let mut count = |thing: String| *things.entry(thing).or_insert(0) += 1;
        for mount in kernel::cgroup_mounts() {
            tree::folders(&mount.join(scope.cgroup_root.trim_start_matches('/')))
                .for_each(|path| count(format!("cgroup {}", path.display())));
        }
        kernel::mounts().for_each(|mount| count(format!("mount {mount}")));
        kernel::namespaces().iter().for_each(|namespace| count(format!("namespace {}", kernel::kind(namespace))));
        kernel::our_processes().for_each(|process| count(format!("process {process}")));
        kernel::listening_ports().for_each(|port| count(format!("port {port}")));
        for pid in scope.hive.into_iter().flat_map(|hive| std::iter::once(hive).chain(kernel::children(hive))) {
            kernel::descriptors(pid).for_each(|kind| count(format!("descriptor {kind}")));
        }
        tree::files(&scope.directory).for_each(|path| count(format!("file {}", path.display())));
        Self { things }
    }

    /// What there is more of than in `before`, one line each.
    pub fn more_than(&self, before: &Self) -> Vec<String> {
        let had = |thing: &String| before.things.get(thing).copied().unwrap_or(0);
        self.things
            .iter()
            .filter(|(thing, count)| **count > had(thing))
            .map(|(thing, count)| format!("{thing}: {count}, was {}", had(thing)))
            .collect()
    }

    /// Fails the test when there is more of anything than in `before`.
    ///
    /// # Panics
    /// Then; the message lists it.
    #[track_caller]
    pub fn assert_nothing_more_than(&self, before: &Self) {
        let more = self.more_than(before);
        assert!(more.is_empty(), "left behind:\n{}", more.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_file_and_a_new_port_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let scope = Scope {
            directory: directory.path().to_path_buf(),
            cgroup_root: "/rbee-hive-test-none".to_owned(),
            hive: Some(nix::unistd::getpid()),
        };
        let before = Snapshot::take(&scope);
        std::fs::write(directory.path().join("left"), "x").unwrap();
        let after = Snapshot::take(&scope);
        assert!(after.more_than(&before).iter().any(|line| line.contains("left")), "{:?}", after.more_than(&before));
        std::fs::remove_file(directory.path().join("left")).unwrap();
        assert!(!Snapshot::take(&scope).more_than(&before).iter().any(|line| line.starts_with("file ")));
    }
}
