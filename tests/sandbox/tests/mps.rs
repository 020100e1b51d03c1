//! MPS: one daemon for each group of workers that share GPUs, on a simulated inventory, the daemon played by the mock worker.

#![allow(clippy::expect_used, clippy::panic, reason = "a world that can't be made ends its test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandbox_tests::Sandboxed;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, mock_binary, require_root};

const CONTROL: &str = "nvidia-cuda-mps-control";
const PIPES: &str = "/dev/shm/nvidia-mps";
const SOON: Duration = Duration::from_secs(20);
const SHARES: &str = "[worker]\nbinary = \"mock-worker\"\non_hive_exit = \"kill\"\n[devices]\ngpus = \"leased\"\nshare = { ways = 4 }\n\
    mps = \"required\"\nmps_active_threads = 25\ngpu_memory_max = { value = \"1GiB\", enforce = \"if_available\" }\n[request]\nmay_set = [\"env\"]\n";

/// Two GPUs, each with a node of its own.
fn devices() -> String {
    let gpu = |(n, node): (u32, &str)| {
        format!("[[gpu]]\nindex = {n}\nuuid = \"GPU-a{n:07x}\"\nvendor = \"nvidia\"\nmemory = \"8GiB\"\nnodes = [{node:?}]\n")
    };
    [(0, "/dev/full"), (1, "/dev/urandom")].map(gpu).concat()
}

/// A hive that finds `program` as NVIDIA's control daemon.
fn hive_with(program: &Path, more: impl FnOnce(HiveOptions) -> HiveOptions) -> Hive {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let here = std::env::temp_dir().join(format!("rbee-hive-mps-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&here).expect("make a directory for the daemon");
    let named = here.join(CONTROL);
    fs::copy(program, &named).expect("copy the daemon");
    let hive = Hive::start(more(options().with_program(&named.display().to_string())));
    fs::remove_dir_all(here).expect("remove what was copied on");
    hive
}

fn options() -> HiveOptions {
    let wishes = SHARES.replace("required", "if_available");
    HiveOptions::default().devices(&devices()).policy("shares", SHARES).policy("wishes", &wishes)
}

fn spawn(hive: &Hive, id: &str, gpu: u32) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "shares", "device": gpu}))
}

/// The daemons on a GPU.
fn daemons(hive: &Hive, gpu: u32) -> Vec<Value> {
    let list = hive.call("device_list", json!({}));
    let name = format!("GPU-{gpu}");
    let device = list.as_array().and_then(|l| l.iter().find(|d| d["id"] == name.as_str())).expect("the GPU").clone();
    device["mps"].as_array().expect("a list").clone()
}

fn pid(of: &Value) -> i32 {
    of["pid"].as_i64().and_then(|n| i32::try_from(n).ok()).expect("a pid")
}

fn lives(pid: i32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn ask(worker: &Value, path: &str) -> String {
    http_get(worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port"), path).expect("it answers").text()
}

fn variable(info: &Value, name: &str) -> Option<String> {
    info["env"][name].as_str().map(str::to_owned)
}

fn gaps(hive: &Hive, id: &str) -> BTreeSet<String> {
    let status = hive.call("worker_status", json!({"worker_id": id}));
    status["not_in_force"].as_array().expect("a list").iter().map(|n| n["setting"].as_str().expect("a name").to_owned()).collect()
}

/// Where a cgroup hierarchy is mounted.
fn cgroup_mounts() -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    table.lines().map(|l| l.split(' ').collect::<Vec<_>>()).filter(|l| l[2].starts_with("cgroup")).map(|l| l[1].into()).collect()
}

fn status_line(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
    status.lines().find_map(|l| l.strip_prefix(name)).expect("a line").trim().to_owned()
}

#[test]
fn workers_of_one_group_share_a_daemon_which_ends_with_the_last_of_them() {
    require_root!();
    let hive = hive_with(&mock_binary(), |options| options);
    // The launcher keeps the device program of a list that was asked for once.
    for gpu in [0, 1] {
        spawn(&hive, "w", gpu);
        hive.call("worker_delete", json!({"worker_id": "w"}));
    }
    let before = hive.snapshot();
    let (a, b, c) = (spawn(&hive, "a", 0), spawn(&hive, "b", 0), spawn(&hive, "c", 1));
    let (first, second) = (daemons(&hive, 0), daemons(&hive, 1));
    assert_eq!((first.len(), &first[0]["state"], &first[0]["clients"]), (1, &json!("ready"), &json!(["a", "b"])), "{first:?}");
    assert!(second.len() == 1 && second[0]["id"] != first[0]["id"], "another GPU is another group: {second:?}");
    assert_eq!(hive.call("worker_list", json!({})).as_array().map(Vec::len), Some(3), "a daemon is no worker");
    let told = hive.rpc("worker_status", json!({"worker_id": first[0]["id"]})).expect_err("nor is it one by its name");
    assert_eq!(told.kind(), "not_found");

    let info: Value = serde_json::from_str(&ask(&a, "/info")).expect("JSON");
    assert_eq!(variable(&info, "CUDA_MPS_PIPE_DIRECTORY").as_deref(), Some(PIPES));
    assert_eq!(variable(&info, "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT").as_deref(), Some("0=1024M"));
    assert_eq!(variable(&info, "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE").as_deref(), Some("25"));
    let memory = &hive.call("worker_status", json!({"worker_id": "a"}))["gpu_memory"];
    assert_eq!(memory, &json!({"used_bytes": null, "limit_bytes": 1 << 30, "enforced_by": "mps"}));
    let gaps = gaps(&hive, "a");
    assert!(!gaps.contains("devices.mps") && gaps.contains("credentials.user") && gaps.contains("filesystem.shm_size"), "{gaps:?}");
    assert_eq!(hive.call("worker_verify", json!({"worker_id": "a"}))["drift"], json!([]), "the shared mount is as planned");

    confined(&hive, &first[0], &a);
    for (worker, whose) in [(&a, &first[0]), (&b, &first[0]), (&c, &second[0])] {
        let file = format!("/open?path={PIPES}/{CONTROL}.pid&mode=r");
        assert!(ask(worker, &file).contains("\"ok\":true"), "its daemon is {whose}");
    }
    assert!(ask(&a, "/write?path=/dev/shm/mine&bytes=1").contains("\"ok\":true"));
    assert!(ask(&b, "/open?path=/dev/shm/mine&mode=r").contains("\"ok\":true"), "the group's");
    assert!(ask(&c, "/open?path=/dev/shm/mine&mode=r").contains("\"errno\":2"), "and nobody else's");

    hive.call("worker_stop", json!({"worker_id": "a"}));
    assert_eq!((daemons(&hive, 0)[0]["clients"].clone(), lives(pid(&first[0]))), (json!(["b"]), true));
    hive.call("worker_stop", json!({"worker_id": "b"}));
    assert_eq!((daemons(&hive, 0), lives(pid(&first[0]))), (vec![], false), "it ends before the last of its clients is told to have ended");
    assert!(lives(pid(&second[0])) && !hive.state_dir().join("workers").join(first[0]["id"].as_str().expect("a name")).exists());
    for id in ["a", "b", "c"] {
        hive.call("worker_delete", json!({"worker_id": id}));
    }
    hive.assert_nothing_more_than(&before);
}

/// As a worker is: no capability, no network, the group's uid, a leaf of its own.
fn confined(hive: &Hive, daemon: &Value, client: &Value) {
    let (daemon_pid, id) = (pid(daemon), daemon["id"].as_str().expect("a name"));
    assert_eq!(status_line(daemon_pid, "CapBnd:"), "0000000000000000");
    assert_eq!((status_line(daemon_pid, "NoNewPrivs:"), status_line(daemon_pid, "Seccomp:")), ("1".into(), "2".into()));
    assert_eq!(status_line(daemon_pid, "Uid:"), status_line(pid(client), "Uid:"), "NVIDIA's server takes clients of its own user");
    assert_ne!(status_line(daemon_pid, "Uid:").split_whitespace().next(), Some("0"));
    let namespace = |of: i32, kind: &str| fs::read_link(format!("/proc/{of}/ns/{kind}")).expect("a namespace");
    for kind in ["net", "pid", "mnt", "ipc"] {
        assert_ne!(namespace(daemon_pid, kind), namespace(std::process::id().cast_signed(), kind), "{kind} of the host");
        assert_ne!(namespace(daemon_pid, kind), namespace(pid(client), kind), "{kind} of a client");
    }
    let groups = fs::read_to_string(format!("/proc/{daemon_pid}/cgroup")).expect("its groups");
    assert!(groups.contains(&format!("{}/workers/w-{id}", hive.cgroup_root())), "{groups}");
    let nodes: Vec<PathBuf> =
        fs::read_dir(format!("/proc/{daemon_pid}/root/dev")).expect("its nodes").flatten().map(|e| e.file_name().into()).collect();
    assert!(nodes.contains(&"full".into()), "{nodes:?}");
}

#[test]
fn a_client_has_its_model_beside_its_groups_memory() {
    require_root!();
    let hive =
        hive_with(&mock_binary(), |options| options.model("m-00001-of-00002.gguf", b"weights").model("m-00002-of-00002.gguf", b"more"));
    let worker = hive.call("worker_spawn", json!({"worker_id": "a", "model": "m-00001-of-00002.gguf", "policy": "shares", "device": 0}));
    assert_eq!(daemons(&hive, 0)[0]["clients"], json!(["a"]));
    for (file, content) in [("m-00001-of-00002.gguf", "weights"), ("m-00002-of-00002.gguf", "more")] {
        let read = ask(&worker, &format!("/read?path=/models/{file}"));
        assert!(read.contains("\"ok\":true") && read.contains(content), "{read}");
    }
    assert!(ask(&worker, &format!("/open?path={PIPES}/{CONTROL}.pid&mode=r")).contains("\"ok\":true"), "and its daemon");
}

#[test]
fn no_daemon_is_started_on_a_gpu_that_somebody_else_of_the_machine_has() {
    require_root!();
    let hive = hive_with(&mock_binary(), |options| options);
    let file = hive.directory().join("devices.toml").display().to_string();
    let policy = "[worker]\nbinary = \"unused\"\n[devices]\ngpus = \"leased\"\n";
    let run = Sandboxed::with_policy(policy).option("--devices", &file).option("--device", "GPU-0");
    let mut command = run.command(&["/bin/sh", "-c", "echo on; read -r line; exit 0"]);
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start a run");
    let mut said = [0; 3];
    holder.stdout.take().expect("a pipe").read_exact(&mut said).expect("it is on the GPU");
    let refused = hive.rpc("worker_spawn", json!({"model": "m", "policy": "shares", "device": 0})).expect_err("it is a run's");
    assert!(refused.kind() == "device_busy" && refused.message.contains("another hive"), "{refused}");
    let told = hive.stderr();
    assert!(told.lines().any(|line| line.contains("audit: refused") && line.contains("mps-")), "nor is there a daemon for it: {told}");
    drop(holder.stdin.take());
    assert!(holder.wait().expect("wait for the run").success());
    spawn(&hive, "a", 0);
}

#[test]
fn no_request_sets_what_mps_is_told_nor_starts_a_daemon() {
    require_root!();
    let hive = hive_with(&mock_binary(), |options| options);
    for name in ["CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] {
        let asked = json!({"model": "m", "policy": "shares", "device": 0, "env": {name: "x"}});
        assert_eq!(hive.rpc("worker_spawn", asked).expect_err("it is the lease's").kind(), "policy_violation", "{name}");
    }
    let daemon = hive.rpc("worker_spawn", json!({"model": "m", "policy": "mps", "device": 0})).expect_err("it is for the hive");
    assert_eq!(daemon.kind(), "policy_violation", "{daemon}");
    assert_eq!((daemons(&hive, 0), hive.call("lease_list", json!({}))), (vec![], json!([])), "a start that is refused leaves no daemon");
}

#[test]
fn a_daemon_that_dies_is_told_to_each_client_and_the_next_start_has_a_new_one() {
    require_root!();
    let hive = hive_with(&mock_binary(), |options| options);
    let workers = [spawn(&hive, "a", 0), spawn(&hive, "b", 0)];
    let daemon = daemons(&hive, 0)[0].clone();
    kill(Pid::from_raw(pid(&daemon)), Signal::SIGKILL).expect("kill a daemon that we started");
    for id in ["a", "b"] {
        eventually("the client to be told", SOON, || gaps(&hive, id).contains("devices.mps").then_some(()));
        let status = hive.call("worker_status", json!({"worker_id": id}));
        assert_eq!((&status["state"], &status["gpu_memory"]["enforced_by"]), (&json!("ready"), &json!("soft")), "it is watched on");
        let incidents = hive.call("worker_explain", json!({"worker_id": id}))["incidents"].to_string();
        assert!(incidents.contains("MPS daemon") && incidents.contains("has ended"), "{incidents}");
    }
    let text = String::from_utf8(hive.cli(["events", "--kind", "device", "--json"]).stdout).expect("text");
    assert_eq!(text.matches("mps_ended").count(), 2, "one for each client: {text}");
    assert!(workers.iter().all(|worker| lives(pid(worker))));
    spawn(&hive, "d", 0);
    let next = daemons(&hive, 0);
    assert!(next.len() == 1 && next[0]["id"] != daemon["id"] && next[0]["state"] == "ready", "{next:?}");
    assert!(!gaps(&hive, "d").contains("devices.mps"));
}

#[test]
fn without_a_daemon_a_start_is_refused_or_told_as_the_policy_says() {
    require_root!();
    let absent = "[gpus]\nmps_control = \"/nonexistent/nvidia-cuda-mps-control\"\n";
    for (hive, why) in [
        (Hive::start(options().config(absent)), "nowhere to be found"),
        (hive_with(Path::new("/bin/false"), |options| options), "did not come up"),
    ] {
        let wishes = || hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "wishes", "device": 0}));
        hive.call("worker_delete", json!({"worker_id": wishes()["worker_id"]}));
        let before = hive.snapshot();
        let refused = hive.rpc("worker_spawn", json!({"model": "m", "policy": "shares", "device": 0})).expect_err("it is required");
        assert_eq!(refused.kind(), "not_enforceable", "{refused}");
        assert!(refused.message.contains("devices.mps") && refused.message.contains(why), "{refused}");
        assert_eq!(hive.call("lease_list", json!({})), json!([]));
        hive.assert_nothing_more_than(&before);
        let without = wishes();
        let note = without["not_in_force"].as_array().and_then(|l| l.iter().find(|n| n["setting"] == "devices.mps")).cloned();
        assert!(note.as_ref().is_some_and(|n| n["why"].as_str().is_some_and(|text| text.contains(why))), "{note:?}");
        assert_eq!(without["gpu_memory"]["enforced_by"], "soft");
        let info: Value = serde_json::from_str(&ask(&without, "/info")).expect("JSON");
        assert_eq!(variable(&info, "CUDA_MPS_PIPE_DIRECTORY"), None);
    }
}

#[test]
fn nothing_of_a_group_outlives_a_hive_that_is_killed() {
    require_root!();
    let mut hive = hive_with(&mock_binary(), |options| options);
    let worker = spawn(&hive, "a", 0);
    let daemon = daemons(&hive, 0)[0].clone();
    let groups = fs::read_to_string(format!("/proc/{}/cgroup", pid(&daemon))).expect("its groups");
    assert!(groups.contains(hive.cgroup_root()));
    hive.signal(Signal::SIGKILL);
    hive.wait();
    for (of, what) in [(&worker, "the worker"), (&daemon, "the daemon")] {
        eventually(what, SOON, || (!lives(pid(of))).then_some(()));
    }
    // The launcher removes the groups: what it leaves fails the fixture's end.
    let none = |root: &Path| !root.join(hive.cgroup_root().trim_start_matches('/')).exists();
    eventually("the cgroups", SOON, || cgroup_mounts().iter().all(|mount| none(mount)).then_some(()));
}
