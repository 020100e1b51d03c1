//! Kills in groups that were made below a leaf. On v2 a leaf's own count has them; v1 counts them where the process was, and nowhere above
//! (memcg_memory_event in include/linux/memcontrol.h).
//!
//! Must never know: what else is counted.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Dir, FileType, Mode, OFlags};

use super::memory_events::v1_at_limit;
use super::{counters, interface};
use crate::protocol::Resources;

/// Deepest group that is looked into.
const MAX_DEPTH: usize = 8;
/// Most groups that are looked into: no worker of ours makes any, somebody else may.
const MAX_GROUPS: usize = 256;
const OPEN: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// What groups below a leaf have counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Below {
    /// Kills in all of them.
    pub(crate) kills: u64,
    /// Whether each that has counted a kill has reached its own limit.
    pub(crate) at_limit: bool,
}

/// All groups below `dir`, a leaf of the v1 memory hierarchy; `None` where there is none below it, which is cheap to see.
pub(super) fn look_below(dir: impl AsFd) -> Option<Below> {
    let stat = rustix::fs::fstat(&dir).ok()?;
    if has_none(&stat) {
        return None;
    }
    let (mut below, mut left) = (Below { kills: 0, at_limit: true }, MAX_GROUPS);
    add_below(dir.as_fd(), (MAX_DEPTH, &mut left), &mut below);
    Some(Below { at_limit: below.at_limit && below.kills > 0, ..below })
}

/// [`look_below`] by path.
pub(super) fn look_below_path(dir: &Path) -> Option<Below> {
    let stat = rustix::fs::stat(dir).ok()?;
    if has_none(&stat) {
        return None;
    }
    look_below(rustix::fs::open(dir, OPEN, Mode::empty()).ok()?)
}

/// The figures with those kills in them.
pub(super) fn with_kills_below(mut resources: Resources, below: impl FnOnce() -> Option<Below>) -> Resources {
    if let Some(own) = resources.oom_kills
        && let Some(below) = below()
    {
        resources.oom_kills = Some(own.saturating_add(below.kills));
        resources.memory_events.oom_kill = resources.oom_kills;
    }
    resources
}

fn has_none(stat: &rustix::fs::Stat) -> bool {
    // A directory without others in it has two links (kernfs_add_one counts).
    stat.st_nlink <= 2
}

fn add_below(dir: BorrowedFd<'_>, (depth, left): (usize, &mut usize), below: &mut Below) {
    let Some(deeper) = depth.checked_sub(1) else { return };
    let Ok(entries) = Dir::read_from(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        if entry.file_type() != FileType::Directory || name.to_bytes() == b"." || name.to_bytes() == b".." {
            continue;
        }
        let Some(rest) = left.checked_sub(1) else { return };
        *left = rest;
        let Ok(child) = rustix::fs::openat(dir, name, OPEN, Mode::empty()) else { continue };
        let control = interface::read_at(&child, "memory.oom_control").unwrap_or_default();
        let kills = counters::keyed(&control, "oom_kill").unwrap_or(0);
        if kills > 0 {
            below.kills = below.kills.saturating_add(kills);
            let number = |file: &str| interface::read_at(&child, file).ok().and_then(|text| counters::count(&text));
            below.at_limit &= v1_at_limit(&number) == Some(true);
        }
        add_below(child.as_fd(), (deeper, left), below);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn group(dir: &Path, kills: u64) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("memory.oom_control"), format!("oom_kill_disable 0\nunder_oom 0\noom_kill {kills}\n")).unwrap();
    }

    /// Not every file system counts a directory's links.
    fn counts_links(dir: &Path) -> bool {
        rustix::fs::stat(dir).is_ok_and(|stat| !has_none(&stat))
    }

    #[test]
    fn kills_of_all_groups_below_a_leaf_are_added_up_and_its_own_are_not() {
        let t = tempfile::tempdir().unwrap();
        let leaf = t.path().join("leaf");
        group(&leaf, 100);
        assert_eq!(look_below_path(&leaf), None);
        group(&leaf.join("a"), 1);
        group(&leaf.join("a/b"), 2);
        group(&leaf.join("c"), 4);
        if !counts_links(&leaf) {
            return;
        }
        assert_eq!(look_below_path(&leaf), Some(Below { kills: 7, at_limit: false }));
        ["a", "a/b", "c"].iter().for_each(|group| fs::write(leaf.join(group).join("memory.failcnt"), "1\n").unwrap());
        assert_eq!(look_below_path(&leaf), Some(Below { kills: 7, at_limit: true }));
        let own = Resources { oom_kills: Some(5), ..Resources::default() };
        let all = with_kills_below(own, || look_below_path(&leaf));
        assert_eq!((all.oom_kills, all.memory_events.oom_kill), (Some(12), Some(12)));
        let unknown = with_kills_below(Resources::default(), || Some(Below { kills: 7, at_limit: true }));
        assert_eq!(unknown, Resources::default(), "what is not counted stays so");
    }

    #[test]
    fn no_more_is_looked_into_than_may_be() {
        let t = tempfile::tempdir().unwrap();
        let deep: std::path::PathBuf = (0..=MAX_DEPTH).map(|n| format!("d{n}")).collect();
        group(&t.path().join(deep), 1);
        (0..MAX_GROUPS + 5).for_each(|n| group(&t.path().join(format!("wide/{n}")), 1));
        if !counts_links(t.path()) {
            return;
        }
        assert!(look_below_path(t.path()).is_some_and(|below| below.kills > 0 && below.kills <= MAX_GROUPS as u64));
    }
}
