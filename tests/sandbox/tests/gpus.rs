//! GPUs that are watched: what a simulation's file tells changes while the hive runs, and the hive concludes from it.

#![allow(clippy::expect_used, clippy::panic, reason = "a world that can't be made ends its test")]

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use sandbox_tests::Sandboxed;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, require_root};

const SOON: Duration = Duration::from_secs(20);
const CONFIG: &str = "[gpus]\nwatch_interval = \"100ms\"\nmemory_back = \"1s\"\nover_limit = \"300ms\"\n";
const SLEEPS: &str = "[worker]\nbinary = \"sleep\"\ncommand = [\"{binary}\", \"600\"]\nstop_grace = \"0\"\n[readiness]\nnone = true\n\
    [network]\nmode = \"none\"\n[devices]\ngpus = \"leased\"\naffinity = \"device\"\n\
    gpu_memory_max = { value = \"1GiB\", enforce = \"if_available\" }\n";
const GPU: &str = "[[gpu]]\nindex = 0\nuuid = \"GPU-5c0e3b1a-0000-4000-8000-000000000000\"\nvendor = \"nvidia\"\nmemory = \"80GiB\"\n\
    nodes = [\"/dev/full\"]\n";

const IDLE: &str = "memory_used = \"0\"\nprocesses = []";

fn hive() -> Hive {
    let required = SLEEPS.replace("if_available", "required");
    Hive::start(HiveOptions::default().config(CONFIG).devices(&tells(IDLE)).policy("gpu", SLEEPS).policy("strict", &required))
}

/// The one GPU, with what its driver tells.
fn tells(facts: &str) -> String {
    format!("{GPU}{facts}\n")
}

/// Makes the driver tell something else from now on.
fn now(hive: &Hive, facts: &str) {
    let file = hive.directory().join("devices.toml");
    let beside = file.with_extension("new");
    fs::write(&beside, tells(facts)).expect("write the devices");
    fs::rename(&beside, &file).expect("put them in the place of the old");
}

fn uses(pid: &Value, memory: &str) -> String {
    format!("memory_used = \"{memory}\"\nprocesses = [{{ pid = {pid}, memory = \"{memory}\" }}]")
}

fn gpu(hive: &Hive) -> Value {
    let list = hive.call("device_list", json!({}));
    list.as_array().expect("a list").iter().find(|d| d["id"] == "GPU-0").expect("the GPU").clone()
}

fn until_state(hive: &Hive, state: &str) -> Value {
    eventually(state, SOON, || Some(gpu(hive)).filter(|gpu| gpu["state"] == state))
}

fn spawn(hive: &Hive, id: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "gpu"}))
}

#[test]
fn a_gpu_is_free_when_its_memory_is_back_and_out_of_use_while_it_stays_away() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w");
    now(&hive, &uses(&worker["pid"], "512MiB"));
    let status = || hive.call("worker_status", json!({"worker_id": "w"}));
    let memory = eventually("its memory", SOON, || Some(status()["gpu_memory"].clone()).filter(|m| m["used_bytes"] == 512 << 20));
    assert_eq!(memory, json!({"used_bytes": 512 << 20, "limit_bytes": 1 << 30, "enforced_by": "soft"}));
    let gaps = status()["not_in_force"].to_string();
    assert!(gaps.contains("devices.gpu_memory_max") && gaps.contains("the driver tells no NUMA node of GPU-0"), "{gaps}");
    hive.call("worker_stop", json!({"worker_id": "w"}));
    assert_eq!(gpu(&hive)["state"], "releasing", "its driver still lists the process");
    let busy = hive.rpc("worker_spawn", json!({"worker_id": "v", "model": "m", "policy": "gpu"})).expect_err("it is not back");
    assert_eq!(busy.kind(), "device_busy", "{busy}");
    now(&hive, "memory_used = \"512MiB\"\nprocesses = []");
    let leaked = until_state(&hive, "vram_leaked");
    assert!(leaked["state_reason"].as_str().expect("a reason").contains("bytes are in use"), "{leaked}");
    now(&hive, IDLE);
    until_state(&hive, "free");
    spawn(&hive, "v");
    hive.call("worker_stop", json!({"worker_id": "v"}));
    until_state(&hive, "free");
}

#[test]
fn faults_silence_and_strangers_are_told_and_what_stays_over_its_limit_is_stopped() {
    require_root!();
    let hive = hive();
    let refused = hive.rpc("worker_spawn", json!({"model": "m", "policy": "strict"})).expect_err("nothing holds it");
    assert_eq!(refused.kind(), "not_enforceable", "{refused}");
    let worker = spawn(&hive, "w");
    let explained = |what: &str| {
        eventually(what, SOON, || {
            let incidents = hive.call("worker_explain", json!({"worker_id": "w"}))["incidents"].to_string();
            incidents.contains(what).then_some(incidents)
        })
    };
    now(&hive, &format!("{IDLE}\nxid = [{{ code = 31, pid = {}, id = \"a\" }}]", worker["pid"]));
    explained("Xid 31 of GPU-0");
    assert_eq!(gpu(&hive)["state"], "leased", "a program's fault takes no GPU out of use");
    now(&hive, "hangs = true");
    until_state(&hive, "quarantined");
    assert_eq!(hive.call("worker_status", json!({"worker_id": "w"}))["pid"], worker["pid"], "its worker goes on");
    now(&hive, IDLE);
    until_state(&hive, "leased");
    explained("answers as it should again");
    let own = std::process::id();
    now(&hive, &uses(&own.into(), "1GiB"));
    explained(&format!("processes that are no worker's: {{{own}}}"));
    assert_eq!(gpu(&hive)["foreign"], json!([own]));
    now(&hive, &uses(&worker["pid"], "2GiB"));
    let ended = hive.call("worker_wait", json!({"worker_id": "w", "for": "exit", "timeout_ms": 30_000}));
    assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["by"]), (&json!("stopped"), &json!("gpu_memory")), "{ended}");
    assert!(explained("its limit is").contains("it is stopped"), "warned, then stopped");
    now(&hive, IDLE);
    until_state(&hive, "free");
}

#[test]
fn a_gpu_that_a_hive_has_leased_is_nobodys_to_run_on() {
    require_root!();
    let hive = hive();
    let file = hive.directory().join("devices.toml").display().to_string();
    let run = || {
        let policy = "[worker]\nbinary = \"unused\"\n[devices]\ngpus = \"leased\"\n";
        Sandboxed::with_policy(policy).option("--devices", &file).option("--device", "GPU-0").sh("true")
    };
    assert_eq!(run().status, Some(0), "nobody has it");
    spawn(&hive, "w");
    let refused = run();
    assert!(refused.status == Some(125) && refused.stderr.contains("in use by another hive"), "{refused:?}");
    hive.call("worker_stop", json!({"worker_id": "w"}));
    assert_eq!(run().status, Some(0), "its worker is gone");
}

#[test]
fn a_look_that_sees_nothing_is_told_and_what_was_being_released_stays_so() {
    require_root!();
    let hive = hive();
    spawn(&hive, "w");
    let notes = || hive.call("device_topology", json!({}))["notes"].to_string();
    now(&hive, "memory_used = \"much\"");
    eventually("it is told", SOON, || notes().contains("no GPU can be looked at").then_some(()));
    hive.call("worker_stop", json!({"worker_id": "w"}));
    let waits = gpu(&hive);
    assert_eq!(
        (&waits["state"], &waits["state_reason"]),
        (&json!("releasing"), &json!("the memory of worker w is not back yet")),
        "{waits}"
    );
    now(&hive, IDLE);
    until_state(&hive, "free");
    assert!(!notes().contains("no GPU can be looked at"));
}

#[test]
fn a_restart_gives_no_gpu_out_whose_memory_is_not_back() {
    require_root!();
    let mut hive = hive();
    let worker = spawn(&hive, "w");
    now(&hive, &uses(&worker["pid"], "512MiB"));
    eventually("its memory", SOON, || {
        (hive.call("worker_status", json!({"worker_id": "w"}))["gpu_memory"]["used_bytes"] == 512 << 20).then_some(())
    });
    let again = |hive: &mut Hive| {
        hive.signal(Signal::SIGTERM);
        hive.wait();
        hive.start_again();
    };
    again(&mut hive);
    let state = gpu(&hive)["state"].clone();
    assert!(
        state == "releasing" || state == "vram_leaked",
        "{state}: its worker went with the hive, and its driver still lists the process"
    );
    let busy = hive.rpc("worker_spawn", json!({"worker_id": "v", "model": "m", "policy": "gpu"})).expect_err("it is not back");
    assert_eq!(busy.kind(), "device_busy", "{busy}");
    now(&hive, "memory_used = \"512MiB\"\nprocesses = []");
    until_state(&hive, "vram_leaked");
    again(&mut hive);
    let leaked = gpu(&hive);
    assert_eq!(leaked["state"], "vram_leaked", "{leaked}");
    assert!(leaked["state_reason"].as_str().expect("a reason").contains("bytes are in use"), "{leaked}");
    for mib in [513u64, 514] {
        now(&hive, &format!("memory_used = \"{mib}MiB\"\nprocesses = []"));
        eventually("a new look", SOON, || (gpu(&hive)["memory_used_bytes"] == mib << 20).then_some(()));
    }
    assert_eq!(gpu(&hive)["state"], "vram_leaked", "what leaked is not taken for idle use");
    now(&hive, IDLE);
    until_state(&hive, "free");
    spawn(&hive, "v");
    hive.call("worker_stop", json!({"worker_id": "v"}));
    until_state(&hive, "free");
}
