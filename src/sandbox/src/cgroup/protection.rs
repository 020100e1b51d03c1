//! Memory that is protected from reclaim (`memory.low`), in a worker's leaf and in every group above it.
//!
//! The kernel protects no more of a leaf than each of its ancestors has, and shares an ancestor's amount out where the children ask for more
//! (effective_protection in mm/page_counter.c): a leaf's own value alone is worth nothing. So the worker's group has as much as the leaf, and each
//! group above it, as far as it is ours, the sum of its children's. Must never know: policies.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rbee_hive_policy::WorkerId;
use rustix::event::{Timespec, poll};
use rustix::fs::{FlockOperation, flock};

use super::error::CgroupError;
use super::files::group_of;
use super::interface::{open_dir, open_write, read, write_checked};
use super::leaf::is_v2_root;
use super::limits::page;
use super::tree::Tree;
use super::{removal, values};

/// The file.
pub(super) const LOW: &str = "memory.low";
/// How often a parent that another hive is adding up is tried again.
const MAX_TRIES: usize = 50;
/// Pause between two tries.
const MOMENT: Timespec = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };

/// The groups above the workers' on v2, the lowest first.
struct Above {
    /// Those that this hive writes: `<root>/workers`, `<root>`, and the parents that were made for it. Never empty.
    ours: Vec<PathBuf>,
    /// Those that are somebody else's, up to the mount; the root of all groups has no limits and is not among them.
    others: Vec<PathBuf>,
}

fn above(tree: &Tree) -> Option<Above> {
    let v2 = tree.v2()?;
    let mut above = Above { ours: vec![v2.dir(&tree.workers()), v2.dir(&tree.root)], others: Vec::new() };
    let mut dir = v2.dir(&tree.root);
    while dir != v2.mount && dir.pop() {
        if above.others.is_empty() && tree.created_parents.contains(&dir) {
            above.ours.push(dir.clone());
        } else if dir != v2.mount || !is_v2_root(&dir) {
            above.others.push(dir.clone());
        }
    }
    Some(above)
}

/// Why nothing that is written here would be protected; `None` where it would be.
pub(super) fn why_not(tree: &Tree) -> Option<String> {
    let above = above(tree)?;
    let zero = |dir: &&PathBuf| low(dir).is_none_or(|bytes| bytes == 0);
    if let Some(dir) = above.others.iter().find(zero) {
        return Some(format!("{LOW} of {} is 0, which is not this hive's group, and nothing below it is protected", dir.display()));
    }
    // In a container the groups above the mount are out of sight.
    let mount = above.others.last().filter(|dir| tree.v2().is_some_and(|v2| v2.mount == **dir))?;
    Some(format!("{} is not the root of all cgroups, and what is protected above it can't be seen", mount.display()))
}

/// Why so many bytes for this leaf would not all be protected, with what others have there; `None` where they would be.
pub(super) fn too_much(tree: &Tree, leaf: &str, bytes: u64) -> Option<String> {
    let above = above(tree)?;
    let mut more = bytes.saturating_sub(low(&tree.v2()?.dir(group_of(leaf))).unwrap_or(0));
    for dir in &above.others {
        let (has, needed) = (low(dir)?, children(dir).saturating_add(more));
        if needed > has {
            return Some(format!("{LOW} of {} is {has}, and its groups would need {needed} with it", dir.display()));
        }
        // What is above it has the same children as before.
        more = 0;
    }
    None
}

/// Protects `bytes` of the leaf, with all that takes above it.
///
/// Errors: the file that can't be written, or holds another value then.
pub(super) fn put(tree: &Tree, leaf: &str, bytes: u64) -> Result<(), CgroupError> {
    let Some(v2) = tree.v2() else { return Ok(()) };
    let group = v2.dir(group_of(leaf));
    let before = low(&group).unwrap_or(0);
    set(&v2.dir(leaf), bytes)?;
    set(&group, bytes)?;
    // The kernel keeps whole pages.
    if let Err(e) = count(tree, before, low(&group).unwrap_or(bytes)) {
        // What is not in the sum must not be taken out of it at the end.
        let _ = set(&group, before);
        return Err(e);
    }
    sum_up(tree)
}

/// Every file that [`put`] writes for this leaf and that is this hive's alone, in its order.
pub(super) fn files(tree: &Tree, leaf: &str) -> Vec<PathBuf> {
    let Some(v2) = tree.v2() else { return Vec::new() };
    [leaf, group_of(leaf), &tree.workers(), &tree.root].map(|path| v2.dir(path).join(LOW)).into()
}

/// The groups above those, the lowest first: what they hold is other hives' as well, and is never put back but added up again ([`shared_sum`]).
pub(super) fn shared(tree: &Tree) -> Vec<PathBuf> {
    above(tree).map(|above| above.ours.into_iter().skip(2).collect()).unwrap_or_default()
}

/// Takes a worker that is to be removed out of the sums.
pub(super) fn give_back(tree: &Tree, id: &WorkerId) {
    let Some(group) = tree.v2().map(|v2| v2.dir(&tree.group(id))) else { return };
    let Some(before) = low(&group).filter(|bytes| *bytes > 0) else { return };
    if let Err(e) = set(&group, 0).and_then(|()| count(tree, before, 0)).and_then(|()| sum_up(tree)) {
        tracing::warn!(worker = %id, error = %e, "the memory that it had protected is still counted");
    }
}

/// Makes the sums those of a tree without workers.
pub(super) fn reset(tree: &Tree) {
    let Some(before) = above(tree).and_then(|above| low(&above.ours[0])) else { return };
    if let Err(e) = count(tree, before, 0).and_then(|()| sum_up(tree)) {
        tracing::warn!(error = %e, "memory that an earlier hive had protected is still counted");
    }
}

/// Makes the sums of the parents those without this tree, whose root is gone.
pub(super) fn leave(tree: &Tree) {
    for dir in shared(tree).iter().filter(|dir| low(dir).is_some()) {
        if let Err(e) = shared_sum(dir) {
            tracing::warn!(error = %e, "memory that this hive had protected is still counted");
        }
    }
}

/// Another amount in a worker's group, and so in the one of all workers. By the difference: there are thousands of them.
fn count(tree: &Tree, before: u64, after: u64) -> Result<(), CgroupError> {
    let Some(workers) = tree.v2().map(|v2| v2.dir(&tree.workers())) else { return Ok(()) };
    let all = low(&workers).unwrap_or(0);
    let sum = all.saturating_sub(before).saturating_add(after);
    if sum == all { Ok(()) } else { set(&workers, sum) }
}

/// The sums above that.
fn sum_up(tree: &Tree) -> Result<(), CgroupError> {
    let Some(above) = above(tree) else { return Ok(()) };
    let [_, root, parents @ ..] = above.ours.as_slice() else { return Ok(()) };
    // This hive holds the lock on its root.
    sum(root)?;
    parents.iter().try_for_each(|dir| shared_sum(dir))
}

/// [`sum`] of a parent that several hives have: the lock keeps one from writing what another has just changed.
pub(super) fn shared_sum(dir: &Path) -> Result<(), CgroupError> {
    let fd = open_lock(dir)?;
    let mut tries = 0;
    while let Err(errno) = flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        tries += 1;
        if tries == MAX_TRIES {
            return Err(CgroupError::Lock { path: dir.to_owned(), source: errno.into() });
        }
        let _ = poll(&mut [], Some(&MOMENT));
    }
    sum(dir)
}

/// What a parent's lock is taken on. Who can open a thing, be it to read alone, can hold its lock for ever, and everybody can open the directory and
/// most files of a cgroup; `cgroup.kill` (Linux 5.14) can't be read, and nobody but its owner can open it to write.
fn open_lock(dir: &Path) -> Result<OwnedFd, CgroupError> {
    match open_write(&dir.join("cgroup.kill")) {
        Err(CgroupError::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => open_dir(dir),
        opened => opened,
    }
}

/// Writes the sum of the children's, where it is another than before.
fn sum(dir: &Path) -> Result<(), CgroupError> {
    let all = children(dir);
    if low(dir) == Some(all) { Ok(()) } else { set(dir, all) }
}

fn children(dir: &Path) -> u64 {
    removal::children(dir).iter().filter_map(|child| low(child)).fold(0, u64::saturating_add)
}

fn set(dir: &Path, bytes: u64) -> Result<(), CgroupError> {
    write_checked(&dir.join(LOW), &bytes.to_string(), |got| values::same_bytes(Some(bytes), got, page()))
}

/// What a group has, bytes; `None` where it has no such file.
fn low(dir: &Path) -> Option<u64> {
    bytes(&read(&dir.join(LOW)).ok()?)
}

fn bytes(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// The least of `memory.low` in `leaf` and in every group above it up to `mount`: no more of the leaf is protected.
///
/// Errors: what could not be read.
pub(super) fn least(mount: &Path, leaf: &Path) -> Result<String, CgroupError> {
    let mut text = read(&leaf.join(LOW))?;
    for dir in leaf.ancestors().skip(1).take_while(|dir| dir.starts_with(mount)).filter(|dir| dir.join(LOW).exists()) {
        let there = read(&dir.join(LOW))?;
        if bytes(&there) < bytes(&text) {
            text = there;
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn nobody_who_may_only_read_holds_up_the_sum_of_a_parent() {
        let t = tempfile::tempdir().unwrap();
        fs::create_dir(t.path().join("child")).unwrap();
        for (file, text) in [("child/memory.low", "65536"), (LOW, "00000"), ("cgroup.kill", "")] {
            fs::write(t.path().join(file), text).unwrap();
        }
        let stranger = open_dir(t.path()).unwrap();
        flock(&stranger, FlockOperation::LockExclusive).unwrap();
        let readable = fs::File::open(t.path().join(LOW)).unwrap();
        flock(&readable, FlockOperation::LockExclusive).unwrap();
        let range = libc::flock { l_type: libc::F_RDLCK as _, l_whence: libc::SEEK_SET as _, l_start: 0, l_len: 0, l_pid: 0 };
        nix::fcntl::fcntl(&readable, nix::fcntl::FcntlArg::F_OFD_SETLK(&range)).unwrap();
        shared_sum(t.path()).unwrap();
        assert_eq!(fs::read_to_string(t.path().join(LOW)).unwrap(), "65536");
        // Another hive does.
        let hive = open_write(&t.path().join("cgroup.kill")).unwrap();
        flock(&hive, FlockOperation::LockExclusive).unwrap();
        assert!(matches!(shared_sum(t.path()), Err(CgroupError::Lock { .. })));
    }

    #[test]
    fn the_least_of_all_levels_is_what_is_protected() {
        let t = tempfile::tempdir().unwrap();
        let leaf = t.path().join("r/workers/w-a/worker");
        fs::create_dir_all(&leaf).unwrap();
        for (dir, text) in [("r", "8192"), ("r/workers", "max"), ("r/workers/w-a", "4096"), ("r/workers/w-a/worker", "8192")] {
            fs::write(t.path().join(dir).join(LOW), text).unwrap();
        }
        assert_eq!(least(t.path(), &leaf).unwrap(), "4096");
        fs::write(t.path().join("r/workers").join(LOW), "0").unwrap();
        assert_eq!(least(t.path(), &leaf).unwrap(), "0");
        assert!(least(t.path(), &t.path().join("gone")).is_err());
    }
}
