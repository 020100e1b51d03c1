//! The kernel's own lists, read from `/proc`.
//!
//! Owns: one function a list. Must never know: which entry is ours, but for the names of our programs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

const PORTS: std::ops::RangeInclusive<u16> = 9100..=9199;
const NAMESPACES: [&str; 7] = ["cgroup", "ipc", "mnt", "net", "pid", "user", "uts"];
const PROGRAMS: [&str; 3] = ["mock-worker", "rbee-hive", "llama-worker"];

/// Where each cgroup hierarchy is mounted.
pub(crate) fn cgroup_mounts() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let is_cgroup = |line: &&str| line.contains(" - cgroup ") || line.contains(" - cgroup2 ");
    text.lines().filter(is_cgroup).filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from).collect()
}

/// Mount point and kind of each mount.
pub(super) fn mounts() -> impl Iterator<Item = String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let lines: Vec<String> = text
        .lines()
        .map(|line| {
            let place = line.split(' ').nth(4).unwrap_or_default();
            let kind = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
            format!("{place} ({kind})")
        })
        .collect();
    lines.into_iter()
}

/// The namespaces that any process is in, as `net:[4026531840]`.
pub(super) fn namespaces() -> BTreeSet<PathBuf> {
    let of = |pid: u32| NAMESPACES.iter().filter_map(move |kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok());
    pids().flat_map(of).collect()
}

/// Pid and name of each process of our programs, zombies included.
pub(super) fn our_processes() -> impl Iterator<Item = String> {
    pids().filter_map(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        PROGRAMS.contains(&name.trim()).then(|| format!("{} {pid}", name.trim()))
    })
}

/// Ports of the workers' range on which something listens, in this network namespace.
pub(super) fn listening_ports() -> impl Iterator<Item = u16> {
    let texts = ["/proc/self/net/tcp", "/proc/self/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let ports: BTreeSet<u16> =
        texts.iter().flat_map(|text| text.lines()).filter_map(listening_port).filter(|port| PORTS.contains(port)).collect();
    ports.into_iter()
}

/// The children of a process, by every thread of it.
pub(super) fn children(of: Pid) -> Vec<Pid> {
    let threads = fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw).collect::<Vec<_>>())
        .filter(|pid| is_launcher(*pid))
        .collect()
}

/// What each descriptor of a process points to, without inode numbers.
pub(super) fn descriptors(of: Pid) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(format!("/proc/{of}/fd")).into_iter().flatten().flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).map(|target| kind(&target))
}

pub(super) fn kind(target: &Path) -> String {
    let text = target.to_string_lossy();
    match text.split_once(":[") {
        Some((kind, _)) => kind.to_owned(),
        None => text.into_owned(),
    }
}

/// Inits are children too, but come and go with their workers.
fn is_launcher(pid: Pid) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(b"launcher".as_slice()))
}

/// `  0: 0100007F:238C 00000000:0000 0A …`: the local port of a socket in state LISTEN.
fn listening_port(line: &str) -> Option<u16> {
    let mut words = line.split_whitespace();
    let local = words.nth(1)?;
    let state = words.nth(1)?;
    let (_, port) = local.rsplit_once(':')?;
    (state == "0A").then(|| u16::from_str_radix(port, 16).ok()).flatten()
}

fn pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_told_from_a_connected_one() {
        assert_eq!(listening_port("   0: 0100007F:238C 00000000:0000 0A 00000000:00000000"), Some(9100));
        assert_eq!(listening_port("   0: 0100007F:238C 0100007F:0050 01 00000000:00000000"), None);
    }

    #[test]
    fn inode_numbers_do_not_make_two_sockets_differ() {
        assert_eq!(kind(Path::new("socket:[17]")), kind(Path::new("socket:[18]")));
        assert_eq!(kind(Path::new("/dev/null")), "/dev/null");
    }
}
