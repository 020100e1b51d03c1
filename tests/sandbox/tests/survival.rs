//! What is left when one of the three processes dies: nothing that should not be.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::{Process, all_processes};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, require_root};

const DIES: &str = "[worker]\nbinary = \"mock-worker\"\non_hive_exit = \"kill\"\n";

fn spawn(hive: &Hive, id: &str, policy: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}))
}

#[allow(clippy::expect_used, reason = "a worker without a pid ends the test")]
fn number(worker: &Value, field: &str) -> i32 {
    worker[field].as_i64().and_then(|n| i32::try_from(n).ok()).expect("a pid")
}

fn lives(pid: i32) -> bool {
    Process::new(pid).and_then(|p| p.stat()).is_ok_and(|s| s.state != 'Z')
}

fn launcher_of(hive: &Hive) -> i32 {
    let parent = hive.pid().as_raw();
    let child = |p: &Process| p.stat().is_ok_and(|s| s.ppid == parent);
    eventually("the launcher", Duration::from_secs(5), || all_processes().ok()?.flatten().find(child).map(|p| p.pid))
}

#[test]
fn a_killed_init_is_lost_and_its_worker_is_taken_back() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let worker = spawn(&hive, "w1", "mock");
    kill(Pid::from_raw(number(&worker, "init_pid")), Signal::SIGKILL).expect("signal an init that we started");
    let ended = hive.call("worker_wait", json!({"worker_id": "w1", "for": "exit", "timeout_ms": 60_000}));
    assert_eq!((&ended["verdict"]["kind"], &ended["state"]), (&json!("lost"), &json!("failed")), "{ended}");
    assert!(!lives(number(&worker, "pid")), "the worker outlived its sandbox");
    spawn(&hive, "w2", "mock");
}

#[test]
fn without_its_launcher_a_hive_serves_and_stops_workers_and_refuses_new_ones() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().accept_leftovers());
    let worker = spawn(&hive, "w1", "mock");
    kill(Pid::from_raw(launcher_of(&hive)), Signal::SIGKILL).expect("signal the launcher that we started");
    let refused = eventually("the hive to notice", Duration::from_secs(10), || {
        hive.rpc("worker_spawn", json!({"model": "m", "policy": "mock"})).err()
    });
    assert_eq!(refused.kind(), "launcher_gone", "{refused}");
    assert_eq!(hive.call("worker_status", json!({"worker_id": "w1"}))["state"], "ready");
    let stopped = hive.call("worker_stop", json!({"worker_id": "w1"}));
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    assert!(!lives(number(&worker, "pid")));
}

#[test]
fn a_killed_hive_takes_its_workers_along_by_policy_and_the_next_one_finds_nothing_running() {
    require_root!();
    let mut hive = Hive::start(HiveOptions::default().policy("dies", DIES));
    let (kept, dying) = (spawn(&hive, "kept", "mock"), spawn(&hive, "dying", "dies"));
    hive.signal(Signal::SIGKILL);
    hive.wait();
    eventually("the worker to die with its hive", Duration::from_secs(5), || (!lives(number(&dying, "pid"))).then_some(()));
    // It is reaped by then: who is dying can't be taken out of a group.
    eventually("its init to end", Duration::from_secs(5), || (!lives(number(&dying, "init_pid"))).then_some(()));
    assert!(lives(number(&kept, "pid")), "on_hive_exit = keep");
    hive.start_again();
    assert!(!lives(number(&kept, "pid")), "without adoption a worker that nobody knows must not go on");
    spawn(&hive, "kept", "mock");
}

#[test]
fn a_killed_run_takes_its_command_along() {
    require_root!();
    let mark = format!("78{}", std::process::id());
    let sandboxed = sandbox_tests::Sandboxed::new();
    let mut child = sandboxed.command(&["sleep", &mark]).spawn().expect("start");
    let inside = |mark: &str| all_processes().ok()?.flatten().find(|p| p.cmdline().is_ok_and(|c| c == ["sleep", mark])).map(|p| p.pid);
    let pid = eventually("the command", Duration::from_secs(10), || inside(&mark));
    let group =
        Process::new(pid).and_then(|p| p.cgroups()).expect("its cgroups").0.into_iter().map(|g| g.pathname).find(|p| p.contains("/run-"));
    child.kill().expect("kill our own child");
    child.wait().expect("wait");
    eventually("the command to end", Duration::from_secs(10), || (!lives(pid)).then_some(()));
    let root = group.and_then(|g| g.split("/workers/").next().map(|r| r.trim_start_matches('/').to_owned())).expect("a cgroup root");
    eventually("the cgroup root to go", Duration::from_secs(10), || {
        let tops =
            std::fs::read_dir("/sys/fs/cgroup").ok()?.flatten().map(|e| e.path()).chain([std::path::PathBuf::from("/sys/fs/cgroup")]);
        tops.map(|t| t.join(&root)).all(|p| !p.exists()).then_some(())
    });
    let directory = std::path::PathBuf::from(format!("/run/rbee-hive/run-{}", child.id()));
    eventually("its directory to go", Duration::from_secs(10), || (!directory.exists()).then_some(()));
}

#[test]
fn a_hive_above_its_own_root_moves_out_of_the_way_and_back() {
    require_root!();
    let mut hive = Hive::start(HiveOptions::default().delegated());
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", hive.pid())).expect("read the hive's cgroups");
    let v2 = std::fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| mounts.contains(" - cgroup2 "));
    let there = |l: &str| (!v2 || l.starts_with("0::")) && l.ends_with("/root/hive");
    assert!(groups.lines().any(there), "{groups}");
    // On v2 this needs the controllers, which a group that holds a process can't hand on.
    let worker = hive.call("worker_spawn", json!({"model": "m", "policy": "mock", "device": "cpu", "limits": {"memory_max": "64MiB"}}));
    assert_eq!(worker["limits"]["memory_max"], 64 << 20, "{worker}");
    assert!(worker["not_in_force"].as_array().is_some_and(|l| l.iter().all(|e| e["setting"] != "memory_max")), "{worker}");
    hive.signal(Signal::SIGTERM);
    assert!(hive.wait().success(), "it did not end well:\n{}", hive.stderr());
    assert!(!hive.stderr().contains("can't remove"), "{}", hive.stderr());
}
