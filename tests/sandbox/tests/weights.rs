//! Workers that want the same CPU share it by their weights, at the start and after an update.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, require_root, skip};

/// What both together use while they are looked at, microseconds.
const WINDOW: u64 = 2_500_000;

fn policy(weight: u32) -> String {
    format!(
        "[worker]\nbinary = \"mock-worker\"\n[limits]\ncpuset = \"0\"\ncpu_weight = {weight}\n\
         [request]\nmay_set = [\"args\", \"limits\"]\nmax = {{ cpu_weight = 10000 }}\n"
    )
}

fn spawn(hive: &Hive, id: &str, policy: &str) -> Result<Value, test_support::RpcError> {
    let asked =
        json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu", "args": ["--spin-threads", "1"], "wait": "started"});
    hive.rpc("worker_spawn", asked)
}

/// CPU time of a worker, microseconds.
fn used(hive: &Hive, id: &str) -> u64 {
    let worker = hive.call("worker_status", json!({"worker_id": id}));
    worker["resources"]["cpu_usage_usec"].as_u64().unwrap_or_else(|| panic!("no CPU time: {worker}"))
}

fn shares(hive: &Hive) -> (u64, u64) {
    let before = (used(hive, "heavy"), used(hive, "light"));
    eventually("as much CPU time", Duration::from_secs(30), || {
        let gained = (used(hive, "heavy").saturating_sub(before.0), used(hive, "light").saturating_sub(before.1));
        (gained.0 + gained.1 >= WINDOW).then_some(gained)
    })
}

#[test]
fn workers_share_a_cpu_by_their_weights() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("heavy", &policy(1000)).policy("light", &policy(10)));
    match spawn(&hive, "heavy", "heavy") {
        Err(error) if error.kind() == "not_enforceable" => skip!("the cpu and cpuset controllers: {error:?}"),
        heavy => heavy.expect("a worker"),
    };
    spawn(&hive, "light", "light").expect("a worker");
    let (much, little) = shares(&hive);
    println!("weights 1000 and 10: {much} and {little} us");
    for (id, weight) in [("heavy", 10), ("light", 1000)] {
        hive.call("worker_update", json!({"worker_id": id, "limits": {"cpu_weight": weight}}));
        assert_eq!(hive.call("worker_verify", json!({"worker_id": id}))["drift"], json!([]));
    }
    let (now_little, now_much) = shares(&hive);
    println!("turned round: {now_little} and {now_much} us");
    for (more, less) in [(much, little), (now_much, now_little)] {
        assert!(more > 5 * less, "{more} and {less} us");
    }
}
