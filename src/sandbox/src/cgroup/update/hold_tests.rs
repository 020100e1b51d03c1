//! `memory.high` while `memory.max` is written: a pipe in its place shows what is there at that moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use rbee_hive_policy::{Enforce, LimitKey, LimitValue, Limits, PlannedLimit, WorkerId};

use super::super::detect::{Hierarchy, Layout};
use super::*;

const MIB: u64 = 1 << 20;

/// A directory that looks like a v2 tree with one worker of 256 MiB, whose `memory.max` is a pipe.
struct Looks {
    dir: tempfile::TempDir,
    tree: Tree,
    leaf: PathBuf,
}

fn looks() -> Looks {
    let dir = tempfile::tempdir().unwrap();
    let v2 = Hierarchy { version: Version::V2, controllers: vec![], mount: dir.path().to_owned(), mount_root: "/".into() };
    let tree = Tree::open_in(Layout { hierarchies: vec![v2], notes: vec![] }, "0::/\n", "/r").unwrap();
    fs::write(dir.path().join("r/workers/cgroup.subtree_control"), "memory\n").unwrap();
    let leaf = dir.path().join("r/workers/w-w/worker");
    fs::create_dir_all(&leaf).unwrap();
    fs::write(leaf.join("memory.high"), "max\n").unwrap();
    fs::write(leaf.join("memory.current"), (100 * MIB).to_string()).unwrap();
    let pipe = leaf.join("memory.max");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    Looks { dir, tree, leaf }
}

fn of(mib: u64) -> Limits {
    Limits::from([(LimitKey::MemoryMax, PlannedLimit { value: LimitValue::Count(mib * MIB), enforce: Enforce::Required })])
}

fn lower(looks: &Looks) -> Result<Changed, ChangeError> {
    let (old, new) = (of(256), of(128));
    looks.tree.change_limits(&WorkerId::parse("w").unwrap(), Change { old: &old, new: &new, below_use: BelowUse::Refuse })
}

fn text(leaf: &Path, file: &str) -> String {
    fs::read_to_string(leaf.join(file)).unwrap()
}

/// From now on `memory.max` is a file. Who waits at the pipe already goes on, so that no test waits for ever.
fn file_instead(leaf: &Path, content: &str) {
    let mut pipe = fs::OpenOptions::new().read(true).write(true).open(leaf.join("memory.max")).unwrap();
    fs::write(leaf.join("new"), content).unwrap();
    fs::rename(leaf.join("new"), leaf.join("memory.max")).unwrap();
    std::io::Write::write_all(&mut pipe, content.as_bytes()).unwrap();
}

#[test]
fn the_use_is_held_at_the_new_maximum_while_that_is_written() {
    let looks = looks();
    let leaf = looks.leaf.clone();
    // Each opening of the pipe waits for the other side's.
    let kernel = thread::spawn(move || {
        fs::write(leaf.join("memory.max"), (256 * MIB).to_string()).unwrap();
        let written = text(&leaf, "memory.max");
        let high = text(&leaf, "memory.high");
        file_instead(&leaf, &written);
        (written, high)
    });
    lower(&looks).unwrap();
    let wanted = (128 * MIB).to_string();
    assert_eq!(kernel.join().unwrap(), (wanted.clone(), wanted));
    assert!(text(&looks.leaf, "memory.high").starts_with("max"), "it is no limit of the worker's");
    drop(looks.dir);
}

#[test]
fn what_has_grown_since_it_was_looked_at_is_refused_and_nobody_killed() {
    let looks = looks();
    let leaf = looks.leaf.clone();
    let kernel = thread::spawn(move || {
        let mut pipe = fs::OpenOptions::new().write(true).open(leaf.join("memory.max")).unwrap();
        fs::write(leaf.join("memory.current"), (140 * MIB).to_string()).unwrap();
        std::io::Write::write_all(&mut pipe, (256 * MIB).to_string().as_bytes()).unwrap();
        drop(pipe);
        let back = text(&leaf, "memory.max");
        file_instead(&leaf, &back);
        back
    });
    let refused = lower(&looks).unwrap_err();
    assert!(matches!(refused.cause, Cause::BelowUse { used, .. } if used == 140 * MIB), "{refused:?}");
    assert_eq!((refused.left, kernel.join().unwrap()), (vec![], (256 * MIB).to_string()), "the old one is all that was written");
    assert!(text(&looks.leaf, "memory.high").starts_with("max"));
}
