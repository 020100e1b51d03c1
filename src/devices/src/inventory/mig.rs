//! MIG: parts of NVIDIA GPUs, from what the driver lists below `/proc/driver/nvidia/capabilities`.
//!
//! A part is a compute instance; it is opened through the parent's node, the node of its GPU instance and its own
//! (`/dev/nvidia-caps/nvidia-cap<minor>`). Must never know UUIDs: procfs has none, and NVML is asked elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use super::cpu::numbered;
use super::{Gpu, Mig, Vendor};

/// More parts than any GPU can be cut into.
const MAX_PARTS: usize = 64;
/// Capabilities that configure and watch all GPUs (`mig/config`, `mig/monitor`): whoever has one is no tenant any more.
const NEVER: [u32; 2] = [1, 2];

/// The parts of all GPUs, with indices after theirs, by parent, GPU instance and compute instance. Marks the parents. `root` is `/`.
pub(super) fn probe(root: &Path, gpus: &mut [Gpu], notes: &mut Vec<String>) -> Vec<Gpu> {
    let minors = fs::read_to_string(root.join("proc/driver/nvidia-caps/mig-minors")).unwrap_or_default();
    let (first, mut parts) = (gpus.len(), Vec::new());
    for gpu in gpus.iter_mut().filter(|g| g.vendor == Vendor::Nvidia) {
        let Some(minor) = gpu.minor() else { continue };
        let instances = root.join(format!("proc/driver/nvidia/capabilities/gpu{minor}/mig"));
        for (gi, ci, path) in compute_instances(&instances) {
            // A cut that has no node yet is still a cut: the whole must not be leased.
            gpu.partitioned = true;
            let own = |name: String, path: PathBuf| file_minor(&path).or_else(|| listed(&minors, &name)).filter(|m| !NEVER.contains(m));
            let caps = (
                own(format!("gpu{minor}/gi{gi}/access"), instances.join(format!("gi{gi}/access"))),
                own(format!("gpu{minor}/gi{gi}/ci{ci}/access"), path.join("access")),
            );
            match (caps, u32::try_from(first + parts.len())) {
                ((Some(of_gpu), Some(of_compute)), Ok(index)) => parts.push(part(index, gpu, (gi, ci), [of_gpu, of_compute])),
                _ => notes.push(format!("GPU-{}: MIG instance {gi}/{ci} has no capability node that may be granted", gpu.index)),
            }
        }
    }
    parts
}

/// (GPU instance, compute instance, directory) below `instances`, in order.
fn compute_instances(instances: &Path) -> Vec<(u32, u32, PathBuf)> {
    let all = numbered(instances, "gi")
        .into_iter()
        .flat_map(|(gi, path)| numbered(&path, "ci").into_iter().map(move |(ci, path)| (gi, ci, path)));
    all.take(MAX_PARTS).collect()
}

fn part(index: u32, parent: &Gpu, (gi, ci): (u32, u32), caps: [u32; 2]) -> Gpu {
    let caps = caps.map(|minor| PathBuf::from(format!("/dev/nvidia-caps/nvidia-cap{minor}")));
    Gpu {
        pci: parent.pci.clone(),
        numa_node: parent.numa_node,
        nodes: parent.nodes.iter().take(1).cloned().chain(caps).collect(),
        driver: parent.driver.clone(),
        mig: Some(Mig { parent: parent.index, gpu_instance: gi, compute_instance: ci, profile: None }),
        ..Gpu::new(index, Vendor::Nvidia, format!("{} MIG {gi}/{ci}", parent.name))
    }
}

/// `DeviceFileMinor: 21` of a capability's `access` file.
fn file_minor(path: &Path) -> Option<u32> {
    parse_access(&fs::read_to_string(path).ok()?)
}

fn parse_access(text: &str) -> Option<u32> {
    let (_, minor) = text.lines().find_map(|l| l.split_once(':').filter(|(key, _)| key.trim() == "DeviceFileMinor"))?;
    minor.trim().parse().ok()
}

/// The minor of `name` in `mig-minors`, whose lines are `gpu0/gi1/ci0/access 13`.
fn listed(minors: &str, name: &str) -> Option<u32> {
    let line = minors.lines().find_map(|l| l.split_once(char::is_whitespace).filter(|(key, _)| *key == name));
    line.and_then(|(_, minor)| minor.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::inventory::fake::host;

    fn h100(index: u32, minor: u32) -> Gpu {
        let nodes = vec![PathBuf::from(format!("/dev/nvidia{minor}"))];
        Gpu { nodes, numa_node: Some(1), ..Gpu::new(index, Vendor::Nvidia, "H100".into()) }
    }

    #[test]
    fn each_compute_instance_is_a_part_with_the_parents_node_and_its_own_two() {
        let caps = "proc/driver/nvidia/capabilities";
        let file = |path: &str, minor: u32| (format!("{caps}/{path}/access"), format!("DeviceFileMinor: {minor}\nDeviceFileMode: 292\n"));
        let mut files = vec![file("gpu3/mig/gi2", 21), file("gpu3/mig/gi2/ci0", 22), file("gpu3/mig/gi10", 30), file("mig", 1)];
        files.push((format!("{caps}/gpu3/mig/gi10/ci1/other"), String::new()));
        files.push(("proc/driver/nvidia-caps/mig-minors".into(), "config 1\nmonitor 2\ngpu3/gi10/ci1/access 32\n".into()));
        let root = host(&files.iter().map(|(p, t)| (p.as_str(), t.as_str())).collect::<Vec<_>>());
        let (mut gpus, mut notes) = (vec![h100(0, 3), h100(1, 0)], vec![]);
        let parts = probe(root.path(), &mut gpus, &mut notes);
        let nodes = |p: &Gpu| p.nodes.iter().map(|n| n.display().to_string()).collect::<Vec<_>>().join(" ");
        assert_eq!(
            parts.iter().map(|p| (p.index, nodes(p))).collect::<Vec<_>>(),
            [
                (2, "/dev/nvidia3 /dev/nvidia-caps/nvidia-cap21 /dev/nvidia-caps/nvidia-cap22".to_owned()),
                (3, "/dev/nvidia3 /dev/nvidia-caps/nvidia-cap30 /dev/nvidia-caps/nvidia-cap32".to_owned()),
            ]
        );
        assert_eq!(parts[1].mig, Some(Mig { parent: 0, gpu_instance: 10, compute_instance: 1, profile: None }));
        assert_eq!(gpus.iter().map(|g| g.partitioned).collect::<Vec<_>>(), [true, false]);
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn the_capabilities_that_configure_or_watch_all_gpus_are_never_granted() {
        for minor in [1, 2] {
            let path = "proc/driver/nvidia/capabilities/gpu0/mig/gi0";
            let (gi, ci) = (format!("{path}/access"), format!("{path}/ci0/access"));
            let text = format!("DeviceFileMinor: {minor}\n");
            let root = host(&[(gi.as_str(), "DeviceFileMinor: 9\n"), (ci.as_str(), text.as_str())]);
            let (mut gpus, mut notes) = (vec![h100(0, 0)], vec![]);
            assert!(probe(root.path(), &mut gpus, &mut notes).is_empty());
            assert!(gpus[0].partitioned && notes[0].contains("no capability node"), "{notes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(DeviceFileMinor|gpu0|/|:| |[0-9]|\n|\\PC){0,30}") {
            let _ = (parse_access(&text), listed(&text, "gpu0/gi0/access"));
        }
    }
}
