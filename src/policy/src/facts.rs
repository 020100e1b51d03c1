//! What the launcher found out about the host for one request, as values.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::{Bind, DeviceNode, Ids, LimitKey, MpsFacts, RootDirectory};

/// Whether something can be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ability {
    /// It can.
    #[default]
    There,
    /// It can't.
    Missing {
        /// One clause for a person.
        why: String,
    },
}

/// Host facts for one plan.
#[derive(Clone, Debug, Default)]
pub struct HostFacts {
    /// The worker's uid.
    pub uid: u32,
    /// The worker's gid.
    pub gid: u32,
    /// The worker's ids in a user namespace of its own.
    pub inside: Option<Ids>,
    /// The binary's path, the same on the host and inside; empty for a `run` command.
    pub binary: PathBuf,
    /// Directories of binaries that are mounted, and so end the default PATH.
    pub binary_dirs: Vec<PathBuf>,
    /// The policy's root directory, opened.
    pub root: Option<RootDirectory>,
    /// Binds of binary, libraries and model, after the policy's own.
    pub binds: Vec<Bind>,
    /// What `{model}` stands for.
    pub model: String,
    /// Listed paths that are symbolic links, with their targets.
    pub symlinks: BTreeMap<PathBuf, PathBuf>,
    /// Listed paths that the host lacks.
    pub absent: BTreeSet<PathBuf>,
    /// Granted nodes: the basic ones, the leased GPUs', the policy's.
    pub device_nodes: Vec<DeviceNode>,
    /// Variables that name the leased devices.
    pub device_env: BTreeMap<String, String>,
    /// CPUs of the lease, in list format.
    pub cpuset: Option<String>,
    /// NUMA nodes of the lease, in list format.
    pub mems: Option<String>,
    /// Leased GPUs that nothing can be placed next to, each with why.
    pub nowhere_near: Vec<String>,
    /// PCI addresses of the leased GPUs, by their names, as far as they are known.
    pub gpu_pci: BTreeMap<String, String>,
    /// Whether somebody accounts GPU memory by process, and why not.
    pub gpu_memory_watched: Ability,
    /// Its group's MPS daemon.
    pub mps: MpsFacts,
    /// CPUs that are online, in list format.
    pub host_cpus: String,
    /// Whether an ordinary user starts it, with its own uid as the only one that there is.
    pub rootless: bool,
    /// Groups that an ordinary user has beside its own and cannot drop.
    pub kept_groups: Vec<u32>,
    /// The kernel's Landlock ABI; 0 where there is none.
    pub landlock_abi: u32,
    /// Ranges of TCP ports of the hive and its workers, which no worker in the host's network may reach; empty without a hive.
    pub hive_ports: Vec<(u16, u16)>,
    /// Limits that can't be enforced here, with the reason.
    pub unenforceable: BTreeMap<LimitKey, String>,
    /// Hard limits of who starts the worker, for those that each process has; one that is missing is no bound.
    pub hard_limits: BTreeMap<LimitKey, u64>,
    /// Whether hard limits can be raised, and why not.
    pub raise_limits: Ability,
    /// Whether a worker can be put before others, and why not.
    pub raise_priority: Ability,
    /// The `nice(2)` value of who starts the worker.
    pub nice: i32,
    /// Whether memory policies can be set, and why not.
    pub memory_policy: Ability,
    /// NUMA nodes with memory, in list format.
    pub host_mems: String,
    /// Bytes of memory; `None` where it is not known.
    pub memory: Option<u64>,
    /// Bytes of swap, 0 without any; `None` where it is not known.
    pub swap: Option<u64>,
    /// Why bounds of writes to block devices hold direct and synchronous writes only; `None` where they hold all.
    pub loose_writes: Option<String>,
    /// Block devices that limits name, with the number of the whole disk; those that the host lacks are not among them.
    pub block_devices: BTreeMap<String, String>,
    /// Sizes of huge pages, bytes.
    pub huge_pages: BTreeSet<u64>,
    /// Bytes in all huge pages of a size, those that the kernel may make on demand included; a size that is missing is not known.
    pub huge_page_pools: BTreeMap<u64, u64>,
    /// Regions of device memory.
    pub dmem_regions: BTreeSet<String>,
    /// Values of the variables that the policy passes on.
    pub env: BTreeMap<String, String>,
}
