//! One hive after another on the same directories: every worker is taken over as it is, or its end is told as it was, and nothing is left.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use procfs::process::{Process, all_processes};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, pid, port, require_root, within};

/// It serves, and writes a line with a number every 20 ms.
const COUNTS: &str = "[worker]\nbinary = \"/bin/sh\"\ncommand = [\"/bin/sh\", \"-c\", \"n=0; while :; do echo tick $n; n=$((n+1)); sleep 0.02; done\"]\n\
    [readiness]\nnone = true\n[network]\nmode = \"none\"\n";
const DIES: &str = "[worker]\nbinary = \"mock-worker\"\non_hive_exit = \"kill\"\n";
const SERVES: &str = "[worker]\nbinary = \"mock-worker\"\n[request]\nmay_set = [\"args\", \"limits\"]\n[limits]\nmemory_max = \"256MiB\"\n";
const HOST: &str = "[worker]\nbinary = \"mock-worker\"\n[network]\nmode = \"host\"\n";

fn hive() -> Hive {
    let policies = [("counts", COUNTS), ("dies", DIES), ("serves", SERVES), ("hosted", HOST)];
    Hive::start(policies.iter().fold(HiveOptions::default(), |options, (name, text)| options.policy(name, text)))
}

fn spawn(hive: &Hive, id: &str, policy: &str) -> Value {
    let labels = json!({"team": id});
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu", "labels": labels}))
}

fn status(hive: &Hive, id: &str) -> Value {
    hive.call("worker_status", json!({"worker_id": id}))
}

fn lives(pid: i32) -> bool {
    Process::new(pid).and_then(|p| p.stat()).is_ok_and(|s| s.state != 'Z')
}

fn number(worker: &Value, field: &str) -> i32 {
    worker[field].as_i64().and_then(|n| i32::try_from(n).ok()).expect("a number")
}

fn launcher_of(hive: &Hive) -> i32 {
    let parent = hive.pid().as_raw();
    let launcher = |p: &Process| {
        p.stat().is_ok_and(|s| s.ppid == parent) && p.cmdline().is_ok_and(|line| line.get(1).is_some_and(|word| word == "launcher"))
    };
    eventually("the launcher", Duration::from_secs(5), || all_processes().ok()?.flatten().find(launcher).map(|p| p.pid))
}

/// The hive is killed without a word, and its launcher goes.
fn kill_hive(hive: &mut Hive) {
    let launcher = launcher_of(hive);
    hive.signal(Signal::SIGKILL);
    hive.wait();
    eventually("its launcher to go", Duration::from_secs(20), || (!lives(launcher)).then_some(()));
}

/// Until what is on disk is what is seen.
fn settle(hive: &Hive, id: &str, state: &str) {
    let record = hive.state_dir().join(format!("hive/workers/{id}.json"));
    let says = || {
        let text = fs::read_to_string(&record).ok()?;
        let record: Value = serde_json::from_str(&text).ok()?;
        (record["worker"]["state"] == state).then_some(())
    };
    eventually("the record to say so", Duration::from_secs(5), says);
}

/// What must be the same before and after.
fn fixed(worker: &Value) -> Vec<Value> {
    [
        "worker_id",
        "state",
        "pid",
        "init_pid",
        "port",
        "endpoint",
        "labels",
        "model",
        "policy",
        "devices",
        "restarts",
        "created_at",
        "started_at",
        "ready_at",
        "limits",
        "not_in_force",
        "cgroup",
    ]
    .iter()
    .map(|field| worker[*field].clone())
    .collect()
}

#[test]
fn workers_go_on_with_everything_they_have_and_who_came_meanwhile_is_served_at_once() {
    require_root!();
    let mut hive = hive();
    spawn(&hive, "served", "serves");
    hive.call("worker_update", json!({"worker_id": "served", "limits": {"memory_max": "128MiB"}}));
    spawn(&hive, "hosted", "hosted");
    let before = [status(&hive, "served"), status(&hive, "hosted")];
    ["served", "hosted"].iter().for_each(|id| settle(&hive, id, "ready"));
    let leases = hive.call("lease_list", json!({}));
    kill_hive(&mut hive);
    assert_eq!(http_get(port(&before[1]), "/health").expect("a worker in the host's network notices nothing").status, 200);
    let mut waiting = TcpStream::connect(("127.0.0.1", port(&before[0]))).expect("its init keeps the port");
    waiting.write_all(b"GET /health HTTP/1.1\r\nHost: w\r\nConnection: close\r\n\r\n").expect("the kernel takes it");
    hive.start_again();
    let listening = Instant::now();
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("it is answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(listening.elapsed() < within(Duration::from_secs(1)), "{:?} after the restart", listening.elapsed());
    for before in &before {
        let after = status(&hive, before["worker_id"].as_str().expect("a name"));
        assert_eq!(fixed(&after), fixed(before), "{after}");
        assert!(after["generation"].as_u64() > before["generation"].as_u64(), "{after}");
        assert_eq!(http_get(port(&after), "/health").expect("it answers").status, 200);
        let verified = hive.call("worker_verify", json!({"worker_id": after["worker_id"]}));
        assert_eq!(verified["drift"], json!([]), "{verified}");
    }
    assert_eq!(hive.call("lease_list", json!({})), leases);
    assert_eq!(hive.call("hive_info", json!({}))["notes"], json!([]));
    // As one that this hive had started.
    let updated = hive.call("worker_update", json!({"worker_id": "served", "limits": {"memory_max": "96MiB"}}));
    assert_eq!(updated["limits"]["memory_max"], 96 << 20, "{updated}");
    let stopped = hive.call("worker_stop", json!({"worker_id": "served"}));
    assert_eq!((&stopped["state"], &stopped["verdict"]["kind"]), (&json!("stopped"), &json!("stopped")), "{stopped}");
    assert!(std::net::TcpListener::bind(("127.0.0.1", port(&before[0]))).is_ok(), "the port is not free");
    assert!(!lives(pid(&before[0])) && !lives(number(&before[0], "init_pid")));
    let leaf = before[0]["cgroup"]["path"].as_str().expect("a path").trim_end_matches("/worker").trim_start_matches('/').to_owned();
    for top in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten().map(|e| e.path()).chain(["/sys/fs/cgroup".into()]) {
        assert!(!top.join(&leaf).exists(), "{:?} is left", top.join(&leaf));
    }
    hive.call("worker_delete", json!({"worker_id": "served"}));
    assert!(!hive.state_dir().join("workers/served").exists() && !hive.state_dir().join("hive/workers/served.json").exists());
}

#[test]
fn no_line_of_a_log_is_lost_over_a_restart() {
    require_root!();
    let mut hive = hive();
    spawn(&hive, "counts", "counts");
    let lines = |hive: &Hive| -> Vec<u64> {
        let page = hive.call("worker_logs", json!({"worker_id": "counts", "tail": 100_000}));
        let text = |line: &Value| line["text"].as_str().and_then(|t| t.strip_prefix("tick ")).and_then(|n| n.parse().ok());
        page["lines"].as_array().expect("lines").iter().filter_map(text).collect()
    };
    let before = eventually("its first lines", Duration::from_secs(10), || lines(&hive).last().copied().filter(|n| *n > 5));
    kill_hive(&mut hive);
    let log = hive.log_dir().join("workers/counts/log");
    let wanted = format!("tick {}", before + 20);
    eventually("it to write without a hive", Duration::from_secs(10), || {
        fs::read_to_string(&log).ok().filter(|t| t.contains(&wanted)).map(drop)
    });
    hive.start_again();
    let after = eventually("it to go on", Duration::from_secs(10), || Some(lines(&hive)).filter(|l| l.last() > Some(&(before + 40))));
    assert_eq!(after, (0..after.len() as u64).collect::<Vec<_>>(), "without a gap");
}

#[test]
fn who_died_meanwhile_has_the_verdict_that_its_init_wrote_and_keeps_it() {
    require_root!();
    let mut hive = hive();
    let died = spawn(&hive, "died", "serves");
    let deleted = spawn(&hive, "deleted", "serves");
    hive.call("worker_delete", json!({"worker_id": "deleted"}));
    settle(&hive, "died", "ready");
    kill_hive(&mut hive);
    kill(Pid::from_raw(pid(&died)), Signal::SIGABRT).expect("signal the worker that we started");
    eventually("its end", Duration::from_secs(10), || (!lives(number(&died, "init_pid"))).then_some(()));
    for restart in 1..=2 {
        hive.start_again();
        let view = status(&hive, "died");
        assert_eq!(
            (&view["state"], &view["verdict"]["kind"], &view["verdict"]["signal"]),
            (&json!("failed"), &json!("signaled"), &json!(6)),
            "{view}"
        );
        assert_eq!((&view["labels"], &view["pid"]), (&json!({"team": "died"}), &Value::Null), "restart {restart}: {view}");
        assert!(
            view["ended_at"].as_str() > view["started_at"].as_str() && view["resources"]["cpu_usage_usec"].as_u64() > Some(0),
            "{view}"
        );
        let explained = hive.call("worker_explain", json!({"worker_id": "deleted"}));
        assert_eq!(explained["policy"], deleted["policy"], "{explained}");
        if restart == 1 {
            kill_hive(&mut hive);
        }
    }
    hive.call("worker_delete", json!({"worker_id": "died"}));
    spawn(&hive, "died", "serves");
}

#[test]
fn with_hive_and_launcher_killed_at_once_workers_go_on_and_those_that_end_with_the_hive_die_within_a_second() {
    require_root!();
    let mut hive = hive();
    let (kept, dying) = (spawn(&hive, "kept", "serves"), spawn(&hive, "dying", "dies"));
    ["kept", "dying"].iter().for_each(|id| settle(&hive, id, "ready"));
    let launcher = launcher_of(&hive);
    kill(Pid::from_raw(launcher), Signal::SIGKILL).expect("signal the launcher that we started");
    hive.signal(Signal::SIGKILL);
    let killed = Instant::now();
    hive.wait();
    eventually("it to die with its hive", Duration::from_secs(1), || (!lives(pid(&dying))).then_some(()));
    assert!(killed.elapsed() < within(Duration::from_secs(1)), "{:?}", killed.elapsed());
    assert!(lives(pid(&kept)));
    hive.start_again();
    assert_eq!(fixed(&status(&hive, "kept")), fixed(&kept));
    let ended = status(&hive, "dying");
    let verdict = (&ended["verdict"]["kind"], &ended["verdict"]["by"], &ended["state"]);
    assert_eq!(verdict, (&json!("stopped"), &json!("hive_exit"), &json!("failed")), "{ended}");
}

#[test]
fn a_frozen_worker_stays_frozen_and_a_stop_goes_on() {
    require_root!();
    let mut hive = hive();
    let frozen = spawn(&hive, "frozen", "serves");
    hive.call(
        "worker_spawn",
        json!({"worker_id": "stopping", "model": "m", "policy": "serves", "device": "cpu", "args": ["--ignore-sigterm"]}),
    );
    let frozen = match hive.rpc("worker_freeze", json!({"worker_id": "frozen"})) {
        Ok(frozen) => frozen,
        Err(error) if error.kind() == "not_enforceable" => test_support::skip!("a freezer"),
        Err(error) => panic!("{error}: {frozen}"),
    };
    settle(&hive, "frozen", "frozen");
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| hive.rpc("worker_stop", json!({"worker_id": "stopping", "grace_ms": 600_000})));
        settle(&hive, "stopping", "stopping");
        hive.signal(Signal::SIGKILL);
        assert!(asked.join().expect("no panic").is_err(), "its connection ended");
    });
    hive.wait();
    hive.start_again();
    let view = status(&hive, "frozen");
    assert_eq!((&view["state"], &view["pid"]), (&json!("frozen"), &frozen["pid"]), "{view}");
    assert_eq!(hive.call("worker_thaw", json!({"worker_id": "frozen"}))["state"], "ready");
    assert_eq!(status(&hive, "stopping")["state"], "stopping");
    let stopped = hive.call("worker_stop", json!({"worker_id": "stopping", "grace_ms": 0}));
    assert_eq!((&stopped["state"], &stopped["verdict"]["forced"]), (&json!("stopped"), &json!(true)), "{stopped}");
}

#[test]
fn a_hive_that_is_told_to_leave_its_workers_stops_those_alone_that_end_with_it() {
    require_root!();
    let mut hive = hive();
    let kept = spawn(&hive, "kept", "serves");
    spawn(&hive, "dying", "dies");
    hive.call("hive_shutdown", json!({"workers": "keep"}));
    assert!(hive.wait().success(), "{}", hive.stderr());
    assert!(lives(pid(&kept)));
    hive.start_again();
    assert_eq!(fixed(&status(&hive, "kept")), fixed(&kept));
    let stopped = status(&hive, "dying");
    assert_eq!((&stopped["state"], &stopped["verdict"]["by"]), (&json!("stopped"), &json!("shutdown")), "{stopped}");
}

#[test]
fn a_signal_leaves_workers_where_the_configuration_says_so() {
    require_root!();
    let mut hive = Hive::start(HiveOptions::default().policy("serves", SERVES).config("on_terminate = \"keep\"\n"));
    let kept = spawn(&hive, "kept", "serves");
    hive.signal(Signal::SIGTERM);
    assert!(hive.wait().success(), "{}", hive.stderr());
    assert!(lives(pid(&kept)));
    hive.start_again();
    assert_eq!(status(&hive, "kept")["pid"], kept["pid"]);
    // The fixture's own end is a signal as well.
    hive.call("worker_delete", json!({"worker_id": "kept"}));
}

#[test]
fn without_its_launcher_a_hive_tells_ends_as_they_were_and_reaps_inits() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("serves", SERVES).accept_leftovers());
    let (one, two) = (spawn(&hive, "one", "serves"), spawn(&hive, "two", "serves"));
    kill(Pid::from_raw(launcher_of(&hive)), Signal::SIGKILL).expect("signal the launcher that we started");
    let info = eventually("the hive to notice", Duration::from_secs(10), || {
        Some(hive.call("hive_info", json!({}))).filter(|info| info["launcher_gone"] == true)
    });
    assert!(info["notes"][0].as_str().is_some_and(|note| note.contains("launcher")), "{info}");
    kill(Pid::from_raw(pid(&one)), Signal::SIGABRT).expect("signal the worker that we started");
    let ended = hive.wait_exit("one");
    assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["signal"]), (&json!("signaled"), &json!(6)), "{ended}");
    let stopped = hive.call("worker_stop", json!({"worker_id": "two"}));
    assert_eq!(stopped["state"], "stopped", "{stopped}");
    for worker in [one, two] {
        let init = number(&worker, "init_pid");
        eventually("its init to be reaped", Duration::from_secs(5), || Process::new(init).is_err().then_some(()));
    }
}

#[test]
fn under_a_service_manager_a_hive_without_a_launcher_ends_with_an_error_and_the_next_one_has_its_workers() {
    require_root!();
    let mut hive = Hive::start(HiveOptions::default().policy("serves", SERVES).variable("NOTIFY_SOCKET", "/dev/null"));
    let kept = spawn(&hive, "kept", "serves");
    kill(Pid::from_raw(launcher_of(&hive)), Signal::SIGKILL).expect("signal the launcher that we started");
    assert!(!hive.wait().success(), "systemd would not start it again");
    hive.start_again();
    assert_eq!(fixed(&status(&hive, "kept")), fixed(&kept));
}

#[test]
fn records_that_cannot_be_trusted_are_set_aside_and_their_workers_are_taken_over_without() {
    require_root!();
    let mut hive = hive();
    let names = ["empty", "future", "linked", "piped", "other"];
    let before: Vec<Value> = names.iter().map(|id| spawn(&hive, id, "serves")).collect();
    names.iter().for_each(|id| settle(&hive, id, "ready"));
    kill_hive(&mut hive);
    let records = hive.state_dir().join("hive/workers");
    let record = |id: &str| records.join(format!("{id}.json"));
    fs::write(record("empty"), "").expect("write");
    let future = fs::read_to_string(record("future")).expect("read").replacen("\"version\":1", "\"version\":9", 1);
    fs::write(record("future"), future).expect("write");
    // What the link leads to is a record, and the hive's own.
    fs::rename(record("linked"), records.join("elsewhere")).expect("rename");
    std::os::unix::fs::symlink("elsewhere", record("linked")).expect("link");
    fs::remove_file(record("piped")).expect("remove");
    nix::unistd::mkfifo(&record("piped"), nix::sys::stat::Mode::S_IRWXU).expect("make a pipe");
    std::os::unix::fs::chown(record("other"), Some(0), Some(0)).expect("give it away");
    hive.start_again();
    for (id, before) in names.iter().zip(&before) {
        // Nobody has written down that it was ready: it is when it has answered.
        let after = hive.call("worker_wait", json!({"worker_id": id, "for": "ready", "timeout_ms": 10_000}));
        assert_eq!((&after["pid"], &after["port"], &after["state"]), (&before["pid"], &before["port"], &json!("ready")), "{after}");
        assert_eq!(after["labels"], json!({}), "what is not known is not made up: {after}");
        assert!(records.join(format!("{id}.json.bad-1")).symlink_metadata().is_ok(), "{id} was not set aside");
    }
    let notes = hive.call("hive_info", json!({}))["notes"].as_array().map_or(0, Vec::len);
    assert_eq!(notes, names.len(), "{}", hive.stderr());
}
