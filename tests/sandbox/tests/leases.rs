//! Leases on eight simulated GPUs: device nodes of a number that no driver has, so that what is let through says ENXIO and the rest EPERM.

#![allow(clippy::expect_used, clippy::panic, reason = "a world that can't be made ends its test")]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, require_root, skip, time_factor};

const GPUS: u64 = 8;
/// NVIDIA's number, far from the minors that its driver gives.
const MAJOR: u64 = 195;
const FIRST_MINOR: u64 = 120;
const ENXIO: &str = "\"errno\":6";
const EPERM: &str = "\"errno\":1";
const SLEEPS: &str = "[worker]\nbinary = \"sleep\"\ncommand = [\"{binary}\", \"600\"]\n[readiness]\nnone = true\n[network]\nmode = \"none\"\n\
    [devices]\ngpus = \"leased\"\n";
const OPENS: &str = "[worker]\nbinary = \"mock-worker\"\n[credentials]\n\
    capabilities = [{ name = \"CAP_MKNOD\", reason = \"shows that the refusal is the device policy's\" }]\n[devices]\ngpus = \"leased\"\n";

/// The nodes, in a directory of their own below `/dev`; gone with it.
struct Nodes(PathBuf);

impl Nodes {
    /// `None` where this host lets nobody make nodes.
    fn make() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("/dev/rbee-hive-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        fs::create_dir(&name).ok()?;
        let nodes = Self(name.into());
        for n in 0..GPUS {
            let made =
                mknod(&nodes.0.join(format!("gpu{n}")), SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(MAJOR, FIRST_MINOR + n));
            made.ok()?;
        }
        Some(nodes)
    }

    fn devices(&self) -> String {
        let gpu = |n| {
            let node = self.0.join(format!("gpu{n}"));
            format!("[[gpu]]\nindex = {n}\nuuid = \"GPU-a{n:07x}\"\nvendor = \"nvidia\"\nmemory = \"8GiB\"\nnodes = [{node:?}]\n")
        };
        (0..GPUS).map(gpu).collect()
    }

    fn hive(&self, policies: &[(&str, String)]) -> Hive {
        let options = HiveOptions::default().devices(&self.devices()).policy("sleeps", SLEEPS).policy("opens", OPENS);
        Hive::start(policies.iter().fold(options, |options, (name, text)| options.policy(name, text)))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

macro_rules! nodes {
    () => {{
        require_root!();
        match Nodes::make() {
            Some(nodes) => nodes,
            None => skip!("device nodes that can be made below /dev"),
        }
    }};
}

/// Who has which GPU, as those who got it say.
#[derive(Default)]
struct Booked(Mutex<BTreeMap<String, String>>);

impl Booked {
    fn enter(&self, who: &str, devices: &Value) {
        let mut booked = self.0.lock().expect("no test panics inside");
        for device in devices.as_array().expect("a list").iter().map(|d| d.as_str().expect("a name")) {
            let before = booked.insert(device.to_owned(), who.to_owned());
            assert_eq!(before, None, "{device} was given to {who} as well");
        }
    }

    fn leave(&self, who: &str) {
        self.0.lock().expect("no test panics inside").retain(|_, holder| holder != who);
    }
}

/// A lease that was given back is `releasing` until its GPUs were looked at.
fn wait_until_nothing_is_held(hive: &Hive) {
    eventually("every lease to be gone", Duration::from_secs(5), || (hive.call("lease_list", json!({})) == json!([])).then_some(()));
}

/// One of them.
fn take_and_give_back(hive: &Hive, booked: &Booked, n: u32) {
    let who = format!("w{n}");
    let wish = json!({"count": 1 + n % 3, "when_busy": "queue", "queue_timeout_ms": 300_000});
    if n.is_multiple_of(8) {
        let worker =
            hive.call("worker_spawn", json!({"worker_id": who, "model": "m", "policy": "sleeps", "device": wish, "wait": "started"}));
        booked.enter(&who, &worker["devices"]);
        booked.leave(&who);
        hive.call("worker_delete", json!({"worker_id": who}));
    } else {
        let lease = hive.call("lease_acquire", json!({"device": wish, "holder": who}));
        booked.enter(&who, &lease["devices"]);
        // Holds it for as long as a call or a few take.
        (0..n % 3).for_each(|_| drop(hive.call("lease_list", json!({}))));
        booked.leave(&who);
        hive.call("lease_release", json!({"lease_id": lease["lease_id"]}));
    }
}

#[test]
fn two_hundred_requests_at_once_never_double_book_a_gpu_and_all_are_served() {
    // An emulated machine has more time for fewer.
    let requests = if time_factor() > 1 { 24 } else { 200 };
    let nodes = nodes!();
    let hive = nodes.hive(&[]);
    let (booked, over) = (Booked::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        let watching = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                for device in hive.call("device_list", json!({})).as_array().expect("a list").iter().filter(|d| d["kind"] == "gpu") {
                    assert!(device["leases"].as_array().expect("leases").len() <= 1, "{device}");
                }
            }
        });
        let (hive, booked) = (&hive, &booked);
        let asking: Vec<_> = (0..requests).map(|n| scope.spawn(move || take_and_give_back(hive, booked, n))).collect();
        let failed = asking.into_iter().filter_map(|one| one.join().err()).count();
        over.store(true, Ordering::Relaxed);
        watching.join().expect("no GPU has two holders");
        assert_eq!(failed, 0, "requests that were not served");
    });
    wait_until_nothing_is_held(&hive);
    let all = hive.call("lease_acquire", json!({"device": {"count": GPUS}, "holder": "last"}));
    assert_eq!(all["devices"].as_array().map(Vec::len), Some(8), "{all}");
}

#[test]
fn of_all_nodes_a_worker_opens_those_that_it_leased_and_no_other() {
    let nodes = nodes!();
    let hive = nodes.hive(&[]);
    let asked = json!({"worker_id": "g", "model": "m", "policy": "opens", "device": ["GPU-2", "GPU-5"]});
    let worker = hive.call("worker_spawn", asked);
    let ask = |path: String| {
        http_get(worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port"), &path).expect("it answers").text()
    };
    for n in 0..GPUS {
        let (leased, minor) = ([2, 5].contains(&n), FIRST_MINOR + n);
        let node = nodes.0.join(format!("gpu{n}")).display().to_string();
        let by_path = ask(format!("/open?path={node}&mode=r"));
        assert!(by_path.contains(if leased { ENXIO } else { "\"errno\":2" }), "GPU-{n}: {by_path}");
        assert!(ask(format!("/mknod?path=/tmp/g{n}&major={MAJOR}&minor={minor}")).contains("\"ok\":true"), "a node can be made");
        let own = ask(format!("/open?path=/tmp/g{n}&mode=r"));
        assert!(own.contains(if leased { ENXIO } else { EPERM }), "GPU-{n}: {own}");
    }
}

#[test]
fn starts_wait_in_line_as_starting_and_are_served_stopped_or_given_up() {
    let nodes = nodes!();
    let hive = nodes.hive(&[]);
    let held = hive.call("lease_acquire", json!({"device": {"count": GPUS}, "holder": "engine"}));
    let spawn = |id: &str, more: Value| {
        let mut device = json!({"gpus": ["GPU-0"], "when_busy": "queue"});
        device.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        hive.rpc("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "sleeps", "device": device}))
    };
    let late = spawn("late", json!({"queue_timeout_ms": 50})).expect_err("nobody gives it back");
    assert_eq!((late.kind(), late.message.contains("engine by lease:1")), ("device_busy", true), "{late}");
    assert_eq!(hive.rpc("worker_status", json!({"worker_id": "late"})).expect_err("it leaves no entry").kind(), "not_found");
    let waits = |id: &str| {
        eventually("it to wait", Duration::from_secs(10), || {
            hive.rpc("worker_status", json!({"worker_id": id})).ok().filter(|w| w["state"] == "starting")
        })
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| spawn("first", json!({})));
        assert_eq!(waits("first")["devices"], json!([]));
        let second = scope.spawn(|| spawn("second", json!({})));
        waits("second");
        let third = scope.spawn(|| spawn("third", json!({})));
        waits("third");
        let stopped = hive.call("worker_stop", json!({"worker_id": "second"}));
        assert_eq!((&stopped["state"], &stopped["verdict"]["kind"]), (&json!("stopped"), &json!("stopped")), "{stopped}");
        assert_eq!(second.join().expect("no panic").expect_err("it was stopped").kind(), "start_failed");
        hive.call("lease_release", json!({"lease_id": held["lease_id"]}));
        let served = first.join().expect("no panic").expect("it is its turn");
        assert_eq!((&served["state"], &served["devices"]), (&json!("ready"), &json!(["GPU-0"])), "{served}");
        waits("third");
        hive.call("worker_delete", json!({"worker_id": "first"}));
        third.join().expect("no panic").expect("now it is its");
    });
}

#[test]
fn a_gpu_is_shared_as_the_policy_says_and_by_nobody_else() {
    let nodes = nodes!();
    let shared = SLEEPS.replace("gpus = \"leased\"", "gpus = \"leased\"\nshare = { ways = 2 }");
    let by_memory = SLEEPS.replace("gpus = \"leased\"", "gpus = \"leased\"\nshare = { memory = \"5GiB\" }\nvram_min = \"4GiB\"");
    let hive = nodes.hive(&[("shared", shared), ("bytes", by_memory)]);
    let spawn = |id: &str, policy: &str, device: Value| {
        hive.rpc("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": device, "wait": "started"}))
    };
    for id in ["a", "b"] {
        assert_eq!(spawn(id, "shared", json!(0)).expect("there are two ways")["devices"], json!(["GPU-0"]));
    }
    for (policy, device, kind) in [
        ("shared", json!(0), "device_busy"),
        ("sleeps", json!(0), "device_busy"),
        ("bytes", json!(0), "device_busy"),
        ("shared", json!({"share": {"ways": 3}}), "policy_violation"),
        ("sleeps", json!({"share": {"ways": 2}}), "policy_violation"),
        ("bytes", json!({"min_memory": "6GiB"}), "invalid_params"),
        ("sleeps", json!({"min_memory": "9GiB"}), "no_such_device"),
    ] {
        let error = spawn("c", policy, device.clone()).map(|w| panic!("{policy} {device} gave {w}")).expect_err("refused");
        assert_eq!(error.kind(), kind, "{policy} {device}: {error}");
    }
    spawn("m", "bytes", json!(1)).expect("5 of 8 GiB");
    assert_eq!(spawn("n", "bytes", json!(1)).expect_err("10 of 8 GiB").kind(), "device_busy");
    let plan = fs::read_to_string(hive.state_dir().join("workers/m/plan.json")).expect("the plan");
    let plan: Value = serde_json::from_str(&plan).expect("JSON");
    let lease =
        hive.call("lease_list", json!({})).as_array().and_then(|l| l.iter().find(|l| l["holder"] == "m").cloned()).expect("its lease");
    assert_eq!(plan["plan"]["lease"], json!({"id": lease["lease_id"], "share": {"memory": 5_u64 << 30}}), "what adoption needs");
}

#[test]
fn a_worker_runs_on_an_engines_lease_and_the_lease_outlives_worker_and_hive() {
    let nodes = nodes!();
    let mut hive = nodes.hive(&[]);
    let lease = hive.call("lease_acquire", json!({"device": 3, "holder": "engine", "ttl_ms": 600_000}));
    let on = json!({"worker_id": "w", "model": "m", "policy": "sleeps", "lease_id": lease["lease_id"]});
    assert_eq!(hive.call("worker_spawn", on.clone())["devices"], json!(["GPU-3"]));
    let second = json!({"worker_id": "v", "model": "m", "policy": "sleeps", "lease_id": lease["lease_id"]});
    assert_eq!(hive.rpc("worker_spawn", second).expect_err("one at a time").kind(), "not_allowed_now");
    hive.call("worker_delete", json!({"worker_id": "w"}));
    let held = |hive: &Hive| hive.call("lease_list", json!({}))[0].clone();
    assert_eq!((&held(&hive)["holder"], &held(&hive)["used_by"]), (&json!("engine"), &Value::Null));
    let before = held(&hive);
    hive.signal(Signal::SIGTERM);
    hive.wait();
    hive.start_again();
    assert_eq!(held(&hive), before, "it is held again");
    hive.call("lease_release", json!({"lease_id": lease["lease_id"]}));
    wait_until_nothing_is_held(&hive);
}
