//! Limits of a worker that runs: changed all together or not at all, seen from inside, and never below what is used unless that is given back.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, RpcError, eventually, http_get, require_root, skip};

const LIVE: &str = "[worker]\nbinary = \"mock-worker\"\n[verify]\ninterval = \"0\"\n\
    [limits]\nmemory_max = \"256MiB\"\nswap_max = { value = \"0\", enforce = \"if_available\" }\npids_max = 64\ncpus = 1.0\nopen_files = 256\n\
    [request]\nmay_set = [\"args\", \"limits\"]\nmax = { memory_max = \"512MiB\", pids_max = 128, cpus = 2.0, cpu_burst = \"20s\", open_files = 512 }\n";

fn hive() -> Hive {
    Hive::start(HiveOptions::default().policy("live", LIVE))
}

fn spawn(hive: &Hive, id: &str, policy: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}))
}

fn update(hive: &Hive, id: &str, limits: Value) -> Result<Value, RpcError> {
    hive.rpc("worker_update", json!({"worker_id": id, "limits": limits}))
}

#[track_caller]
fn refused(hive: &Hive, id: &str, limits: Value) -> RpcError {
    match update(hive, id, limits) {
        Err(error) => error,
        Ok(worker) => panic!("it was not refused: {worker}"),
    }
}

fn ask(worker: &Value, path: &str) -> Value {
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    serde_json::from_str(&http_get(port, path).expect("the worker answers").text()).expect("JSON")
}

/// Every limit's file and every process's limits are as the plan has them, which is what the status shows.
#[track_caller]
fn assert_in_force(hive: &Hive, id: &str) -> Value {
    let worker = hive.call("worker_verify", json!({"worker_id": id}));
    assert_eq!(worker["drift"], json!([]), "{worker}");
    let record = fs::read_to_string(hive.state_dir().join("workers").join(id).join("plan.json")).expect("a record");
    let record: Value = serde_json::from_str(&record).expect("JSON");
    for (name, value) in worker["limits"].as_object().expect("limits") {
        assert_eq!(&record["plan"]["limits"][name]["value"], value, "{name} on disk");
    }
    worker
}

/// A line of `/proc/self/status` or `/proc/self/limits`, as the worker reads it.
fn line(info: &Value, file: &str, start: &str) -> String {
    let text = info[file].as_str().unwrap_or_default();
    text.lines().find(|l| l.starts_with(start)).map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

#[test]
fn new_limits_are_in_force_on_disk_and_seen_from_inside() {
    require_root!();
    let hive = hive();
    let before = spawn(&hive, "w", "live");
    let asked = json!({"memory_max": "128MiB", "pids_max": 32, "cpus": 0.5, "cpuset": "0", "open_files": 64});
    let after = update(&hive, "w", asked).expect("an update");
    assert!(after["generation"].as_u64() > before["generation"].as_u64(), "{after}");
    assert_eq!(after["limits"]["memory_max"], json!(128 << 20));
    assert_in_force(&hive, "w");
    let info = ask(&after, "/info");
    assert_eq!(line(&info, "status", "Cpus_allowed_list"), "Cpus_allowed_list: 0");
    assert_eq!(line(&info, "limits", "Max open files"), "Max open files 64 64 files");
    let forked = ask(&after, "/fork?n=60");
    assert!(forked["started"].as_u64().is_some_and(|n| n < 32), "{forked}");
    let explained = hive.call("worker_explain", json!({"worker_id": "w"}));
    let origin = |name: &str| {
        let all = explained["limits"].as_array().into_iter().flatten();
        all.filter(|l| l["limit"] == name).map(|l| l["origin"].clone()).next().unwrap_or_default()
    };
    assert_eq!(
        (origin("memory_max"), origin("swap_max")),
        (json!("update"), if origin("swap_max").is_null() { Value::Null } else { json!("policy") })
    );
    // Up again, and beyond where it began: what did not fit does.
    let raised = update(&hive, "w", json!({"memory_max": "400MiB", "pids_max": 128})).expect("an update");
    assert_in_force(&hive, "w");
    ask(&raised, "/alloc?bytes=314572800");
    assert!(hive.call("worker_status", json!({"worker_id": "w"}))["resources"]["memory_current"].as_u64().is_some_and(|n| n > 300 << 20));
    let forked = ask(&raised, "/fork?n=40");
    assert_eq!(forked["started"], 40, "{forked}");
    let line = hive.cli(["update", "w", "--limit", "pids_max=100"]);
    assert!(line.status.success() && String::from_utf8_lossy(&line.stdout).contains("100"), "{line:?}");
    assert_in_force(&hive, "w");
}

#[test]
fn a_limit_below_the_present_use_is_refused_and_the_old_one_stays() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w", "live");
    ask(&worker, "/alloc?bytes=104857600");
    let before = assert_in_force(&hive, "w");
    let error = refused(&hive, "w", json!({"memory_max": "64MiB"}));
    assert_eq!(error.kind(), "not_allowed_now", "{error:?}");
    assert!(error.message.contains("memory_max 64MiB is below the present use, 1"), "{error:?}");
    assert!(error.data["hint"].as_str().is_some_and(|hint| hint.contains("reclaim")), "{error:?}");
    // Nothing of it can be given back: it is the worker's own memory, and there is no swap for it.
    let asked = json!({"worker_id": "w", "limits": {"memory_max": "64MiB"}, "reclaim": true});
    let error = hive.rpc("worker_update", asked).expect_err("what can't be reclaimed");
    assert_eq!(error.kind(), "not_allowed_now", "{error:?}");
    assert!(error.message.contains("can't be reached") && error.message.contains("every limit is as it was"), "{error:?}");
    let tasks = refused(&hive, "w", json!({"pids_max": 1, "memory_max": "200MiB"}));
    assert!(tasks.kind() == "not_allowed_now" || worker["resources"]["pids_current"] == 1, "{tasks:?}");
    assert_eq!(assert_in_force(&hive, "w")["limits"], before["limits"]);
    assert_eq!(ask(&worker, "/health")["status"], "ok");
}

#[test]
fn when_one_limit_fails_those_before_it_are_put_back() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w", "live");
    ask(&worker, "/fork?n=5");
    let before = assert_in_force(&hive, "w");
    let error = refused(&hive, "w", json!({"memory_max": "128MiB", "cpus": 0.5, "pids_max": 4, "open_files": 64}));
    assert_eq!((error.kind(), error.data["step"].as_str()), ("not_allowed_now", Some("write pids_max")), "{error:?}");
    assert!(error.message.contains("pids_max 4 is below the present use"), "{error:?}");
    assert_eq!(assert_in_force(&hive, "w")["limits"], before["limits"]);
    assert_eq!(line(&ask(&worker, "/info"), "limits", "Max open files"), "Max open files 256 256 files");
    // A hard limit is raised with a privilege, or not at all.
    let privileged = fs::read_to_string("/proc/self/status").is_ok_and(|text| {
        let bits = text.lines().find_map(|l| l.strip_prefix("CapEff:")).and_then(|l| u64::from_str_radix(l.trim(), 16).ok());
        bits.is_some_and(|bits| bits & (1 << 24) != 0)
    });
    let raised = update(&hive, "w", json!({"memory_max": "128MiB", "cpus": 0.5, "open_files": 512}));
    match (privileged, raised) {
        (true, Ok(_)) => assert_eq!(line(&ask(&worker, "/info"), "limits", "Max open files"), "Max open files 512 512 files"),
        (false, Err(error)) => {
            assert_eq!((error.kind(), error.data["step"].as_str()), ("not_enforceable", Some("write open_files")), "{error:?}");
            assert_eq!(assert_in_force(&hive, "w")["limits"], before["limits"]);
        }
        (_, other) => panic!("privileged {privileged}: {other:?}"),
    }
    assert_in_force(&hive, "w");
}

#[test]
fn what_an_update_may_ask_for_is_what_a_spawn_may() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("live", LIVE).policy("closed", "[worker]\nbinary = \"mock-worker\"\n"));
    spawn(&hive, "w", "live");
    spawn(&hive, "c", "closed");
    for (id, limits, kind) in [
        ("w", json!({"memory_max": "1GiB"}), "policy_violation"),
        ("w", json!({"memory_max": "max"}), "policy_violation"),
        ("w", json!({"cpuset": "4000"}), "not_enforceable"),
        ("c", json!({"pids_max": 5}), "policy_violation"),
        ("nobody", json!({"pids_max": 5}), "not_found"),
    ] {
        let error = refused(&hive, id, limits.clone());
        assert_eq!(error.kind(), kind, "{limits}: {error:?}");
    }
    for (limits, field) in [
        (json!({}), "limits"),
        (json!({"pids_max": 0}), "limits.pids_max"),
        (json!({"memory_max": -1}), "limits.memory_max"),
        (json!({"memory_max": "64 parsecs"}), "limits.memory_max"),
        (json!({"io_max": "/dev/no-such-disk rbps=1MiB"}), "io_max"),
        (json!({"io_max": "8:0 rbps=0"}), "limits.io_max"),
        (json!({"cpu_burst": "10s"}), "cpu_burst"),
    ] {
        let error = refused(&hive, "w", limits.clone());
        // Where there is no block I/O controller the device is not even looked for.
        let known = error.code == -32602 || error.kind() == "not_enforceable";
        assert!(known && error.message.contains(field), "{limits}: {error:?}");
    }
    assert_in_force(&hive, "w");
}

/// Files of the system that make 80 MiB together, none of them in the page cache.
fn large_files() -> Vec<PathBuf> {
    let mut found: Vec<(u64, PathBuf)> = Vec::new();
    walk(Path::new("/usr/lib"), 4, &mut found);
    found.sort_unstable_by(|a, b| b.cmp(a));
    let mut total = 0;
    let files: Vec<PathBuf> = found
        .into_iter()
        .filter(|(size, _)| *size > 1 << 20)
        .take_while(|(size, _)| {
            let more = total < 80 << 20;
            total += size;
            more
        })
        .map(|(_, path)| path)
        .collect();
    if total < 80 << 20 {
        return vec![];
    }
    for file in &files {
        // Of the whole file, nothing is read (dd(1), nocache).
        let _ = Command::new("dd").arg(format!("if={}", file.display())).args(["iflag=nocache", "count=0"]).output();
    }
    files
}

fn walk(directory: &Path, depth: usize, found: &mut Vec<(u64, PathBuf)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(there) if there.is_dir() && depth > 0 => walk(&entry.path(), depth - 1, found),
            Ok(there) if there.is_file() && !entry.path().to_string_lossy().contains([' ', '"', '\'']) => {
                found.push((there.len(), entry.path()));
            }
            _ => {}
        }
    }
}

#[test]
fn reclaim_gives_the_page_cache_back_until_the_new_limit_holds() {
    require_root!();
    let files = large_files();
    if files.is_empty() {
        skip!("80 MiB of files in /usr/lib");
    }
    let list: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
    let script = format!("cat {} > /dev/null; exec sleep 600", list.join(" "));
    let policy = format!(
        "[worker]\nbinary = \"/bin/sh\"\ncommand = [\"{{binary}}\", \"-c\", {script:?}]\n[readiness]\nnone = true\n[network]\nmode = \"none\"\n\
         [verify]\ninterval = \"0\"\n[limits]\nmemory_max = \"256MiB\"\n[request]\nmay_set = [\"limits\"]\n"
    );
    let hive = Hive::start(HiveOptions::default().policy("reader", &policy));
    spawn(&hive, "r", "reader");
    let used = || hive.call("worker_status", json!({"worker_id": "r"}))["resources"]["memory_current"].as_u64();
    // It has read everything once it sleeps.
    eventually("the worker to have read", Duration::from_secs(20), || {
        let processes = hive.call("worker_process_list", json!({"worker_id": "r"}));
        processes.as_array().is_some_and(|all| all.iter().any(|p| p["name"] == "sleep")).then_some(())
    });
    if used().is_none_or(|n| n <= 60 << 20) {
        skip!("a page cache that is charged to who reads (these files are somebody else's)");
    }
    let refusal = refused(&hive, "r", json!({"memory_max": "32MiB"}));
    assert_eq!(refusal.kind(), "not_allowed_now", "{refusal:?}");
    let asked = json!({"worker_id": "r", "limits": {"memory_max": "32MiB"}, "reclaim": true});
    let worker = hive.rpc("worker_update", asked).expect("the page cache is given back");
    assert!(worker["resources"]["memory_current"].as_u64().is_some_and(|n| n <= 32 << 20), "{worker}");
    assert!(worker["pid"].is_i64(), "it lives: {worker}");
    assert_in_force(&hive, "r");
}

/// A whole disk of this machine, by its number.
fn disk() -> Option<String> {
    let disks = fs::read_dir("/sys/block").ok()?.flatten();
    let numbered = disks.filter(|d| d.path().join("device").exists() || d.file_name().to_string_lossy().starts_with("loop"));
    numbered.filter_map(|d| fs::read_to_string(d.path().join("dev")).ok()).map(|text| text.trim().to_owned()).next()
}

#[test]
fn every_new_limit_holds_or_is_listed_with_its_reason() {
    require_root!();
    let wish = |name: &str, value: &str| format!("{name} = {{ value = {value}, enforce = \"if_available\" }}\n");
    let mut limits =
        wish("cpu_burst", "\"20ms\"") + &wish("io_weight", "50") + &wish("hugetlb", "\"2MiB=4MiB\"") + &wish("dmem", "\"drm/none=1GiB\"");
    limits += &(wish("cgroup_descendants", "0") + &wish("cgroup_depth", "0"));
    let mut names = vec!["cpu_burst", "io_weight", "hugetlb", "dmem", "cgroup_descendants", "cgroup_depth"];
    if let Some(disk) = disk() {
        limits += &wish("io_max", &format!("\"{disk} rbps=10MiB riops=100\""));
        names.push("io_max");
    }
    let policy = format!(
        "[worker]\nbinary = \"mock-worker\"\n[verify]\ninterval = \"0\"\n[limits]\ncpus = 1.0\n{limits}[request]\nmay_set = [\"limits\"]\n"
    );
    let hive = Hive::start(HiveOptions::default().policy("wide", &policy));
    spawn(&hive, "w", "wide");
    let worker = assert_in_force(&hive, "w");
    for name in names {
        let set = !worker["limits"][name].is_null();
        let why = worker["not_in_force"].as_array().into_iter().flatten().find(|n| n["setting"] == name).map(|n| n["why"].to_string());
        println!("{name}: {}", why.clone().unwrap_or_else(|| "in force".into()));
        assert!(set != why.is_some(), "{name}: {worker}");
    }
    let required = policy.replace("\"drm/none=1GiB\", enforce = \"if_available\"", "\"drm/none=1GiB\", enforce = \"required\"");
    let hive = Hive::start(HiveOptions::default().policy("wide", &required));
    let refusal = hive.rpc("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "wide", "device": "cpu"}));
    assert_eq!(refusal.expect_err("no machine has this region").kind(), "not_enforceable");
}

#[test]
fn named_bounds_are_changed_and_taken_away_while_the_worker_runs() {
    require_root!();
    let Some(disk) = disk() else { skip!("a block device") };
    let policy = "[worker]\nbinary = \"mock-worker\"\n[verify]\ninterval = \"0\"\n[limits]\ncpus = 1.0\n[request]\nmay_set = [\"limits\"]\n\
        max = { cpu_burst = \"20ms\" }\n";
    let hive = Hive::start(HiveOptions::default().policy("open", policy));
    spawn(&hive, "w", "open");
    let first = update(&hive, "w", json!({"io_max": format!("{disk} rbps=10MiB riops=100"), "cpu_burst": "20ms"}));
    let Ok(first) = first else { skip!("a controller of block I/O and cpu.max.burst: {first:?}") };
    assert_eq!(first["limits"]["io_max"], json!(format!("{disk} rbps=10MiB riops=100")));
    assert_in_force(&hive, "w");
    update(&hive, "w", json!({"io_max": format!("{disk} riops=50"), "cpus": 0.1, "cpu_burst": 0})).expect("other bounds");
    assert_in_force(&hive, "w");
    update(&hive, "w", json!({"io_max": "max"})).expect("no bounds");
    assert_eq!(assert_in_force(&hive, "w")["limits"]["io_max"], "max");
    eventually("an answer", Duration::from_secs(10), || ask(&first, "/health")["status"].as_str().map(str::to_owned));
}

#[test]
fn a_limit_that_could_not_be_had_at_the_start_is_not_listed_once_an_update_has_put_another_in_force() {
    require_root!();
    let policy = "[worker]\nbinary = \"mock-worker\"\n[limits]\nopen_files = { value = 1000000, enforce = \"if_available\" }\n\
        [request]\nmay_set = [\"limits\"]\n";
    let hive = Hive::start(HiveOptions::default().policy("wish", policy));
    let listed = |worker: &Value| worker["not_in_force"].as_array().into_iter().flatten().any(|n| n["setting"] == "open_files");
    let before = spawn(&hive, "w", "wish");
    assert!(listed(&before) || before["limits"]["open_files"] == 1_000_000, "{before:#}");
    let after = update(&hive, "w", json!({"open_files": 64})).expect("64 is less than anybody has");
    assert!(!listed(&after), "{after:#}");
    assert_eq!(line(&ask(&after, "/info"), "limits", "Max open files"), "Max open files 64 64 files");
    assert!(!listed(&hive.call("worker_status", json!({"worker_id": "w"}))));
}
