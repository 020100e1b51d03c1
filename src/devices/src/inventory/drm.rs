//! AMD and Intel GPUs by their render nodes.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cpu::{numbered, read};
use super::kfd::{self, Node};
use super::{Gpu, Vendor, driver};
use crate::GpuProcess;

/// Where the kernel lists them.
pub(super) const DRM: &str = "/sys/class/drm";

/// Files that tell the size of a GPU's own memory: `amdgpu`, then `i915` and `xe` as far as their versions have one.
const MEMORY: [&str; 3] = ["mem_info_vram_total", "lmem_total_bytes", "tile0/physical_vram_size_bytes"];

/// GPUs with indices from `first` on, and what they share. `root` is `/`.
pub(super) fn probe(root: &Path, first: usize) -> (Vec<Gpu>, Vec<PathBuf>) {
    let (mut gpus, topology) = (Vec::new(), kfd::nodes(root));
    for (number, path) in numbered(&root.join("sys/class/drm"), "renderD") {
        if let Ok(index) = u32::try_from(first + gpus.len()) {
            gpus.extend(gpu(&path, (number, index), &topology).map(|gpu| versioned(root, gpu)));
        }
    }
    let indices: Vec<(u32, u32)> = gpus.iter().filter_map(|g: &Gpu| Some((g.minor()?, g.index))).collect();
    let index = |render: u32| indices.iter().find(|(minor, _)| *minor == render).map(|(_, index)| *index);
    for (from, to) in kfd::linked(&topology) {
        if let (Some(from), Some(to)) = (index(from), index(to))
            && let Some(gpu) = gpus.iter_mut().find(|g| g.index == from)
        {
            gpu.links.insert(to, "xgmi".into());
        }
    }
    // All AMD GPUs are computed on through one node; which of them a process may use is decided by the render node it can open.
    let kfd = gpus.iter().any(|g| g.vendor == Vendor::Amd) && root.join("dev/kfd").exists();
    (gpus, if kfd { vec![PathBuf::from("/dev/kfd")] } else { vec![] })
}

fn gpu(path: &Path, (number, index): (u32, u32), topology: &[Node]) -> Option<Gpu> {
    let device = path.join("device");
    let (vendor, name) = match read(device.join("vendor"))?.as_str() {
        "0x1002" => (Vendor::Amd, "AMD GPU"),
        "0x8086" => (Vendor::Intel, "Intel GPU"),
        _ => return None,
    };
    let node = topology.iter().find(|n| n.render == number && vendor == Vendor::Amd);
    let unique = read(device.join("unique_id"))
        .filter(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0'))
        .or_else(|| node?.unique_id.clone());
    let memory = MEMORY.iter().find_map(|file| read(device.join(file))?.parse().ok());
    let name = read(device.join("product_name")).filter(|n| !n.is_empty()).unwrap_or_else(|| name.into());
    Some(Gpu {
        // As ROCm's run-time names it.
        uuid: unique.map(|id| format!("GPU-{id}")),
        memory_bytes: memory.or_else(|| node?.memory_bytes),
        pci: fs::canonicalize(&device).ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned())),
        // -1 where the machine has one node.
        numa_node: read(device.join("numa_node")).and_then(|n| n.parse().ok()),
        nodes: vec![PathBuf::from(format!("/dev/dri/renderD{number}"))],
        driver: driver(&device),
        ..Gpu::new(index, vendor, name)
    })
}

/// With the version of its driver, where that is not the kernel's own and says so.
fn versioned(root: &Path, gpu: Gpu) -> Gpu {
    let version = |name: &str| read(root.join("sys/module").join(name).join("version")).filter(|v| !v.is_empty());
    let driver = gpu.driver.as_ref().map(|name| version(name).map_or_else(|| name.clone(), |version| format!("{name} {version}")));
    Gpu { driver, ..gpu }
}

/// The nodes through which the GPU at a PCI address draws: its card and its render node.
pub(crate) fn card_nodes(root: &Path, pci: &str) -> Vec<PathBuf> {
    // One component: an address that climbs out of the directory names nothing.
    let listed = if pci.contains('/') { PathBuf::new() } else { root.join("sys/bus/pci/devices").join(pci).join("drm") };
    let of = |prefix: &str| {
        numbered(&listed, prefix).into_iter().map(|(n, _)| PathBuf::from(format!("/dev/dri/{prefix}{n}"))).collect::<Vec<_>>()
    };
    [of("card"), of("renderD")].concat()
}

/// What changes about a GPU, read from sysfs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Use {
    /// Bytes in use; no file of Intel's drivers tells them.
    pub(crate) memory_used_bytes: Option<u64>,
    /// Who computes, as far as the driver lists them.
    pub(crate) processes: Option<Vec<GpuProcess>>,
}

/// The use of the GPU behind a render node; `None` where the node is gone. `root` is `/`.
pub(crate) fn used(root: &Path, render: u32) -> Option<Use> {
    let device = root.join(format!("sys/class/drm/renderD{render}/device"));
    let amd = read(device.join("vendor"))? == "0x1002";
    let memory_used_bytes = read(device.join("mem_info_vram_used")).and_then(|t| t.parse().ok());
    Some(Use { memory_used_bytes, processes: amd.then(|| kfd::processes(root, render)).flatten() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::inventory::fake::host;

    fn card(root: &Path, number: u32, pci: &str, files: &[(&str, &str)]) {
        let device = root.join("sys/devices").join(pci);
        fs::create_dir_all(&device).unwrap();
        for (name, text) in files {
            fs::write(device.join(name), text).unwrap();
        }
        let class = root.join(format!("sys/class/drm/renderD{number}"));
        fs::create_dir_all(&class).unwrap();
        symlink(&device, class.join("device")).unwrap();
    }

    #[test]
    fn amd_and_intel_are_told_by_their_render_nodes_and_others_left_out() {
        let root = host(&[("dev/kfd", ""), ("sys/class/drm/version", "x"), ("sys/class/drm/card0/device/vendor", "0x1002")]);
        card(root.path(), 1000, "0000:09:00.0", &[("vendor", "0x8086\n"), ("numa_node", "-1\n")]);
        card(root.path(), 129, "0000:07:00.0", &[("vendor", "0x10de\n")]);
        let amd =
            [("vendor", "0x1002\n"), ("unique_id", "1a2b3c4d5e6f7081\n"), ("mem_info_vram_total", "17163091968\n"), ("numa_node", "1\n")];
        card(root.path(), 128, "0000:03:00.0", &amd);
        let (gpus, shared) = probe(root.path(), 2);
        let told = |g: &Gpu| (g.index, g.vendor, g.nodes[0].display().to_string(), g.pci.clone().unwrap(), g.numa_node);
        assert_eq!(
            gpus.iter().map(told).collect::<Vec<_>>(),
            [
                (2, Vendor::Amd, "/dev/dri/renderD128".into(), "0000:03:00.0".into(), Some(1)),
                (3, Vendor::Intel, "/dev/dri/renderD1000".into(), "0000:09:00.0".into(), None),
            ]
        );
        assert_eq!((gpus[0].uuid.as_deref(), gpus[0].memory_bytes), (Some("GPU-1a2b3c4d5e6f7081"), Some(17_163_091_968)));
        assert_eq!(shared, [PathBuf::from("/dev/kfd")]);
    }

    #[test]
    fn the_driver_is_where_its_link_leads_with_its_version_and_what_kfd_knows_fills_the_gaps() {
        let root = host(&[
            ("sys/module/amdgpu/version", "6.8.5\n"),
            ("sys/class/kfd/kfd/topology/nodes/1/properties", "unique_id 255\ndrm_render_minor 128\n"),
            ("sys/class/kfd/kfd/topology/nodes/1/mem_banks/0/properties", "size_in_bytes 4096\n"),
            ("sys/class/kfd/kfd/topology/nodes/1/io_links/0/properties", "type 11\nnode_to 2\n"),
            ("sys/class/kfd/kfd/topology/nodes/2/properties", "drm_render_minor 129\n"),
        ]);
        card(root.path(), 128, "0000:03:00.0", &[("vendor", "0x1002")]);
        card(root.path(), 129, "0000:04:00.0", &[("vendor", "0x1002")]);
        card(root.path(), 130, "0000:05:00.0", &[("vendor", "0x8086"), ("lmem_total_bytes", "8192\n")]);
        for (pci, name) in [("0000:03:00.0", "amdgpu"), ("0000:05:00.0", "xe")] {
            symlink(format!("../../bus/pci/drivers/{name}"), root.path().join("sys/devices").join(pci).join("driver")).unwrap();
        }
        let gpus = probe(root.path(), 0).0;
        let told = |g: &Gpu| (g.uuid.clone(), g.memory_bytes, g.driver.clone());
        assert_eq!(told(&gpus[0]), (Some("GPU-00000000000000ff".into()), Some(4096), Some("amdgpu 6.8.5".into())));
        assert_eq!(told(&gpus[2]), (None, Some(8192), Some("xe".into())));
        assert_eq!((gpus[0].links.get(&1).map(String::as_str), gpus[1].links.get(&0).map(String::as_str)), (Some("xgmi"), Some("xgmi")));
    }

    #[test]
    fn use_is_what_sysfs_tells_and_nothing_of_a_gpu_that_is_gone() {
        let root = host(&[]);
        card(root.path(), 128, "0000:03:00.0", &[("vendor", "0x1002"), ("mem_info_vram_used", "77\n")]);
        card(root.path(), 129, "0000:04:00.0", &[("vendor", "0x8086")]);
        assert_eq!(used(root.path(), 128), Some(Use { memory_used_bytes: Some(77), processes: None }));
        assert_eq!(used(root.path(), 129), Some(Use { memory_used_bytes: None, processes: None }));
        assert_eq!(used(root.path(), 130), None);
    }

    #[test]
    fn an_id_that_the_driver_does_not_know_is_no_uuid_and_kfd_is_for_amd_alone() {
        let root = host(&[("dev/kfd", "")]);
        card(root.path(), 128, "0000:03:00.0", &[("vendor", "0x8086"), ("unique_id", "\n")]);
        card(root.path(), 129, "0000:04:00.0", &[("vendor", "0x8086"), ("unique_id", "0000000000000000\n")]);
        let (gpus, shared) = probe(root.path(), 0);
        assert!(gpus.len() == 2 && gpus.iter().all(|g| g.uuid.is_none()) && shared.is_empty(), "{gpus:?} {shared:?}");
    }
}
