//! The tree on the real kernel, as root: in the host's own layout, and as legacy where the host has v1 hierarchies.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use rbee_hive_policy::{Enforce, LimitKey, LimitValue, Limits};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::detect::{self, Layout, Version};
use super::removal::Removal;
use super::{CgroupError, Descriptors, LeafReader, Tree, read_resources};
use crate::protocol::CgroupMode;

use super::test_tree::{Fixture, PATIENCE, file, fixture, forking_worker, id, legacy, limits, node, status, until};

#[test]
fn limits_are_what_the_files_say() {
    let Some(f) = fixture("limits", |_| ()) else { return };
    let wanted = [
        (LimitKey::MemoryMax, LimitValue::Count(100_000_000)),
        (LimitKey::SwapMax, LimitValue::Count(0)),
        (LimitKey::Cpus, LimitValue::Decimal(1.5)),
        (LimitKey::CpuWeight, LimitValue::Count(50)),
        (LimitKey::Cpuset, LimitValue::Text("0".into())),
        (LimitKey::PidsMax, LimitValue::Count(77)),
        (LimitKey::OpenFiles, LimitValue::Count(10)),
    ];
    let missing = f.tree.unenforceable();
    let able: Vec<_> = wanted.iter().filter(|(k, _)| !missing.contains_key(k)).cloned().collect();
    let leaves = f.tree.make_leaves(&id("a"), &limits(&able, Enforce::Required), &[]).unwrap();
    let path = leaves.path.clone().unwrap();
    let set = |key| able.iter().any(|(k, _)| *k == key);
    if set(LimitKey::MemoryMax) {
        let rounded = 100_000_000 - 100_000_000 % procfs::page_size();
        assert_eq!(file(&f, &path, &["memory.limit_in_bytes", "memory.max"]), rounded.to_string());
        assert_eq!(leaves.worker_leaf().memory_limit(), Some(rounded));
    }
    if set(LimitKey::Cpus) {
        assert!(["150000", "150000 100000"].contains(&file(&f, &path, &["cpu.cfs_quota_us", "cpu.max"]).as_str()));
        let group = path.trim_end_matches("/worker");
        assert!(["512", "50"].contains(&file(&f, group, &["cpu.shares", "cpu.weight"]).as_str()));
    }
    if set(LimitKey::Cpuset) {
        assert_eq!(file(&f, &path, &["cpuset.cpus"]), "0");
    }
    if set(LimitKey::PidsMax) {
        assert_eq!(file(&f, &path, &["pids.max"]), "77");
        let init = path.replace("/worker", "/init").replacen("/inits", "/workers", 1);
        assert_eq!(file(&f, &init, &["pids.max"]), "32");
    }
    assert!(able.len() > 1, "nothing but open_files can be limited here: {missing:?}");
    assert_eq!(f.tree.remove_leaves(&id("a")), Removal::Done);
    f.end();
}

#[test]
fn what_cannot_be_enforced_is_an_error_or_a_note_and_an_error_leaves_nothing() {
    let Some(f) = fixture("refusals", legacy_or_unchanged) else { return };
    let high = [(LimitKey::MemoryHigh, LimitValue::Count(1 << 20))];
    let leaves = f.tree.make_leaves(&id("a"), &limits(&high, Enforce::IfAvailable), &[]).unwrap();
    let mut refused = vec![
        (limits(&[(LimitKey::Cpuset, LimitValue::Text("4000".into()))], Enforce::Required), "cpuset.cpus"),
        (limits(&[(LimitKey::PidsMax, LimitValue::Text("many".into()))], Enforce::Required), "pids_max"),
    ];
    if f.tree.mode() == CgroupMode::Legacy {
        assert_eq!(leaves.notes[0].setting, "memory_high");
        refused.push((limits(&high, Enforce::Required), "memory_high"));
    } else {
        assert_eq!(file(&f, leaves.path.as_deref().unwrap(), &["memory.high"]), "1048576");
    }
    for (wrong, named) in refused {
        let error = f.tree.make_leaves(&id("b"), &wrong, &[]).unwrap_err();
        assert_eq!(error.step, "write limits");
        assert!(error.source.to_string().contains(named), "{}", error.source);
        assert!(f.dirs_of(&format!("{}/workers/w-b", f.tree.root)).iter().all(|d| !d.exists()));
    }
    f.end();
}

fn devices_hold(f: Fixture, enters: Version) {
    for (name, granted, works) in
        [("with", vec![node("/dev/null", 3), node("/dev/full", 7)], true), ("without", vec![node("/dev/null", 3)], false)]
    {
        let leaves = f.tree.make_leaves(&id(name), &Limits::new(), &granted).unwrap();
        assert!(leaves.notes.is_empty(), "{:?}", leaves.notes);
        // One kind of hierarchy at a time, so that each is seen to enforce the list by itself.
        let dirs = f.tree.layout.hierarchies.iter().filter(|h| h.version == enters).map(|h| h.dir(leaves.path.as_deref().unwrap()));
        let mut command = Command::new("sh");
        let script = "for d in \"$@\"; do echo 0 > \"$d/cgroup.procs\" || exit 99; done; exec 3</dev/null || exit 98; exec 3</dev/full || exit 97; exit 0";
        command.args(["-c", script, "sh"]).args(dirs).stdin(Stdio::null()).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if works {
            assert!(output.status.success(), "{said}");
        } else {
            assert!(!output.status.success() && said.contains("/dev/full") && said.contains("not permitted"), "{:?} {said}", output.status);
        }
    }
    f.end();
}

#[test]
fn a_device_that_was_not_granted_cannot_be_opened_by_the_v2_program() {
    let Some(f) = fixture("devices2", |_| ()) else { return };
    if f.tree.v2().is_none() {
        eprintln!("SKIPPED: needs a cgroup v2 mount");
        return f.end();
    }
    devices_hold(f, Version::V2);
}

#[test]
fn a_device_that_was_not_granted_cannot_be_opened_by_the_v1_list() {
    let Some(f) = fixture("devices1", legacy_or_unchanged) else { return };
    if f.tree.v1("devices").is_none() {
        eprintln!("SKIPPED: needs the v1 devices controller");
        return f.end();
    }
    devices_hold(f, Version::V1);
}

fn legacy_or_unchanged(layout: &mut Layout) {
    let before = layout.clone();
    legacy(layout);
    if layout.hierarchies.is_empty() {
        *layout = before;
    }
}

fn kill_empties(f: Fixture, kill: impl FnOnce(&super::WorkerLeaf) -> Result<(), CgroupError>) {
    let leaves = f.tree.make_leaves(&id("k"), &Limits::new(), &[node("/dev/null", 3)]).unwrap();
    let mut child = forking_worker(&f, &leaves);
    let leaf = leaves.worker_leaf();
    assert!(leaf.populated().unwrap());
    assert!(matches!(f.tree.remove_leaves(&id("k")), Removal::Busy { left } if !left.is_empty()));
    let events = leaf.events_fd();
    kill(leaf).unwrap();
    assert!(!child.wait().unwrap().success());
    let deadline = Instant::now() + PATIENCE;
    while leaf.populated().unwrap() {
        assert!(Instant::now() < deadline, "processes are left: {:?}", leaf.pids());
        if let Some(fd) = &events {
            let wait = Timespec { tv_sec: 1, tv_nsec: 0 };
            poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::PRI)], Some(&wait)).unwrap();
        }
    }
    until("removal", || f.tree.remove_leaves(&id("k")) == Removal::Done);
    f.end();
}

#[test]
fn kill_empties_the_cgroup_double_forks_included() {
    let Some(f) = fixture("kill", |_| ()) else { return };
    kill_empties(f, |leaf| leaf.kill());
}

#[test]
fn the_freezer_empties_the_cgroup_on_v1() {
    let Some(f) = fixture("freezer", legacy) else { return };
    assert_eq!(f.tree.mode(), CgroupMode::Legacy);
    kill_empties(f, |leaf| leaf.kill());
}

#[test]
fn freezing_empties_a_v2_cgroup_without_cgroup_kill() {
    let Some(f) = fixture("freeze2", |_| ()) else { return };
    kill_empties(f, |leaf| leaf.kill_by_freezing());
}

#[test]
fn a_second_hive_on_a_root_is_refused_and_the_first_one_unharmed() {
    let Some(f) = fixture("lock", |_| ()) else { return };
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let leaves = f.tree.make_leaves(&id("a"), &Limits::new(), &[]).unwrap();
    let error = Tree::open_in(f.tree.layout.clone(), &own, &f.tree.root).unwrap_err();
    assert!(matches!(error, CgroupError::RootTaken { .. }), "{error}");
    assert!(error.hint().unwrap().contains("--cgroup-root"));
    assert!(f.dirs_of(leaves.path.as_deref().unwrap()).iter().all(|d| d.is_dir()));
    f.end();
}

#[test]
fn leftovers_of_a_dead_hive_are_killed_and_removed_at_open() {
    let Some(f) = fixture("leftovers", |_| ()) else { return };
    let (layout, root) = (f.tree.layout.clone(), f.tree.root.clone());
    let leaves = f.tree.make_leaves(&id("old"), &Limits::new(), &[node("/dev/null", 3)]).unwrap();
    let mut child = forking_worker(&f, &leaves);
    // A launcher that dies: its lock goes with it, its groups stay.
    let Fixture { tree, dirs } = f;
    drop(tree);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let mut tree = Tree::open_in(layout, &own, &root).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(tree.facts().notes.iter().any(|n| n.contains("removed 1 worker cgroup")), "{:?}", tree.facts().notes);
    assert_eq!(tree.destroy(), Vec::<String>::new());
    for dir in dirs {
        assert!(!dir.exists());
    }
}

#[test]
fn the_last_hive_below_a_default_parent_removes_it() {
    let Some(f) = fixture("parents-probe", |_| ()) else { return };
    let layout = f.tree.layout.clone();
    f.end();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let parent = format!("/rbee-hive-test-{}-parents", std::process::id());
    let mut trees: Vec<Tree> = ["a", "b"]
        .iter()
        .map(|name| {
            let root = format!("{parent}/{name}");
            let mut tree = Tree::open_in(layout.clone(), &own, &root).unwrap();
            tree.adopt_parents(&root);
            tree
        })
        .collect();
    let dirs: Vec<PathBuf> = layout.hierarchies.iter().map(|h| h.dir(&parent)).collect();
    for there in [true, false] {
        assert_eq!(trees.remove(0).destroy(), Vec::<String>::new());
        assert!(dirs.iter().all(|d| d.exists() == there));
    }
}

#[test]
fn counters_are_read_by_descriptors_and_below_the_mounts_alike() {
    let Some(f) = fixture("counters", |_| ()) else { return };
    let leaves = f.tree.make_leaves(&id("c"), &Limits::new(), &[node("/dev/null", 3)]).unwrap();
    assert!(status(f.shell(&leaves, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; cat /proc/self/stat")).success());
    until("the shell's end", || !leaves.worker_leaf().populated().unwrap());
    let by_fd = leaves.worker_leaf().resources();
    let by_path = read_resources(&f.tree.facts(), leaves.path.as_deref().unwrap());
    assert!(by_fd.cpu_usage_usec.unwrap() > 0);
    assert_eq!((by_fd.pids_current, by_fd.oom_kills, by_fd.memory_peak), (by_path.pids_current, by_path.oom_kills, by_path.memory_peak));
    if !f.tree.unenforceable().contains_key(&LimitKey::PidsMax) {
        assert_eq!(by_fd.pids_current, Some(0));
    }
    f.end();
}

#[test]
fn kept_descriptors_read_what_paths_do_and_hold_no_leaf_back() {
    let Some(f) = fixture("kept", |_| ()) else { return };
    let leaves = f.tree.make_leaves(&id("k"), &Limits::new(), &[node("/dev/null", 3)]).unwrap();
    let (facts, path) = (std::sync::Arc::new(f.tree.facts()), leaves.path.clone().unwrap());
    let budget = Descriptors::new(64);
    let mut reader = LeafReader::new(std::sync::Arc::clone(&facts), &path, std::sync::Arc::clone(&budget));
    let before = reader.read();
    let left = budget.left();
    assert!(left < 64, "{before:?}");
    assert!(status(f.shell(&leaves, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")).success());
    until("the shell's end", || !leaves.worker_leaf().populated().unwrap());
    let after = reader.read();
    assert!(after.cpu_usage_usec > before.cpu_usage_usec, "{before:?} {after:?}");
    assert_eq!(after.page_faults, read_resources(&facts, &path).page_faults);
    assert_eq!(budget.left(), left, "nothing was opened again");
    assert_eq!(f.tree.remove_leaves(&id("k")), Removal::Done);
    assert_eq!((reader.read(), budget.left()), (Default::default(), 64), "what is gone has no figures");
    let leaves = f.tree.make_leaves(&id("k"), &Limits::new(), &[node("/dev/null", 3)]).unwrap();
    assert!(reader.read().cpu_usage_usec < after.cpu_usage_usec, "the next one of that name begins anew");
    drop((reader, leaves));
    f.end();
}

#[test]
fn an_out_of_memory_kill_is_counted() {
    let Some(f) = fixture("oom", |_| ()) else { return };
    if f.tree.unenforceable().contains_key(&LimitKey::MemoryMax) {
        eprintln!("SKIPPED: needs the memory controller");
        return f.end();
    }
    let mut of = vec![(LimitKey::MemoryMax, LimitValue::Count(16 << 20))];
    if !f.tree.unenforceable().contains_key(&LimitKey::SwapMax) {
        of.push((LimitKey::SwapMax, LimitValue::Count(0)));
    }
    let leaves = f.tree.make_leaves(&id("o"), &limits(&of, Enforce::Required), &[node("/dev/null", 3), node("/dev/zero", 5)]).unwrap();
    // One byte stream without a newline: the shell's child has to hold all of it.
    assert!(!status(f.shell(&leaves, "head -c 200M /dev/zero | tail -c 199M > /dev/null; [ $? = 0 ]")).success());
    assert!(leaves.worker_leaf().resources().oom_kills.unwrap() > 0);
    f.end();
}

#[test]
fn a_root_that_cannot_be_made_leaves_no_parents() {
    let Some(f) = fixture("noroot", |_| ()) else { return };
    // An interface file's name.
    let root = format!("{}-parent/cgroup.procs", f.tree.root);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    Tree::open_in(f.tree.layout.clone(), &own, &root).unwrap_err();
    for hierarchy in &f.tree.layout.hierarchies {
        assert!(!hierarchy.dir(root.trim_end_matches("/cgroup.procs")).exists(), "{hierarchy:?}");
    }
    f.end();
}

#[test]
fn the_hive_is_taken_in_and_goes_back_at_the_end() {
    let Some(mut f) = fixture("takein", |_| ()) else { return };
    let mut hive = Command::new("sleep").arg("60").spawn().unwrap();
    let groups = || fs::read_to_string(format!("/proc/{}/cgroup", hive.id())).unwrap();
    let before = groups();
    f.tree.take_in(hive.id() as i32, true).unwrap();
    assert_eq!(groups(), before, "it stays where it is no hindrance");
    f.tree.take_in(hive.id() as i32, false).unwrap();
    assert!(groups().matches(&format!("{}/hive", f.tree.root)).count() >= f.tree.layout.hierarchies.len(), "{}", groups());
    assert_eq!(f.tree.destroy(), Vec::<String>::new());
    assert_eq!(groups(), before);
    hive.kill().unwrap();
    hive.wait().unwrap();
    f.end();
}

/// Whose group the process of `delegated_child` was started in.
const DELEGATED: &str = "RBEE_HIVE_TEST_DELEGATED";

#[test]
fn a_hive_in_a_delegated_group_moves_out_of_the_way_and_back() {
    let Some(f) = fixture("delegated", |l| l.hierarchies.retain(|h| h.version == Version::V2)) else { return };
    let group = format!("{}/given", f.tree.workers());
    let dir = f.dirs_of(&group).remove(0);
    fs::create_dir(&dir).unwrap();
    let script = "echo 0 > \"$1/cgroup.procs\" || exit 99; shift; \"$@\"; exit $?";
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(&dir).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "--ignored", "cgroup::privileged_tests::delegated_child"]).env(DELEGATED, &group);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}{}", String::from_utf8_lossy(&output.stderr));
    fs::remove_dir(&dir).unwrap();
    f.end();
}

#[test]
#[ignore = "a part of a_hive_in_a_delegated_group_moves_out_of_the_way_and_back, run by it in a process of its own"]
fn delegated_child() {
    let group = std::env::var(DELEGATED).unwrap();
    let own = || fs::read_to_string("/proc/self/cgroup").unwrap();
    let before = own();
    let mut layout = detect::layout(&fs::read_to_string("/proc/self/mountinfo").unwrap(), &detect::usable_here);
    layout.hierarchies.retain(|h| h.version == Version::V2);
    let given = super::delegate::words(&layout.hierarchies[0].dir(&group), "cgroup.controllers");
    // The hive sits there too.
    let hive = std::os::unix::process::parent_id();
    let hives = || fs::read_to_string(format!("/proc/{hive}/cgroup")).unwrap();
    let mut tree = Tree::open_in(layout, &before, &format!("{group}/root")).unwrap();
    tree.take_in(hive as i32, true).unwrap();
    assert!(hives().lines().any(|l| l.ends_with(&format!("{group}/root/hive"))), "{}", hives());
    assert!(own().lines().any(|l| l.starts_with("0:") && l.ends_with(&format!("{group}/root/hive"))), "{}", own());
    for controller in ["memory", "pids", "cpu", "cpuset"].iter().filter(|c| given.contains(**c)) {
        assert!(tree.v2_controllers().contains(*controller), "{controller}: {:?}", tree.facts().notes);
    }
    assert_eq!(tree.destroy(), Vec::<String>::new());
    assert_eq!((own(), hives()), (before.clone(), before));
}

#[test]
fn facts_name_each_controllers_mount() {
    let Some(f) = fixture("facts", |_| ()) else { return };
    let facts = f.tree.facts();
    let mounts: BTreeMap<_, _> = facts.mounts.iter().collect();
    assert!(!mounts.is_empty());
    for mount in mounts.values() {
        assert!(Path::new(mount).join(facts.root.trim_start_matches('/')).join("hive").is_dir(), "{mount}");
    }
    f.end();
}

#[test]
fn the_device_program_of_a_leaf_is_told_of_by_its_number() {
    let Some(f) = fixture("program", |_| ()) else { return };
    if f.tree.v2().is_none() {
        eprintln!("SKIPPED: needs a cgroup v2 mount");
        return f.end();
    }
    let (one, two) = (id("one"), id("two"));
    let leaves = f.tree.make_leaves(&one, &Limits::new(), &[node("/dev/null", 3)]).unwrap();
    f.tree.make_leaves(&two, &Limits::new(), &[node("/dev/full", 7)]).unwrap();
    let ours = leaves.device_program.unwrap();
    assert_eq!(f.tree.device_programs(&one).unwrap(), [ours]);
    assert!(!f.tree.device_programs(&two).unwrap().contains(&ours));
    assert!(matches!(f.tree.device_programs(&id("none")), Err(CgroupError::Open { .. })));
    f.end();
}
