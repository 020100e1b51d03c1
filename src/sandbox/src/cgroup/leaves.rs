//! Making a worker's two leaves: all of it or nothing.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rbee_hive_policy::{DeviceNode, Limits, NotInForce, WorkerId};

use super::delegate;
use super::detect::{Hierarchy, Version};
use super::device_policy;
use super::error::{CgroupError, LeafError};
use super::interface;
use super::leaf::WorkerLeaf;
use super::limits;
use super::removal::Removal;
use super::tree::Tree;

/// A worker's leaves, ready to be cloned into and joined.
#[derive(Debug)]
pub struct Leaves {
    /// The worker's leaf relative to each hierarchy's mount; `None` in mode `none`.
    pub path: Option<String>,
    /// Limits and settings that are not in force.
    pub notes: Vec<NotInForce>,
    /// The kernel's number of the device program on the worker's v2 leaf; `None` where there is none.
    pub device_program: Option<u32>,
    init_v2: Option<OwnedFd>,
    init_tasks: Vec<OwnedFd>,
    worker_tasks: Vec<OwnedFd>,
    worker: WorkerLeaf,
}

impl Leaves {
    /// Directory of the init's v2 leaf, for CLONE_INTO_CGROUP.
    pub fn init_v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.init_v2.as_ref().map(AsFd::as_fd)
    }

    /// Directory of the worker's v2 leaf, for CLONE_INTO_CGROUP.
    pub fn worker_v2_fd(&self) -> Option<BorrowedFd<'_>> {
        self.worker.v2_fd()
    }

    /// `tasks` of the init's leaf in every v1 hierarchy: a single-threaded process joins by writing "0" to each.
    pub fn init_tasks(&self) -> &[OwnedFd] {
        &self.init_tasks
    }

    /// `tasks` of the worker's leaf in every v1 hierarchy.
    pub fn worker_tasks(&self) -> &[OwnedFd] {
        &self.worker_tasks
    }

    /// The worker's leaf for its init.
    pub fn worker_leaf(&self) -> &WorkerLeaf {
        &self.worker
    }

    /// Numbers of every descriptor that this holds, for the list of what an init keeps open.
    pub fn raw_fds(&self) -> Vec<RawFd> {
        let own = self.init_v2.iter().chain(&self.init_tasks).chain(&self.worker_tasks).map(AsRawFd::as_raw_fd);
        own.chain(self.worker.fds().iter().map(AsRawFd::as_raw_fd)).collect()
    }
}

impl Tree {
    /// Makes `w-<id>/{init,worker}` in every hierarchy, writes `limits` to `worker` (weights to
    /// `w-<id>`) and a small fixed limit to `init`, and lets `worker`
    /// use exactly `devices`. Leftovers of that name are killed and removed first.
    ///
    /// Errors: the step that failed; nothing of the new leaves is left then.
    pub fn make_leaves(&self, id: &WorkerId, limits: &Limits, devices: &[DeviceNode]) -> Result<Leaves, LeafError> {
        let made = self.try_leaves(id, limits, devices);
        if made.is_err() {
            // Nobody can have joined yet, so this does not wait.
            if let Removal::Busy { left } = self.remove_leaves(id) {
                tracing::warn!(worker = %id, ?left, "cgroups of a failed start could not be removed");
            }
        }
        made
    }

    fn try_leaves(&self, id: &WorkerId, limits: &Limits, devices: &[DeviceNode]) -> Result<Leaves, LeafError> {
        let at = |step| move |source| LeafError { step, source: Box::new(source) };
        let (init, worker) = (format!("{}/init", self.group(id)), format!("{}/worker", self.group(id)));
        self.make_groups(id).map_err(at("make cgroups"))?;
        let mut leaves = self.open_leaves(&init, &worker).map_err(at("make cgroups"))?;
        limits::write_init(self, &init).map_err(at("write limits"))?;
        leaves.notes = limits::write(self, &worker, limits).map_err(at("write limits"))?;
        let notes = self.restrict(&mut leaves, &worker, devices).map_err(at("attach device program"))?;
        leaves.notes.extend(notes);
        Ok(leaves)
    }

    /// Numbers of the device programs on a worker's v2 leaf; none without such a leaf.
    ///
    /// Errors: `Open` for a leaf that is gone, `DeviceProgram` where the kernel does not tell.
    pub fn device_programs(&self, id: &WorkerId) -> Result<Vec<u32>, CgroupError> {
        let Some(v2) = self.v2() else { return Ok(Vec::new()) };
        let path = v2.dir(&format!("{}/worker", self.group(id)));
        let leaf = interface::open_dir(&path)?;
        rbee_hive_sys::bpf::attached(leaf.as_fd()).map_err(|source| CgroupError::DeviceProgram { call: "query", path, source })
    }

    fn make_groups(&self, id: &WorkerId) -> Result<(), CgroupError> {
        let group = self.group(id);
        let exists = self.layout.hierarchies.iter().any(|h| h.dir(&group).exists());
        if exists && let Removal::Busy { left } = self.clear(&group) {
            return Err(CgroupError::InUse { id: id.to_string(), left });
        }
        for hierarchy in &self.layout.hierarchies {
            self.make_group(hierarchy, &group)?;
        }
        Ok(())
    }

    fn make_group(&self, hierarchy: &Hierarchy, group: &str) -> Result<(), CgroupError> {
        for part in ["", "/init", "/worker"] {
            let dir = hierarchy.dir(&format!("{group}{part}"));
            interface::make(&dir)?;
            if hierarchy.has("cpuset") {
                delegate::seed_cpuset(&dir)?;
            }
            if hierarchy.version == Version::V2 && part.is_empty() {
                for note in delegate::enable(&dir, &mut Vec::new()) {
                    tracing::warn!(%note, "a worker's group lacks a controller");
                }
            }
        }
        Ok(())
    }

    fn open_leaves(&self, init: &str, worker: &str) -> Result<Leaves, CgroupError> {
        let mut leaves = Leaves {
            path: (!self.layout.hierarchies.is_empty()).then(|| worker.to_owned()),
            notes: Vec::new(),
            device_program: None,
            init_v2: None,
            init_tasks: Vec::new(),
            worker_tasks: Vec::new(),
            worker: WorkerLeaf::open(&self.layout.hierarchies, worker)?,
        };
        for hierarchy in &self.layout.hierarchies {
            match hierarchy.version {
                Version::V2 => leaves.init_v2 = Some(interface::open_dir(&hierarchy.dir(init))?),
                Version::V1 => {
                    leaves.init_tasks.push(interface::open_write(&hierarchy.dir(init).join("tasks"))?);
                    leaves.worker_tasks.push(interface::open_write(&hierarchy.dir(worker).join("tasks"))?);
                }
            }
        }
        Ok(leaves)
    }

    /// Puts the device list in force: on v1 by lines, on a v2 leaf by a program, on a hybrid host by both.
    fn restrict(&self, leaves: &mut Leaves, worker: &str, devices: &[DeviceNode]) -> Result<Vec<NotInForce>, CgroupError> {
        let rules = device_policy::rules(devices);
        let v1 = self.v1("devices");
        if let Some(hierarchy) = v1 {
            device_policy::write_v1(&hierarchy.dir(worker), &rules)?;
        }
        let note = |setting: &str, why: String| Ok(vec![NotInForce { setting: setting.to_owned(), why }]);
        let (Some(fd), Some(v2)) = (leaves.worker_v2_fd(), self.v2()) else {
            return if v1.is_some() { Ok(Vec::new()) } else { note("devices", "no cgroup here can hold a device list".to_owned()) };
        };
        match self.programs.borrow_mut().attach(fd, &v2.dir(worker), &rules) {
            Ok(id) => {
                leaves.device_program = Some(id);
                Ok(Vec::new())
            }
            Err(e) if v1.is_some() => {
                let source = std::error::Error::source(&e).map(|s| format!(": {s}")).unwrap_or_default();
                note("device_program", format!("{e}{source}; the v1 devices controller enforces the list"))
            }
            // BPF_PROG_TYPE_CGROUP_DEVICE is root's; an ordinary user can make no node either, and sees only the granted ones.
            Err(e) if !rustix::process::geteuid().is_root() && e.errno() == Some(libc::EPERM) => {
                note("devices", "a device program needs root; the worker's /dev holds the granted nodes and no others".to_owned())
            }
            Err(e) => Err(e),
        }
    }
}
