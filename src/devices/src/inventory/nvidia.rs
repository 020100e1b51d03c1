//! NVIDIA GPUs as the kernel driver lists them in `/proc/driver/nvidia/gpus`: no library, and no question to the GPU itself.
//!
//! The driver writes these texts under its own locks: one that is wedged in the kernel keeps its reader. Where anything waits for them a
//! helper reads them, with a deadline ([`Inventory::probe_within`](super::Inventory::probe_within)).

use std::fs;
use std::path::{Path, PathBuf};

use super::cpu::read;
use super::{Gpu, Vendor, driver};

/// Where the driver lists them.
pub(super) const GPUS: &str = "/proc/driver/nvidia/gpus";
/// What every CUDA program opens. `nvidia-modeset` is for displays and left out where it is not there.
const SHARED: [&str; 4] = ["nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia-modeset"];

/// GPUs by PCI address, as NVML and `CUDA_DEVICE_ORDER=PCI_BUS_ID` count them. `root` is `/`.
pub(super) fn probe(root: &Path, notes: &mut Vec<String>) -> Vec<Gpu> {
    let entries = fs::read_dir(root.join("proc/driver/nvidia/gpus")).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort_by_cached_key(|name| (address(name).is_none(), address(name), name.clone()));
    let mut gpus = Vec::new();
    for name in names {
        let path = root.join("proc/driver/nvidia/gpus").join(&name).join("information");
        let index = u32::try_from(gpus.len()).unwrap_or(u32::MAX);
        match fs::read_to_string(path).map(|text| parse(&text, &name, index)) {
            Ok(Some(gpu)) => gpus.push(Gpu { numa_node: numa_node(root, &gpu), driver: Some(driver_of(root, &gpu)), ..gpu }),
            Ok(None) => notes.push(format!("{GPUS}/{name}/information names no device minor: the GPU has no node to lease")),
            Err(e) => notes.push(format!("{GPUS}/{name}/information can't be read: {e}")),
        }
    }
    for (gpu, node) in gpus.iter().flat_map(|g| g.nodes.iter().map(move |n| (g, n))) {
        if node.strip_prefix("/").is_ok_and(|n| !root.join(n).exists()) {
            notes.push(format!(
                "GPU-{} has no {}: it can't be leased before nvidia-modprobe or a driver's program makes it",
                gpu.index,
                node.display()
            ));
        }
    }
    gpus
}

/// The nodes that all of them share, as far as the host has them.
pub(super) fn shared_nodes(root: &Path, gpus: &[Gpu]) -> Vec<PathBuf> {
    let dev = root.join("dev");
    let there = SHARED.iter().filter(|name| !gpus.is_empty() && dev.join(name).exists());
    there.map(|name| Path::new("/dev").join(name)).collect()
}

fn numa_node(root: &Path, gpu: &Gpu) -> Option<u32> {
    // -1 where the machine has one node.
    read(root.join("sys/bus/pci/devices").join(gpu.pci.as_ref()?).join("numa_node"))?.parse().ok()
}

/// `nvidia 560.35.03`, as sysfs names the driver and its own text the version.
fn driver_of(root: &Path, gpu: &Gpu) -> String {
    let bound = gpu.pci.as_ref().and_then(|pci| driver(&root.join("sys/bus/pci/devices").join(pci)));
    // Who fills /proc/driver/nvidia is this one, whether sysfs can be seen (a container) or not.
    let name = bound.unwrap_or_else(|| "nvidia".into());
    let text = fs::read_to_string(root.join("proc/driver/nvidia/version")).unwrap_or_default();
    version(&text).map_or_else(|| name.clone(), |version| format!("{name} {version}"))
}

/// The first word of `NVRM version: …` that is numbers with dots: the line has had several orders.
fn version(text: &str) -> Option<&str> {
    let line = text.lines().find(|l| l.starts_with("NVRM version:"))?;
    let number = |word: &&str| word.contains('.') && word.split('.').all(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    line.split_whitespace().find(number)
}

/// `0000:01:00.0` as numbers: a domain of five digits comes after all of four.
fn address(name: &str) -> Option<(u32, u32, u32, u32)> {
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let (head, function) = name.split_once('.')?;
    let mut parts = head.split(':');
    let address = (hex(parts.next()?)?, hex(parts.next()?)?, hex(parts.next()?)?, hex(function)?);
    parts.next().is_none().then_some(address)
}

/// The driver's text: `Model:`, `GPU UUID:`, `Bus Location:`, `Device Minor:`. The minor is not the index.
fn parse(text: &str, name: &str, index: u32) -> Option<Gpu> {
    let field =
        |name: &str| text.lines().find_map(|l| l.split_once(':').filter(|(k, _)| k.trim() == name)).map(|(_, v)| v.trim().to_owned());
    let minor: u32 = field("Device Minor")?.parse().ok()?;
    let model = field("Model").filter(|m| !m.is_empty()).unwrap_or_else(|| "NVIDIA GPU".into());
    Some(Gpu {
        // An unreadable UUID is shown as question marks.
        uuid: field("GPU UUID").filter(|u| u.starts_with("GPU-") && !u.contains('?')),
        // The directory's name is what sysfs uses; the text is only a fallback.
        pci: address(name).map(|_| name.to_owned()).or_else(|| field("Bus Location")),
        nodes: vec![PathBuf::from(format!("/dev/nvidia{minor}"))],
        ..Gpu::new(index, Vendor::Nvidia, model)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::fake::host;

    const H100: &str = "Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 18\nGPU UUID: \t GPU-5c0e3b1a-0000-4000-8000-000000000000\nBus Location: \t 0000:01:00.0\nDevice Minor: \t 3\n";
    const UNKNOWN: &str = "Model: \t\t NVIDIA L4\nGPU UUID: \t GPU-????????-????-????-????-????????????\nDevice Minor: \t 0\n";

    #[test]
    fn gpus_come_by_pci_address_with_the_drivers_minor() {
        let root = host(&[
            ("proc/driver/nvidia/gpus/10000:01:00.0/information", UNKNOWN),
            ("proc/driver/nvidia/gpus/0000:01:00.0/information", H100),
            ("proc/driver/nvidia/gpus/0000:02:00.0/information", "Model: x\n"),
            ("sys/bus/pci/devices/0000:01:00.0/numa_node", "1\n"),
            ("sys/bus/pci/devices/10000:01:00.0/numa_node", "-1\n"),
            (
                "proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build\nGCC version: 12.2.0\n",
            ),
            ("dev/nvidia3", ""),
            ("dev/nvidiactl", ""),
            ("dev/nvidia-uvm", ""),
        ]);
        let mut notes = vec![];
        let gpus = probe(root.path(), &mut notes);
        let told = |g: &Gpu| (g.index, g.nodes[0].display().to_string(), g.uuid.clone(), g.numa_node);
        assert_eq!(
            gpus.iter().map(told).collect::<Vec<_>>(),
            [
                (0, "/dev/nvidia3".into(), Some("GPU-5c0e3b1a-0000-4000-8000-000000000000".into()), Some(1)),
                (1, "/dev/nvidia0".into(), None, None),
            ]
        );
        assert_eq!(gpus[0].driver.as_deref(), Some("nvidia 560.35.03"));
        assert!(notes.len() == 2 && notes[0].contains("0000:02:00.0") && notes[1].contains("GPU-1 has no /dev/nvidia0"), "{notes:?}");
        assert_eq!(shared_nodes(root.path(), &gpus), ["/dev/nvidiactl", "/dev/nvidia-uvm"].map(PathBuf::from));
        assert!(shared_nodes(root.path(), &[]).is_empty(), "shared nodes without a GPU");
    }

    #[test]
    fn the_version_is_told_in_every_order_that_the_line_has_had() {
        let told = |text| version(text).map(str::to_owned);
        assert_eq!(
            told("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"),
            Some("535.104.05".into())
        );
        assert_eq!(told("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  575.57  Release Build"), Some("575.57".into()));
        assert!(told("GCC version: 12.2.0").is_none() && told("NVRM version: . 1. x.2 3").is_none());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(NVRM version:|Device Minor:|Model:|[0-9.: ?-]|\n|\\PC){0,30}") {
            let _ = (version(&text), address(&text), parse(&text, &text, 0));
        }
    }
}
