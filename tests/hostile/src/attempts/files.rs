//! The host's files.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::proc::{list, read};
use crate::attempt::{Outcome, attempts};
use crate::bait;

attempts! {
    Harmful "file make in the root directory" => fs::write("/hostile", "x"),
    Harmful "file make in /usr" => fs::write("/usr/hostile", "x"),
    Harmful "file make in /bin" => fs::write("/bin/hostile", "x"),
    Harmful "file make in /etc" => fs::write("/etc/hostile", "x"),
    Harmful "file make in /dev" => fs::write("/dev/hostile", "x"),
    Harmful "file make in /run" => fs::write("/run/hostile", "x"),
    Harmless "file open /etc/passwd to write" => open_to_write("/etc/passwd"),
    Harmful "file rename /etc/hosts" => fs::rename("/etc/hosts", "/etc/hosts.hostile"),
    Harmful "file remove /etc/hostname" => fs::remove_file("/etc/hostname"),
    Harmful "file hard link beside /etc/passwd" => fs::hard_link("/etc/passwd", "/etc/passwd.hostile"),
    Harmful "file symbolic link in /usr" => symlink("/", "/usr/hostile-link"),
    Harmful "file make in /usr by a link in /tmp" => linked("/tmp/hostile-usr", "/usr", "hostile-linked"),
    Harmless "file open core_pattern by a link in /tmp" => linked("/tmp/hostile-proc", "/proc/sys/kernel", "core_pattern"),
    Harmful "file make a system program set-user-ID" => fs::set_permissions("/usr/bin/env", fs::Permissions::from_mode(0o4755)),
    Harmful "file give /usr/bin/env away" => std::os::unix::fs::chown("/usr/bin/env", Some(1), Some(1)),
    Harmless "file read /etc/shadow" => read("/etc/shadow"),
    Harmless "file read what lies beside" => bait::get("file").map_or(Outcome::Untried("no bait"), read),
    Harmless "file list root's home" => list("/root"),
    Harmless "file list /var/log" => list("/var/log"),
    Harmless "file list /boot" => list("/boot"),
    Harmless "file list /run/lock" => list("/run/lock"),
    Harmless "file list the hive's state" => bait::get("state").map_or(Outcome::Untried("no bait"), list),
    Harmless "file walk out of the root by .." => list("/../../../../../../root"),
    Harmless "file open the program that started this to write" => open_to_write("/proc/1/exe"),
    Harmless "socket of a service of the host" => socket("unix"),
    Harmless "socket of the hive" => socket("hive-socket"),
    Harmless "shared memory of the host" => shared_memory(),
}

/// Opened and closed: what is in it stays.
fn open_to_write(path: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path).map(drop)
}

fn linked(link: &str, target: &str, name: &str) -> io::Result<()> {
    let _ = fs::remove_file(link);
    symlink(target, link)?;
    OpenOptions::new().write(true).create(true).truncate(false).open(Path::new(link).join(name))?.write_all(b"")
}

fn socket(which: &str) -> Outcome {
    bait::get(which).map_or(Outcome::Untried("no bait"), |path| Outcome::from(UnixStream::connect(path)))
}

fn shared_memory() -> Outcome {
    bait::get("shm").map_or(Outcome::Untried("no bait"), |name| read(&format!("/dev/shm/{name}")))
}
