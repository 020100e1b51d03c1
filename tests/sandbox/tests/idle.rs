//! What follows from idleness: a nap that the next connection ends, room for another model, memory given back.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, port, require_root, skip, time_factor, within};

const SOON: Duration = Duration::from_secs(20);

fn policy(idle: &str) -> String {
    format!("[worker]\nbinary = \"mock-worker\"\n[idle]\nafter = \"1s\"\n{idle}\n")
}

fn spawn(hive: &Hive, id: &str, policy: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}))
}

fn status(hive: &Hive, id: &str) -> Value {
    hive.call("worker_status", json!({"worker_id": id}))
}

#[track_caller]
fn until_state(hive: &Hive, id: &str, state: &str) -> Value {
    eventually(&format!("{id} to be {state}"), SOON, || Some(status(hive, id)).filter(|worker| worker["state"] == state))
}

/// What was told of idle workers.
fn told(hive: &Hive) -> Vec<Value> {
    let text = hive.get("/v1/events?after=0&follow=false&kind=idle").text();
    let events = text.lines().filter_map(|line| line.strip_prefix("data: "));
    events.map(|event| serde_json::from_str::<Value>(event).expect("an event is JSON")["data"].clone()).collect()
}

#[test]
fn an_idle_worker_is_frozen_and_the_next_connection_wakes_it() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("naps", &policy("action = \"freeze\"")));
    let worker = spawn(&hive, "w", "naps");
    assert_eq!(worker["not_in_force"].as_array().map(|notes| notes.iter().filter(|n| n["setting"] == "idle.action").count()), Some(0));
    until_state(&hive, "w", "frozen");
    let reply = http_get(port(&worker), "/health").expect("a sleeping worker is woken");
    assert_eq!((reply.status, &status(&hive, "w")["state"]), (200, &json!("ready")));
    // At work without a connection it is not idle.
    let asleep = until_state(&hive, "w", "frozen");
    assert_eq!(asleep["drift"], json!([]), "{asleep}");
    let actions: Vec<Value> = told(&hive).into_iter().map(|t| t["action"].clone()).collect();
    assert_eq!(actions, ["freeze", "wake", "freeze"]);
}

#[test]
fn a_worker_at_work_without_a_connection_is_not_idle() {
    require_root!();
    // So long that a machine that is short of CPUs lets it work meanwhile.
    let after = time_factor();
    let busy = format!(
        "[worker]\nbinary = \"/bin/sh\"\ncommand = [\"/bin/sh\", \"-c\", \"while :; do :; done\"]\n[limits]\ncpus = 0.2\n\
        [readiness]\nnone = true\n[network]\nmode = \"none\"\n[idle]\nafter = \"{after}s\"\naction = \"stop\"\n"
    );
    let idle = busy.replace("while :; do :; done", "sleep 600");
    let hive = Hive::start(HiveOptions::default().policy("busy", &busy).policy("idle", &idle));
    spawn(&hive, "busy", "busy");
    spawn(&hive, "idle", "idle");
    let ended = until_state(&hive, "idle", "stopped");
    assert_eq!(ended["verdict"]["by"], "idle", "{ended}");
    assert_eq!(status(&hive, "busy")["state"], "ready");
    hive.call("worker_stop", json!({"worker_id": "busy", "grace_ms": 0}));
}

/// A connection over which the worker has begun to send.
fn read_from(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    stream.set_read_timeout(Some(within(SOON))).expect("set a deadline");
    stream.write_all(b"GET /stream?chunks=1200&delay_ms=50 HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("ask");
    stream.read_exact(&mut [0; 16]).expect("it begins to answer");
    stream
}

#[test]
fn one_worker_too_many_makes_the_least_recently_used_one_go() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("two", &policy("action = \"freeze\"\nmax_warm = 2")));
    let first = spawn(&hive, "first", "two");
    let second = spawn(&hive, "second", "two");
    let in_use = [read_from(port(&first)), read_from(port(&second))];
    let full = hive.rpc("worker_spawn", json!({"worker_id": "early", "model": "m", "policy": "two", "device": "cpu"}));
    assert_eq!(full.expect_err("both are in use").kind(), "at_capacity");
    drop(in_use);
    until_state(&hive, "second", "frozen");
    // Asleep like the other one, but used later.
    assert_eq!(http_get(port(&first), "/health").expect("it is woken").status, 200);
    until_state(&hive, "first", "frozen");
    assert_eq!(spawn(&hive, "third", "two")["state"], "ready");
    let gone = status(&hive, "second");
    assert_eq!((&gone["state"], &gone["verdict"]["by"]), (&json!("stopped"), &json!("evicted")), "{gone}");
    assert_eq!(http_get(port(&first), "/health").expect("the other one is still there").status, 200);
}

#[test]
fn the_page_cache_of_an_idle_worker_is_given_back_or_said_not_to_be() {
    require_root!();
    let reads = "[worker]\nbinary = \"/bin/sh\"\ncommand = [\"/bin/sh\", \"-c\", \"cat /usr/lib/*/lib[a-m]*.so.* > /dev/null; sleep 600\"]\n\
        [readiness]\nnone = true\n[network]\nmode = \"none\"\n[idle]\nafter = \"1s\"\naction = \"reclaim\"\n[limits]\nmemory_max = \"256MiB\"\n";
    let hive = Hive::start(HiveOptions::default().policy("shrinks", reads));
    let worker = spawn(&hive, "w", "shrinks");
    let leaf = worker["cgroup"]["path"].as_str().unwrap_or_default().trim_start_matches('/');
    let has = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].iter().any(|mount| Path::new(mount).join(leaf).join("memory.reclaim").exists());
    let notes = worker["not_in_force"].as_array().cloned().unwrap_or_default();
    assert_eq!(notes.iter().any(|n| n["setting"] == "idle.action"), !has, "{notes:?}");
    if !has {
        skip!("memory.reclaim: cgroup v2 with the memory controller");
    }
    let told = eventually("memory to be given back", SOON, || told(&hive).into_iter().find(|t| t["action"] == "reclaim"));
    assert!(told["reclaimed_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20), "{told}");
}

#[test]
fn an_idle_model_makes_room_on_the_one_gpu_and_not_for_a_start_that_is_refused() {
    require_root!();
    let models = tempfile::tempdir_in("/run").expect("a directory");
    fs::set_permissions(models.path(), fs::Permissions::from_mode(0o755)).expect("let it be read");
    fs::write(models.path().join("m"), "a model").expect("write a model");
    let one = format!(
        "[worker]\nbinary = \"mock-worker\"\nmodel_dirs = [{:?}]\n[devices]\ngpus = \"leased\"\n[idle]\nafter = \"1s\"\naction = \"freeze\"\nmax_warm = 1\n",
        models.path()
    );
    let gpu = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nmemory = \"8GiB\"\nnodes = [\"/dev/full\"]\nmemory_used = \"0\"\nprocesses = []\n";
    let hive = Hive::start(HiveOptions::default().config("[gpus]\nwatch_interval = \"1s\"\n").devices(gpu).policy("one", &one));
    let start = |id: &str, model: &str, device: &Value| {
        hive.rpc("worker_spawn", json!({"worker_id": id, "model": model, "policy": "one", "device": device}))
    };
    start("old", "m", &Value::Null).expect("the GPU is free");
    until_state(&hive, "old", "frozen");
    for (model, device, kind) in [("m", json!(99), "no_such_device"), ("absent", Value::Null, "model_not_found")] {
        assert_eq!(start("new", model, &device).expect_err("it can't be").kind(), kind);
        assert_eq!(status(&hive, "old")["state"], "frozen", "it was stopped for a start that got {kind}");
    }
    let new = start("new", "m", &Value::Null).expect("the idle one makes room");
    assert_eq!((&new["devices"], &new["state"]), (&json!(["GPU-0"]), &json!("ready")), "{new}");
    assert_eq!(status(&hive, "old")["verdict"]["by"], "evicted");
}
