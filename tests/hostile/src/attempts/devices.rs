//! Devices that were not granted.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::attempt::{Outcome, attempts};

attempts! {
    Harmless "device open /dev/mem" => device("/dev/mem"),
    Harmless "device open /dev/kmsg" => device("/dev/kmsg"),
    Harmless "device open /dev/fuse" => device("/dev/fuse"),
    Harmless "device open /dev/kvm" => device("/dev/kvm"),
    Harmless "device open /dev/net/tun" => device("/dev/net/tun"),
    Harmless "device open /dev/loop-control" => device("/dev/loop-control"),
    Harmless "device open /dev/ptmx" => device("/dev/ptmx"),
    Harmless "device open the console" => device("/dev/console"),
    Harmless "device open the first disk" => first_disk(),
    Harmless "device make null in /tmp" => node("/tmp/hostile-null", SFlag::S_IFCHR, (1, 3)),
    Harmless "device make kmsg in /tmp" => node("/tmp/hostile-kmsg", SFlag::S_IFCHR, (1, 11)),
    Harmless "device make mem in /dev/shm" => node("/dev/shm/hostile-mem", SFlag::S_IFCHR, (1, 1)),
    Harmless "device make a disk in /tmp" => node("/tmp/hostile-disk", SFlag::S_IFBLK, (7, 0)),
}

/// A terminal is only looked for: opening may wait for its line.
fn device(path: &str) -> Outcome {
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
        // No medium, no driver: the device policy let it through.
        Ok(_) | Err(rustix::io::Errno::NOMEDIUM | rustix::io::Errno::NXIO | rustix::io::Errno::BUSY) => Outcome::Done("it opened".into()),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}

fn first_disk() -> Outcome {
    let disks = ["/dev/vda", "/dev/sda", "/dev/nvme0n1", "/dev/loop0"];
    device(disks.into_iter().find(|d| Path::new(d).exists()).unwrap_or("/dev/vda"))
}

/// Made, by a number that some driver has; and removed.
fn node(path: &str, kind: SFlag, number: (u64, u64)) -> Outcome {
    let _ = fs::remove_file(path);
    let made = mknod(path, kind, Mode::from_bits_truncate(0o600), makedev(number.0, number.1));
    let _ = fs::remove_file(path);
    match made {
        Ok(()) => Outcome::Done("the node was made".into()),
        // No directory for it says nothing about nodes.
        Err(Errno::ENOENT) => Outcome::Untried("no such directory"),
        Err(e) => Outcome::Refused(e),
    }
}
