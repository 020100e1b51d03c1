//! What protection does: two workers' page cache, some of which the kernel takes back from all workers together. Needs cgroup v2.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rbee_hive_policy::{Enforce, LimitKey, LimitValue, Limits};

use super::removal::Removal;
use super::test_tree::{Fixture, file, fixture, id, limits, node, status};
use super::update::{BelowUse, Cause, Change};
use super::{Leaves, Tree, limit_holds, read_limit};

const MIB: u64 = 1 << 20;

fn protected(bytes: u64) -> Limits {
    limits(&[(LimitKey::MemoryLow, LimitValue::Count(bytes))], Enforce::Required)
}

fn worker(tree: &Tree, name: &str, limits: &Limits) -> Leaves {
    tree.make_leaves(&id(name), limits, &[node("/dev/null", 3)]).unwrap()
}

/// The tree of a test where memory can be protected; `None`, said aloud, where it can't.
fn able(test: &str) -> Option<Fixture> {
    let f = fixture(test, |_| ())?;
    if !f.tree.v2_controllers().contains("memory") {
        eprintln!("SKIPPED: needs cgroup v2 with the memory controller");
        f.end();
        return None;
    }
    Some(f)
}

/// `memory.low` of a group of the tree.
fn low(f: &Fixture, path: &str) -> u64 {
    file(f, path, &["memory.low"]).parse().unwrap()
}

fn change(f: &Fixture, name: &str, (old, new): (u64, u64)) -> Result<super::update::Changed, super::ChangeError> {
    let (old, new) = (protected(old), protected(new));
    f.tree.change_limits(&id(name), Change { old: &old, new: &new, below_use: BelowUse::Refuse })
}

#[test]
fn every_group_of_ours_protects_the_sum_of_what_is_in_it() {
    let Some(mut f) = able("sums") else { return };
    // A parent that all hives share, with another one in it.
    let root = format!("{}/shared", f.tree.root);
    let v2 = f.tree.v2().unwrap();
    let (parent, other) = (v2.dir(&root), v2.dir(&format!("{root}/other")));
    fs::write(v2.dir(&f.tree.root).join("memory.low"), (64 * MIB).to_string()).unwrap();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut tree = Tree::open_in(f.tree.layout.clone(), &own, &format!("{root}/mine")).unwrap();
    assert_eq!(tree.created_parents.iter().filter(|dir| **dir == parent).count(), 1, "it was made for this one");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("memory.low"), (8 * MIB).to_string()).unwrap();
    // As that of a hive, it needs the controller for its own workers.
    fs::write(other.join("cgroup.subtree_control"), "+memory").unwrap();
    std::mem::swap(&mut f.tree, &mut tree);
    let at = |f: &Fixture| {
        ["/mine/workers/w-a/worker", "/mine/workers/w-a", "/mine/workers", "/mine", ""].map(|p| low(f, &format!("{root}{p}")) / MIB)
    };

    // Any user of the machine can hold this one, and can't open the hives' own.
    let stranger = fs::File::open(&parent).unwrap();
    rustix::fs::flock(&stranger, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    assert_eq!(fs::metadata(parent.join("cgroup.kill")).map(|there| there.mode() & 0o777).ok(), Some(0o200));
    let a = worker(&f.tree, "a", &protected(16 * MIB));
    assert_eq!(at(&f), [16, 16, 16, 16, 24]);
    worker(&f.tree, "b", &protected(4 * MIB));
    assert_eq!(at(&f), [16, 16, 20, 20, 28]);
    let changed = change(&f, "a", (16 * MIB, 32 * MIB)).unwrap();
    assert_eq!(at(&f), [32, 32, 36, 36, 44]);
    assert_eq!(changed.put_back(), Vec::<String>::new());
    assert_eq!(at(&f), [16, 16, 20, 20, 28]);
    change(&f, "a", (16 * MIB, 0)).unwrap();
    assert_eq!(at(&f), [0, 0, 4, 4, 12]);
    change(&f, "a", (0, 2 * MIB)).unwrap();
    for _ in 0..2 {
        assert_eq!(f.tree.remove_leaves(&id("b")), Removal::Done, "once is enough, and again is no harm");
    }
    assert_eq!(at(&f), [2, 2, 2, 2, 10]);

    // The record of what holds looks at every level.
    let (facts, planned) = (f.tree.facts(), protected(2 * MIB));
    let holds = |leaf: &str| {
        let (file, text) = read_limit(&facts, leaf, LimitKey::MemoryLow).unwrap().unwrap();
        limit_holds((LimitKey::MemoryLow, &LimitValue::Count(2 * MIB)), &planned, (&file, &text))
    };
    assert!(holds(a.path.as_deref().unwrap()));
    fs::write(f.dirs_of(&format!("{root}/mine/workers"))[0].join("memory.low"), "0").unwrap();
    assert!(!holds(a.path.as_deref().unwrap()));

    assert_eq!(f.tree.destroy(), Vec::<String>::new());
    assert_eq!(low(&f, &root), 8 * MIB, "what is left is the other one's");
    fs::remove_dir(&other).unwrap();
    fs::remove_dir(&parent).unwrap();
    std::mem::swap(&mut f.tree, &mut tree);
    f.end();
}

#[test]
fn what_an_earlier_hive_had_protected_is_counted_no_more() {
    let Some(f) = able("stale") else { return };
    worker(&f.tree, "old", &protected(16 * MIB));
    let Fixture { tree, dirs } = f;
    let (layout, root) = (tree.layout.clone(), tree.root.clone());
    drop(tree);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let f = Fixture { tree: Tree::open_in(layout, &own, &root).unwrap(), dirs };
    assert_eq!([low(&f, &root), low(&f, &f.tree.workers())], [0, 0]);
    f.end();
}

#[test]
fn a_group_above_that_is_somebody_elses_bounds_what_can_be_protected() {
    let Some(mut f) = able("given") else { return };
    let root = f.tree.root.clone();
    let given = f.tree.v2().unwrap().dir(&root).join("memory.low");
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut tree = Tree::open_in(f.tree.layout.clone(), &own, &format!("{root}/mine")).unwrap();
    std::mem::swap(&mut f.tree, &mut tree);
    let why = f.tree.unenforceable().remove(&LimitKey::MemoryLow).unwrap();
    assert!(why.contains(&format!("memory.low of {} is 0", given.parent().unwrap().display())), "{why}");
    let error = f.tree.make_leaves(&id("a"), &protected(16 * MIB), &[]).unwrap_err();
    assert!(error.source.to_string().contains("memory_low"), "{}", error.source);

    fs::write(&given, (32 * MIB).to_string()).unwrap();
    assert_eq!(f.tree.unenforceable().get(&LimitKey::MemoryLow), None);
    worker(&f.tree, "a", &protected(16 * MIB));
    let wish = limits(&[(LimitKey::MemoryLow, LimitValue::Count(20 * MIB))], Enforce::IfAvailable);
    let notes = worker(&f.tree, "b", &wish).notes;
    assert!(notes.iter().any(|n| n.setting == "memory_low" && n.why.contains("would need")), "{notes:?}");
    let Err(refused) = change(&f, "a", (16 * MIB, 40 * MIB)) else { panic!("more than there is") };
    assert!(matches!(refused.cause, Cause::NotEnforceable(_)), "{refused:?}");
    assert_eq!(low(&f, &format!("{root}/mine/workers/w-a")), 16 * MIB);
    change(&f, "a", (16 * MIB, 32 * MIB)).unwrap();
    assert_eq!(f.tree.destroy(), Vec::<String>::new());
    std::mem::swap(&mut f.tree, &mut tree);
    f.end();
}

/// Files that nobody has read yet in two lots of about so many bytes each; empty where there are not so many.
fn files(bytes: u64) -> [Vec<PathBuf>; 2] {
    let mut lots = [Vec::new(), Vec::new()];
    let mut found: Vec<PathBuf> = Vec::new();
    walk(Path::new("/usr/lib"), 4, &mut found);
    let mut sizes = [0, 0];
    for path in found {
        let Some(at) = (0..2).find(|at| sizes[*at] < bytes) else { break };
        sizes[at] += fs::metadata(&path).map_or(0, |m| m.len());
        lots[at].push(path);
    }
    if sizes.iter().any(|size| *size < bytes) { [vec![], vec![]] } else { lots }
}

fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(there) if there.is_dir() && depth > 0 => walk(&entry.path(), depth - 1, found),
            Ok(there) if there.is_file() && there.len() > MIB && there.len() < 16 * MIB => found.push(entry.path()),
            _ => {}
        }
    }
}

#[test]
fn what_is_protected_stays_while_the_kernel_takes_the_rest() {
    const READ: u64 = 40 * MIB;
    let Some(f) = able("effect") else { return };
    let workers = f.tree.v2().unwrap().dir(&f.tree.workers());
    let lots = files(READ);
    if !workers.join("memory.reclaim").exists() || lots[0].is_empty() {
        eprintln!("SKIPPED: needs memory.reclaim and 80 MiB of files in /usr/lib");
        return f.end();
    }
    let leaves = [worker(&f.tree, "kept", &protected(32 * MIB)), worker(&f.tree, "open", &Limits::new())];
    for (leaves, lot) in leaves.iter().zip(&lots) {
        // Read by the worker, whose page cache it is then.
        let list: Vec<String> = lot.iter().map(|p| format!("'{}'", p.display())).collect();
        assert!(status(f.shell(leaves, &format!("exec cat {}", list.join(" ")))).success());
    }
    let current = || leaves.each_ref().map(|l| l.worker_leaf().resources().memory_current.unwrap());
    let before = current();
    if before.iter().any(|bytes| *bytes < 36 * MIB) {
        eprintln!("SKIPPED: needs a page cache that is charged to who reads ({before:?})");
        return f.end();
    }
    // All but what is protected and a little: without protection it comes from both alike. EAGAIN: not all of it was to be had.
    let much = before.iter().sum::<u64>() - 36 * MIB;
    let _ = fs::write(workers.join("memory.reclaim"), much.to_string());
    let after = current();
    eprintln!("protected: {} -> {}, not: {} -> {} bytes", before[0], after[0], before[1], after[1]);
    assert!(after[0] >= 30 * MIB, "protected memory was taken: {after:?}");
    assert!(after[1] < 16 * MIB, "too little was taken of what is not: {after:?}");
    f.end();
}
