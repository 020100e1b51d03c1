//! What a launcher does with the groups that it finds, as root.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Child, Command, Stdio};

use rbee_hive_policy::Limits;

use super::Tree;
use super::removal::Removal;
use super::test_tree::{Fixture, fixture, id, node, sandboxed_worker, until};

/// A launcher that dies: its lock goes with it, its groups stay, and the next one opens them.
fn reopened(f: Fixture) -> Fixture {
    let (layout, root) = (f.tree.layout.clone(), f.tree.root.clone());
    let Fixture { tree, dirs } = f;
    drop(tree);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    Fixture { tree: Tree::open_unswept(layout, &own, &root).unwrap(), dirs }
}

fn worker(f: &Fixture, name: &str) -> Child {
    let leaves = f.tree.make_leaves(&id(name), &Limits::new(), &[node("/dev/null", 3)]).unwrap();
    sandboxed_worker(f, &leaves)
}

#[test]
fn leftovers_of_a_dead_hive_are_killed_and_removed_but_for_those_that_are_spared() {
    let Some(f) = fixture("leftovers", |_| ()) else { return };
    let (mut old, mut kept) = (worker(&f, "old"), worker(&f, "kept"));
    let mut f = reopened(f);
    assert!(f.tree.sweep(&BTreeSet::from([id("kept")])).is_empty());
    assert!(!old.wait().unwrap().success());
    assert!(f.tree.facts().notes.iter().any(|n| n.contains("removed 1 worker cgroup")), "{:?}", f.tree.facts().notes);
    assert!(kept.try_wait().unwrap().is_none(), "it was spared");
    f.tree.kill_leaf(&id("kept")).unwrap();
    assert!(!kept.wait().unwrap().success());
    f.end();
}

#[test]
fn a_stranger_in_a_workers_group_outlives_every_way_in_which_the_group_is_cleared() {
    let Some(f) = fixture("stranger", |_| ()) else { return };
    let mut old = worker(&f, "old");
    let mut stranger = Command::new("sleep").arg("1000").stdin(Stdio::null()).spawn().unwrap();
    for dir in f.dirs_of(&format!("{}/workers/w-old/worker", f.tree.root)) {
        fs::write(dir.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    }
    let mut f = reopened(f);
    let left = f.tree.sweep(&BTreeSet::new());
    assert!(left["w-old"][0].contains(&format!("process {} (sleep) is none of ours", stranger.id())), "{left:?}");
    assert!(!old.wait().unwrap().success(), "what is ours goes");
    assert!(f.tree.make_leaves(&id("old"), &Limits::new(), &[]).is_err(), "nor is the name to be had");
    assert!(matches!(f.tree.discard(&id("old")), Removal::Busy { .. }));
    assert!(!f.tree.destroy().is_empty());
    assert!(stranger.try_wait().unwrap().is_none(), "it was none of ours");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    let mut f = reopened(f);
    f.tree.sweep(&BTreeSet::new());
    f.end();
}

#[test]
fn an_init_is_in_place_only_in_its_own_group_of_every_hierarchy() {
    let Some(f) = fixture("in-place", |_| ()) else { return };
    let mut child = worker(&f, "a");
    let group = format!("{}/workers/w-a", f.tree.root);
    let init = fs::read_to_string(f.dirs_of(&format!("{group}/init"))[0].join("cgroup.procs")).unwrap();
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", init.trim())).unwrap();
    assert_eq!(f.tree.holds(&id("a"), &groups), Ok(()));
    assert!(f.tree.holds(&id("b"), &groups).unwrap_err().contains("has to be in"));
    let elsewhere = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(f.tree.holds(&id("a"), &elsewhere).is_err());
    // One hierarchy is enough.
    let (line, others) = groups.lines().partition::<Vec<_>, _>(|line| line.ends_with(&format!("{group}/init")) && line.starts_with("0:"));
    if !line.is_empty() && others.iter().any(|line| line.ends_with("/init")) {
        let moved = groups.replacen(&format!("0::{group}/init"), "0::/", 1);
        assert!(f.tree.holds(&id("a"), &moved).is_err());
    }
    f.tree.kill_leaf(&id("a")).unwrap();
    child.wait().unwrap();
    until("the group to be empty", || f.tree.remove_leaves(&id("a")) == Removal::Done);
    assert!(f.tree.holds(&id("a"), &groups).unwrap_err().contains("is not there"));
    f.end();
}
