//! What a request to start a worker meets: others at the same time, what is not there, what is not allowed, a stop.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, info, port, require_root, time_factor};

#[test]
fn a_worker_that_dies_while_starting_fails_the_spawn_with_verdict_and_log() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let asked = json!({"worker_id": "w1", "model": "m", "policy": "mock", "device": "cpu", "args": ["--never-ready", "--flood", "2000", "--crash-after-ms", "300"]});
    let started = Instant::now();
    let e = hive.rpc("worker_spawn", asked).expect_err("it never becomes ready");
    assert_eq!((e.kind(), &e.data["verdict"]["kind"]), ("start_failed", &json!("signaled")), "{e}");
    assert!(started.elapsed() < Duration::from_secs(10) * time_factor(), "not at once: {:?}", started.elapsed());
    assert!(e.data["log_tail"].as_array().is_some_and(|l| !l.is_empty()), "{e}");
    let e = hive.rpc("worker_spawn", json!({"worker_id": "w1", "model": "m", "policy": "mock"})).expect_err("it is still listed");
    assert_eq!(e.kind(), "already_exists");
    hive.call("worker_delete", json!({"worker_id": "w1"}));
    hive.mock("w1", &[]);
}

#[test]
fn a_worker_that_never_answers_is_a_start_timeout_with_its_last_probe() {
    require_root!();
    let policy = "[worker]\nbinary = \"mock-worker\"\n[readiness]\nstart_timeout = \"2s\"\n[request]\nmay_set = [\"args\"]\n";
    let hive = Hive::start(HiveOptions::default().policy("hasty", policy));
    let asked = json!({"worker_id": "w1", "model": "m", "policy": "hasty", "args": ["--never-ready"]});
    let e = hive.rpc("worker_spawn", asked).expect_err("it never becomes ready");
    assert_eq!(e.kind(), "start_timeout", "{e}");
    let status = hive.call("worker_status", json!({"worker_id": "w1"}));
    assert_eq!((&status["state"], &status["verdict"]["kind"]), (&json!("failed"), &json!("start_timeout")), "{status}");
    assert!(status["verdict"]["last_probe"].as_str().is_some_and(|p| p.contains("503")), "{status}");
}

#[test]
fn of_two_spawns_with_one_id_one_succeeds_and_one_process_exists() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let results: Vec<_> = std::thread::scope(|scope| {
        let asked = || hive.rpc("worker_spawn", json!({"worker_id": "twin", "model": "m", "policy": "mock", "device": "cpu"}));
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(asked)).collect();
        threads.into_iter().map(|t| t.join().expect("a thread")).collect()
    });
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|e| e.kind() == "already_exists"), "{results:?}");
    assert_eq!(hive.call("worker_process_list", json!({"worker_id": "twin"})).as_array().map(Vec::len), Some(1));
}

#[test]
fn no_port_is_handed_out_twice_and_the_one_too_many_gets_none() {
    require_root!();
    let ports = 20;
    let hive = Hive::start(HiveOptions::default().argument("--ports").argument("9180-9199"));
    let results: Vec<_> = std::thread::scope(|scope| {
        let hive = &hive;
        let spawn = |n: usize| {
            move || hive.rpc("worker_spawn", json!({"worker_id": format!("p{n}"), "model": "m", "policy": "mock", "device": "cpu"}))
        };
        let threads: Vec<_> = (0..ports * 2).map(|n| scope.spawn(spawn(n))).collect();
        threads.into_iter().map(|t| t.join().expect("a thread")).collect()
    });
    let mut given: Vec<_> = results.iter().flatten().map(port).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), ports, "distinct ports: {given:?}");
    assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|e| e.kind() == "no_free_port"), "{results:?}");
    hive.call("worker_stop", json!({"worker_id": results.iter().flatten().next().expect("one")["worker_id"], "grace_ms": 0}));
    hive.mock("late", &[]);
}

const STAND_INS: &str = r#"
[[gpu]]
index = 0
uuid = "GPU-5c0e3b1a-0000-4000-8000-000000000000"
vendor = "nvidia"
name = "Simulated"
memory = "80GiB"
nodes = ["/dev/full"]

[[gpu]]
index = 1
uuid = "GPU-5c0e3b1a-0000-4000-8000-000000000001"
vendor = "nvidia"
name = "Simulated"
memory = "80GiB"
nodes = ["/dev/fuse"]
"#;

#[test]
fn a_leased_gpu_is_there_and_another_is_refused_even_by_a_node_of_ones_own() {
    require_root!();
    if !std::path::Path::new("/dev/fuse").exists() {
        test_support::skip!("/dev/fuse as a stand-in");
    }
    let policy = "[worker]\nbinary = \"mock-worker\"\n[devices]\ngpus = \"leased\"\n[credentials]\ncapabilities = [{ name = \"CAP_MKNOD\", reason = \"shows that the refusal is the device policy's\" }]\n";
    let hive = Hive::start(HiveOptions::default().policy("gpu", policy).devices(STAND_INS));
    let worker = hive.call("worker_spawn", json!({"worker_id": "g0", "model": "m", "policy": "gpu", "device": 0}));
    assert_eq!(worker["devices"], json!(["GPU-0"]), "{worker}");
    let ask = |path: &str| http_get(port(&worker), path).expect("the worker answers").text();
    assert!(ask("/open?path=/dev/full&mode=r").contains("\"ok\":true"), "{}", ask("/open?path=/dev/full&mode=r"));
    assert!(ask("/open?path=/dev/fuse&mode=r").contains("\"errno\":2"), "it has no node: {}", ask("/open?path=/dev/fuse&mode=r"));
    assert!(ask("/mknod?path=/tmp/other&major=10&minor=229").contains("\"ok\":true"), "a node can be made");
    assert!(ask("/open?path=/tmp/other&mode=r").contains("\"errno\":1"), "{}", ask("/open?path=/tmp/other&mode=r"));
    let env = info(&worker)["env"].to_string();
    assert!(env.contains("GPU-5c0e3b1a-0000-4000-8000-000000000000") && env.contains("PCI_BUS_ID"), "{env}");
    let e =
        hive.rpc("worker_spawn", json!({"worker_id": "g1", "model": "m", "policy": "gpu", "device": "GPU-0"})).expect_err("it is taken");
    assert_eq!(e.kind(), "device_busy", "{e}");
    let e =
        hive.rpc("worker_spawn", json!({"worker_id": "g1", "model": "m", "policy": "gpu", "device": "GPU-7"})).expect_err("there is none");
    assert_eq!(e.kind(), "no_such_device", "{e}");
    let second = hive.call("worker_spawn", json!({"worker_id": "g1", "model": "m", "policy": "gpu"}));
    assert_eq!(second["devices"], json!(["GPU-1"]), "auto takes the free one: {second}");
    let cpu = hive.call("worker_spawn", json!({"worker_id": "c0", "model": "m", "policy": "mock", "device": "CPU-0"}));
    assert_eq!(info(&cpu)["env"]["CUDA_VISIBLE_DEVICES"], "", "{}", info(&cpu)["env"]);
}

#[test]
fn bad_input_is_refused_by_name_and_leaves_no_entry() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let refused = |params: Value| hive.rpc("worker_spawn", params.clone()).map(|w| panic!("{params} gave {w}")).expect_err("refused");
    for id in ["a/b", "..", "a\0b", &"x".repeat(64), ""] {
        let e = refused(json!({"worker_id": id, "model": "m", "policy": "mock"}));
        assert!(e.code == -32602 && e.message.contains("worker"), "{id:?}: {e}");
    }
    let e = refused(json!({"model": "m", "polizy": "mock"}));
    assert!(e.code == -32602 && (e.message.contains("polizy") || e.data.to_string().contains("polizy")), "{e}");
    assert_eq!(refused(json!({"model": 7, "policy": "mock"})).code, -32602);
    assert_eq!(refused(json!({"model": "m", "policy": "nope"})).kind(), "unknown_policy");
    assert_eq!(refused(json!({"model": "m", "policy": "trusted"})).kind(), "policy_violation");
    assert_eq!(refused(json!({"model": "m", "policy": "mock", "device": "CPU-77"})).kind(), "no_such_device");
    assert!(refused(json!({"model": "m", "policy": "mock", "limits": {"memory_max": -1}})).code != 0);
    assert_eq!(refused(json!({"model": "m", "policy": "mock", "limits": {"memory_max": "1TiB"}})).kind(), "policy_violation");
    assert_eq!(hive.rpc("no_such_method", json!({})).expect_err("no method").code, -32601);
    assert_eq!(hive.rpc("worker_status", json!({"worker_id": "nobody"})).expect_err("nobody").kind(), "not_found");
    assert_eq!(hive.call("worker_list", json!({})), json!([]), "an entry was left");
}

#[test]
fn a_missing_binary_lists_every_place_tried() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("lost", "[worker]\nbinary = \"no-such-llama\"\n"));
    let e = hive.rpc("worker_spawn", json!({"model": "m", "policy": "lost"})).expect_err("there is no such binary");
    assert_eq!(e.kind(), "binary_not_found", "{e}");
    let tried = e.data["tried"].to_string();
    for place in ["/usr/local/bin/no-such-llama", "target/release/no-such-llama"] {
        assert!(tried.contains(place), "{place} not in {tried}");
    }
    assert_eq!(hive.call("worker_list", json!({})), json!([]));
}

#[test]
fn a_model_comes_read_only_and_from_below_model_dirs_only() {
    require_root!();
    let policy = "[worker]\nbinary = \"mock-worker\"\nmodel_dirs = [\"/var/lib/rbee-hive/models\"]\n";
    let hive = Hive::start(HiveOptions::default().policy("models", policy).model("m.gguf", b"weights"));
    let worker = hive.call("worker_spawn", json!({"worker_id": "w1", "model": "m.gguf", "policy": "models"}));
    let inside = info(&worker)["args"].to_string();
    let path = inside.split('"').find(|a| a.ends_with("/m.gguf")).unwrap_or_else(|| panic!("no model in {inside}")).to_owned();
    let ask = |query: String| http_get(port(&worker), &query).expect("the worker answers").text();
    assert!(ask(format!("/open?path={path}&mode=r")).contains("\"ok\":true"));
    assert!(ask(format!("/open?path={path}&mode=w")).contains("\"ok\":false"));
    let e = hive.rpc("worker_spawn", json!({"model": "absent.gguf", "policy": "models"})).expect_err("it is not there");
    assert_eq!(e.kind(), "model_not_found", "{e}");
    let e = hive.rpc("worker_spawn", json!({"model": "/etc/passwd", "policy": "models"})).expect_err("it is elsewhere");
    assert!(["policy_violation", "model_not_found"].contains(&e.kind()), "{e}");
}

#[test]
fn a_client_that_goes_away_in_mid_spawn_loses_no_worker() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "worker_spawn",
        "params": {"worker_id": "kept", "model": "m", "policy": "mock", "args": ["--start-delay-ms", "1000"]}})
    .to_string();
    let mut socket = UnixStream::connect(hive.socket()).expect("connect");
    write!(
        socket,
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("send");
    eventually("the worker to be listed", Duration::from_secs(10), || hive.rpc("worker_status", json!({"worker_id": "kept"})).ok());
    drop(socket);
    let ready = hive.call("worker_wait", json!({"worker_id": "kept", "for": "ready", "timeout_ms": 60_000}));
    assert_eq!(ready["state"], "ready", "{ready}");
}

#[test]
fn stop_while_starting_ends_the_spawn_and_leaves_nothing() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    std::thread::scope(|scope| {
        let spawn =
            scope.spawn(|| hive.rpc("worker_spawn", json!({"worker_id": "w1", "model": "m", "policy": "mock", "args": ["--never-ready"]})));
        eventually("the worker to start", Duration::from_secs(10), || {
            hive.rpc("worker_status", json!({"worker_id": "w1"})).ok().filter(|w| w["pid"].is_i64())
        });
        let stopped = hive.call("worker_stop", json!({"worker_id": "w1"}));
        assert_eq!(stopped["state"], "stopped", "{stopped}");
        let e = spawn.join().expect("a thread").expect_err("it was stopped");
        assert_eq!(e.data["verdict"]["kind"], "stopped", "{e}");
    });
}
