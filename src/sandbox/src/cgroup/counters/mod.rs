//! The counters of a leaf: file formats of v1 and v2, and where each figure is read. What cannot be read is `None`.
//!
//! Must never know: how a file is opened.

mod cpu;
mod io;
mod memory;
mod pressure;
mod unmeasured;

use std::path::Path;

use crate::protocol::{CgroupFacts, Resources};

use super::{interface, nested};

pub use unmeasured::{Unmeasured, unmeasured};

/// Where a file lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    /// The v1 hierarchy of this controller.
    V1(&'static str),
    /// The v2 tree.
    V2,
}

impl Home {
    /// Its name in [`CgroupFacts::mounts`].
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::V1(controller) => controller,
            Self::V2 => "unified",
        }
    }
}

/// Reads a leaf's counters below the mounts, without privileges. `leaf` is relative to each mount.
pub fn read_resources(facts: &CgroupFacts, leaf: &str) -> Resources {
    if leaf.split('/').any(|part| part == "..") {
        return Resources::default();
    }
    let dir = |home: Home| Some(Path::new(facts.mounts.get(home.key())?).join(leaf.trim_start_matches('/')));
    let own = collect(&mut |home, file| interface::read(&dir(home)?.join(file)).ok());
    nested::with_kills_below(own, || nested::look_below_path(&dir(Home::V1("memory"))?))
}

/// Gives a file's content; `None` where it cannot be had.
pub(super) type Read<'a> = dyn FnMut(Home, &'static str) -> Option<String> + 'a;

/// Collects all figures through `read`: v1 where the controller is there, v2 otherwise. No file is read twice.
pub(super) fn collect(read: &mut Read<'_>) -> Resources {
    let mut resources = Resources::default();
    memory::collect(read, &mut resources);
    cpu::collect(read, &mut resources);
    io::collect(read, &mut resources);
    pressure::collect(read, &mut resources);
    resources.pids_current = first(read, "pids", "pids.current");
    resources.pids_peak = first(read, "pids", "pids.peak");
    resources
}

/// The number in a file that has one name in both versions.
fn first(read: &mut Read<'_>, controller: &'static str, file: &'static str) -> Option<u64> {
    number(read, (Home::V1(controller), file)).or_else(|| number(read, (Home::V2, file)))
}

/// The number in a file.
fn number(read: &mut Read<'_>, (home, file): (Home, &'static str)) -> Option<u64> {
    read(home, file).and_then(|text| count(&text))
}

/// The hard memory limit in bytes; `None` for no limit, or where it cannot be read.
pub(super) fn memory_limit(read: &dyn Fn(Home, &str) -> Option<String>) -> Option<u64> {
    let text = read(Home::V1("memory"), "memory.limit_in_bytes").or_else(|| read(Home::V2, "memory.max"))?;
    count(&text).filter(|n| is_limit(*n))
}

/// v1 shows "no limit" as i64::MAX rounded down to a page of at most 64 KiB.
fn is_limit(bytes: u64) -> bool {
    bytes < i64::MAX as u64 - 65_536
}

/// A file that holds one number.
pub(super) fn count(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// The number after `key` in a flat keyed file.
pub(super) fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| count(line.strip_prefix(key)?.strip_prefix(' ')?))
}

#[cfg(test)]
mod tests;
