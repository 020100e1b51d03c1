//! Standing still: no process of a frozen worker moves, connections wait, and a stop works at once.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, require_root, within};

/// It writes a line every 20 ms, and serves nothing.
const TICKS: &str = "[worker]\nbinary = \"/bin/sh\"\ncommand = [\"/bin/sh\", \"-c\", \"while :; do echo tick; sleep 0.02; done\"]\n\
    [readiness]\nnone = true\n[network]\nmode = \"none\"\n";
const SERVES: &str = "[worker]\nbinary = \"mock-worker\"\nstop_grace = \"10s\"\n";

fn spawn(hive: &Hive, id: &str, policy: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}))
}

fn lines(hive: &Hive, id: &str) -> usize {
    hive.call("worker_logs", json!({"worker_id": id, "tail": 100_000}))["lines"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_frozen_worker_does_nothing_until_it_is_thawed_and_is_as_planned_meanwhile() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("ticks", TICKS));
    spawn(&hive, "w", "ticks");
    eventually("its first lines", Duration::from_secs(10), || (lines(&hive, "w") > 5).then_some(()));
    let frozen = hive.call("worker_freeze", json!({"worker_id": "w"}));
    assert_eq!(frozen["state"], "frozen", "{frozen}");
    let cpu = |worker: &Value| worker["resources"]["cpu_usage_usec"].as_u64();
    // What it had said before is in its pipe, or in the log.
    let before = eventually("its output to come to rest", Duration::from_secs(5), || {
        let (first, began) = (lines(&hive, "w"), Instant::now());
        eventually("a tenth of a second", Duration::from_secs(5), || (began.elapsed() > within(Duration::from_millis(100))).then_some(()));
        (lines(&hive, "w") == first).then_some(first)
    });
    let used = cpu(&hive.call("worker_status", json!({"worker_id": "w"})));
    let verified = hive.call("worker_verify", json!({"worker_id": "w"}));
    assert_eq!((&verified["drift"], &verified["state"]), (&json!([]), &json!("frozen")), "{verified}");
    assert_eq!((lines(&hive, "w"), cpu(&verified)), (before, used), "it moved");
    let thawed = hive.call("worker_thaw", json!({"worker_id": "w"}));
    assert_eq!(thawed["state"], "ready", "{thawed}");
    eventually("it to go on", Duration::from_secs(10), || (lines(&hive, "w") > before).then_some(()));
}

#[test]
fn connections_to_a_frozen_worker_wait_and_are_served_when_it_is_thawed() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("serves", SERVES));
    let port = spawn(&hive, "w", "serves")["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    hive.call("worker_freeze", json!({"worker_id": "w"}));
    let waiting = std::thread::spawn(move || http_get(port, "/health").map(|reply| (reply.status, Instant::now())));
    let began = Instant::now();
    eventually("some time to pass", Duration::from_secs(5), || (began.elapsed() > within(Duration::from_millis(300))).then_some(()));
    assert!(!waiting.is_finished(), "a frozen worker answered");
    let thawed = Instant::now();
    assert_eq!(hive.call("worker_thaw", json!({"worker_id": "w"}))["state"], "ready");
    let (status, answered) = waiting.join().expect("no panic").expect("an answer");
    assert!(status == 200 && answered > thawed);
}

#[test]
fn a_frozen_worker_is_stopped_with_its_own_signal_or_killed_at_once() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("serves", SERVES));
    let ended = |id: &str, method: &str, more: Value| {
        spawn(&hive, id, "serves");
        hive.call("worker_freeze", json!({"worker_id": id}));
        let began = Instant::now();
        let mut asked = json!({"worker_id": id});
        for (name, value) in more.as_object().into_iter().flatten() {
            asked[name] = value.clone();
        }
        hive.call(method, asked);
        let worker = hive.call("worker_wait", json!({"worker_id": id, "for": "exit", "timeout_ms": 60_000}));
        (worker["verdict"].clone(), began.elapsed())
    };
    let (verdict, took) = ended("asked", "worker_stop", json!({}));
    assert_eq!((&verdict["kind"], &verdict["forced"]), (&json!("stopped"), &json!(false)), "{verdict}");
    assert!(took < within(Duration::from_secs(5)), "it waited for its grace: {took:?}");
    let (verdict, _) = ended("at-once", "worker_stop", json!({"grace_ms": 0}));
    assert_eq!((&verdict["kind"], &verdict["forced"]), (&json!("stopped"), &json!(true)), "{verdict}");
    let (verdict, took) = ended("killed", "worker_signal", json!({"signal": "SIGKILL"}));
    assert_eq!((&verdict["kind"], &verdict["signal"]), (&json!("signaled"), &json!(9)), "{verdict}");
    assert!(took < within(Duration::from_secs(5)), "{took:?}");
}

#[test]
fn what_is_not_ready_is_not_frozen() {
    require_root!();
    let never = "[worker]\nbinary = \"mock-worker\"\n[readiness]\nnotify = true\n";
    let hive = Hive::start(HiveOptions::default().policy("never", never));
    hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "never", "device": "cpu", "wait": "started"}));
    for method in ["worker_freeze", "worker_thaw"] {
        assert_eq!(hive.rpc(method, json!({"worker_id": "w"})).expect_err("it is starting").kind(), "not_allowed_now");
        assert_eq!(hive.rpc(method, json!({"worker_id": "absent"})).expect_err("there is none").kind(), "not_found");
    }
}
