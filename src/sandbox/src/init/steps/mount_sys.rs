//! `/sys`, read-only, and of it only what run-times read: CPUs and NUMA nodes, and for a GPU its bus.

use std::path::{Path, PathBuf};

use rbee_hive_sys::mount::Attributes;
use rustix::io::Errno;

use crate::init::InitContext;
use crate::step::{CallError, failed};

const FOR_ALL: &[&str] = &["/sys/devices/system/cpu", "/sys/devices/system/node"];
const FOR_GPUS: &[&str] = &["/sys/bus/pci", "/sys/class/drm", "/sys/class/kfd", "/sys/dev/char", "/sys/module/nvidia"];

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    let gpu = context.plan.leased.iter().any(|d| d.starts_with("GPU-"));
    let mut paths: Vec<PathBuf> = FOR_ALL.iter().map(PathBuf::from).collect();
    if gpu {
        paths.extend(FOR_GPUS.iter().map(PathBuf::from));
        paths.extend(pci_roots());
    }
    let root = context.new_root()?;
    let attributes = Attributes::RDONLY.and(Attributes::NOSUID).and(Attributes::NODEV).and(Attributes::NOEXEC);
    for path in paths {
        match root.api().tree_at(&path) {
            Ok(tree) => root.attach(tree, &path, attributes)?,
            // A host (or container) without it: there is nothing to show.
            Err(Errno::NOENT | Errno::ACCESS) => {}
            Err(e) => return Err(failed(|| format!("open_tree({path:?})"))(e)),
        }
    }
    Ok(())
}

fn pci_roots() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(Path::new("/sys/devices")).into_iter().flatten().flatten();
    entries.map(|e| e.path()).filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("pci"))).take(64).collect()
}
