//! The tree of one hive: opened under a lock, described, and taken down again.
//!
//! Must never know: what runs in it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rbee_hive_policy::{LimitKey, WorkerId};

use crate::protocol::{CgroupFacts, CgroupMode};

use super::delegate::{self, Enabled};
use super::detect::{self, Hierarchy, Layout, Version};
use super::device_policy::Programs;
use super::error::CgroupError;
use super::files;
use super::interface;
use super::leaf::{self, kill_group};
use super::limits;
use super::protection;
use super::removal::{self, Removal};
use super::root::{check_root, default_below, leave, lock, make_path};

/// Our subtree in every hierarchy. Removed by [`Tree::destroy`], not on drop: a launcher that dies leaves it to the next hive.
#[derive(Debug)]
pub struct Tree {
    pub(super) layout: Layout,
    pub(super) root: String,
    pub(super) programs: RefCell<Programs>,
    pub(super) host_swaps: bool,
    pub(super) host_weighs_io: bool,
    lock: Option<OwnedFd>,
    origins: Vec<Option<PathBuf>>,
    pub(super) created_parents: Vec<PathBuf>,
    enabled: Vec<Enabled>,
    delegation_notes: Vec<String>,
}

impl Tree {
    /// Finds the host's layout and makes `<root>`, `<root>/hive` and `<root>/workers` in every hierarchy; leftovers of an earlier hive are
    /// killed and removed. `root` is relative to each mount; where it is `None` it is `default_root` (below the own v2 group for
    /// those who are not root). Where nothing can be written the mode is `none`, with the reason in the notes.
    ///
    /// Errors: `BadRoot`, `RootTaken`, and what fails below a root that could be made.
    pub fn open(root: Option<&str>, default_root: &str) -> Result<Self, CgroupError> {
        let mounts = read_proc("/proc/self/mountinfo")?;
        let layout = detect::layout(&mounts, &detect::usable_here);
        let own = read_proc("/proc/self/cgroup")?;
        match root {
            Some(given) => Self::open_in(layout, &own, given),
            None => {
                let mut tree = Self::open_in(layout.clone(), &own, &default_below(&layout, &own, default_root))?;
                tree.adopt_parents(default_root);
                Ok(tree)
            }
        }
    }

    /// The parents of the default root are shared by all hives that use it: the last one to go removes them, whoever made them.
    pub(super) fn adopt_parents(&mut self, default_root: &str) {
        let base = self.root.strip_suffix(default_root).unwrap_or_default();
        let ends = default_root.match_indices('/').map(|(at, _)| at).filter(|at| *at > 0);
        let parents: Vec<String> = ends.map(|at| format!("{base}{}", &default_root[..at])).collect();
        self.created_parents = self.layout.hierarchies.iter().flat_map(|h| parents.iter().map(|p| h.dir(p))).collect();
        protection::reset(self);
    }

    /// [`open`](Self::open) in a known layout; `own` is the text of `/proc/self/cgroup`.
    pub(super) fn open_in(layout: Layout, own: &str, root: &str) -> Result<Self, CgroupError> {
        check_root(root)?;
        let mut tree = Self {
            layout,
            root: root.to_owned(),
            programs: RefCell::default(),
            host_weighs_io: false,
            host_swaps: interface::read(Path::new("/proc/swaps")).is_ok_and(|t| t.lines().count() > 1),
            lock: None,
            origins: Vec::new(),
            created_parents: Vec::new(),
            enabled: Vec::new(),
            delegation_notes: Vec::new(),
        };
        tree.host_weighs_io = files::weighs_io(tree.v2());
        if let Err(e) = tree.make_roots() {
            tree.destroy();
            return Err(e);
        }
        tree.origins =
            tree.layout.hierarchies.iter().map(|h| detect::own_group(own, h).map(|path| h.dir(&path)).filter(|dir| dir.is_dir())).collect();
        if let Err(e) = tree.prepare() {
            tree.destroy();
            return Err(e);
        }
        Ok(tree)
    }

    /// Makes and locks the root in every hierarchy; one that refuses is dropped with a note.
    fn make_roots(&mut self) -> Result<(), CgroupError> {
        let mut kept = Vec::new();
        let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for hierarchy in std::mem::take(&mut self.layout.hierarchies) {
            match make_path(&hierarchy, &self.root, &mut self.created_parents) {
                Ok(()) => {}
                Err(e) => {
                    let why = std::error::Error::source(&e).map_or_else(|| e.to_string(), ToString::to_string);
                    refused.entry(why).or_default().push(hierarchy.mount.display().to_string());
                    continue;
                }
            }
            if self.lock.is_none() {
                self.lock = Some(lock(&hierarchy, &self.root, &mut self.created_parents)?);
            }
            kept.push(hierarchy);
        }
        self.layout.hierarchies = kept;
        self.layout
            .notes
            .extend(refused.iter().map(|(why, mounts)| detect::unused(mounts, &format!("{} can't be made there: {why}", self.root))));
        if self.layout.hierarchies.is_empty() && self.layout.notes.is_empty() {
            self.layout.notes.push("no cgroup file system is mounted here".to_owned());
        }
        Ok(())
    }

    /// Leftovers away, our two groups made, ourselves out of the way of v2's no-internal-process rule, controllers enabled.
    fn prepare(&mut self) -> Result<(), CgroupError> {
        self.sweep();
        for hierarchy in &self.layout.hierarchies {
            for part in ["", "/hive", "/workers"] {
                let dir = hierarchy.dir(&format!("{}{part}", self.root));
                interface::make(&dir)?;
                if hierarchy.has("cpuset") {
                    delegate::seed_cpuset(&dir)?;
                }
            }
        }
        if self.sits_above_root()
            && let Some(v2) = self.v2()
        {
            interface::write(&v2.dir(&format!("{}/hive/cgroup.procs", self.root)), "0")?;
        }
        self.settle();
        protection::reset(self);
        Ok(())
    }

    fn sweep(&mut self) {
        let workers = format!("{}/workers", self.root);
        let names = removal::worker_groups(&self.layout.hierarchies, &workers);
        let mut removed = 0;
        for name in &names {
            match self.clear(&format!("{workers}/{name}")) {
                Removal::Done => removed += 1,
                Removal::Busy { left } => self.layout.notes.push(format!("leftover of an earlier hive: {}", left.join(", "))),
            }
        }
        if removed > 0 {
            self.layout.notes.push(format!("removed {removed} worker cgroups that an earlier hive had left"));
        }
    }

    /// Kills what is in a group and removes it, waiting a bounded time for the processes to end.
    pub(super) fn clear(&self, path: &str) -> Removal {
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

    /// Enables the v2 controllers that are still missing on the way to the workers. Done again once the hive is out of the way.
    fn settle(&mut self) {
        self.delegation_notes.clear();
        let Some(v2) = self.v2().cloned() else { return };
        let mut level = v2.mount.clone();
        let path = format!("{}/workers", self.root);
        self.delegation_notes.extend(delegate::enable(&level, &mut self.enabled));
        for part in path.split('/').filter(|p| !p.is_empty()) {
            level.push(part);
            self.delegation_notes.extend(delegate::enable(&level, &mut self.enabled));
        }
        // On the real root there is no rule to make room for, and others may have come to rely on it.
        self.enabled.retain(|e| e.dir != v2.mount || !leaf::is_v2_root(&e.dir));
    }

    /// Whether this process sits, in a v2 group other than the real root, above our own root.
    fn sits_above_root(&self) -> bool {
        let Some(v2) = self.v2() else { return false };
        let root = v2.dir(&self.root);
        let origin = self.layout.hierarchies.iter().zip(&self.origins).find(|(h, _)| h.version == Version::V2);
        matches!(origin, Some((_, Some(dir))) if root.starts_with(dir) && !leaf::is_v2_root(dir))
    }

    pub(super) fn v2(&self) -> Option<&Hierarchy> {
        self.layout.hierarchies.iter().find(|h| h.version == Version::V2)
    }

    pub(super) fn v1(&self, controller: &str) -> Option<&Hierarchy> {
        self.layout.hierarchies.iter().find(|h| h.has(controller))
    }

    /// v2 controllers that a worker's group can have.
    pub(super) fn v2_controllers(&self) -> BTreeSet<String> {
        self.v2().map(|h| delegate::words(&h.dir(&self.workers()), "cgroup.subtree_control")).unwrap_or_default()
    }

    /// `<root>/workers`.
    pub(super) fn workers(&self) -> String {
        format!("{}/workers", self.root)
    }

    /// A worker's group, which holds its two leaves.
    pub(super) fn group(&self, id: &WorkerId) -> String {
        format!("{}/workers/{}", self.root, id.cgroup_name())
    }

    /// What the hive needs to know: mode, root, mounts, notes.
    pub fn facts(&self) -> CgroupFacts {
        let mut mounts = BTreeMap::new();
        for hierarchy in &self.layout.hierarchies {
            let mount = hierarchy.mount.to_string_lossy().into_owned();
            match hierarchy.version {
                Version::V2 => drop(mounts.insert("unified".to_owned(), mount)),
                Version::V1 => mounts.extend(hierarchy.controllers.iter().map(|c| (c.clone(), mount.clone()))),
            }
        }
        let notes = self.layout.notes.iter().chain(&self.delegation_notes).cloned().collect();
        CgroupFacts { mode: self.layout.mode(), root: self.root.clone(), mounts, notes }
    }

    /// Limits that this tree cannot enforce, each with its reason. `open_files` is no cgroup limit and never listed.
    pub fn unenforceable(&self) -> BTreeMap<LimitKey, String> {
        limits::unenforceable(self)
    }

    /// Sizes of huge pages that a worker's group can bound, bytes.
    pub(crate) fn huge_pages(&self) -> BTreeSet<u64> {
        let dir = files::files(LimitKey::Hugetlb).and_then(|f| files::home(self, &f, &format!("{}/hive", self.root)));
        dir.map(|(_, dir)| super::named::page_sizes(&dir)).unwrap_or_default()
    }

    /// Regions of device memory, which the root of the v2 tree alone lists.
    pub(crate) fn dmem_regions(&self) -> BTreeSet<String> {
        let text = self.v2().and_then(|h| interface::read(&h.mount.join("dmem.capacity")).ok()).unwrap_or_default();
        text.lines().filter_map(|line| Some(line.rsplit_once(' ')?.0.to_owned())).collect()
    }

    /// Moves the hive into `<root>/hive`: where it `stays`, only out of the way of v2's no-internal-process rule, else in every hierarchy.
    /// [`destroy`](Self::destroy) moves it back. `pid` is that of a process with one thread, and known to live.
    ///
    /// Errors: `Write`, for the first group that does not take it.
    pub fn take_in(&mut self, pid: i32, stays: bool) -> Result<(), CgroupError> {
        let in_the_way = self.sits_above_root();
        for (hierarchy, _) in self.layout.hierarchies.iter().zip(&self.origins).filter(|(_, origin)| origin.is_some()) {
            if !stays || (in_the_way && hierarchy.version == Version::V2) {
                interface::write(&hierarchy.dir(&format!("{}/hive/cgroup.procs", self.root)), &pid.to_string())?;
            }
        }
        if in_the_way {
            self.settle();
        }
        Ok(())
    }

    /// Moves this process, which has one thread, into `<root>/hive`, out of its starter's limits and into one on tasks; [`destroy`](Self::destroy)
    /// moves it back.
    ///
    /// Errors: `Write`, for the first group that does not take it; those of the limit.
    pub(crate) fn enter(&self) -> Result<(), CgroupError> {
        for (hierarchy, _) in self.layout.hierarchies.iter().zip(&self.origins).filter(|(_, origin)| origin.is_some()) {
            // Unlike cgroup.procs, which v2 has alone, this waits for nobody.
            let file = if hierarchy.version == Version::V1 { "tasks" } else { "cgroup.procs" };
            interface::write(&hierarchy.dir(&format!("{}/hive/{file}", self.root)), "0")?;
        }
        limits::write_hive(self)
    }

    /// Removes a worker's leaves and group in every hierarchy, without waiting: `Busy` until its last process is gone.
    pub fn remove_leaves(&self, id: &WorkerId) -> Removal {
        protection::give_back(self, id);
        removal::remove_everywhere(&self.layout.hierarchies, &self.group(id))
    }

    /// Kills everything in a worker's group, its init included, and waits a bounded time (seconds) for it to end.
    ///
    /// Errors: as [`super::WorkerLeaf::kill`].
    pub fn kill_leaf(&self, id: &WorkerId) -> Result<(), CgroupError> {
        kill_group(&self.layout.hierarchies, &self.group(id))
    }

    /// Kills and removes all workers' groups, moves hive and launcher back to where they came from, removes the root and the parents that were made
    /// for it, and gives up the lock. Gives what is left; idempotent.
    pub fn destroy(&mut self) -> Vec<String> {
        let mut left = Vec::new();
        for name in removal::worker_groups(&self.layout.hierarchies, &self.workers()) {
            if let Removal::Busy { left: busy } = self.clear(&format!("{}/{name}", self.workers())) {
                left.extend(busy);
            }
        }
        // A group with controllers for its children takes no process: undo that before going back there.
        delegate::disable(&mut self.enabled);
        for (hierarchy, origin) in self.layout.hierarchies.iter().zip(&self.origins) {
            if let Some(origin) = origin {
                left.extend(leave(&hierarchy.dir(&format!("{}/hive", self.root)), origin));
            }
        }
        for hierarchy in &self.layout.hierarchies {
            for part in ["/workers", "/hive", ""] {
                left.extend(removal::remove_one(&hierarchy.dir(&format!("{}{part}", self.root))));
            }
        }
        protection::leave(self);
        while let Some(parent) = self.created_parents.pop() {
            // Another hive may have come to live there.
            let _ = fs::remove_dir(parent);
        }
        self.lock = None;
        left
    }

    /// Layout in use.
    pub fn mode(&self) -> CgroupMode {
        self.layout.mode()
    }
}

fn read_proc(path: &str) -> Result<String, CgroupError> {
    interface::read(Path::new(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_cgroups_is_mode_none_with_a_reason() {
        let mut tree = Tree::open_in(Layout::default(), "0::/\n", "/rbee-hive-test-none").unwrap();
        let facts = tree.facts();
        assert_eq!((facts.mode, facts.notes.len(), facts.mounts.len()), (CgroupMode::None, 1, 0));
        assert!(tree.unenforceable().contains_key(&LimitKey::MemoryMax));
        assert!(!tree.unenforceable().contains_key(&LimitKey::OpenFiles));
        tree.take_in(i32::MAX, false).unwrap();
        assert_eq!(tree.destroy(), Vec::<String>::new());
    }

    #[test]
    fn a_hierarchy_that_refuses_is_a_note_and_not_an_error() {
        let gone = Hierarchy { version: Version::V2, controllers: vec![], mount: "/proc/self/fdinfo".into(), mount_root: "/".into() };
        let layout = Layout { hierarchies: vec![gone], notes: vec![] };
        let tree = Tree::open_in(layout, "0::/\n", "/rbee-hive-test-none").unwrap();
        assert_eq!(tree.mode(), CgroupMode::None);
        assert!(
            tree.facts().notes[0].starts_with("/proc/self/fdinfo is not used: /rbee-hive-test-none can't be made there"),
            "{:?}",
            tree.facts().notes
        );
    }
}
