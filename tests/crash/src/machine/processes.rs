//! Processes of one hive, by the programs that they execute.
//!
//! A program is known by its inode: an init has another root, and a leaked process may be in no cgroup of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use procfs::process::{Process, all_processes};

/// One process, told from all others that have had or will have its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    /// Its number on this machine.
    pub pid: i32,
    /// When it began, in ticks since the machine did.
    pub began: u64,
}

impl Life {
    /// The process that has this number now.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = Process::new(pid).and_then(|process| process.stat()).ok()?;
        (stat.state != 'Z').then_some(Self { pid, began: stat.starttime })
    }

    /// Whether it still lives.
    pub fn goes_on(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// Every process whose program lies in `bin` of the directory, and dead children of those that nobody has reaped.
pub(super) fn of(directory: &Path) -> BTreeMap<i32, String> {
    let programs = programs(&directory.join("bin"));
    let mut found = BTreeMap::new();
    let mut dead = Vec::new();
    for process in all_processes().into_iter().flatten().flatten() {
        match fs::metadata(format!("/proc/{}/exe", process.pid)) {
            Ok(file) => {
                if let Some(name) = programs.get(&(file.dev(), file.ino())) {
                    found.insert(process.pid, name.clone());
                }
            }
            // Of a dead one nothing but its parent tells whose it was. Threads of the kernel have no program either.
            Err(_) => dead.extend(process.stat().ok().filter(|stat| stat.state == 'Z').map(|stat| (stat.pid, stat.ppid))),
        }
    }
    let ours: BTreeSet<i32> = found.keys().copied().collect();
    found.extend(dead.into_iter().filter(|(_, parent)| ours.contains(parent)).map(|(pid, _)| (pid, "zombie".to_owned())));
    found
}

fn programs(bin: &Path) -> BTreeMap<(u64, u64), String> {
    let entries = fs::read_dir(bin).into_iter().flatten().flatten();
    let known = entries.filter_map(|entry| {
        let file = entry.metadata().ok()?;
        Some(((file.dev(), file.ino()), entry.file_name().to_string_lossy().into_owned()))
    });
    known.collect()
}

/// What a process holds open: how many of each kind, numbers of inodes aside.
pub fn descriptors(pid: i32) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let text = target.to_string_lossy();
        let kind = text.split_once(":[").map_or(&*text, |(kind, _)| kind).to_owned();
        *count.entry(kind).or_insert(0) += 1;
    }
    count
}
