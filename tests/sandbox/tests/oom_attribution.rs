//! Whose kill it was, and which limit was near, where the kernel's own counts and summaries do not say it: groups below a worker's, many kills
//! in a short time, limits that change.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, require_root, skip, time_factor};

/// More than any limit of a worker's child here.
const TOO_MUCH: u64 = 512 << 20;
const MIB: u64 = 1 << 20;

fn policy(memory_max: &str, on_oom: &str) -> String {
    format!(
        "[worker]\nbinary = \"mock-worker\"\nstop_grace = \"5s\"\non_oom = \"{on_oom}\"\n[limits]\n{memory_max}\
         swap_max = {{ value = \"0\", enforce = \"if_available\" }}\n[request]\nmay_set = [\"limits\"]\nmax = {{ memory_max = \"512MiB\" }}\n"
    )
}

fn limited(mib: u64, on_oom: &str) -> String {
    policy(&format!("memory_max = \"{mib}MiB\"\n"), on_oom)
}

fn spawn(hive: &Hive, policy: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": policy, "model": "m", "policy": policy, "device": "cpu"}))
}

fn ask(worker: &Value, target: &str) {
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    let _ = http_get(port, target);
}

fn alloc(worker: &Value, mib: u64) {
    ask(worker, &format!("/alloc?bytes={}", mib * MIB));
}

fn hog(worker: &Value) {
    ask(worker, &format!("/hog?bytes={TOO_MUCH}"));
}

fn kill_own_process(worker: &Value) {
    let pid = worker["pid"].as_i64().and_then(|n| i32::try_from(n).ok()).expect("a pid");
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("signal a worker that we started");
}

fn kills(hive: &Hive, id: &str) -> u64 {
    hive.call("worker_status", json!({"worker_id": id}))["resources"]["oom_kills"].as_u64().expect("a count")
}

fn ended(hive: &Hive, id: &str) -> Value {
    hive.call("worker_wait", json!({"worker_id": id, "for": "exit", "timeout_ms": 30_000 * time_factor()}))
}

fn has_log(hive: &Hive) -> bool {
    hive.call("hive_info", json!({}))["host"]["kernel_log"]["supported"] == true
}

/// The worker's leaf in the hierarchy that has memory, and whether that is v1's.
fn leaf(worker: &Value) -> (PathBuf, bool) {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let is_v1 = |l: &&str| l.contains(" - cgroup ") && l.rsplit(' ').next().is_some_and(|o| o.split(',').any(|o| o == "memory"));
    let v1 = table.lines().find(is_v1);
    let line = v1.or_else(|| table.lines().find(|l| l.contains(" - cgroup2 "))).expect("a memory controller");
    let path = worker["cgroup"]["path"].as_str().expect("a cgroup").trim_start_matches('/');
    (Path::new(line.split(' ').nth(4).expect("a mount point")).join(path), v1.is_some())
}

/// Puts the worker's own process, and so all that it starts, into a group below its leaf with a limit of that group's own.
fn confine(worker: &Value, mib: u64) {
    let (leaf, is_v1) = leaf(worker);
    let nested = leaf.join("nested");
    fs::create_dir(&nested).expect("make a group");
    fs::write(nested.join("cgroup.procs"), worker["pid"].to_string()).expect("move the worker");
    if !is_v1 {
        fs::write(leaf.join("cgroup.subtree_control"), "+memory").expect("enable the controller");
    }
    let file = if is_v1 { "memory.limit_in_bytes" } else { "memory.max" };
    fs::write(nested.join(file), (mib * MIB).to_string()).expect("set a limit");
}

#[test]
fn a_childs_kill_that_the_kernel_sums_up_no_more_is_not_taken_for_the_own_processes() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("noisy", &limited(64, "continue")).policy("quiet", &limited(64, "continue")));
    let (noisy, quiet) = (spawn(&hive, "noisy"), spawn(&hive, "quiet"));
    if !has_log(&hive) {
        skip!("the kernel's log");
    }
    let summed_up_no_more = (1..=5).find(|times| {
        // After ten within five seconds the kernel leaves the summaries out, of whomever (oom_rs in mm/oom_kill.c).
        (0..14).for_each(|_| hog(&noisy));
        hog(&quiet);
        !until_told(&hive, "quiet", *times).contains(NAMED)
    });
    let Some(times) = summed_up_no_more else {
        skip!("fourteen kills within five seconds: this machine is too slow for the kernel to leave a summary out");
    };
    kill_own_process(&quiet);
    let end = ended(&hive, "quiet");
    assert_eq!((&end["verdict"]["kind"], &end["verdict"]["signal"]), (&json!("signaled"), &json!(9)), "{end}");
    assert_eq!(end["resources"]["oom_kills"], times, "{end}");
    until_victims_are_named(&hive, &noisy);
}

/// How a line of the hive's log names a worker's child that was killed.
const NAMED: &str = "exe (pid";

/// What the hive has said last of a worker, once it knows of so many kills: those that come together are told together.
fn told(hive: &Hive, id: &str, times: u64) -> Option<String> {
    let of = format!("worker={id} oom_kills=");
    let known = |line: &&str| line.split_once(&of).and_then(|(_, count)| count.trim().parse::<u64>().ok()).is_some_and(|n| n >= times);
    hive.stderr().lines().rfind(known).map(str::to_owned)
}

fn until_told(hive: &Hive, id: &str, times: u64) -> String {
    eventually("all kills to be told", Duration::from_secs(20), || told(hive, id, times))
}

/// Other tests need what the kernel leaves out for now.
fn until_victims_are_named(hive: &Hive, noisy: &Value) {
    eventually("the kernel to say whose process it kills", Duration::from_secs(30), || {
        // One by itself, so that a name is this one's.
        let before = kills(hive, "noisy");
        until_told(hive, "noisy", before);
        hog(noisy);
        until_told(hive, "noisy", before + 1).contains(NAMED).then_some(())
    });
}

#[test]
fn a_kill_in_a_group_below_is_counted_and_told_and_does_not_end_who_may_go_on() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("goes-on", &limited(256, "continue")));
    let worker = spawn(&hive, "goes-on");
    confine(&worker, 32);
    hog(&worker);
    eventually("the kill to be told", Duration::from_secs(20), || hive.stderr().contains("the kernel has killed of it").then_some(()));
    let status = hive.call("worker_status", json!({"worker_id": "goes-on"}));
    assert_eq!((&status["state"], &status["resources"]["oom_kills"]), (&json!("ready"), &json!(1)), "{status}");
    assert_eq!(status["resources"]["memory_events"]["oom_kill"], 1, "{status}");
    assert!(!has_log(&hive) || hive.stderr().contains("exe (pid"), "{}", hive.stderr());
    // The group that has counted it goes; what was counted does not.
    let nested = leaf(&worker).0.join("nested");
    kill_own_process(&worker);
    let end = ended(&hive, "goes-on");
    assert!(!nested.exists(), "it goes with the worker");
    assert_eq!((&end["verdict"]["kind"], &end["verdict"]["signal"]), (&json!("signaled"), &json!(9)), "{end}");
    assert_eq!(end["resources"]["oom_kills"], 1, "{end}");
}

#[test]
fn a_kill_in_a_group_below_is_followed_as_the_policy_says() {
    require_root!();
    let options = ["stop", "kill"].into_iter().fold(HiveOptions::default(), |o, word| o.policy(word, &limited(256, word)));
    let hive = Hive::start(options);
    for (word, scope) in [("stop", "child"), ("kill", "group")] {
        let worker = spawn(&hive, word);
        confine(&worker, 32);
        hog(&worker);
        let end = ended(&hive, word);
        let verdict = &end["verdict"];
        assert_eq!((&end["state"], &verdict["kind"], &verdict["scope"]), (&json!("failed"), &json!("oom_killed"), &json!(scope)), "{end}");
        assert!(verdict["bound"] == "nested" || !has_log(&hive), "{end}");
        assert!(verdict["victim"] == "exe" || !has_log(&hive), "{end}");
        assert_eq!(end["resources"]["oom_kills"], 1, "{end}");
    }
}

/// What the hive has said of use that is near the limit: in use and limit, in tenths of a MiB.
fn near(hive: &Hive) -> Vec<(u64, u64)> {
    let tenths = |text: &str| text.replace('.', "").parse::<u64>().expect("a figure");
    let one = |line: &str| {
        // The job's story says it, too.
        let line = line.contains(" WARN ").then_some(line)?;
        let (_, rest) = line.split_once("it uses nine tenths of memory_max, ")?;
        let (used, rest) = rest.split_once(" MiB of ")?;
        Some((tenths(used), tenths(rest.split_once(" MiB")?.0)))
    };
    hive.stderr().lines().filter_map(one).collect()
}

fn until_near(hive: &Hive, times: usize) -> (u64, u64) {
    eventually("it to be told", Duration::from_secs(20), || near(hive).get(times - 1).copied())
}

fn update(hive: &Hive, id: &str, mib: u64) {
    hive.call("worker_update", json!({"worker_id": id, "limits": {"memory_max": format!("{mib}MiB")}}));
}

#[test]
fn nine_tenths_are_those_of_the_limit_that_is_in_force() {
    require_root!();
    let options = HiveOptions::default().policy("lowered", &limited(256, "continue")).policy("raised", &limited(64, "continue"));
    let unlimited = "[worker]\nbinary = \"mock-worker\"\n[request]\nmay_set = [\"limits\"]\nmax = { memory_max = \"512MiB\" }\n";
    let hive = Hive::start(options.policy("given", unlimited));
    let lowered = spawn(&hive, "lowered");
    if !leaf(&lowered).1 {
        skip!("memory on cgroup v1: v2 tells by memory.events, which follows every limit");
    }
    alloc(&lowered, 60);
    assert_eq!(near(&hive), [], "a quarter of its limit");
    update(&hive, "lowered", 66);
    let (used, limit) = until_near(&hive, 1);
    assert!(limit == 660 && used > 594, "{used} of {limit}");

    let raised = spawn(&hive, "raised");
    update(&hive, "raised", 512);
    alloc(&raised, 100);
    alloc(&raised, 380);
    let (used, limit) = until_near(&hive, 2);
    assert!(limit == 5120 && used > 4600, "{used} of {limit}: it was told of the limit that was");

    let given = spawn(&hive, "given");
    update(&hive, "given", 64);
    alloc(&given, 58);
    let (used, limit) = until_near(&hive, 3);
    assert!(limit == 640 && used > 570, "{used} of {limit}");
    assert_eq!(near(&hive).len(), 3, "{}", hive.stderr());
}
