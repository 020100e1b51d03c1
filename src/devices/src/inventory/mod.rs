//! The machine's devices as the kernel and the drivers tell of them.
//!
//! Owns the indices: `GPU-n` counts NVIDIA's GPUs by PCI address, then AMD's and Intel's by render node, and the hive and the launcher
//! must come to the same. Must never know who holds a device.

pub(crate) mod ask;
mod cpu;
pub(crate) mod drm;
#[cfg(test)]
pub(crate) mod fake;
mod kfd;
mod mig;
mod nvidia;
pub(crate) mod nvml;
mod shapes;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::cdi;
use crate::chain::chain;

pub(crate) use cpu::{MAX_CPUS, numbers, ranges};
pub use nvml::{NvmlHelperError, nvml_helper_main};
pub use shapes::{DriverMount, Gpu, Inventory, Mig, NumaNode, Vendor};

/// The source of a real machine's inventory.
pub(crate) const HOST: &str = "host";

impl Inventory {
    /// The real machine, without asking NVML, read by this process: for as long as a driver keeps it, where one is wedged.
    pub fn probe() -> Self {
        Self::probe_below(Path::new("/"))
    }

    /// The same, read by `helper`, a command that calls [`nvml_helper_main`] and is killed at `deadline`: for the launcher, which must not
    /// wait for a driver. Where it does not answer there is no GPU, and a note that says why. A machine without a driver needs no helper.
    /// Starts no thread.
    pub fn probe_within(helper: &[OsString], deadline: Duration) -> Self {
        Self::probe_within_below(Path::new("/"), helper, deadline)
    }

    fn probe_within_below(root: &Path, helper: &[OsString], deadline: Duration) -> Self {
        let drivers = ["proc/driver/nvidia", "sys/class/drm", "sys/class/kfd"];
        if !drivers.iter().any(|driver| root.join(driver).exists()) {
            return Self::probe_below(root);
        }
        let answer = ask::ask_each::<Self>(helper, &[vec!["probe".into()]], deadline).pop();
        let (lines, trouble) = answer.map(|answer| (answer.lines, answer.trouble)).unwrap_or_default();
        lines.into_iter().next().unwrap_or_else(|| {
            let why = trouble.map_or_else(|| "no answer".to_owned(), |why| chain(&why));
            let mut inventory = Self::probe_cpus(root);
            inventory.notes.push(format!("no GPU: what the drivers tell of them can't be read ({why}); start anew when they answer"));
            inventory
        })
    }

    fn probe_below(root: &Path) -> Self {
        let mut inventory = Self::probe_cpus(root);
        inventory.gpus = nvidia::probe(root, &mut inventory.notes);
        inventory.shared = nvidia::shared_nodes(root, &inventory.gpus);
        let (others, shared) = drm::probe(root, inventory.gpus.len());
        inventory.gpus.extend(others);
        inventory.shared.extend(shared);
        // After all whole GPUs, so that cutting one up gives no other a new index.
        let parts = mig::probe(root, &mut inventory.gpus, &mut inventory.notes);
        inventory.gpus.extend(parts);
        if inventory.gpus.is_empty() {
            inventory.notes.push(format!("no GPU: {}, and there is no AMD or Intel render node below {}", nvidia_lack(root), drm::DRM));
        }
        cdi::apply(root, &mut inventory);
        inventory
    }

    /// CPUs and NUMA nodes alone.
    pub(crate) fn probe_cpus(root: &Path) -> Self {
        let mut notes = Vec::new();
        let (cpus, nodes) = cpu::probe(root, &mut notes);
        let (distances, packages) = (cpu::distances(root), cpu::packages(root));
        Self { cpus, nodes, source: HOST.into(), notes, distances, packages, ..Self::default() }
    }

    /// The real machine, with what NVML adds (memory, links, UUIDs of MIG parts and where the driver's text has none). `helper` is a
    /// command that calls [`nvml_helper_main`], one process for each GPU; it is killed at `deadline`, because a driver can hang for ever,
    /// and that GPU alone stays without what NVML knows. Starts no thread.
    pub fn probe_with_helper(helper: &[OsString], deadline: Duration) -> Self {
        let mut inventory = Self::probe_within(helper, deadline);
        nvml::describe(&mut inventory, helper, deadline);
        inventory
    }
}

/// The name of the kernel driver that a device is bound to: where its `driver` link in sysfs leads.
fn driver(device: &Path) -> Option<String> {
    Some(std::fs::read_link(device.join("driver")).ok()?.file_name()?.to_string_lossy().into_owned())
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
    use std::path::PathBuf;

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
    fn parts_of_a_gpu_come_after_every_whole_one() {
        let root = host(&[
            H100,
            ("dev/nvidia0", ""),
            ("sys/class/drm/renderD128/device/vendor", "0x8086\n"),
            ("proc/driver/nvidia/capabilities/gpu0/mig/gi1/access", "DeviceFileMinor: 12\n"),
            ("proc/driver/nvidia/capabilities/gpu0/mig/gi1/ci0/access", "DeviceFileMinor: 13\n"),
        ]);
        let gpus = Inventory::probe_below(root.path()).gpus;
        let told = |g: &Gpu| (g.index, g.vendor, g.mig.as_ref().map(|m| m.parent), g.partitioned);
        assert_eq!(
            gpus.iter().map(told).collect::<Vec<_>>(),
            [(0, Vendor::Nvidia, None, true), (1, Vendor::Intel, None, false), (2, Vendor::Nvidia, Some(0), false)]
        );
    }

    #[test]
    fn a_driver_that_keeps_its_reader_costs_its_gpus_and_not_the_start() {
        let with = |root: &Path, script: &str, deadline: u64| {
            let helper = ["sh", "-c", script, "helper"].map(OsString::from);
            Inventory::probe_within_below(root, &helper, Duration::from_millis(deadline))
        };
        let wedged = host(&[H100, ("dev/nvidia0", "")]);
        let began = std::time::Instant::now();
        let seen = with(wedged.path(), "exec sleep 60", 300);
        assert!(began.elapsed() < Duration::from_secs(20) && seen.gpus.is_empty() && seen.source == HOST, "{seen:?}");
        assert!(seen.notes.iter().any(|n| n.contains("no GPU") && n.contains("did not answer within 300 ms")), "{:?}", seen.notes);
        let told = wedged.path().join("told.json");
        std::fs::write(&told, serde_json::to_string(&Inventory::probe_below(wedged.path())).unwrap()).unwrap();
        assert_eq!(with(wedged.path(), &format!("[ $1 = probe ] && cat {}", told.display()), 20_000).gpus.len(), 1);
        let bare = host(&[]);
        assert!(with(bare.path(), "exit 1", 20_000).notes.iter().any(|n| n.contains("not loaded")), "nobody has to be asked");
    }

    #[test]
    fn the_machine_that_runs_this_has_cpus_and_says_why_it_has_no_gpu() {
        let inventory = Inventory::probe();
        assert!(!inventory.cpus.is_empty() && !inventory.nodes.is_empty());
        assert!(!inventory.gpus.is_empty() || inventory.notes.iter().any(|n| n.contains("no GPU")));
    }
}
