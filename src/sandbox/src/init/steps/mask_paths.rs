//! Covers what of `/proc` and `/sys` must not be seen, and makes read-only what must not be written.
//!
//! The paths are the worker's: this comes after the pivot. A worker can't take a cover away: that needs CAP_SYS_ADMIN over the mount namespace.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::MsFlags;
use rbee_hive_sys::mount::Attributes;

use crate::init::InitContext;
use crate::init::root::NewRoot;
use crate::step::{CallError, failed};

/// The OCI runtime specification's list as runc and crun ship it, what Docker adds to it, and `kallsyms`.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Where each CPU has a directory with counters of its heat, which tell of what others compute.
const CPUS: &str = "/sys/devices/system/cpu";
/// Most CPUs of a machine (CONFIG_NR_CPUS).
const MAX_CPUS: usize = 8192;
/// Here a driver says whether anybody may have it make device nodes, by a set-user-ID helper.
const NVIDIA_PARAMS: &str = "/proc/driver/nvidia/params";

const NOTHING: Attributes = Attributes::NOSUID.and(Attributes::NODEV).and(Attributes::NOEXEC);

pub(super) fn run(context: &mut InitContext) -> Result<(), CallError> {
    check_hidepid()?;
    let root = context.new_root()?;
    let mut empty = None;
    for path in MASKED.iter().map(PathBuf::from).chain(thermal_counters()) {
        hide(root, &path, &mut empty)?;
    }
    for path in READ_ONLY.iter().map(Path::new).filter(|p| p.exists()) {
        let tree = root.api().tree_at(path).map_err(failed(|| format!("open_tree({path:?})")))?;
        root.attach(tree, path, NOTHING.and(Attributes::RDONLY))?;
    }
    freeze_device_files(root)
}

/// Mounting with an option that a kernel does not know can succeed: what counts is what the mount says of itself.
fn check_hidepid() -> Result<(), CallError> {
    let table = procfs::process::Process::myself().and_then(|p| p.mountinfo());
    let table = table.map_err(|e| CallError::new("read(/proc/self/mountinfo)", io::Error::other(e.to_string())))?;
    let options = table.iter().filter(|m| m.mount_point == Path::new("/proc")).map(|m| m.super_options.get("hidepid")).next_back();
    match options.flatten().and_then(|value| value.as_deref()) {
        Some("2" | "invisible") => Ok(()),
        other => {
            let call = format!("check(\"/proc\", hidepid={})", other.unwrap_or("off"));
            Err(CallError::new(call, io::Error::from_raw_os_error(libc::EOPNOTSUPP))
                .hint("this kernel does not hide other users' processes"))
        }
    }
}

/// `empty` is the first directory that was covered: the others get the same file system once more.
fn hide(root: &NewRoot, path: &Path, empty: &mut Option<PathBuf>) -> Result<(), CallError> {
    let source = match (std::fs::symlink_metadata(path), &empty) {
        (Err(_), _) => return Ok(()), // this kernel has no such file, or the sandbox does not show it
        (Ok(there), None) if there.is_dir() => {
            let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            *empty = Some(path.to_owned());
            return root.mount_new("tmpfs", path, (flags, "size=0,nr_inodes=2,mode=555"));
        }
        (Ok(there), Some(first)) if there.is_dir() => first.as_path(),
        (Ok(_), _) => Path::new("/dev/null"),
    };
    let tree = root.api().tree_at(source).map_err(failed(|| format!("open_tree({source:?})")))?;
    // Not nodev: reading the null device is how the cover reads empty.
    root.attach(tree, path, Attributes::NOSUID.and(Attributes::NOEXEC))
}

fn thermal_counters() -> impl Iterator<Item = PathBuf> {
    let cpus = std::fs::read_dir(CPUS).into_iter().flatten().flatten().take(MAX_CPUS);
    cpus.map(|cpu| cpu.path().join("thermal_throttle")).filter(|path| path.is_dir())
}

/// Shows the driver's parameters with `ModifyDeviceFiles: 0`, so that its helper makes no nodes for a worker.
fn freeze_device_files(root: &NewRoot) -> Result<(), CallError> {
    const COPY: &str = "/.nvidia-params";
    let path = Path::new(NVIDIA_PARAMS);
    let Ok(text) = std::fs::read_to_string(path) else { return Ok(()) };
    root.write_file(Path::new(COPY), without_device_files(&text).as_bytes())?;
    let tree = root.api().tree_at(Path::new(COPY)).map_err(failed(|| format!("open_tree({COPY:?})")))?;
    root.attach(tree, path, NOTHING.and(Attributes::RDONLY))?;
    // What is mounted needs no name any more.
    std::fs::remove_file(COPY).map_err(failed(|| format!("unlink({COPY:?})")))
}

fn without_device_files(text: &str) -> String {
    let line = |line: &str| if line.starts_with("ModifyDeviceFiles:") { "ModifyDeviceFiles: 0".to_owned() } else { line.to_owned() };
    text.lines().map(|l| line(l) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_shown_to_make_no_device_files() {
        let text = "EnableMSI: 1\nModifyDeviceFiles: 1\nDeviceFileMode: 438\n";
        assert_eq!(without_device_files(text), "EnableMSI: 1\nModifyDeviceFiles: 0\nDeviceFileMode: 438\n");
    }
}
