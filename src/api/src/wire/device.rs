//! CPUs and GPUs.

use serde::{Deserialize, Serialize};

use super::Lease;

/// A device in `device_list`. What is not known, or does not apply, is `None`.
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
}
