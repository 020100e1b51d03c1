//! A hive of an ordinary user: the same sandbox in a user namespace, and an honest list of what it goes without.

#![allow(clippy::expect_used, reason = "a worker that is not as a test needs it ends the test")]

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, http_get, require_root, skip};

const PLAIN: &str = "[worker]\nbinary = \"mock-worker\"\n[request]\nmay_set = [\"args\"]\n";

/// As nobody; `None` where this kernel lets no ordinary user make a user namespace.
fn hive(options: HiveOptions) -> Option<Hive> {
    let number = |path: &str| std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    let off = number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) || number("/proc/sys/user/max_user_namespaces") == Some(0);
    (!off).then(|| Hive::start(options.as_nobody()))
}

fn spawn(hive: &Hive, id: &str, policy: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}))
}

fn info(worker: &Value) -> Value {
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    serde_json::from_str(&http_get(port, "/info").expect("the worker answers").text()).expect("JSON")
}

#[test]
fn an_ordinary_user_gets_the_same_sandbox_and_the_list_of_what_is_not_in_force() {
    require_root!();
    let Some(hive) = hive(HiveOptions::default().policy("plain", PLAIN)) else { skip!("unprivileged user namespaces") };
    let before = hive.snapshot();
    let worker = spawn(&hive, "w1", "plain");
    assert_eq!(worker["state"], "ready", "{worker}");
    let pid = worker["pid"].as_i64().expect("a pid");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
    for line in ["Uid:\t65534", "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(status.contains(line), "{line} is not in\n{status}");
    }
    for kind in ["user", "mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        let of = |p: &str| std::fs::read_link(format!("/proc/{p}/ns/{kind}")).expect("a namespace");
        assert_ne!(of(&pid.to_string()), of("self"), "{kind}");
    }
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("its map");
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["65534", "65534", "1"], "{map}");
    let settings: Vec<&str> = worker["not_in_force"].as_array().into_iter().flatten().filter_map(|e| e["setting"].as_str()).collect();
    for setting in ["credentials.user", "init_isolation", "devices"] {
        assert!(settings.contains(&setting), "{setting} is not in {settings:?}");
    }
    assert!(info(&worker).is_object());
    hive.call("worker_delete", json!({"worker_id": "w1"}));
    hive.assert_nothing_more_than(&before);
}

#[test]
fn a_worker_on_a_unix_socket_is_reached() {
    require_root!();
    let policy = "[worker]\nbinary = \"mock-worker\"\ncommand = [\"{binary}\", \"--socket\", \"{socket}\"]\n";
    let Some(hive) = hive(HiveOptions::default().policy("unix", policy)) else { skip!("unprivileged user namespaces") };
    let worker = spawn(&hive, "w1", "unix");
    assert_eq!(worker["state"], "ready", "{worker}");
    assert!(info(&worker).is_object());
}

#[test]
fn two_workers_of_an_ordinary_user_do_not_see_each_other() {
    require_root!();
    let Some(hive) = hive(HiveOptions::default().policy("plain", PLAIN)) else { skip!("unprivileged user namespaces") };
    let (one, two) = (spawn(&hive, "one", "plain"), spawn(&hive, "two", "plain"));
    let port = one["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    let other = two["pid"].as_i64().expect("a pid");
    for path in [format!("/kill?pid={other}&signal=0"), "/kill?pid=1&signal=9".to_owned()] {
        let answer = http_get(port, &path).expect("an answer").text();
        assert!(answer.contains("\"ok\":false"), "{path}: {answer}");
    }
    for what in [two["pid"].to_string(), two["init_pid"].to_string(), two["port"].to_string()] {
        let path = if what.len() == 4 && what.starts_with('9') {
            format!("/connect?addr=127.0.0.1:{what}")
        } else {
            format!("/read?path=/proc/{what}/status")
        };
        let answer = http_get(port, &path).expect("an answer").text();
        assert!(answer.contains("\"ok\":false"), "{path}: {answer}");
    }
    assert_eq!(hive.call("worker_status", json!({"worker_id": "two"}))["state"], "ready");
}

#[test]
fn what_a_policy_requires_is_refused_without_a_cgroup_and_enforced_in_a_delegated_one() {
    require_root!();
    let Some(without) = hive(HiveOptions::default()) else { skip!("unprivileged user namespaces") };
    let asked = json!({"worker_id": "w", "model": "m", "policy": "mock", "device": "cpu", "limits": {"memory_max": "64MiB"}});
    let refused = without.rpc("worker_spawn", asked.clone()).expect_err("nothing here can hold it");
    assert_eq!(refused.kind(), "not_enforceable", "{refused}");
    assert!(refused.message.contains("memory_max") && refused.message.contains("Permission denied"), "{refused}");
    drop(without);
    let Some(with) = hive(HiveOptions::default().delegated()) else { return };
    let told = with.call("hive_info", json!({}));
    if told["host"]["memory_max"]["supported"] != true {
        skip!("cgroup v2 with the memory controller, delegated: {}", told["cgroup"]);
    }
    let worker = with.call("worker_spawn", asked);
    assert_eq!((&worker["limits"]["memory_max"], &worker["cgroup"]["mode"]), (&json!(64 << 20), &json!("unified")), "{worker}");
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    let _ = http_get(port, "/alloc?bytes=209715200");
    let ended = with.call("worker_wait", json!({"worker_id": "w", "for": "exit", "timeout_ms": 120_000}));
    assert_eq!(ended["verdict"]["kind"], "oom_killed", "{ended}");
}
