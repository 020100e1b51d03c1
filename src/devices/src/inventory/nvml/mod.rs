//! What NVML adds to the driver's own text, asked in a process of its own: the library can hang in the kernel for ever.
//!
//! Owns the message between helper and hive. Must never give a GPU another index: the launcher, which never asks NVML, has to mean the
//! same GPU by `GPU-1`.

mod ask;
mod helper;

use serde::{Deserialize, Serialize};

use super::{Inventory, Vendor};

pub(super) use ask::ask;
pub use helper::{NvmlHelperError, nvml_helper_main};

/// What the helper prints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Answer {
    /// What is known.
    gpus: Vec<Told>,
    /// What is not, and why; one sentence each.
    failed: Vec<String>,
}

/// One GPU as NVML tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Told {
    minor: u32,
    uuid: Option<String>,
    name: Option<String>,
    memory_bytes: Option<u64>,
}

/// Adds what was told to the GPUs with the same minor, and what was not to the notes.
pub(super) fn merge(inventory: &mut Inventory, answer: Answer) {
    for gpu in inventory.gpus.iter_mut().filter(|g| g.vendor == Vendor::Nvidia) {
        let same = |t: &&Told| gpu.nodes.iter().any(|n| n.to_str() == Some(&format!("/dev/nvidia{}", t.minor)));
        if let Some(told) = answer.gpus.iter().find(same) {
            gpu.uuid = gpu.uuid.take().or_else(|| told.uuid.clone());
            gpu.memory_bytes = gpu.memory_bytes.or(told.memory_bytes);
            if let Some(name) = &told.name {
                gpu.name.clone_from(name);
            }
        }
    }
    inventory.notes.extend(answer.failed.into_iter().map(|why| format!("NVML: {why}")));
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::Gpu;

    fn gpu(index: u32, minor: u32, uuid: Option<&str>) -> Gpu {
        Gpu {
            index,
            uuid: uuid.map(str::to_owned),
            vendor: Vendor::Nvidia,
            name: "NVIDIA GPU".into(),
            memory_bytes: None,
            pci: None,
            numa_node: None,
            nodes: vec![PathBuf::from(format!("/dev/nvidia{minor}"))],
            links: Default::default(),
            driver: None,
            mig: None,
            partitioned: false,
        }
    }

    #[test]
    fn what_nvml_tells_is_matched_by_minor_and_moves_no_index() {
        let mut inventory = Inventory { gpus: vec![gpu(0, 1, None), gpu(1, 0, Some("GPU-known"))], ..Inventory::default() };
        let told = |minor, uuid: &str| Told { minor, uuid: Some(uuid.into()), name: Some("H100".into()), memory_bytes: Some(5) };
        merge(&mut inventory, Answer { gpus: vec![told(0, "GPU-zero"), told(1, "GPU-one")], failed: vec!["GPU 2 is lost".into()] });
        assert_eq!(
            inventory.gpus.iter().map(|g| (g.index, g.uuid.as_deref(), g.memory_bytes)).collect::<Vec<_>>(),
            [(0, Some("GPU-one"), Some(5)), (1, Some("GPU-known"), Some(5))]
        );
        assert_eq!(inventory.notes, ["NVML: GPU 2 is lost"]);
    }
}
