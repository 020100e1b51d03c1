//! What init and launcher tell of a sandbox that is looked at. Observations only: what they mean is decided by [`crate::verify`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A process's namespaces: kind (`mnt`, `net`, …) to the kernel's number.
pub type Namespaces = BTreeMap<String, u64>;

/// One line of a mount table, without what the host may change by itself (source, root, options of the file system).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MountSeen {
    /// The kernel's number of the mount.
    pub id: u32,
    /// The mount that it is on.
    pub parent: u32,
    /// `major:minor` of what is mounted.
    pub device: String,
    /// Where, inside the sandbox.
    pub point: String,
    /// `ro`, `nosuid` and so on, as listed.
    pub options: String,
    /// `shared:N`, `master:N` and so on; empty for a private mount.
    pub propagation: String,
    /// Type of the file system.
    pub kind: String,
}

/// A limit of `/proc/<pid>/limits`; `None` is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// What is in force.
    pub soft: Option<u64>,
    /// Up to where the process may raise it.
    pub hard: Option<u64>,
}

/// A sandbox as it was right after `execve`: nothing of this can change by the worker's own doing, but for what narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    /// Its mount table.
    pub mounts: Vec<MountSeen>,
    /// `/proc/<pid>/cgroup` of the worker's own process, by line.
    pub groups: Vec<String>,
    /// Its resource limits, by the names of `/proc/<pid>/limits`.
    pub limits: BTreeMap<String, Rlimit>,
    /// Seccomp filters that it has at least; `None` where the kernel does not count them (before 5.9).
    pub filters: Option<u32>,
    /// What could not be read.
    pub unseen: Vec<String>,
}

/// Where a descriptor leads that no mount and no socket table of the sandbox knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A file on this mount, which is in no table of the sandbox.
    Mount {
        /// The kernel's number of the mount.
        id: u32,
    },
    /// A Unix socket of another network namespace.
    Socket,
    /// A namespace.
    Namespace {
        /// Kind as in `/proc/<pid>/ns`.
        kind: String,
        /// The kernel's number.
        number: u64,
    },
}

/// A descriptor that leads somewhere noteworthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number.
    pub number: u32,
    /// As `/proc/<pid>/fd` shows it, cut.
    pub target: String,
    /// Where it leads.
    pub place: Place,
}

/// One process of the sandbox, by its number inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InsideProcess {
    /// Inside.
    pub pid: i32,
    /// `comm`
    pub name: String,
    /// Index into [`Inside::groups`]; `None` where it could not be read.
    pub groups: Option<usize>,
    /// Index into [`Inside::namespaces`]; `None` where they could not be read.
    pub namespaces: Option<usize>,
    /// Descriptors that lead somewhere noteworthy; `None` where they could not be read.
    pub descriptors: Option<Vec<Descriptor>>,
}

/// A sandbox as its init sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inside {
    /// The init's own namespaces.
    pub own: Namespaces,
    /// Distinct contents of `/proc/<pid>/cgroup`.
    pub groups: Vec<String>,
    /// Distinct sets of namespaces.
    pub namespaces: Vec<Namespaces>,
    /// Every process but the init that `/proc` lists.
    pub processes: Vec<InsideProcess>,
    /// Who is in the worker's leaf, by the numbers inside.
    pub members: Vec<i32>,
    /// What was not looked at, or could not be.
    pub unseen: Vec<String>,
}

impl Inside {
    /// Whether a process of this number is in the sandbox.
    pub fn knows(&self, pid: i32) -> bool {
        self.members.contains(&pid) || self.processes.iter().any(|p| p.pid == pid)
    }
}

/// The device program of a worker's v2 leaf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSeen {
    /// The one that was attached when the leaf was made; `None` where there was none.
    pub ours: Option<u32>,
    /// Those that are attached now.
    pub attached: Vec<u32>,
    /// Why that could not be read.
    pub error: Option<String>,
}
