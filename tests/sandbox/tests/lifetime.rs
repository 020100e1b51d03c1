//! Processes: none is inherited, none is left, and the status is the command's whatever the caller's own settings.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use sandbox_tests::{Sandboxed, is_root};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, require_root};

/// Every place of a cgroup in the hierarchies that have it.
fn places(path: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mounts = table.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
    mounts.map(|m| Path::new(m).join(path.trim_start_matches('/'))).filter(|p| p.is_dir()).collect()
}

fn path_of(worker: &Value) -> &str {
    worker["cgroup"]["path"].as_str().unwrap_or_else(|| panic!("no cgroup: {worker}"))
}

#[test]
fn a_nested_tree_of_sub_cgroups_is_killed_and_removed_with_its_worker() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let asked = json!({"worker_id": "w1", "model": "m", "policy": "mock", "device": "cpu", "args": ["--fork", "2"]});
    let worker = hive.call("worker_spawn", asked);
    let leaves = places(path_of(&worker));
    assert!(!leaves.is_empty(), "{worker}");
    let list = hive.call("worker_process_list", json!({"worker_id": "w1"}));
    let child = list.as_array().into_iter().flatten().filter_map(|p| p["pid"].as_i64()).find(|p| Some(*p) != worker["pid"].as_i64());
    let child = child.expect("a child").to_string();
    for leaf in &leaves {
        let deep = leaf.join("a/b/c");
        fs::create_dir_all(&deep).expect("make a tree");
        // A fresh v1 cpuset has no CPUs and takes nobody.
        let moved = fs::write(deep.join("cgroup.procs"), &child);
        assert!(moved.is_ok() || leaf.to_string_lossy().contains("cpuset"), "{moved:?}");
    }
    let stopped = hive.call("worker_stop", json!({"worker_id": "w1", "grace_ms": 0}));
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert!(!Path::new(&format!("/proc/{child}")).exists(), "a child in a sub-cgroup lives on");
    assert_eq!(places(path_of(&worker)), Vec::<PathBuf>::new());
}

#[test]
fn a_process_that_is_in_the_cgroup_before_the_worker_is_never_inherited() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let asked = |id: &str| json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu"});
    let path = path_of(&hive.call("worker_spawn", asked("first"))).replace("w-first", "w-second");
    let parents = places(path.trim_end_matches("/w-second/worker"));
    let mut stranger = std::process::Command::new("sleep").arg("1000000").spawn().expect("start a process");
    for parent in parents.iter().filter(|p| !p.to_string_lossy().contains("cpuset")) {
        fs::create_dir_all(parent.join("w-second/worker")).expect("make the leaf");
        fs::write(parent.join("w-second/worker/cgroup.procs"), stranger.id().to_string()).expect("put a stranger there");
    }
    let spawned = hive.rpc("worker_spawn", asked("second"));
    let mates =
        places(&path).iter().any(|p| fs::read_to_string(p.join("cgroup.procs")).is_ok_and(|t| t.contains(&stranger.id().to_string())));
    let lives = stranger.try_wait().expect("look at it").is_none();
    assert!(spawned.is_err() || !(mates && lives), "a stranger is in the worker's cgroup: {spawned:?}");
    let _ = stranger.kill();
    stranger.wait().expect("wait");
    // What is left of the refused one's leaves is the test's own.
    for parent in parents {
        let _ = fs::remove_dir(parent.join("w-second/worker"));
        let _ = fs::remove_dir(parent.join("w-second"));
    }
}

#[test]
fn a_killed_run_lets_go_of_the_lock_that_its_command_held() {
    if !is_root() {
        return;
    }
    let shared = tempfile::tempdir_in("/run").expect("a directory");
    fs::set_permissions(shared.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("open it");
    let path = shared.path().join("lock");
    fs::write(&path, "").expect("make the lock");
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("open it");
    let policy = format!("[worker]\nbinary = \"unused\"\n[filesystem]\nread_write = [\"{}\"]\n", shared.path().display());
    let sandboxed = Sandboxed::with_policy(&policy);
    let script = format!("exec 9>>{}; flock 9; sleep 1000000", path.display());
    let mut run = sandboxed.command(&["/bin/sh", "-c", &script]).stdin(Stdio::null()).spawn().expect("start");
    let lock = || Flock::lock(fs::File::open(&path).expect("open"), FlockArg::LockExclusiveNonblock);
    eventually("the command to hold the lock", Duration::from_secs(20), || lock().is_err().then_some(()));
    run.kill().expect("kill our own child");
    run.wait().expect("wait");
    eventually("the lock to be free", Duration::from_secs(20), || lock().is_ok().then_some(()));
}

#[test]
fn what_is_orphaned_inside_is_reaped() {
    if !is_root() {
        return;
    }
    // A child that nobody waits for stays a zombie: what is counted can be seen.
    let zombies = "for (glob(q(/proc/[0-9]*/stat))) { open(F, $_) or next; $n++ if <F> =~ /\\) Z /; } print $n + 0";
    let perl = |script: &str| Sandboxed::new().run(&["/usr/bin/perl", "-e", &format!("{script} sleep 1; {zombies}")]);
    // A child that nobody waits for stays a zombie: what is counted can be seen.
    let kept = perl("fork or exit;");
    assert_eq!(kept.stdout.trim(), "1", "{kept:?}");
    // One whose parent is gone is the init's.
    let orphaned = perl("unless (fork) { fork; exit } wait;");
    assert_eq!(orphaned.stdout.trim(), "0", "{orphaned:?}");
}

#[test]
fn a_caller_that_ignores_sigchld_gets_the_right_status() {
    if !is_root() {
        return;
    }
    let sandboxed = Sandboxed::new();
    let run = sandboxed.command(&["/bin/sh", "-c", "exit 23"]);
    let mut shell = std::process::Command::new("perl");
    shell.args(["-e", "$SIG{CHLD} = q(IGNORE); exec @ARGV"]).arg(run.get_program()).args(run.get_args());
    assert_eq!(shell.status().expect("start it").code(), Some(23));
}

#[test]
fn a_zero_grace_kills_at_once_and_a_longer_one_asks_first() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    for (id, grace, forced) in [("asked", 20_000, false), ("killed", 0, true)] {
        hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu"}));
        let stopped = hive.call("worker_stop", json!({"worker_id": id, "grace_ms": grace}));
        assert_eq!(stopped["verdict"]["forced"], json!(forced), "{stopped}");
    }
}
