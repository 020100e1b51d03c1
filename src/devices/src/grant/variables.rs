//! The variables by which the vendors' runtimes choose devices.
//!
//! They hide nothing from who overrides them: what a worker can't open is decided by nodes and the device policy.

use std::collections::BTreeMap;

use super::list;
use crate::{Gpu, Inventory, Vendor};

/// For Level Zero, whose runtime takes an empty mask for none: an index that no machine has enables no device
/// (`ExecutionEnvironment::parseAffinityMask` in intel/compute-runtime).
const NO_INTEL: &str = "4095";
/// For SYCL, which has a choice of its own: every backend but Level Zero. A list of exclusions alone begins with everything.
const NO_LEVEL_ZERO: &str = "!level_zero:*";

/// Every vendor's variable is set: an absent one means "all", and an empty one means none, but for Level Zero.
///
/// CUDA is told UUIDs. The others count what a process can open, and so does CUDA where a UUID is not known: inside there is nothing but
/// the leased GPUs, and the host's index would name one that is not there, for which Vulkan's loader in llama.cpp ends the worker and ROCm shows none. HIP counts what
/// `ROCR_VISIBLE_DEVICES` has left, so that its list begins at 0 whatever that one says.
pub(super) fn variables(inventory: &Inventory, gpus: &[&Gpu]) -> BTreeMap<String, String> {
    let of = |vendor: Vendor| gpus.iter().filter(move |g| g.vendor == vendor);
    let places = |count: usize| list(0..count).unwrap_or_default();
    let nvidia = cuda_names(inventory, &of(Vendor::Nvidia).copied().collect::<Vec<_>>());
    // No Vulkan of NVIDIA's runs on a part that MIG has cut out (its MIG user guide, "Application Considerations").
    let vulkan = gpus.iter().filter(|g| g.mig.is_none()).count();
    let amd = places(of(Vendor::Amd).count());
    let amd_uuids: Option<Vec<&str>> = of(Vendor::Amd).map(|g| g.uuid.as_deref()).collect();
    let intel = places(of(Vendor::Intel).count());
    let pairs = [
        ("CUDA_VISIBLE_DEVICES", nvidia.clone().unwrap_or_default()),
        ("CUDA_DEVICE_ORDER", "PCI_BUS_ID".to_owned()),
        ("NVIDIA_VISIBLE_DEVICES", nvidia.unwrap_or_else(|| "void".to_owned())),
        ("ROCR_VISIBLE_DEVICES", amd_uuids.map_or_else(|| amd.clone(), |uuids| uuids.join(","))),
        ("HIP_VISIBLE_DEVICES", amd),
        ("ZE_AFFINITY_MASK", if intel.is_empty() { NO_INTEL.to_owned() } else { intel.clone() }),
        ("GGML_VK_VISIBLE_DEVICES", places(vulkan)),
    ];
    // Where there is an Intel GPU, SYCL may choose: there is none inside but the leased ones.
    let selector = intel.is_empty().then(|| ("ONEAPI_DEVICE_SELECTOR", NO_LEVEL_ZERO.to_owned()));
    pairs.into_iter().chain(selector).map(|(name, value)| (name.to_owned(), value)).collect()
}

/// How CUDA is told of its GPUs; `None` for none. It takes UUIDs or places, not both in one list. A part that MIG has cut out has no place
/// that CUDA knows: without a UUID of its own it is named by its parent's and its instances, as drivers before 470 had it; where that is
/// not known either it is not shown at all.
fn cuda_names(inventory: &Inventory, gpus: &[&Gpu]) -> Option<String> {
    let name = |gpu: &&Gpu| match (&gpu.uuid, &gpu.mig) {
        (Some(uuid), _) => Some(uuid.clone()),
        (None, None) => None,
        (None, Some(part)) => {
            let parent = inventory.gpu(part.parent).and_then(|parent| parent.uuid.as_ref());
            Some(parent.map_or_else(String::new, |uuid| format!("MIG-{uuid}/{}/{}", part.gpu_instance, part.compute_instance)))
        }
    };
    let names: Option<Vec<String>> = gpus.iter().map(name).collect();
    list(names.unwrap_or_else(|| (0..gpus.len()).map(|n| n.to_string()).collect()).into_iter())
}
