//! CPUs and GPUs.

use serde::{Deserialize, Serialize};

/// A device in `device_list`. What is not known, or does not apply, is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// PCI address.
    pub pci: Option<String>,
    /// Nearest NUMA node.
    pub numa_node: Option<u32>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
    /// CPUs, in list format.
    pub cpus: Option<String>,
    /// Device nodes.
    pub nodes: Vec<String>,
    /// Who holds it.
    pub lease: Option<String>,
    /// Processes on it that are no worker's.
    pub foreign: Vec<i32>,
}
