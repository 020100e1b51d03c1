//! Mounts.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chroot, pivot_root};
use rustix::mount::{FsOpenFlags, FsPickFlags, MoveMountFlags, OpenTreeFlags, fsopen, fspick, move_mount, open_tree};

use crate::attempt::{Outcome, attempts};
use crate::raw::{self, n, t, z};

attempts! {
    Harmless "mount a tmpfs" => new("tmpfs"),
    Harmless "mount a fresh proc" => new("proc"),
    Harmless "mount a fresh sysfs" => new("sysfs"),
    Harmless "mount the cgroups" => new("cgroup2"),
    Harmless "mount an overlay" => mount(Some("o"), "/mnt", Some("overlay"), MsFlags::empty(), Some("lowerdir=/usr:/etc")),
    Harmless "mount /usr elsewhere" => mount(Some("/usr"), "/tmp", None::<&str>, MsFlags::MS_BIND, None::<&str>),
    Harmless "mount the root writable" => remount("/", MsFlags::empty()),
    Harmless "mount /proc without its flags" => remount("/proc", MsFlags::empty()),
    Harmless "mount /usr over /etc" => mount(Some("/usr"), "/etc", None::<&str>, MsFlags::MS_BIND, None::<&str>),
    Harmless "mount the root shared" => mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>),
    Harmless "mount move /proc" => mount(Some("/proc"), "/tmp", None::<&str>, MsFlags::MS_MOVE, None::<&str>),
    Harmless "umount /proc" => umount2("/proc", MntFlags::MNT_DETACH),
    Harmless "umount /dev" => umount2("/dev", MntFlags::MNT_DETACH),
    Harmless "umount a masked path" => covered("/proc/kcore"),
    Harmless "umount a read-only path" => covered("/proc/sys"),
    Harmless "umount the root" => umount2("/", MntFlags::MNT_DETACH),
    Harmless "pivot_root" => pivot_root("/tmp", "/tmp"),
    Harmless "chroot" => chroot("/tmp"),
    Harmless "fsopen" => fsopen("tmpfs", FsOpenFlags::empty()),
    Harmless "fspick" => fspick(rustix::fs::CWD, "/proc", FsPickFlags::empty()),
    Harmless "open_tree" => open_tree(rustix::fs::CWD, "/usr", OpenTreeFlags::OPEN_TREE_CLONE),
    Harmless "move_mount" => move_mount(rustix::fs::CWD, "/proc", rustix::fs::CWD, "/tmp", MoveMountFlags::empty()),
    Harmless "mount_setattr" => raw::call(libc::SYS_mount_setattr, &[n(-100), t("/proc"), n(0), z(32), n(32)]),
    Harmless "fsconfig" => raw::call(libc::SYS_fsconfig, &[n(0), n(6), n(0), n(0), n(0)]),
    Harmless "statmount" => raw::call(457, &[z(24), z(512), n(512), n(0)]),
}

fn new(kind: &str) -> nix::Result<()> {
    mount(Some("hostile"), "/tmp", Some(kind), MsFlags::empty(), None::<&str>)
}

fn remount(path: &str, flags: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | flags, None::<&str>)
}

/// Outside nothing covers it: there is nothing to take away.
fn covered(path: &str) -> Outcome {
    match umount2(path, MntFlags::MNT_DETACH) {
        Err(nix::errno::Errno::EINVAL) => Outcome::Untried("nothing is mounted there"),
        other => Outcome::from(other),
    }
}
