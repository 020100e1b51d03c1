//! What an init sees of its sandbox, in its own `/proc`. Nothing here waits for anybody, and nothing needs a capability of its own: what only
//! the worker's uid may look at (`ns`, `fd`) is looked at with that uid (ptrace(2), "Ptrace access mode checking").

use std::collections::BTreeSet;
use std::io;

use rbee_hive_policy::NetworkMode;

use super::process::{self, Process};
use super::{mounts, status::Status};
use crate::protocol::{Descriptor, Inside, InsideProcess, Made, Namespaces, Place};

/// Most processes that are told of.
const MAX_PROCESSES: usize = 256;
/// Most descriptors of one process that are looked at.
const MAX_DESCRIPTORS: usize = 1024;
/// Most of all processes together that are told of, and most of a target's text. With the other bounds a message stays below the largest.
const MAX_TOLD: usize = 16;
const MAX_TARGET: usize = 128;
/// Distinct contents of cgroup files, and the longest; distinct sets of namespaces: more is no honest worker.
const MAX_GROUPS: usize = 16;
const MAX_GROUP: usize = 4096;
const MAX_NAMESPACES: usize = 64;
/// Members of the leaf that are told of.
const MAX_MEMBERS: usize = 2048;
/// Bytes of a mount table as made, in words.
const MAX_TABLE: usize = 100 * 1024;

/// The sandbox right after the worker's `execve`. `worker` is its process, `loaded` how many filters it has loaded beyond the init's own.
pub(crate) fn made(worker: i32, loaded: usize) -> Made {
    let mut made = Made::default();
    let mut note = |what: &str, e: io::Error| made.unseen.push(format!("{what} as made: {e}"));
    let own = Process::open("self");
    let table = own.and_then(|own| Ok((own.read("mountinfo")?, own.read("status")?))).map_err(|e| note("mounts", e)).ok();
    let process = Process::open(&worker.to_string());
    let process = process.and_then(|p| Ok((p.read("cgroup")?, p.read("limits")?))).map_err(|e| note("limits", e)).ok();
    if let Some((mountinfo, status)) = table {
        made.mounts = mounts::parse(&mountinfo);
        let words: usize = made.mounts.iter().map(|m| m.point.len() + m.options.len() + m.propagation.len() + 100).sum();
        if words > MAX_TABLE {
            made.unseen.push(format!("the mounts as made: {} are more than are told", made.mounts.len()));
            made.mounts.clear();
        }
        let own = Status::parse(&status).and_then(|s| s.filters);
        made.filters = own.and_then(|own| own.checked_add(u32::try_from(loaded).ok()?));
    }
    if let Some((groups, limits)) = process {
        made.groups = groups.lines().map(str::to_owned).collect();
        made.limits = process::limits(&limits);
    }
    made
}

/// The look in three parts, so that the caller can change its uid for the second.
pub(crate) struct Look {
    inside: Inside,
    processes: Vec<Process>,
    mounts: BTreeSet<u32>,
    /// `None` where the sockets of the namespace are the host's.
    sockets: Option<BTreeSet<u64>>,
    told: usize,
}

impl Look {
    /// As root: who there is, and where.
    pub(crate) fn begin(network: NetworkMode, mut members: Vec<i32>) -> io::Result<Self> {
        let own = Process::open("self")?;
        let mounts = mounts::parse(&own.read("mountinfo")?).into_iter().map(|m| m.id).collect();
        let private = network != NetworkMode::Host;
        let sockets = private.then(|| own.read("net/unix").map(|t| unix_sockets(&t))).transpose()?;
        members.truncate(MAX_MEMBERS);
        let inside = Inside { own: own.namespaces()?, members, ..Inside::default() };
        let mut look = Self { inside, processes: vec![], mounts, sockets, told: 0 };
        let mut pids: Vec<i32> = std::fs::read_dir("/proc")?.flatten().filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
        pids.retain(|pid| *pid != 1);
        if pids.len() > MAX_PROCESSES {
            look.inside.unseen.push(format!("{} of {} processes, from within", pids.len() - MAX_PROCESSES, pids.len()));
        }
        for pid in pids.into_iter().take(MAX_PROCESSES) {
            look.meet(pid);
        }
        Ok(look)
    }

    fn meet(&mut self, pid: i32) {
        // One that ends meanwhile is left out.
        let Ok(process) = Process::open(&pid.to_string()) else { return };
        let Some((name, state, _)) = process.read("stat").ok().and_then(|t| process::stat(&t)) else { return };
        if matches!(state, 'Z' | 'X') {
            return;
        }
        let groups = process.read("cgroup").ok().and_then(|groups| self.group(groups));
        self.inside.processes.push(InsideProcess { pid, name, groups, ..InsideProcess::default() });
        self.processes.push(process);
    }

    fn group(&mut self, groups: String) -> Option<usize> {
        let known = &mut self.inside.groups;
        if let Some(at) = known.iter().position(|g| *g == groups) {
            return Some(at);
        }
        (known.len() < MAX_GROUPS && groups.len() <= MAX_GROUP).then(|| {
            known.push(groups);
            known.len() - 1
        })
    }

    /// As the worker: their namespaces and descriptors.
    pub(crate) fn look_closer(&mut self) {
        for (at, process) in std::mem::take(&mut self.processes).into_iter().enumerate() {
            self.inside.processes[at].namespaces = process.namespaces().ok().and_then(|seen| self.set_of(seen));
            self.inside.processes[at].descriptors = self.descriptors(&process).ok();
            self.processes.push(process);
        }
    }

    fn set_of(&mut self, seen: Namespaces) -> Option<usize> {
        let known = &mut self.inside.namespaces;
        if let Some(at) = known.iter().position(|n| *n == seen) {
            return Some(at);
        }
        (known.len() < MAX_NAMESPACES).then(|| {
            known.push(seen);
            known.len() - 1
        })
    }

    /// As root again: who could not be seen and has not just ended is told.
    pub(crate) fn finish(mut self) -> Inside {
        for (told, process) in self.inside.processes.iter().zip(&self.processes) {
            let all = told.groups.is_some() && told.namespaces.is_some() && told.descriptors.is_some();
            if !all && process.lives() {
                let name = format!("process {} ({})", told.pid, told.name);
                self.inside.unseen.push(format!("namespaces and descriptors of {name} of the sandbox, which keeps them from its own uid"));
            }
        }
        self.inside.unseen.truncate(MAX_TOLD);
        self.inside
    }

    fn descriptors(&mut self, process: &Process) -> io::Result<Vec<Descriptor>> {
        let names = process.list("fd")?;
        if names.len() > MAX_DESCRIPTORS {
            let text = format!("{} of {} descriptors of a process", names.len() - MAX_DESCRIPTORS, names.len());
            self.inside.unseen.push(text);
        }
        let mut found = Vec::new();
        for name in names.iter().take(MAX_DESCRIPTORS) {
            // A descriptor that is closed meanwhile leads nowhere.
            let Some((number, target)) = name.parse().ok().zip(process.link(&format!("fd/{name}")).ok()) else { continue };
            if let Some(place) = self.place(process, name, &target)
                && self.told < MAX_TOLD
            {
                self.told += 1;
                let target = target.chars().take(MAX_TARGET).collect();
                found.push(Descriptor { number, target, place });
            }
        }
        Ok(found)
    }

    /// Where a descriptor leads, if that is noteworthy.
    fn place(&mut self, process: &Process, name: &str, target: &str) -> Option<Place> {
        if target.starts_with('/') {
            let id = mount_id(&process.read(&format!("fdinfo/{name}")).ok()?)?;
            return (!self.mounts.contains(&id) && !anonymous(target) && !process.is_queue(name)).then_some(Place::Mount { id });
        }
        if let Some(number) = target.strip_prefix("socket:[").and_then(|t| t.strip_suffix(']')?.parse::<u64>().ok()) {
            return (self.sockets.is_some() && self.is_strange(number) && process.is_unix(name)).then_some(Place::Socket);
        }
        let (kind, number) = process::namespace(target)?;
        let names = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
        names.contains(&kind.as_str()).then_some(Place::Namespace { kind, number })
    }

    /// Whether no Unix socket of this namespace has this number; the table is read again for one that is not known: it may be new.
    fn is_strange(&mut self, number: u64) -> bool {
        let knows = |table: &Option<BTreeSet<u64>>| table.as_ref().is_none_or(|t| t.contains(&number));
        if knows(&self.sockets) {
            return false;
        }
        match Process::open("self").and_then(|own| own.read("net/unix")) {
            Ok(text) => self.sockets = Some(unix_sockets(&text)),
            Err(_) => return false,
        }
        !knows(&self.sockets)
    }
}

/// File system type of POSIX message queues, which each IPC namespace has on a mount that no table shows (linux/magic.h).
const MQUEUE_MAGIC: u64 = 0x1980_0202;

impl Process {
    /// Whether a descriptor is a message queue.
    fn is_queue(&self, name: &str) -> bool {
        rustix::fs::statfs(self.path(&format!("fd/{name}"))).is_ok_and(|s| s.f_type as u64 == MQUEUE_MAGIC)
    }

    /// Whether a descriptor is a Unix socket: only those are all in a table, bound or not.
    fn is_unix(&self, name: &str) -> bool {
        let mut value = [0u8; 32];
        let path = self.path(&format!("fd/{name}"));
        let length = rustix::fs::getxattr(path, "system.sockprotoname", &mut value);
        length.is_ok_and(|n| value.get(..n).is_some_and(|v| v.starts_with(b"UNIX")))
    }
}

/// What has a path and is on no mount that a table could show: memfd_create(2), memfd_secret(2), shmget(2), dma-buf.
fn anonymous(target: &str) -> bool {
    ["/memfd:", "/secretmem", "/SYSV", "/dmabuf:", "/anon_hugepage"].iter().any(|p| target.starts_with(p))
}

fn mount_id(fdinfo: &str) -> Option<u32> {
    fdinfo.lines().find_map(|l| l.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

fn unix_sockets(text: &str) -> BTreeSet<u64> {
    text.lines().skip(1).filter_map(|l| l.split_ascii_whitespace().nth(6)?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_read_by_their_columns() {
        let unix = "Num       RefCount Protocol Flags    Type St Inode Path\n0000: 00000002 00000000 00010000 0001 01 12345 /run/x\n0000: 00000003 00000000 00000000 0001 03 777\n";
        assert_eq!(unix_sockets(unix), BTreeSet::from([777, 12345]));
        assert_eq!(mount_id("pos:\t0\nflags:\t02\nmnt_id:\t42\nino:\t7\n"), Some(42));
        assert!(anonymous("/memfd:x (deleted)") && !anonymous("/etc/passwd"));
    }
}
