//! CPUs and GPUs.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Lease;

/// A device in `device_list`. What is not known, or does not apply, is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// `CPU-0`, `GPU-0`.
    pub id: String,
    /// `cpu` or `gpu`.
    pub kind: String,
    /// Product name.
    pub name: Option<String>,
    /// The driver's UUID.
    pub uuid: Option<String>,
    /// `nvidia`, `amd` or `intel`.
    pub vendor: Option<String>,
    /// Kernel driver, with its version where it tells one.
    pub driver: Option<String>,
    /// PCI address.
    pub pci: Option<String>,
    /// The number that its own node ends in.
    pub minor: Option<u32>,
    /// Nearest NUMA node.
    pub numa_node: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// Bytes of memory in use, by whomever.
    pub memory_used_bytes: Option<u64>,
    /// CPUs, in list format.
    pub cpus: Option<String>,
    /// CPUs that share a core, in list format, one entry for each core that has more than one.
    pub smt_siblings: Vec<String>,
    /// Packages (sockets) that the CPUs are in.
    pub packages: Vec<u32>,
    /// From these CPUs to the memory of each node, by its number; 10 is its own.
    pub distances: BTreeMap<u32, u32>,
    /// Whether it stands for placement alone: a simulation's CPUs that this host lacks.
    pub placement_only: bool,
    /// Device nodes.
    pub nodes: Vec<String>,
    /// Files of the driver that a worker gets to see, read-only.
    pub mounts: Vec<DeviceMount>,
    /// Ways to other GPUs, by their names: `nvlink`, `xgmi`, `pix`, `pxb`, `phb`, `node`, `sys`.
    pub links: BTreeMap<String, String>,
    /// Which part of a GPU it is.
    pub mig: Option<DevicePart>,
    /// Whether it is cut into parts, which are leased instead.
    pub partitioned: bool,
    /// Processes on it; `None` where the driver lists none or was not asked.
    pub processes: Option<Vec<DeviceProcess>>,
    /// Why it does not answer; `None` where it does, or was not asked.
    pub silent: Option<String>,
    /// Who holds it, comma-joined.
    pub lease: Option<String>,
    /// Processes on it that are no worker's.
    pub foreign: Vec<i32>,
    /// Of a GPU: `free`, `leased`, `shared`, `releasing`, `vram_leaked`, `quarantined` or `partitioned`.
    pub state: Option<String>,
    /// Why it is not given out.
    pub state_reason: Option<String>,
    /// Its leases.
    pub leases: Vec<Lease>,
    /// Bytes of its memory that are neither leased nor, as far as is known, in use.
    pub memory_free_bytes: Option<u64>,
    /// Whether the last holder's memory was seen to be back: `measured` or `not_measured`.
    pub last_release: Option<String>,
    /// MPS daemons on it.
    pub mps: Vec<DeviceMps>,
}

/// An MPS daemon of a group of workers that share GPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceMps {
    /// Its name; it is no worker.
    pub id: String,
    /// Its process.
    pub pid: Option<i32>,
    /// `starting`, `ready`, `stopping`, …: as a worker's.
    pub state: String,
    /// Workers of its group.
    pub clients: Vec<String>,
}

/// A file or directory of the host's driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceMount {
    /// On the host.
    pub host: String,
    /// In the sandbox.
    pub inside: String,
    /// `ro` and the like.
    pub options: Vec<String>,
}

/// Which part of a GPU that MIG has cut up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DevicePart {
    /// Index of the GPU that it is a part of.
    pub parent: u32,
    /// GPU instance.
    pub gpu_instance: u32,
    /// Compute instance.
    pub compute_instance: u32,
    /// `1g.10gb` and the like.
    pub profile: Option<String>,
}

/// A process on a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DeviceProcess {
    /// Its number on the host.
    pub pid: i32,
    /// Bytes of the GPU's memory that it holds.
    pub memory_bytes: Option<u64>,
}

/// What `device_topology` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Topology {
    /// As in `device_list`.
    pub devices: Vec<Device>,
    /// What could not be found out, and why; on a machine without a GPU, why there is none.
    pub notes: Vec<String>,
    /// `host`, or the file of a simulation.
    pub source: String,
}
