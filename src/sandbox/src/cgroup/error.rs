//! What can go wrong with a cgroup: one variant an act, with path and value.

use std::error::Error;
use std::io;
use std::path::PathBuf;

/// A failed act on the cgroup tree.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The root's path is not one that we work below.
    #[error("cgroup root {path:?} is not valid: {why}")]
    BadRoot {
        /// As given.
        path: String,
        /// One clause.
        why: &'static str,
    },
    /// Another hive holds the lock on this root.
    #[error("cgroup root {} is taken by another hive", path.display())]
    RootTaken {
        /// The locked directory.
        path: PathBuf,
    },
    /// The root was removed again and again while it was being locked.
    #[error("lock cgroup root {}", path.display())]
    Lock {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// `mkdir` failed.
    #[error("make cgroup {}", path.display())]
    Make {
        /// The directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// `open` failed.
    #[error("open {}", path.display())]
    Open {
        /// The file or directory.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Reading failed.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// Writing failed.
    #[error("write {value:?} to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The error.
        source: io::Error,
    },
    /// A setter of cgroups-rs failed.
    #[error("write {value:?} to {}", path.display())]
    Set {
        /// The file.
        path: PathBuf,
        /// What was written.
        value: String,
        /// The error.
        source: cgroups_rs::fs::error::Error,
    },
    /// The kernel took a value and holds another.
    #[error("{} holds {got:?} after {wanted:?} was written", path.display())]
    ReadBack {
        /// The file.
        path: PathBuf,
        /// What was written.
        wanted: String,
        /// What is there.
        got: String,
    },
    /// A limit that cannot be written as it is.
    #[error("limit {setting} cannot be set: {why}")]
    Limit {
        /// The setting's name.
        setting: String,
        /// One clause.
        why: String,
    },
    /// The device program could not be made, loaded or attached.
    #[error("{call} the device program of {}", path.display())]
    DeviceProgram {
        /// `assemble`, `load`, `attach`, `look up` or `query`.
        call: &'static str,
        /// The leaf.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
    /// A worker's cgroup of that name still holds something.
    #[error("cgroup of worker {id} is still in use: {}", left.join(", "))]
    InUse {
        /// The worker.
        id: String,
        /// What is left.
        left: Vec<String>,
    },
    /// Processes that were killed are still there.
    #[error("processes remain in the cgroup after {rounds} rounds of SIGKILL")]
    NotEmpty {
        /// Rounds of freezing and killing.
        rounds: usize,
    },
}

impl CgroupError {
    /// The `errno(3)` number, where a kernel call failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Lock { source, .. }
            | Self::Make { source, .. }
            | Self::Open { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::DeviceProgram { source, .. } => source.raw_os_error(),
            Self::Set { source, .. } => source.source()?.downcast_ref::<io::Error>()?.raw_os_error(),
            _ => None,
        }
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::RootTaken { .. } => "stop the other hive, or give this one another --cgroup-root (and --state-dir)",
            Self::BadRoot { .. } => "give an absolute path such as /rbee-hive/a, relative to each hierarchy's mount",
            Self::DeviceProgram { .. } => "CONFIG_CGROUP_BPF and CAP_BPF with CAP_NET_ADMIN (or CAP_SYS_ADMIN) are needed on cgroup v2",
            Self::Write { path, .. } | Self::Set { path, .. } | Self::ReadBack { path, .. }
                if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("cpuset.")) =>
            {
                "this host does not have these CPUs or memory nodes, or they are not granted to this cgroup"
            }
            _ if self.errno() == Some(libc::EROFS) => "the cgroup file system is mounted read-only here",
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Why a worker's leaves were not made; nothing of them is left.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct LeafError {
    /// `make cgroups`, `write limits` or `attach device program`.
    pub step: &'static str,
    /// The failed act.
    #[source]
    pub source: Box<CgroupError>,
}
