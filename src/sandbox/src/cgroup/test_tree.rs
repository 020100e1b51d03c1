//! A tree on the real kernel, as root, for the tests of this module: in the host's own layout, and as legacy where the host has v1 hierarchies.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rbee_hive_policy::{DeviceAccess, DeviceKind, DeviceNode, Enforce, LimitKey, LimitValue, Limits, PlannedLimit, WorkerId};

use super::detect::{self, Layout};
use super::{Leaves, Tree};
use crate::protocol::CgroupMode;

pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A tree that is destroyed, and checked for leaving nothing, when its test ends well.
pub(super) struct Fixture {
    pub(super) tree: Tree,
    pub(super) dirs: Vec<PathBuf>,
}

/// The tree of a test in the host's layout, changed by `change`; `None`, said aloud, where it cannot run.
pub(super) fn fixture(test: &str, change: impl FnOnce(&mut Layout)) -> Option<Fixture> {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: needs root");
        return None;
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mut layout = detect::layout(&mounts, &detect::usable_here);
    change(&mut layout);
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let tree = Tree::open_in(layout, &own, &format!("/rbee-hive-test-{}-{test}", std::process::id())).unwrap();
    if tree.mode() == CgroupMode::None {
        eprintln!("SKIPPED: needs a writable cgroup hierarchy ({:?})", tree.facts().notes);
        return None;
    }
    let dirs = tree.layout.hierarchies.iter().map(|h| h.dir(&tree.root)).collect();
    Some(Fixture { tree, dirs })
}

/// The host without its v2 tree, for the freezer's sake.
pub(super) fn legacy(layout: &mut Layout) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let v1: String = mounts.lines().filter(|l| !l.contains(" - cgroup2 ")).map(|l| format!("{l}\n")).collect();
    *layout = detect::layout(&v1, &detect::usable_here);
}

impl Fixture {
    pub(super) fn end(mut self) {
        assert_eq!(self.tree.destroy(), Vec::<String>::new());
        for dir in &self.dirs {
            assert!(!dir.exists(), "{} is left", dir.display());
        }
    }

    /// The directories of a path of this tree in every hierarchy.
    pub(super) fn dirs_of(&self, path: &str) -> Vec<PathBuf> {
        self.tree.layout.hierarchies.iter().map(|h| h.dir(path)).collect()
    }

    /// A shell that enters the worker's leaf everywhere and then runs `script`.
    pub(super) fn shell(&self, leaves: &Leaves, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &format!("for d in \"$@\"; do echo 0 > \"$d/cgroup.procs\" || exit 99; done\n{script}"), "sh"]);
        command.args(self.dirs_of(leaves.path.as_deref().unwrap()));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}

pub(super) fn id(name: &str) -> WorkerId {
    WorkerId::parse(name).unwrap()
}

pub(super) fn node(path: &str, minor: u32) -> DeviceNode {
    let access = DeviceAccess { read: true, write: true, mknod: false };
    DeviceNode { path: path.into(), kind: DeviceKind::Char, major: 1, minor, access }
}

pub(super) fn limits(of: &[(LimitKey, LimitValue)], enforce: Enforce) -> Limits {
    of.iter().map(|(k, v)| (*k, PlannedLimit { value: v.clone(), enforce })).collect()
}

/// What a file of the worker's leaf says, in whichever hierarchy has it.
pub(super) fn file(fixture: &Fixture, path: &str, names: &[&str]) -> String {
    fixture
        .dirs_of(path)
        .iter()
        .flat_map(|d| names.iter().map(move |n| d.join(n)))
        .find_map(|p| fs::read_to_string(p).ok())
        .unwrap_or_else(|| panic!("none of {names:?}"))
        .trim()
        .to_owned()
}

pub(super) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::yield_now();
    }
}

pub(super) fn status(mut command: Command) -> ExitStatus {
    command.stdout(Stdio::null()).status().unwrap()
}

/// Starts a worker that has forked twice into another session, and gives it back once all four of its processes are there.
pub(super) fn forking_worker(fixture: &Fixture, leaves: &Leaves) -> Child {
    let script = "(setsid sh -c 'sleep 1000 & exec sleep 1000' &)\nsleep 1000 & echo ready; exec sleep 1000";
    let mut child = fixture.shell(leaves, script).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    until("four processes", || leaves.worker_leaf().pids().len() >= 4);
    child
}
