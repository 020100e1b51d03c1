//! Every limit of a cgroup is in force where it is required, or nothing is started and nothing is changed: never left out.

#![allow(clippy::expect_used, clippy::panic, reason = "an answer that is not as a test needs it ends the test")]

use std::fs;

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, require_root};

/// Limits with a value that any host with the controller takes.
const LIMITS: [(&str, &str); 14] = [
    ("memory_max", "\"256MiB\""),
    ("memory_high", "\"200MiB\""),
    ("memory_low", "\"16MiB\""),
    ("swap_max", "\"0\""),
    ("oom_group", "1"),
    ("cpus", "1.0"),
    ("cpu_burst", "\"20ms\""),
    ("cpu_weight", "50"),
    ("cpuset", "\"0\""),
    ("mems", "\"0\""),
    ("pids_max", "64"),
    ("io_weight", "50"),
    ("cgroup_descendants", "0"),
    ("cgroup_depth", "0"),
];

/// Limits by name: what they name may be missing, too.
fn named() -> Vec<(&'static str, String)> {
    let disk = fs::read_dir("/sys/block").into_iter().flatten().flatten().find_map(|d| fs::read_to_string(d.path().join("dev")).ok());
    let disk = disk.map_or_else(|| "/dev/rbee-hive-test-absent".to_owned(), |number| number.trim().to_owned());
    vec![
        ("io_max", format!("\"{disk} rbps=10MiB\"")),
        ("hugetlb", "\"2MiB=4MiB\"".to_owned()),
        ("dmem", "\"drm/rbee-hive-test-absent=1GiB\"".to_owned()),
    ]
}

fn policy(name: &str, value: &str, enforce: &str) -> String {
    let mut text = format!("[worker]\nbinary = \"mock-worker\"\n[limits]\n{name} = {{ value = {value}, enforce = \"{enforce}\" }}\n");
    // What these are counted with.
    for (needs, with, base) in [("cpu_burst", "cpus", "1.0"), ("swap_max", "memory_max", "\"512MiB\"")] {
        if needs == name {
            text.push_str(&format!("{with} = {{ value = {base}, enforce = \"if_available\" }}\n"));
        }
    }
    text
}

fn spawn(hive: &Hive, id: &str, policy: &str) -> Result<Value, test_support::RpcError> {
    hive.rpc("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}))
}

fn listed(worker: &Value, name: &str) -> bool {
    worker["not_in_force"].as_array().into_iter().flatten().any(|note| note["setting"] == name)
}

/// Not started, and nothing of it left to be listed.
#[track_caller]
fn assert_refused(hive: &Hive, id: &str, (name, answer): (&str, Result<Value, test_support::RpcError>)) {
    let Err(error) = answer else { panic!("{name} is not in force, and yet it started: {answer:?}") };
    assert_eq!(error.kind(), "not_enforceable", "{name}: {error:?}");
    assert!(error.message.contains(name), "{name}: {error:?}");
    let workers = hive.call("worker_list", json!({}));
    assert!(!workers.as_array().is_some_and(|all| all.iter().any(|w| w["worker_id"] == id)), "{name}: {workers}");
}

#[test]
fn what_is_required_and_cannot_be_in_force_is_not_started() {
    require_root!();
    let named = named();
    let all: Vec<(&str, &str)> = LIMITS.into_iter().chain(named.iter().map(|(name, value)| (*name, value.as_str()))).collect();
    let mut options = HiveOptions::default();
    for (name, value) in &all {
        options = options.policy(&format!("wish-{name}"), &policy(name, value, "if_available"));
        options = options.policy(&format!("must-{name}"), &policy(name, value, "required"));
    }
    let hive = Hive::start(options);
    for (at, (name, _)) in all.iter().enumerate() {
        let wish = spawn(&hive, &format!("wish{at}"), &format!("wish-{name}")).expect("a wish keeps nothing from starting");
        let (set, note) = (!wish["limits"][name].is_null(), listed(&wish, name));
        assert!(set != note, "{name} is in force or listed: {wish}");
        println!("{name}: {}", if set { "in force" } else { "refused where it is required" });
        let id = format!("must{at}");
        let must = spawn(&hive, &id, &format!("must-{name}"));
        if note {
            assert_refused(&hive, &id, (name, must));
        } else {
            let worker = must.unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert!(!worker["limits"][name].is_null() && !listed(&worker, name), "{name}: {worker}");
            assert_eq!(hive.call("worker_verify", json!({"worker_id": id}))["drift"], json!([]), "{name}");
            hive.call("worker_stop", json!({"worker_id": id, "grace_ms": 0}));
        }
        hive.call("worker_stop", json!({"worker_id": format!("wish{at}"), "grace_ms": 0}));
    }
}

#[test]
fn what_is_asked_of_a_worker_that_runs_is_in_force_or_refused() {
    require_root!();
    let most: Vec<String> = LIMITS.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    let text = format!("[worker]\nbinary = \"mock-worker\"\n[request]\nmay_set = [\"limits\"]\nmax = {{ {} }}\n", most.join(", "));
    let mut options = HiveOptions::default().policy("open", &text);
    for (name, value) in LIMITS {
        options = options.policy(&format!("wish-{name}"), &policy(name, value, "if_available"));
    }
    let hive = Hive::start(options);
    spawn(&hive, "w", "open").expect("a worker");
    for (name, value) in LIMITS {
        let wish = spawn(&hive, &format!("wish-{name}"), &format!("wish-{name}")).expect("a wish keeps nothing from starting");
        let value: Value = serde_json::from_str(value).expect("JSON");
        let before = hive.call("worker_status", json!({"worker_id": "w"}))["limits"].clone();
        match (listed(&wish, name), hive.rpc("worker_update", json!({"worker_id": "w", "limits": {name: value}}))) {
            (false, Ok(worker)) => assert!(!worker["limits"][name].is_null(), "{name}: {worker}"),
            (true, Err(error)) => {
                assert!(error.kind() == "not_enforceable" && error.message.contains(name), "{name}: {error:?}");
                assert_eq!(hive.call("worker_status", json!({"worker_id": "w"}))["limits"], before, "{name}");
            }
            (listed, other) => panic!("{name}: listed {listed}, and {other:?}"),
        }
        hive.call("worker_stop", json!({"worker_id": format!("wish-{name}"), "grace_ms": 0}));
    }
    assert_eq!(hive.call("worker_verify", json!({"worker_id": "w"}))["drift"], json!([]));
}
