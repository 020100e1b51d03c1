//! What an earlier launcher has left in the tree: spared where it lives on in this one, else killed and removed, but for strangers.
//!
//! Must never know: what a worker is, and who has said that it lives.

use std::collections::{BTreeMap, BTreeSet};

use rbee_hive_policy::WorkerId;

use super::detect;
use super::leaf::kill_group;
use super::removal::{self, Removal};
use super::tree::Tree;
use super::{protection, strangers};

impl Tree {
    /// Kills and removes the groups of all workers but `spared`; what is left of each that could not be removed, by the group's name.
    pub fn sweep(&mut self, spared: &BTreeSet<WorkerId>) -> BTreeMap<String, Vec<String>> {
        let spared: BTreeSet<String> = spared.iter().map(WorkerId::cgroup_name).collect();
        let workers = self.workers();
        let names = removal::worker_groups(&self.layout.hierarchies, &workers);
        let (mut removed, mut stays) = (0, BTreeMap::new());
        for name in names.into_iter().filter(|name| !spared.contains(name)) {
            match self.clear(&format!("{workers}/{name}")) {
                Removal::Done => removed += 1,
                Removal::Busy { left } => {
                    self.layout.notes.push(format!("leftover of an earlier hive: {}", left.join(", ")));
                    stays.insert(name, left);
                }
            }
        }
        if removed > 0 {
            self.layout.notes.push(format!("removed {removed} worker cgroups that an earlier hive had left"));
        }
        protection::reset(self);
        stays
    }

    /// Whose groups there are.
    pub fn worker_ids(&self) -> BTreeSet<WorkerId> {
        let names = removal::worker_groups(&self.layout.hierarchies, &self.workers());
        names.iter().filter_map(|name| WorkerId::parse(name.strip_prefix("w-")?).ok()).collect()
    }

    /// Kills what is in a group and removes it, waiting a bounded time for the processes to end. Where there are strangers in it, only ours are
    /// killed, and the group stays.
    pub(super) fn clear(&self, path: &str) -> Removal {
        let strangers = strangers::among(&self.layout.hierarchies, path);
        if !strangers.is_empty() {
            strangers::kill_ours(&self.layout.hierarchies, path);
            return Removal::Busy { left: strangers };
        }
        match kill_group(&self.layout.hierarchies, path) {
            Ok(()) => removal::remove_everywhere(&self.layout.hierarchies, path),
            Err(e) => match removal::remove_everywhere(&self.layout.hierarchies, path) {
                Removal::Done => Removal::Done,
                Removal::Busy { mut left } => {
                    left.push(e.to_string());
                    Removal::Busy { left }
                }
            },
        }
    }

    /// Kills and removes one worker's group, waiting a bounded time for its processes to end.
    pub fn discard(&self, id: &WorkerId) -> Removal {
        protection::give_back(self, id);
        self.clear(&self.group(id))
    }

    /// Whether a process with these `groups` (`/proc/<pid>/cgroup`) is where a worker's init has to be, and the worker's own leaf is there, in
    /// every hierarchy.
    ///
    /// Errors: what is otherwise.
    pub(crate) fn holds(&self, id: &WorkerId, groups: &str) -> Result<(), String> {
        let (init, worker) = (format!("{}/init", self.group(id)), format!("{}/worker", self.group(id)));
        for hierarchy in &self.layout.hierarchies {
            let at = hierarchy.mount.display();
            match detect::own_group(groups, hierarchy) {
                Some(path) if path == init => {}
                Some(path) => return Err(format!("its init is in the cgroup {path} of {at}, and has to be in {init}")),
                None => return Err(format!("its init is in no cgroup that {at} shows")),
            }
            if !hierarchy.dir(&worker).is_dir() {
                return Err(format!("its cgroup {worker} of {at} is not there"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
impl Tree {
    /// [`open_unswept`](Self::open_unswept), then everything swept.
    pub(super) fn open_in(layout: super::detect::Layout, own: &str, root: &str) -> Result<Self, super::CgroupError> {
        let mut tree = Self::open_unswept(layout, own, root)?;
        tree.sweep(&BTreeSet::new());
        Ok(tree)
    }
}
