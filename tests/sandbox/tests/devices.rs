//! Simulated devices as a hive shows them: what is there, and what becomes of it.

#![allow(clippy::expect_used, clippy::panic, reason = "a device that is not as a test needs it ends the test")]

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, require_root};

/// A machine of two nodes, of which this host has at most one, with a GPU at the other that is cut into a part.
const MACHINE: &str = r#"
[[node]]
id = 0
cpus = "0"
memory = "1GiB"
distances = { 0 = 10, 7 = 32 }
[[node]]
id = 7
cpus = "4000-4003"
memory = "1GiB"
distances = { 0 = 32, 7 = 10 }
simulated = true
[[gpu]]
index = 0
vendor = "nvidia"
numa_node = 7
driver = "nvidia 1.2"
nodes = ["/dev/full"]
"#;
const PART: &str = "[[gpu.mig]]\ngpu_instance = 1\ncompute_instance = 0\nprofile = \"1g.10gb\"\nnodes = [\"/dev/zero\"]\n";

fn device(hive: &Hive, id: &str) -> Value {
    let all = hive.call("device_list", json!({}));
    let one = all.as_array().and_then(|list| list.iter().find(|d| d["id"] == id)).cloned();
    one.unwrap_or_else(|| panic!("there is no {id}: {all}"))
}

#[test]
fn a_simulated_machine_is_shown_with_what_becomes_of_it_and_nothing_is_pinned_to_cpus_that_are_not_there() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().devices(&format!("{MACHINE}memory_used = \"1GiB\"\n{PART}")));
    let told = hive.call("device_topology", json!({}));
    assert!(told["notes"].to_string().contains("the NUMA nodes are simulated"), "{told}");
    assert_eq!(device(&hive, "CPU-7")["distances"], json!({"0": 32, "7": 10}));
    let (whole, part) = (device(&hive, "GPU-0"), device(&hive, "GPU-1"));
    assert_eq!(
        (&whole["partitioned"], &whole["memory_used_bytes"], &whole["driver"]),
        (&json!(true), &json!(1_u64 << 30), &json!("nvidia 1.2"))
    );
    assert_eq!((&part["mig"]["profile"], &part["nodes"]), (&json!("1g.10gb"), &json!(["/dev/full", "/dev/zero"])));

    let worker = hive.call("worker_spawn", json!({"worker_id": "far", "model": "m", "policy": "mock", "device": "CPU-7"}));
    assert_eq!((&worker["devices"], &worker["state"]), (&json!(["CPU-7"]), &json!("ready")), "{worker}");

    let file = hive.directory().join("devices.toml");
    let beside = file.with_extension("new");
    fs::write(&beside, format!("{MACHINE}hangs = true\n{PART}")).expect("write the new simulation");
    fs::rename(beside, file).expect("put it in the place of the old");
    let seen = eventually("the GPU is seen to hang", Duration::from_secs(30), || {
        Some(device(&hive, "GPU-1")).filter(|part| part["silent"].is_string())
    });
    assert_eq!(seen["memory_used_bytes"], Value::Null, "of one that does not answer nothing is known: {seen}");
}
