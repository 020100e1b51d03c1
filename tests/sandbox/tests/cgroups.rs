//! The cgroups of a worker: whose they are, who is in them, and what their limits mean.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sandbox_tests::{Sandboxed, is_root};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, http_get, require_root, skip};

fn with_limits(limits: &str) -> Sandboxed {
    Sandboxed::with_policy(&format!("[worker]\nbinary = \"unused\"\n[limits]\n{limits}\n[request]\nmay_set = [\"limits\"]\n"))
}

fn places(path: &str) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let mounts = table.lines().filter(|l| l.contains(" - cgroup")).filter_map(|l| l.split(' ').nth(4));
    mounts.map(|m| Path::new(m).join(path.trim_start_matches('/'))).filter(|p| p.is_dir()).collect()
}

fn spawn(hive: &Hive, id: &str, limits: &Value) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu", "limits": limits}))
}

#[test]
fn every_file_of_a_workers_cgroups_stays_roots() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let worker = spawn(&hive, "w", &json!({}));
    let leaf = worker["cgroup"]["path"].as_str().expect("a path");
    let group = leaf.trim_end_matches("/worker");
    let mut seen = 0;
    for directory in places(leaf).into_iter().chain(places(group)).chain(places(&format!("{group}/init"))) {
        for entry in fs::read_dir(&directory).expect("list").flatten().map(|e| e.path()).chain([directory.clone()]) {
            // The kernel makes this one of v1 for everybody; what is written names descriptors of the group's other files.
            if entry.ends_with("cgroup.event_control") {
                continue;
            }
            let Ok(meta) = entry.metadata() else { continue };
            seen += 1;
            assert_eq!((meta.uid(), meta.mode() & 0o022), (0, 0), "{} can be written by uid {}", entry.display(), meta.uid());
        }
    }
    assert!(seen > 20, "only {seen} files were looked at");
}

#[test]
fn a_hive_that_was_taken_over_cannot_fork_without_end() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let groups = places(&format!("{}/hive", hive.cgroup_root()));
    let Some(group) = groups.iter().find(|group| group.join("pids.max").exists()) else { skip!("the pids controller") };
    let read = |file: &str| fs::read_to_string(group.join(file)).expect("a file of the group");
    assert_eq!(read("pids.max").trim(), "4096");
    assert!(read("cgroup.procs").lines().any(|pid| pid == hive.pid().to_string()), "{}", group.display());
}

#[test]
fn the_init_is_not_charged_to_its_worker() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let worker = spawn(&hive, "w", &json!({}));
    let leaf = worker["cgroup"]["path"].as_str().expect("a path");
    let of = |pid: &Value| fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("its cgroups");
    let (mine, inits) = (of(&worker["pid"]), of(&worker["init_pid"]));
    assert!(mine.lines().any(|l| l.ends_with(leaf)), "{mine}");
    assert!(!inits.lines().any(|l| l.ends_with(leaf)), "{inits}");
    let own = format!("{}/init", leaf.trim_end_matches("/worker"));
    // In every hierarchy that the worker is in, the init is beside it.
    for line in mine.lines().filter(|l| l.ends_with(leaf)) {
        let hierarchy = line.split(':').next().expect("a number");
        assert!(inits.lines().any(|l| l.starts_with(&format!("{hierarchy}:")) && l.ends_with(&own)), "{hierarchy}: {inits}");
    }
}

#[test]
fn a_cgroup_root_that_leads_elsewhere_is_refused() {
    if !is_root() {
        return;
    }
    for root in ["/../x", "/a/../../b", "a/b/..", "/a/./b", "/a//b"] {
        let ended = Sandboxed::new().option("--cgroup-root", root).sh("true");
        assert!(ended.status != Some(0) && !ended.stderr.is_empty(), "{root}: {ended:?}");
    }
    let name = format!("/rbee-hive-test-{}-own", std::process::id());
    assert_eq!(Sandboxed::new().option("--cgroup-root", &name).sh("true").status, Some(0));
    assert_eq!(places(&name), Vec::<PathBuf>::new(), "it is taken away again");
}

#[test]
fn no_processes_and_fewer_are_no_limits() {
    if !is_root() {
        return;
    }
    for value in ["0", "-1", "nonsense"] {
        let ended = with_limits("pids_max = 50").limit(&format!("pids_max={value}")).sh("true");
        assert!(ended.status != Some(0) && ended.stderr.contains("pids_max"), "{value}: {ended:?}");
    }
    assert_eq!(with_limits("pids_max = 50").limit("pids_max=40").sh("true").status, Some(0));
}

#[test]
fn a_cpuset_holds_for_whoever_was_elsewhere_before_and_cannot_be_left() {
    if !is_root() {
        return;
    }
    let script = "grep Cpus_allowed_list /proc/self/status; taskset -c 0 true && echo left";
    let held = with_limits("cpuset = \"1\"").sh(script);
    assert!(held.stdout.contains("Cpus_allowed_list:\t1\n") && !held.stdout.contains("left"), "{held:?}");
    let free = with_limits("cpuset = \"0-1\"").sh(script);
    assert!(free.stdout.contains("left"), "{free:?}");
    // Of a thread that was somewhere else before, the kernel makes one that is inside.
    let pinned = with_limits("cpuset = \"1\"");
    let run = pinned.command(&["/bin/sh", "-c", script]);
    let output = std::process::Command::new("taskset").args(["-c", "0"]).arg(run.get_program()).args(run.get_args()).output();
    let output = output.expect("taskset");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("Cpus_allowed_list:\t1\n") && !text.contains("left"), "{output:?}");
}

#[test]
fn memory_nodes_are_those_of_the_policy() {
    if !is_root() {
        return;
    }
    let held = with_limits("mems = \"0\"").sh("grep Mems_allowed_list /proc/self/status");
    assert_eq!(held.stdout.trim(), "Mems_allowed_list:\t0", "{held:?}");
    let absent = with_limits("").limit("mems=200").sh("true");
    assert!(absent.status == Some(125) && absent.stderr.contains("200"), "{absent:?}");
}

#[test]
fn without_swap_there_is_none() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let worker = spawn(&hive, "w", &json!({"memory_max": "64MiB"}));
    let told = worker["not_in_force"].as_array().is_some_and(|l| l.iter().any(|e| e["setting"] == "swap_max"));
    let read =
        |file: &str| places(worker["cgroup"]["path"].as_str().expect("a path")).iter().find_map(|p| fs::read_to_string(p.join(file)).ok());
    let (v2, v1) = (read("memory.swap.max"), read("memory.memsw.limit_in_bytes"));
    match (v2, v1) {
        (Some(swap), _) => assert_eq!(swap.trim(), "0"),
        (None, Some(both)) => assert_eq!(both.trim(), (64 << 20).to_string(), "memory and swap together are what memory is"),
        (None, None) => assert!(told, "{worker}"),
    }
}

#[test]
fn out_of_memory_kills_one_process_or_by_policy_all_of_them() {
    require_root!();
    let policy = |group: &str| {
        format!(
            "[worker]\nbinary = \"mock-worker\"\n[limits]\nmemory_max = \"64MiB\"\nswap_max = {{ value = \"0\", enforce = \"if_available\" }}\n\
             oom_group = {{ value = {group}, enforce = \"if_available\" }}\n[request]\nmay_set = [\"args\"]\n"
        )
    };
    let hive = Hive::start(HiveOptions::default().policy("one", &policy("false")).policy("all", &policy("true")));
    let start = |id: &str| {
        hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": id, "device": "cpu", "args": ["--fork", "3"]}))
    };
    let all = start("all");
    if all["not_in_force"].as_array().is_some_and(|l| l.iter().any(|e| e["setting"] == "oom_group")) {
        skip!("cgroup v2 with the memory controller: {}", all["cgroup"]["mode"]);
    }
    let one = start("one");
    for (worker, id) in [(&one, "one"), (&all, "all")] {
        let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
        let _ = http_get(port, "/alloc?bytes=209715200");
        let ended = hive.call("worker_wait", json!({"worker_id": id, "for": "exit", "timeout_ms": 120_000}));
        assert_eq!(ended["verdict"]["kind"], "oom_killed", "{ended}");
        let kills = ended["resources"]["oom_kills"].as_u64();
        assert!(kills.is_none_or(|n| if id == "one" { n == 1 } else { n >= 4 }), "{id}: {ended}");
    }
}
