//! Out of memory, told as it was: who was killed, at whose limit, what the policy makes of it, and that it was seen to come.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, hive_binary, http_get, poll, require_root, time_factor};

const LIMIT: u64 = 64 << 20;
/// More than any limit here.
const TOO_MUCH: u64 = 512 << 20;

fn policy(memory_max: &str, on_oom: &str) -> String {
    format!(
        "[worker]\nbinary = \"mock-worker\"\nstop_grace = \"5s\"\non_oom = \"{on_oom}\"\n[limits]\nmemory_max = \"{memory_max}\"\n\
         swap_max = {{ value = \"0\", enforce = \"if_available\" }}\n"
    )
}

fn spawn(hive: &Hive, policy: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": policy, "model": "m", "policy": policy, "device": "cpu"}))
}

/// Asks the worker for something that it may not survive to answer.
fn ask(worker: &Value, target: &str) {
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    let _ = http_get(port, target);
}

fn answers(worker: &Value) -> bool {
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    http_get(port, "/health").is_ok_and(|reply| reply.status == 200)
}

fn number(worker: &Value, field: &str) -> i32 {
    worker[field].as_i64().and_then(|n| i32::try_from(n).ok()).expect("a pid")
}

fn ended(hive: &Hive, id: &str) -> Value {
    hive.call("worker_wait", json!({"worker_id": id, "for": "exit", "timeout_ms": 30_000 * time_factor()}))
}

/// Whether the hive can read the kernel's log, and so can name victims.
fn has_log(hive: &Hive) -> bool {
    hive.call("hive_info", json!({}))["host"]["kernel_log"]["supported"] == true
}

/// Where a hive's path lies in the hierarchy that has memory.
fn memory_dir(path: &str) -> PathBuf {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let is_v1 = |l: &&str| l.contains(" - cgroup ") && l.rsplit(' ').next().is_some_and(|o| o.split(',').any(|o| o == "memory"));
    let line = table.lines().find(is_v1).or_else(|| table.lines().find(|l| l.contains(" - cgroup2 "))).expect("a memory controller");
    Path::new(line.split(' ').nth(4).expect("a mount point")).join(path.trim_start_matches('/'))
}

fn limit(directory: &Path, bytes: u64) {
    let file = ["memory.limit_in_bytes", "memory.max"].map(|f| directory.join(f)).into_iter().find(|f| f.exists()).expect("a limit");
    fs::write(file, bytes.to_string()).expect("set a limit");
}

fn place(hive: &Hive, wanted: [&str; 2]) -> [usize; 2] {
    let log = hive.stderr();
    wanted.map(|text| log.find(text).unwrap_or_else(|| panic!("the hive does not say {text:?}:\n{log}")))
}

#[test]
fn one_process_is_killed_and_the_policy_says_what_becomes_of_the_others() {
    require_root!();
    let options = ["continue", "stop", "kill"].into_iter().fold(HiveOptions::default(), |o, word| o.policy(word, &policy("64MiB", word)));
    let hive = Hive::start(options);
    let named = has_log(&hive);
    let on = spawn(&hive, "continue");
    ask(&on, &format!("/hog?bytes={TOO_MUCH}"));
    eventually("the kill to be told", Duration::from_secs(20), || hive.stderr().contains("the kernel has killed of it").then_some(()));
    let status = hive.call("worker_status", json!({"worker_id": "continue"}));
    assert_eq!(
        (&status["state"], &status["resources"]["oom_kills"], &status["verdict"]),
        (&json!("ready"), &json!(1), &Value::Null),
        "{status}"
    );
    assert!(answers(&on) && (!named || hive.stderr().contains("exe (pid")), "{}", hive.stderr());
    the_init_is_elsewhere(&hive, &on);
    // What was killed then has nothing to do with what ends it now.
    kill(Pid::from_raw(number(&on, "pid")), Signal::SIGKILL).expect("signal a worker that we started");
    let end = ended(&hive, "continue");
    assert_eq!((&end["verdict"]["kind"], &end["verdict"]["signal"]), (&json!("signaled"), &json!(9)), "{end}");
    assert_eq!(end["resources"]["oom_kills"], 1, "{end}");
    for (word, scope) in [("stop", "child"), ("kill", "group")] {
        ask(&spawn(&hive, word), &format!("/hog?bytes={TOO_MUCH}"));
        let end = ended(&hive, word);
        let verdict = &end["verdict"];
        assert_eq!((&end["state"], &verdict["kind"], &verdict["scope"]), (&json!("failed"), &json!("oom_killed"), &json!(scope)), "{end}");
        assert_eq!((&verdict["limit"], &verdict["bound"]), (&json!(LIMIT), &json!("worker")), "{end}");
        assert!(verdict["victim"] == "exe" || !named, "{end}");
    }
}

/// Its memory is its own, so that no worker's want of memory can be its end.
fn the_init_is_elsewhere(hive: &Hive, worker: &Value) {
    let init = number(worker, "init_pid");
    let leaf = worker["cgroup"]["path"].as_str().expect("a cgroup");
    let own = memory_dir(&format!("{}/init", leaf.trim_end_matches("/worker")));
    let groups = fs::read_to_string(format!("/proc/{init}/cgroup")).expect("the init lives");
    assert!(!groups.contains(leaf), "{groups}");
    let limit = ["memory.limit_in_bytes", "memory.max"].iter().find_map(|f| fs::read_to_string(own.join(f)).ok());
    assert_eq!(limit.as_deref().map(str::trim), Some("67108864"), "{}", own.display());
    let spared = hive.call("hive_info", json!({}))["host"]["init_oom_score"]["supported"] == true;
    let score = fs::read_to_string(format!("/proc/{init}/oom_score_adj")).expect("the init lives");
    assert!(!spared || score.trim() == "-900", "{score}");
    // The init's parent is the launcher. Whoever started them has limits of its own, which are not theirs.
    let stat = fs::read_to_string(format!("/proc/{init}/stat")).expect("the init lives");
    let launcher = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).expect("a parent").to_owned();
    for pid in [launcher, hive.pid().to_string()] {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it lives");
        let own = format!("{}/hive", hive.cgroup_root());
        assert!(groups.lines().any(|l| (l.contains(":memory:") || l.starts_with("0::")) && l.ends_with(&own)), "{pid}: {groups}");
        assert!(!groups.lines().any(|l| l.contains(":memory:") && !l.ends_with(&own)), "{pid}: {groups}");
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("it lives");
        assert!(!spared || score.trim() == "-900", "{pid}: {score}");
    }
    let of_worker = fs::read_to_string(format!("/proc/{}/oom_score_adj", number(worker, "pid"))).expect("the worker lives");
    assert_eq!(of_worker.trim(), "0", "a worker is not spared");
}

#[test]
fn its_own_process_is_named_with_its_memory_and_was_seen_to_run_short_before() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("one", &policy("64MiB", "continue")));
    let worker = spawn(&hive, "one");
    ask(&worker, &format!("/alloc?bytes={TOO_MUCH}"));
    let end = ended(&hive, "one");
    let verdict = &end["verdict"];
    assert_eq!((&verdict["kind"], &verdict["scope"], &verdict["bound"]), (&json!("oom_killed"), &json!("main"), &json!("worker")), "{end}");
    assert_eq!(verdict["limit"], LIMIT, "{end}");
    assert!(verdict["peak"].is_null() || verdict["peak"].as_u64() > Some(LIMIT / 2), "{end}");
    if has_log(&hive) {
        assert_eq!((&verdict["victim"], &verdict["victim_pid"]), (&json!("mock-worker"), &worker["pid"]), "{end}");
        assert!(verdict["victim_memory"].as_u64().is_some_and(|bytes| bytes > LIMIT / 2 && bytes < 2 * LIMIT), "{end}");
    }
    let [short, over] = place(&hive, ["it is short of memory", "a worker has ended"]);
    assert!(short < over, "pressure is told before the end:\n{}", hive.stderr());
    let [short, killed] = place(&hive, ["it is short of memory", "the kernel has killed of it"]);
    assert!(short < killed, "and before the kill:\n{}", hive.stderr());
}

#[test]
fn anothers_limit_is_not_told_as_the_workers_own() {
    require_root!();
    let options = HiveOptions::default().policy("roomy", &policy("256MiB", "continue")).policy("deep", &policy("256MiB", "continue"));
    let hive = Hive::start(options.policy("sibling", &policy("256MiB", "continue")));
    let sibling = spawn(&hive, "sibling");
    if has_log(&hive) {
        let deep = spawn(&hive, "deep");
        confine(&deep, 24 << 20);
        ask(&deep, &format!("/alloc?bytes={}", 100 << 20));
        let end = ended(&hive, "deep");
        assert_eq!((&end["verdict"]["kind"], &end["verdict"]["bound"]), (&json!("oom_killed"), &json!("nested")), "{end}");
        assert!(end["verdict"]["limit"].is_null() && end["verdict"]["victim"] == "mock-worker", "{end}");
    }
    assert!(answers(&sibling), "another's want of memory is not its own");
    let status = hive.call("worker_status", json!({"worker_id": "sibling"}));
    assert_eq!((&status["state"], &status["resources"]["oom_kills"]), (&json!("ready"), &json!(0)), "{status}");
    // Where its score can't be lowered, an init can be the kernel's choice when memory above all workers is short.
    if hive.call("hive_info", json!({}))["host"]["init_oom_score"]["supported"] != true {
        return;
    }
    let roomy = spawn(&hive, "roomy");
    limit(&memory_dir(&format!("{}/workers", hive.cgroup_root())), 192 << 20);
    ask(&roomy, &format!("/alloc?bytes={}", 250 << 20));
    let end = ended(&hive, "roomy");
    assert_eq!((&end["verdict"]["kind"], &end["verdict"]["bound"]), (&json!("oom_killed"), &json!("host")), "{end}");
    assert!(end["verdict"]["limit"].is_null(), "{end}");
    assert!(!end["verdict"]["message"].as_str().is_some_and(|m| m.contains("its memory limit")), "{end}");
}

/// Puts the worker's own process into a group below its leaf, with a limit of that group's own.
fn confine(worker: &Value, bytes: u64) {
    let leaf = memory_dir(worker["cgroup"]["path"].as_str().expect("a cgroup"));
    let nested = leaf.join("nested");
    fs::create_dir(&nested).expect("make a group");
    fs::write(nested.join("cgroup.procs"), worker["pid"].to_string()).expect("move the worker");
    if leaf.join("cgroup.subtree_control").exists() {
        fs::write(leaf.join("cgroup.subtree_control"), "+memory").expect("enable the controller");
    }
    limit(&nested, bytes);
}

#[test]
fn a_helper_that_asks_a_driver_is_not_spared_like_its_hive() {
    require_root!();
    // Who may not lower the score is not spared to begin with.
    let script = "{ echo -900 > /proc/self/oom_score_adj; } 2>/dev/null; exec \"$0\" nvml-helper probe";
    // Nobody reads its answer, so that it lives while it is looked at.
    let (_unread, mut full) = UnixStream::pair().expect("two sockets");
    full.set_nonblocking(true).expect("a full socket refuses");
    while full.write(&[0; 4096]).is_ok() {}
    full.set_nonblocking(false).expect("a full socket waits");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).arg(hive_binary());
    let mut helper = command.stdin(Stdio::null()).stdout(OwnedFd::from(full)).spawn().expect("start the helper");
    let own = PathBuf::from(format!("/proc/{}", helper.id()));
    let score = || fs::read_to_string(own.join("oom_score_adj")).unwrap_or_default();
    let is_hive = || fs::read_link(own.join("exe")).is_ok_and(|exe| exe.file_name() == hive_binary().file_name());
    let came = poll(Duration::from_secs(10), || (is_hive() && score().trim() == "0").then_some(()));
    let (last, ended) = (score(), helper.try_wait().expect("look at it"));
    helper.kill().and_then(|()| helper.wait()).expect("end it");
    assert!(came.is_some() && ended.is_none(), "{last} {ended:?}");
}
