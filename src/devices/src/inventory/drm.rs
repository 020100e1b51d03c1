//! AMD and Intel GPUs by their render nodes.

use std::fs;
use std::path::{Path, PathBuf};

use super::cpu::{numbered, read};
use super::{Gpu, Vendor};

/// Where the kernel lists them.
pub(super) const DRM: &str = "/sys/class/drm";

/// GPUs with indices from `first` on, and what they share. `root` is `/`.
pub(super) fn probe(root: &Path, first: usize) -> (Vec<Gpu>, Vec<PathBuf>) {
    let mut gpus = Vec::new();
    for (number, path) in numbered(&root.join("sys/class/drm"), "renderD") {
        if let Ok(index) = u32::try_from(first + gpus.len()) {
            gpus.extend(gpu(&path, number, index));
        }
    }
    // All AMD GPUs are computed on through one node; which of them a process may use is decided by the render node it can open.
    let kfd = gpus.iter().any(|g| g.vendor == Vendor::Amd) && root.join("dev/kfd").exists();
    (gpus, if kfd { vec![PathBuf::from("/dev/kfd")] } else { vec![] })
}

fn gpu(path: &Path, number: u32, index: u32) -> Option<Gpu> {
    let device = path.join("device");
    let (vendor, name) = match read(device.join("vendor"))?.as_str() {
        "0x1002" => (Vendor::Amd, "AMD GPU"),
        "0x8086" => (Vendor::Intel, "Intel GPU"),
        _ => return None,
    };
    let pci = fs::canonicalize(&device).ok().and_then(|p| Some(p.file_name()?.to_string_lossy().into_owned()));
    let unique = read(device.join("unique_id"))
        .filter(|id| id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0'));
    Some(Gpu {
        index,
        // As ROCm's run-time names it.
        uuid: unique.map(|id| format!("GPU-{id}")),
        vendor,
        name: read(device.join("product_name")).filter(|n| !n.is_empty()).unwrap_or_else(|| name.into()),
        memory_bytes: read(device.join("mem_info_vram_total")).and_then(|t| t.parse().ok()),
        pci,
        // -1 where the machine has one node.
        numa_node: read(device.join("numa_node")).and_then(|n| n.parse().ok()),
        nodes: vec![PathBuf::from(format!("/dev/dri/renderD{number}"))],
        links: Default::default(),
        driver: None,
        mig: None,
        partitioned: false,
    })
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
    fn an_id_that_the_driver_does_not_know_is_no_uuid_and_kfd_is_for_amd_alone() {
        let root = host(&[("dev/kfd", "")]);
        card(root.path(), 128, "0000:03:00.0", &[("vendor", "0x8086"), ("unique_id", "\n")]);
        card(root.path(), 129, "0000:04:00.0", &[("vendor", "0x8086"), ("unique_id", "0000000000000000\n")]);
        let (gpus, shared) = probe(root.path(), 0);
        assert!(gpus.len() == 2 && gpus.iter().all(|g| g.uuid.is_none()) && shared.is_empty(), "{gpus:?} {shared:?}");
    }
}
