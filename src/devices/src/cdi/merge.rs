//! From specs to the GPUs that they mean.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::edits;
use super::spec::{Device, Edits, Spec};
use crate::inventory::drm::card_nodes;
use crate::{Gpu, Inventory, Vendor};

/// Nodes of NVIDIA's driver that all its GPUs share, beside those that the inventory knows.
const SHARED: [&str; 5] = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset", "/dev/kfd"];

/// Adds mounts and nodes of `specs` to the GPUs that their devices name, and says what was left out. `root` is `/`.
pub(super) fn apply(root: &Path, inventory: &mut Inventory, specs: &[Spec], notes: &mut Vec<String>) {
    // The last one that names a device wins, as in CDI itself.
    let mut wins: BTreeMap<u32, (&Spec, &Device)> = BTreeMap::new();
    for spec in specs {
        for device in &spec.devices {
            for gpu in inventory.gpus.iter().filter(|g| names(spec, device, g, &inventory.gpus)) {
                wins.insert(gpu.index, (spec, device));
            }
        }
        left_out(spec, notes);
    }
    let whose: Vec<(u32, PathBuf)> = inventory.gpus.iter().flat_map(|g| g.nodes.iter().map(|n| (g.index, n.clone()))).collect();
    let shared = inventory.shared.clone();
    for gpu in &mut inventory.gpus {
        let Some((spec, device)) = wins.get(&gpu.index) else { continue };
        let mut said = |what: String| {
            let note = format!("CDI: {}: device {:.80?}: {what}", spec.file.display(), device.name);
            if !notes.contains(&note) {
                notes.push(note);
            }
        };
        let drawn = gpu.pci.as_ref().map(|pci| card_nodes(root, pci)).unwrap_or_default();
        for edits in [&spec.edits, &device.container_edits] {
            add_nodes(gpu, edits, (&whose, &shared, &drawn), &mut said);
            add_mounts(gpu, edits, &mut said);
        }
    }
}

/// What no spec can do here, once for each spec.
fn left_out(spec: &Spec, notes: &mut Vec<String>) {
    let all = || spec.devices.iter().map(|d| &d.container_edits).chain([&spec.edits]);
    let hooks: usize = all().map(|e| e.hooks.len()).sum();
    if hooks > 0 {
        notes.push(format!("CDI: {} has {hooks} hooks: programs of a spec are not run", spec.file.display()));
    }
    let variables = all().flat_map(|e| &e.env).filter(|v| !v.starts_with("NVIDIA_VISIBLE_DEVICES=")).count();
    if variables > 0 {
        notes.push(format!("CDI: {} has {variables} variables: a policy's [environment] sets what a worker gets", spec.file.display()));
    }
}

/// Whether `device` is this GPU and no other.
fn names(spec: &Spec, device: &Device, gpu: &Gpu, all: &[Gpu]) -> bool {
    let vendor = match spec.kind.split('/').next() {
        Some("nvidia.com") => Vendor::Nvidia,
        Some("amd.com") => Vendor::Amd,
        Some("intel.com") => Vendor::Intel,
        _ => return false,
    };
    if gpu.vendor != vendor {
        return false;
    }
    if gpu.uuid.as_ref().is_some_and(|uuid| uuid.eq_ignore_ascii_case(&device.name)) {
        return true;
    }
    // An index alone may be the tool's and not ours: the node tells whether both mean the same.
    let nodes = &device.container_edits.device_nodes;
    let has = |gpu: &Gpu| {
        let own: Vec<&PathBuf> = gpu.nodes.iter().filter(|n| gpu.mig.is_none() || is_cap(n)).collect();
        !own.is_empty() && own.iter().all(|n| nodes.iter().any(|node| node.path == **n))
    };
    let meant: Vec<u32> = all.iter().filter(|g| g.vendor == vendor && has(g)).map(|g| g.index).collect();
    match gpu.mig {
        // A part's device has the parent's node as well.
        Some(_) => meant.iter().filter(|n| all.iter().any(|g| g.index == **n && g.mig.is_some())).eq([&gpu.index]),
        None => meant == [gpu.index],
    }
}

fn is_cap(node: &Path) -> bool {
    node.starts_with("/dev/nvidia-caps")
}

/// Nodes beside the GPU's own: shared ones are known, and what belongs to another GPU is refused.
fn add_nodes(gpu: &mut Gpu, edits: &Edits, known: (&[(u32, PathBuf)], &[PathBuf], &[PathBuf]), said: &mut impl FnMut(String)) {
    let (whose, shared, drawn) = known;
    for node in &edits.device_nodes {
        let path = &node.path;
        if gpu.nodes.contains(path) || shared.contains(path) || SHARED.iter().any(|s| path == Path::new(s)) {
            continue;
        }
        let elsewhere = node.host_path.as_ref().is_some_and(|host| host != path);
        let others = whose.iter().any(|(index, own)| *index != gpu.index && own == path);
        // Any card's: which GPU a number belongs to is told by sysfs, not by the spec.
        let card = path.starts_with("/dev/dri") || is_cap(path) || path.to_string_lossy().starts_with("/dev/nvidia");
        match edits::node(path) {
            Err(why) => said(format!("node {path:?} {why}")),
            Ok(()) if elsewhere => said(format!("node {path:?} has another name on the host, which is not done here")),
            Ok(()) if others || (card && !drawn.contains(path)) => said(format!("node {path:?} is not this GPU's")),
            Ok(()) => gpu.nodes.push(path.clone()),
        }
    }
}

fn add_mounts(gpu: &mut Gpu, edits: &Edits, said: &mut impl FnMut(String)) {
    for asked in &edits.mounts {
        match edits::mount(asked) {
            Err(why) => said(format!("mount of {:?} at {:?} {why}", asked.host_path, asked.container_path)),
            Ok(mount) if gpu.mounts.iter().any(|m| m.inside == mount.inside) => {}
            Ok(mount) => gpu.mounts.push(mount),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fake::host;

    fn inventory() -> Inventory {
        let gpu = |index: u32, uuid: &str| Gpu {
            uuid: Some(uuid.into()),
            pci: Some(format!("0000:0{index}:00.0")),
            nodes: vec![format!("/dev/nvidia{index}").into()],
            ..Gpu::new(index, Vendor::Nvidia, "H100".into())
        };
        Inventory { gpus: vec![gpu(0, "GPU-aa"), gpu(1, "GPU-bb")], shared: vec!["/dev/nvidiactl".into()], ..Inventory::default() }
    }

    fn applied(inventory: &mut Inventory, devices: &str, edits: &str) -> Vec<String> {
        let text = format!(r#"{{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": {devices}, "containerEdits": {edits}}}"#);
        let root =
            host(&[("sys/bus/pci/devices/0000:00:00.0/drm/card1/dev", ""), ("sys/bus/pci/devices/0000:00:00.0/drm/renderD128/dev", "")]);
        let (spec, mut notes) = (super::super::spec::parse(&text, Path::new("/etc/cdi/n.json")).unwrap(), vec![]);
        apply(root.path(), inventory, &[spec], &mut notes);
        notes
    }

    fn device(name: &str, nodes: &[&str]) -> String {
        let nodes: Vec<String> = nodes.iter().map(|path| format!(r#"{{"path": "{path}"}}"#)).collect();
        format!(r#"{{"name": "{name}", "containerEdits": {{"deviceNodes": [{}]}}}}"#, nodes.join(","))
    }

    #[test]
    fn a_device_is_told_by_its_uuid_or_its_node_and_brings_mounts_and_its_own_further_nodes() {
        let mut host = inventory();
        let devices = format!(
            "[{}, {}]",
            device("gpu-AA", &["/dev/nvidia0", "/dev/nvidiactl", "/dev/dri/card1", "/dev/dri/renderD128"]),
            device("7", &["/dev/nvidia1"])
        );
        let edits = r#"{"mounts": [{"hostPath": "/usr/lib/libcuda.so.1", "containerPath": "/usr/lib/libcuda.so.1", "options": ["ro"]}]}"#;
        let notes = applied(&mut host, &devices, edits);
        assert!(notes.is_empty(), "{notes:?}");
        let nodes = |n: usize| host.gpus[n].nodes.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            (nodes(0), nodes(1)),
            (["/dev/nvidia0", "/dev/dri/card1", "/dev/dri/renderD128"].map(String::from).to_vec(), vec!["/dev/nvidia1".into()])
        );
        assert!(host.gpus.iter().all(|g| g.mounts.len() == 1), "{host:?}");
        assert_eq!(host.shared.len(), 1);
    }

    #[test]
    fn a_spec_grants_no_other_card_and_nothing_that_nobody_gets_and_says_so() {
        let mut host = inventory();
        let bad = [
            "/dev/nvidia1",
            "/dev/nvidia7",
            "/dev/mem",
            "/dev/nvidia-caps/nvidia-cap1",
            "/dev/nvidia-caps/nvidia-cap9",
            "/dev/dri/renderD129",
            "/dev/fuse",
        ];
        let notes = applied(&mut host, &format!("[{}]", device("GPU-aa", &bad)), "{}");
        assert_eq!(host.gpus[0].nodes, [PathBuf::from("/dev/nvidia0")]);
        assert!(notes.len() == bad.len() && notes.iter().all(|n| n.starts_with("CDI: /etc/cdi/n.json: device ")), "{notes:?}");
    }

    #[test]
    fn all_is_no_gpu_and_hooks_and_variables_are_left_out_and_said() {
        let mut host = inventory();
        let edits =
            r#"{"hooks": [{"hookName": "createContainer", "path": "/bin/sh"}], "env": ["NVIDIA_VISIBLE_DEVICES=void", "LD_PRELOAD=/x"]}"#;
        let notes = applied(&mut host, &format!("[{}]", device("all", &["/dev/nvidia0", "/dev/nvidia1"])), edits);
        assert_eq!(host, inventory());
        assert!(notes.len() == 2 && notes[0].contains("1 hooks") && notes[1].contains("1 variables"), "{notes:?}");
    }

    #[test]
    fn an_index_that_means_another_gpu_by_its_node_is_believed_by_its_node() {
        let mut host = inventory();
        let mounted = r#"[{"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia1"}], "mounts": [{"hostPath": "/opt/a/b", "containerPath": "/opt/a/b"}]}}]"#;
        applied(&mut host, mounted, "{}");
        assert_eq!(host.gpus.iter().map(|g| g.mounts.len()).collect::<Vec<_>>(), [0, 1]);
    }
}
