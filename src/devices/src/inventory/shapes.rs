//! The shapes of an inventory: what a GPU, a part of one and a NUMA node is.
//!
//! Must never know where the facts come from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Who made a GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
    /// Intel.
    Intel,
}

/// One GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// `GPU-<index>`.
    pub index: u32,
    /// The driver's UUID, if it tells one.
    pub uuid: Option<String>,
    /// Who made it.
    pub vendor: Vendor,
    /// Product name.
    pub name: String,
    /// Bytes of memory, if the driver tells.
    pub memory_bytes: Option<u64>,
    /// PCI address.
    pub pci: Option<String>,
    /// Nearest NUMA node.
    pub numa_node: Option<u32>,
    /// Nodes of its own.
    pub nodes: Vec<PathBuf>,
    /// Ways to other GPUs, by their index: `nvlink`, `xgmi`, else what PCIe has in common, as `nvidia-smi topo` calls it (`pix`, `pxb`,
    /// `phb`, `node`, `sys`).
    pub links: BTreeMap<u32, String>,
    /// The kernel driver's name and, where it tells, version.
    #[serde(default)]
    pub driver: Option<String>,
    /// Set for a part of a GPU that NVIDIA's MIG has cut out; `nodes` then has the parent's node and the part's capability nodes.
    #[serde(default)]
    pub mig: Option<Mig>,
    /// Whether it is cut into MIG parts: they are leased, and it is not.
    #[serde(default)]
    pub partitioned: bool,
    /// Files of the driver that a worker needs to see, from CDI specs: always read-only.
    #[serde(default)]
    pub mounts: Vec<DriverMount>,
}

/// Which part of a GPU.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mig {
    /// Index of the GPU that it is a part of.
    pub parent: u32,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance.
    pub compute_instance: u32,
    /// `1g.10gb` and the like, if the driver tells.
    pub profile: Option<String>,
}

/// A file or directory of the host's driver and where it belongs inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverMount {
    /// On the host: absolute, without `.` and `..`.
    pub host: PathBuf,
    /// In the sandbox: likewise.
    pub inside: PathBuf,
    /// `ro`, `nosuid` and `nodev`, and `noexec` where the source says so. Never one that lets more be done.
    pub options: Vec<String>,
}

/// One NUMA node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumaNode {
    /// Its number.
    pub id: u32,
    /// Its CPUs, in list format.
    pub cpus: String,
    /// Bytes of memory; `Some(0)` for a node that has CPUs and none.
    pub memory_bytes: Option<u64>,
    /// CPUs that share a core, in list format, one entry for each core that has more than one.
    #[serde(default)]
    pub smt_siblings: Vec<String>,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// CPUs that are online, in list format.
    pub cpus: String,
    /// NUMA nodes; one for a machine that has none.
    pub nodes: Vec<NumaNode>,
    /// GPUs by index.
    pub gpus: Vec<Gpu>,
    /// Nodes that all GPUs of a vendor share.
    pub shared: Vec<PathBuf>,
    /// `host`, or the simulation's file.
    pub source: String,
    /// What could not be found out, and why.
    pub notes: Vec<String>,
    /// How far it is from the CPUs of one node to the memory of another, as the firmware tells (SLIT): 10 is a node's own memory.
    /// Empty where the kernel tells none. Nodes without CPUs are in it too.
    #[serde(default)]
    pub distances: BTreeMap<u32, BTreeMap<u32, u32>>,
    /// CPUs of each processor package (socket) by its number, in list format.
    #[serde(default)]
    pub packages: BTreeMap<u32, String>,
    /// Nodes of a simulation that stand for placement alone: nothing may be pinned to their CPUs, which this host lacks.
    #[serde(default)]
    pub placement_only: BTreeSet<u32>,
    /// Nodes of a simulation whose memory this host lacks under that number: `cpuset.mems` would not take it.
    #[serde(default)]
    pub memory_elsewhere: BTreeSet<u32>,
}

impl Gpu {
    /// One of which nothing more is known.
    pub(crate) fn new(index: u32, vendor: Vendor, name: String) -> Self {
        Self {
            index,
            uuid: None,
            vendor,
            name,
            memory_bytes: None,
            pci: None,
            numa_node: None,
            nodes: vec![],
            links: BTreeMap::new(),
            driver: None,
            mig: None,
            partitioned: false,
            mounts: vec![],
        }
    }

    /// The number that its own node ends in: NVIDIA's minor, or a render node's number.
    pub fn minor(&self) -> Option<u32> {
        let name = self.nodes.first()?.file_name()?.to_str()?;
        name.strip_prefix("nvidia").or_else(|| name.strip_prefix("renderD"))?.parse().ok()
    }
}

impl Inventory {
    /// The GPU of this index.
    pub fn gpu(&self, index: u32) -> Option<&Gpu> {
        self.gpus.iter().find(|g| g.index == index)
    }

    /// How far from the CPUs of `from` to the memory of `to`; `None` where that is not told.
    pub fn distance(&self, from: u32, to: u32) -> Option<u32> {
        self.distances.get(&from)?.get(&to).copied()
    }

    /// The CPUs of `node` that a process can be pinned to; `None` for one that is simulated for placement alone.
    pub fn pinnable_cpus<'a>(&self, node: &'a NumaNode) -> Option<&'a str> {
        (!self.placement_only.contains(&node.id)).then_some(node.cpus.as_str())
    }

    /// Whether `cpuset.mems` takes this node: it has memory (cpuset(7), EINVAL), and the host knows it by this number.
    pub fn has_memory(&self, node: &NumaNode) -> bool {
        node.memory_bytes != Some(0) && !self.memory_elsewhere.contains(&node.id)
    }
}
