//! Stopping is certain: many at a time, hastened, by signals to the hive, and where a process does not die.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a hive that does not answer ends the test, and what was measured is told"
)]

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread::scope;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, RpcError, eventually, http_get, pid, port, require_root, skip, within};

/// Deaf to its stop signal, and ready as soon as it runs.
const DEAF: &str = "[worker]\nbinary = \"mock-worker\"\ncommand = [\"{binary}\", \"--ignore-sigterm\"]\nstop_grace = \"2s\"\n\
    [readiness]\nnone = true\n[network]\nmode = \"none\"\n";
const GRACE: Duration = Duration::from_secs(2);

fn hive() -> Hive {
    Hive::start(HiveOptions::default().policy("deaf", DEAF))
}

fn spawn(hive: &Hive, id: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "deaf", "device": "cpu"}))
}

fn stop(hive: &Hive, id: &str, grace_ms: u64) -> Value {
    hive.call("worker_stop", json!({"worker_id": id, "grace_ms": grace_ms}))
}

fn state(hive: &Hive, id: &str) -> String {
    hive.call("worker_status", json!({"worker_id": id}))["state"].as_str().unwrap_or_default().to_owned()
}

fn until_state(hive: &Hive, id: &str, wanted: &str) {
    eventually(wanted, Duration::from_secs(20), || (state(hive, id) == wanted).then_some(()));
}

/// All events of a worker of this kind.
fn events(hive: &Hive, id: &str, kind: &str) -> Vec<Value> {
    let text = hive.get(&format!("/v1/events?follow=false&after=0&worker_id={id}&kind={kind}")).text();
    text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|l| serde_json::from_str(l).expect("an event is JSON")).collect()
}

#[test]
fn a_hundred_workers_that_are_deaf_are_stopped_in_about_one_grace() {
    require_root!();
    let hive = hive();
    let names: Vec<String> = (0..100).map(|n| format!("w{n}")).collect();
    scope(|threads| {
        for part in names.chunks(10) {
            let hive = &hive;
            threads.spawn(move || part.iter().for_each(|name| drop(spawn(hive, name))));
        }
    });
    let asked = Instant::now();
    let views: Vec<Value> = scope(|threads| {
        let hive = &hive;
        let stops: Vec<_> = names.iter().map(|name| threads.spawn(move || hive.call("worker_stop", json!({"worker_id": name})))).collect();
        stops.into_iter().map(|stop| stop.join().expect("a thread")).collect()
    });
    let took = asked.elapsed();
    println!("100 workers with a grace of {GRACE:?} were stopped in {took:?}");
    assert!(views.iter().all(|view| view["verdict"]["forced"] == true), "{views:#?}");
    assert!(took >= GRACE, "killed before their grace was over: {took:?}");
    assert!(took < within(3 * GRACE), "{took:?}");
}

#[test]
fn a_second_stop_hastens_the_first_and_never_puts_it_off() {
    require_root!();
    let hive = hive();
    // The first grace, the second, and the bounds of the whole.
    let table = [(60_000, 300, 300, 15_000), (1_000, 60_000, 1_000, 15_000), (60_000, 0, 0, 15_000)];
    for (n, (first, second, least, most)) in table.into_iter().enumerate() {
        let id = format!("w{n}");
        spawn(&hive, &id);
        let asked = Instant::now();
        scope(|threads| {
            let one = threads.spawn(|| stop(&hive, &id, first));
            until_state(&hive, &id, "stopping");
            let two = stop(&hive, &id, second);
            let one = one.join().expect("a thread");
            assert_eq!((&one["verdict"], &one["state"]), (&two["verdict"], &json!("stopped")), "both are told of one end");
            assert_eq!(one["verdict"]["forced"], true, "{one}");
        });
        let took = asked.elapsed();
        assert!(took >= Duration::from_millis(least) && took < within(Duration::from_millis(most)), "{first} then {second}: {took:?}");
        let graces: Vec<Value> = events(&hive, &id, "stop").into_iter().map(|e| e["data"]["grace_ms"].clone()).collect();
        let told = if second < first { vec![json!(first), json!(second)] } else { vec![json!(first)] };
        assert_eq!(graces, told, "what had no effect is not told");
    }
}

/// Whether nobody accepts connections any more.
fn refused(port: u16) -> Option<()> {
    TcpStream::connect(("127.0.0.1", port)).is_err().then_some(())
}

#[test]
fn sigterm_refuses_at_once_answers_what_runs_stops_all_with_their_grace_and_ends_well() {
    require_root!();
    let mut hive = hive();
    for id in ["a", "b", "c"] {
        spawn(&hive, id);
    }
    let asked = Instant::now();
    let (waited, spawned, told) = scope(|threads| {
        let waiting = threads.spawn(|| hive.call("worker_wait", json!({"worker_id": "a", "for": "exit"})));
        let reading = threads.spawn(|| hive.get("/v1/events?after=0&kind=state").text());
        let never = json!({"worker_id": "never", "model": "m", "policy": "mock", "device": "cpu", "args": ["--never-ready"]});
        let starting = threads.spawn(|| hive.rpc("worker_spawn", never));
        eventually("the start to run", Duration::from_secs(20), || hive.rpc("worker_status", json!({"worker_id": "never"})).ok());
        hive.signal(Signal::SIGTERM);
        let signalled = Instant::now();
        eventually("new connections to be refused", Duration::from_secs(1), || refused(hive.port()));
        assert!(signalled.elapsed() < within(GRACE), "only after {:?}", signalled.elapsed());
        let join = (waiting.join(), starting.join(), reading.join());
        (join.0.expect("a thread"), join.1.expect("a thread"), join.2.expect("a thread"))
    });
    assert_eq!(hive.wait().code(), Some(0));
    assert!(asked.elapsed() >= GRACE && asked.elapsed() < within(Duration::from_secs(20)), "{:?}", asked.elapsed());
    assert_eq!((&waited["verdict"]["by"], &waited["verdict"]["forced"]), (&json!("shutdown"), &json!(true)), "{waited}");
    let refused = spawned.expect_err("it never was ready");
    assert_eq!((refused.kind(), &refused.data["verdict"]["by"]), ("start_failed", &json!("shutdown")), "{refused}");
    // Who follows hears of every end.
    let ends = told.lines().filter(|l| l.starts_with("data: ") && l.contains("\"stopped\"")).count();
    assert_eq!(ends, 4, "{told}");
}

#[test]
fn a_second_sigterm_kills_and_a_third_does_no_harm() {
    require_root!();
    let patient = DEAF.replace("\"2s\"", "\"10min\"");
    let mut hive = Hive::start(HiveOptions::default().policy("deaf", &patient));
    for id in ["a", "b"] {
        spawn(&hive, id);
    }
    hive.signal(Signal::SIGTERM);
    eventually("new connections to be refused", Duration::from_secs(1), || refused(hive.port()));
    hive.signal(Signal::SIGTERM);
    let _ = nix::sys::signal::kill(hive.pid(), Signal::SIGTERM);
    let asked = Instant::now();
    assert_eq!(hive.wait().code(), Some(0));
    assert!(asked.elapsed() < within(Duration::from_secs(10)), "{:?}", asked.elapsed());
}

#[test]
fn a_hive_that_drains_starts_nothing_and_keeps_what_runs() {
    require_root!();
    let mut hive = hive();
    let worker = hive.mock("w", &[]);
    assert_eq!(hive.call("hive_info", json!({}))["draining"], false);
    for _ in 0..2 {
        assert_eq!(hive.call("hive_drain", json!({}))["draining"], true);
    }
    assert_eq!(hive.call("hive_info", json!({}))["draining"], true);
    let spawn = json!({"worker_id": "x", "model": "m", "policy": "deaf", "device": "cpu"});
    for (method, params) in [("worker_spawn", spawn), ("lease_acquire", json!({"device": "cpu", "holder": "x"}))] {
        assert_eq!(hive.rpc(method, params).map_err(|e| e.kind().to_owned()), Err("draining".to_owned()), "{method}");
    }
    assert_eq!(hive.rpc("worker_status", json!({"worker_id": "x"})).map_err(|e| e.kind().to_owned()), Err("not_found".to_owned()));
    assert_eq!(http_get(port(&worker), "/health").expect("the worker answers").status, 200);
    hive.signal(Signal::SIGTERM);
    assert_eq!(hive.wait().code(), Some(0));
}

/// A process that stands still in a freezer of cgroup v1, which no signal reaches: a true state D that harms nobody.
struct Stuck {
    group: PathBuf,
}

impl Stuck {
    fn make(hive: &Hive, pid: i32) -> Self {
        let name = format!("rbee-hive-test-stuck-{}", hive.pid());
        let group = PathBuf::from("/sys/fs/cgroup/freezer").join(name);
        std::fs::create_dir(&group).expect("make a cgroup");
        let stuck = Self { group };
        stuck.write("cgroup.procs", &pid.to_string());
        stuck.write("freezer.state", "FROZEN");
        let is_frozen = || std::fs::read_to_string(stuck.group.join("freezer.state")).is_ok_and(|s| s.trim() == "FROZEN");
        eventually("it to stand still", Duration::from_secs(10), || is_frozen().then_some(()));
        stuck
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.group.join(file), text).expect("write to a cgroup of this test");
    }

    fn release(&self) {
        let _ = std::fs::write(self.group.join("freezer.state"), "THAWED");
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.release();
        eventually("the cgroup to be empty", Duration::from_secs(10), || std::fs::remove_dir(&self.group).ok());
    }
}

fn has_v1_freezer() -> bool {
    std::path::Path::new("/sys/fs/cgroup/freezer/cgroup.procs").exists()
}

const GPU: &str = "[[gpu]]\nindex = 0\nuuid = \"GPU-5c0e3b1a-0000-4000-8000-000000000000\"\nvendor = \"nvidia\"\nmemory = \"80GiB\"\n\
    nodes = [\"/dev/full\"]\n";

/// That who stops or deletes it is told in time who does not die, and where in the kernel it is.
fn assert_is_told(answer: Result<Value, RpcError>, pid: i32) {
    let refused = answer.expect_err("it is still there");
    let verdict = &refused.data["verdict"];
    println!("told of a process in state D: {}", verdict["processes"]);
    assert_eq!((refused.kind(), &verdict["kind"], &verdict["pids"]), ("timeout", &json!("unkillable"), &json!([pid])), "{refused}");
    let process = &verdict["processes"][0];
    assert_eq!((&process["pid"], &process["name"]), (&json!(pid), &json!("mock-worker")), "{refused}");
    let wchan = std::fs::read_to_string(format!("/proc/{pid}/wchan")).unwrap_or_default();
    let told = process["wchan"].as_str().unwrap_or("0");
    assert!(told == wchan && verdict["message"].as_str().is_some_and(|m| m.contains("mock-worker")), "{wchan:?}, and told is {refused}");
}

#[test]
fn a_process_that_does_not_die_is_named_keeps_its_port_and_its_lease_and_ends_once() {
    require_root!();
    if !has_v1_freezer() {
        skip!("a freezer of cgroup v1, in which a process can be held in state D");
    }
    let policy = "[worker]\nbinary = \"mock-worker\"\n[devices]\ngpus = \"leased\"\n";
    let hive = Hive::start(HiveOptions::default().policy("gpu", policy).devices(GPU));
    let worker = hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "gpu", "device": 0}));
    let own = pid(&worker);
    let stuck = Stuck::make(&hive, own);
    let asked = Instant::now();
    assert_is_told(hive.rpc("worker_stop", json!({"worker_id": "w", "grace_ms": 0})), own);
    let took = asked.elapsed();
    assert!(took >= Duration::from_secs(10) && took < within(Duration::from_secs(20)), "{took:?}");
    // Again, and by a delete: no more than the last chance.
    let asked = Instant::now();
    assert_is_told(hive.rpc("worker_stop", json!({"worker_id": "w"})), own);
    assert_is_told(hive.rpc("worker_delete", json!({"worker_id": "w"})), own);
    assert!(asked.elapsed() < within(Duration::from_secs(10)), "{:?}", asked.elapsed());
    assert_eq!(state(&hive, "w"), "stopping");
    assert!(TcpListener::bind(("127.0.0.1", port(&worker))).is_err(), "the port is free");
    let second = json!({"worker_id": "x", "model": "m", "policy": "gpu", "device": 0});
    assert_eq!(hive.rpc("worker_spawn", second.clone()).map_err(|e| e.kind().to_owned()), Err("device_busy".to_owned()));
    let explained = hive.call("worker_explain", json!({"worker_id": "w"}));
    assert!(explained["story"]["summary"].as_str().is_some_and(|s| s.contains("outlive SIGKILL")), "{explained}");
    stuck.release();
    let ended = hive.wait_exit("w");
    assert_eq!((&ended["state"], &ended["verdict"]["kind"]), (&json!("stopped"), &json!("stopped")), "{ended}");
    let verdicts: Vec<Value> = events(&hive, "w", "verdict").into_iter().map(|e| e["data"]["kind"].clone()).collect();
    assert_eq!(verdicts, ["unkillable", "stopped"], "each is told once");
    assert!(TcpListener::bind(("127.0.0.1", port(&worker))).is_ok(), "the port is not free");
    hive.call("worker_spawn", second);
}
