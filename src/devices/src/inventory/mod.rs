//! The machine's devices as the kernel and the drivers tell of them.
//!
//! Owns the indices: `GPU-n` counts NVIDIA's GPUs by PCI address, then AMD's and Intel's by render node, and the hive and the launcher
//! must come to the same. Must never know who holds a device.

mod cpu;
mod drm;
#[cfg(test)]
mod fake;
mod nvidia;
mod nvml;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::chain::chain;

pub use nvml::{NvmlHelperError, nvml_helper_main};

/// The source of a real machine's inventory.
pub(crate) const HOST: &str = "host";

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
    /// Fast links, by the other GPU's index.
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
}

impl Inventory {
    /// The real machine, without asking NVML: for the launcher, which must not wait for a driver.
    pub fn probe() -> Self {
        Self::probe_below(Path::new("/"))
    }

    fn probe_below(root: &Path) -> Self {
        let mut inventory = Self::probe_cpus(root);
        inventory.gpus = nvidia::probe(root, &mut inventory.notes);
        inventory.shared = nvidia::shared_nodes(root, &inventory.gpus);
        let (others, shared) = drm::probe(root, inventory.gpus.len());
        inventory.gpus.extend(others);
        inventory.shared.extend(shared);
        if inventory.gpus.is_empty() {
            inventory.notes.push(format!("no GPU: {}, and there is no AMD or Intel render node below {}", nvidia_lack(root), drm::DRM));
        }
        inventory
    }

    /// CPUs and NUMA nodes alone.
    pub(crate) fn probe_cpus(root: &Path) -> Self {
        let mut notes = Vec::new();
        let (cpus, nodes) = cpu::probe(root, &mut notes);
        Self { cpus, nodes, source: HOST.into(), notes, ..Self::default() }
    }

    /// The real machine, with what NVML adds (memory, UUIDs where the driver's text has none). `helper` is a command that calls
    /// [`nvml_helper_main`]; it is killed at `deadline`, because a driver can hang for ever. Starts no thread.
    pub fn probe_with_helper(helper: &[OsString], deadline: Duration) -> Self {
        let mut inventory = Self::probe();
        if inventory.gpus.iter().any(|g| g.vendor == Vendor::Nvidia) {
            match nvml::ask(helper, deadline) {
                Ok(answer) => nvml::merge(&mut inventory, answer),
                Err(e) => inventory.notes.push(format!("NVML tells nothing: {}", chain(&e))),
            }
        }
        inventory
    }

    /// The GPU of this index.
    pub fn gpu(&self, index: u32) -> Option<&Gpu> {
        self.gpus.iter().find(|g| g.index == index)
    }
}

/// Why NVIDIA's driver tells of no GPU.
fn nvidia_lack(root: &Path) -> String {
    let (driver, gpus) = ("/proc/driver/nvidia", nvidia::GPUS);
    if root.join("proc/driver/nvidia").exists() {
        format!("{gpus} lists none that can be used (the driver is loaded: is the GPU visible in this container or VM?)")
    } else {
        format!("there is no {driver} (NVIDIA's driver is not loaded)")
    }
}

#[cfg(test)]
mod tests {
    use super::fake::host;
    use super::*;

    const H100: (&str, &str) = ("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: H100\nDevice Minor: 0\n");

    #[test]
    fn a_host_without_a_gpu_says_why() {
        let note = |files: &[(&str, &str)]| Inventory::probe_below(host(files).path()).notes.pop().unwrap();
        let text = note(&[]);
        assert!(text.contains("no /proc/driver/nvidia") && text.contains("render node below /sys/class/drm"), "{text}");
        assert!(note(&[("proc/driver/nvidia/version", "x")]).contains("the driver is loaded"));
    }

    #[test]
    fn nvidia_comes_first_and_nothing_but_the_gpus_nodes_is_shared() {
        let root = host(&[
            H100,
            ("dev/nvidia0", ""),
            ("dev/nvidiactl", ""),
            ("dev/kfd", ""),
            ("sys/class/drm/renderD128/device/vendor", "0x1002\n"),
        ]);
        let inventory = Inventory::probe_below(root.path());
        assert_eq!(inventory.gpus.iter().map(|g| (g.index, g.vendor)).collect::<Vec<_>>(), [(0, Vendor::Nvidia), (1, Vendor::Amd)]);
        assert_eq!(inventory.shared, ["/dev/nvidiactl", "/dev/kfd"].map(PathBuf::from));
        assert!(!inventory.notes.iter().any(|n| n.contains("no GPU")), "{:?}", inventory.notes);
    }

    #[test]
    fn the_machine_that_runs_this_has_cpus_and_says_why_it_has_no_gpu() {
        let inventory = Inventory::probe();
        assert!(!inventory.cpus.is_empty() && !inventory.nodes.is_empty());
        assert!(!inventory.gpus.is_empty() || inventory.notes.iter().any(|n| n.contains("no GPU")));
    }
}
