//! Which of a spec's edits may be granted at all.

use std::path::{Component, Path};

use super::spec::Mount;
use crate::DriverMount;

/// Nodes that nobody gets, whoever says so: those that configure or watch every GPU, and those that give the machine away.
const NEVER_NODES: [&str; 10] = [
    "/dev/nvidia-caps/nvidia-cap1",
    "/dev/nvidia-caps/nvidia-cap2",
    "/dev/mem",
    "/dev/kmem",
    "/dev/port",
    "/dev/kmsg",
    "/dev/fuse",
    "/dev/kvm",
    "/dev/vfio",
    "/dev/mapper",
];
/// Places that are made for each worker, or hold what no driver needs; nothing of them is mounted and nothing is mounted there.
const NEVER_MOUNTED: [&str; 7] = ["/proc", "/sys", "/dev", "/root", "/home", "/boot", "/etc/cdi"];
/// Places of the sandbox's own.
const NEVER_COVERED: [&str; 2] = ["/tmp", "/run/rbee-hive"];
/// Options that let less be done; `bind` and its like say nothing more.
const NARROW: [&str; 1] = ["noexec"];

/// Whether `path` is a node that may be granted; why not.
pub(super) fn node(path: &Path) -> Result<(), &'static str> {
    if !plain(path) || !path.starts_with("/dev") || path == Path::new("/dev") {
        return Err("is no path below /dev");
    }
    match NEVER_NODES.iter().any(|never| path.starts_with(never)) {
        true => Err("is granted to nobody"),
        false => Ok(()),
    }
}

/// The mount as it is granted: read-only, whatever the spec says; why not.
pub(super) fn mount(mount: &Mount) -> Result<DriverMount, &'static str> {
    let (host, inside) = (&mount.host_path, &mount.container_path);
    if !plain(host) || !plain(inside) {
        return Err("is no absolute path without `..`");
    }
    // A whole tree that only begins with a driver is more than a driver.
    if [host, inside].iter().any(|path| path.components().count() < 3) {
        return Err("is a whole top-level directory");
    }
    let below = |path: &Path, places: &[&str]| places.iter().any(|place| path.starts_with(place));
    if below(host, &NEVER_MOUNTED) || below(inside, &NEVER_MOUNTED) || below(inside, &NEVER_COVERED) {
        return Err("lies where no driver's file is mounted");
    }
    let narrow = mount.options.iter().filter(|o| NARROW.contains(&o.as_str())).cloned();
    let options = ["ro", "nosuid", "nodev"].map(str::to_owned).into_iter().chain(narrow).collect();
    Ok(DriverMount { host: host.clone(), inside: inside.clone(), options })
}

/// Absolute, and means what it says.
pub(super) fn plain(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let normal = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    path.is_absolute() && normal && text.len() < 4096 && !text.windows(2).any(|w| w == b"/.") && !text.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_only_whatever_the_spec_says() {
        let asked = |options: &[&str]| Mount {
            host_path: "/usr/lib/libcuda.so.1".into(),
            container_path: "/usr/lib/libcuda.so.1".into(),
            options: options.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(mount(&asked(&["rw", "suid", "dev", "rbind"])).unwrap().options, ["ro", "nosuid", "nodev"]);
        assert_eq!(mount(&asked(&["noexec"])).unwrap().options, ["ro", "nosuid", "nodev", "noexec"]);
    }

    #[test]
    fn places_that_are_no_drivers_are_refused() {
        let asked = |host: &str, inside: &str| mount(&Mount { host_path: host.into(), container_path: inside.into(), options: vec![] });
        for (host, inside) in [
            ("/", "/host"),
            ("/usr", "/usr"),
            ("/etc", "/mnt/etc"),
            ("/usr/lib/a", "/proc/self"),
            ("/usr/lib/a", "/usr"),
            ("/proc/1/root", "/mnt/a"),
            ("/usr/lib/../../etc/shadow", "/mnt/a"),
            ("/dev/sda", "/mnt/a"),
            ("/root/.ssh", "/mnt/a"),
            ("relative/a", "/mnt/a"),
            ("/usr/lib/a", "/tmp/a"),
        ] {
            assert!(asked(host, inside).is_err(), "{host} {inside}");
        }
        assert!(asked("/usr/lib/a", "/usr/lib/a").is_ok());
    }

    #[test]
    fn nodes_that_give_the_machine_away_are_refused() {
        for bad in [
            "/dev/mem",
            "/dev/fuse",
            "/dev/nvidia-caps/nvidia-cap1",
            "/dev/nvidia-caps/nvidia-cap2",
            "/dev/vfio/7",
            "/dev/../etc/passwd",
            "/etc/passwd",
            "/dev",
            "dev/null",
        ] {
            assert!(node(Path::new(bad)).is_err(), "{bad}");
        }
        for good in ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap12", "/dev/dri/renderD128"] {
            assert!(node(Path::new(good)).is_ok(), "{good}");
        }
    }
}
