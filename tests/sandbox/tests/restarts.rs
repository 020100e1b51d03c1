//! Started again after a failure, ended when it answers no more, and heard when it speaks of itself.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, Snapshot, eventually, http_get, info, pid, port, require_root, within};

const SOON: Duration = Duration::from_secs(30);

fn policy(rest: &str) -> String {
    format!("[worker]\nbinary = \"mock-worker\"\n[request]\nmay_set = [\"args\"]\n{rest}\n")
}

/// Nothing is served and nothing asked: such a worker is ready at once.
fn bare(rest: &str) -> String {
    format!(
        "[worker]\nbinary = \"mock-worker\"\ncommand = [\"{{binary}}\", \"{{args}}\"]\n[network]\nmode = \"none\"\n[readiness]\nnone = true\n\
         [request]\nmay_set = [\"args\"]\n{rest}\n"
    )
}

fn spawn(hive: &Hive, (id, policy): (&str, &str), args: &[&str]) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu", "args": args, "wait": "started"}))
}

/// What is there of a hive that has had a worker: it keeps what the next one needs, too.
fn at_rest(hive: &Hive) -> Snapshot {
    hive.mock("first", &[]);
    hive.call("worker_delete", json!({"worker_id": "first"}));
    hive.snapshot()
}

fn status(hive: &Hive, id: &str) -> Value {
    hive.call("worker_status", json!({"worker_id": id}))
}

#[track_caller]
fn until(hive: &Hive, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{id} to come to that"), SOON, || Some(status(hive, id)).filter(&holds))
}

fn is(worker: &Value, state: &str) -> bool {
    worker["state"] == state
}

fn lives(hive: &Hive, id: &str) -> Vec<Value> {
    let told = hive.call("worker_explain", json!({"worker_id": id}));
    told["lives"].as_array().cloned().unwrap_or_default().into_iter().map(|life| life["verdict"]["kind"].clone()).collect()
}

/// How many of its lives have printed their first line.
fn logged(hive: &Hive, id: &str) -> usize {
    let page = hive.call("worker_logs", json!({"worker_id": id, "tail": 1000}));
    page["lines"].as_array().into_iter().flatten().filter(|l| l["text"].as_str().is_some_and(|t| t.starts_with("000000000000 "))).count()
}

#[test]
fn a_worker_that_goes_on_failing_is_started_again_and_then_given_up_with_the_log_of_all_its_lives() {
    require_root!();
    let restart = "[restart]\nwhen = \"on-failure\"\nmax_restarts = 2\nbackoff = \"200ms\"";
    let hive = Hive::start(HiveOptions::default().policy("again", &bare(restart)).policy("never", &bare("")));
    let before = at_rest(&hive);
    spawn(&hive, ("w", "again"), &["--flood", "100", "--exit-code", "3"]);
    let worker = until(&hive, "w", |w| is(w, "failed"));
    assert_eq!((&worker["restarts"], &worker["verdict"]["kind"], &worker["verdict"]["code"]), (&json!(2), &json!("exited"), &json!(3)));
    assert!(worker["verdict"]["message"].as_str().is_some_and(|m| m.ends_with("given up after 2 restarts in a row")), "{worker}");
    assert_eq!((lives(&hive, "w").len(), logged(&hive, "w")), (3, 3), "three lives, one log: all of it is written before the end");
    spawn(&hive, ("once", "never"), &["--exit-code", "3"]);
    assert_eq!(until(&hive, "once", |w| is(w, "failed"))["restarts"], 0);
    spawn(&hive, ("done", "again"), &["--exit-code", "0"]);
    assert_eq!(until(&hive, "done", |w| is(w, "stopped"))["restarts"], 0, "status 0 is no failure");
    for id in ["w", "once", "done"] {
        hive.call("worker_delete", json!({"worker_id": id}));
    }
    hive.assert_nothing_more_than(&before);
}

#[test]
fn always_is_also_after_status_0_and_an_end_that_was_asked_for_is_the_last() {
    require_root!();
    let restart = "[restart]\nwhen = \"always\"\nmax_restarts = 1\nbackoff = \"200ms\"";
    let hive = Hive::start(HiveOptions::default().policy("always", &bare(restart)));
    spawn(&hive, ("done", "always"), &["--exit-code", "0"]);
    let worker = until(&hive, "done", |w| is(w, "failed"));
    assert_eq!((&worker["restarts"], &worker["verdict"]["code"]), (&json!(1), &json!(0)), "{worker}");
    spawn(&hive, ("runs", "always"), &[]);
    let stopped = hive.call("worker_stop", json!({"worker_id": "runs", "grace_ms": 5000}));
    assert_eq!((&stopped["state"], &stopped["restarts"], &stopped["verdict"]["by"]), (&json!("stopped"), &json!(0), &json!("request")));
}

#[test]
fn a_new_life_has_the_old_port_and_log_and_a_cgroup_made_anew_and_serves_who_waited() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("again", &policy("[restart]\nwhen = \"on-failure\"\nbackoff = \"1s\"")));
    let before = at_rest(&hive);
    let asked = json!({"worker_id": "w", "model": "m", "policy": "again", "device": "cpu", "args": ["--flood", "100"]});
    let worker = hive.call("worker_spawn", asked);
    assert_eq!(http_get(port(&worker), "/alloc?bytes=20000000").expect("it answers").status, 200);
    hive.call("worker_signal", json!({"worker_id": "w", "signal": 9}));
    let down = until(&hive, "w", |w| is(w, "restarting"));
    assert_eq!((&down["pid"], &down["init_pid"], &down["cgroup"]["path"]), (&Value::Null, &Value::Null, &Value::Null), "{down}");
    assert_eq!((&down["port"], &down["verdict"]["kind"]), (&worker["port"], &json!("signaled")));
    let reply = http_get(port(&worker), "/health").expect("it waits in the backlog and is served");
    assert_eq!(reply.status, 200);
    let again = until(&hive, "w", |w| is(w, "ready"));
    assert_eq!((&again["port"], &again["restarts"], &again["verdict"]), (&worker["port"], &json!(1), &Value::Null), "{again}");
    assert_eq!(again["cgroup"]["path"], worker["cgroup"]["path"]);
    assert!(pid(&again) != pid(&worker) && again["generation"].as_u64() > worker["generation"].as_u64(), "{again}");
    if let Some(peak) = again["resources"]["memory_peak"].as_u64() {
        assert!(peak < 20_000_000, "its cgroup is the old one: {peak}");
    }
    // Its init writes down what it has read meanwhile.
    eventually("both lives to be in the log", SOON, || (logged(&hive, "w") == 2).then_some(()));
    assert_eq!(lives(&hive, "w"), [json!("signaled")]);
    assert_eq!(again["drift"], json!([]), "{again}");
    hive.call("worker_delete", json!({"worker_id": "w"}));
    hive.assert_nothing_more_than(&before);
}

#[test]
fn a_stop_during_the_pause_returns_at_once_and_leaves_nothing() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("again", &policy("[restart]\nwhen = \"on-failure\"\nbackoff = \"5min\"")));
    let before = at_rest(&hive);
    let worker = hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "again", "device": "cpu"}));
    hive.call("worker_signal", json!({"worker_id": "w", "signal": 9}));
    until(&hive, "w", |w| is(w, "restarting"));
    let refused = hive.rpc("worker_update", json!({"worker_id": "w", "limits": {"pids_max": 7}})).expect_err("nothing runs");
    assert_eq!(refused.kind(), "not_allowed_now");
    let mut waiting = TcpStream::connect(("127.0.0.1", port(&worker))).expect("its port is open");
    waiting.set_read_timeout(Some(within(SOON))).expect("set a deadline");
    let asked = Instant::now();
    let stopped = hive.call("worker_stop", json!({"worker_id": "w"}));
    assert!(asked.elapsed() < within(Duration::from_secs(3)), "{:?}", asked.elapsed());
    let verdict = json!({"kind": "stopped", "by": "request", "forced": false, "code": null, "signal": null});
    for (key, value) in verdict.as_object().into_iter().flatten() {
        assert_eq!(&stopped["verdict"][key], value, "{stopped}");
    }
    assert_eq!((&stopped["state"], lives(&hive, "w")), (&json!("stopped"), vec![json!("signaled")]));
    let ended = waiting.write_all(b"x").and_then(|()| waiting.read(&mut [0]));
    assert!(!matches!(ended, Ok(1..)), "who waited is let go: {ended:?}");
    hive.call("worker_delete", json!({"worker_id": "w"}));
    hive.assert_nothing_more_than(&before);
}

#[test]
fn a_worker_that_answers_no_more_is_unhealthy_then_ended_and_started_again() {
    require_root!();
    let rest = "[restart]\nwhen = \"on-failure\"\nbackoff = \"200ms\"\n[liveness]\nhttp = \"/health\"\ninterval = \"1s\"\nfailures = 2\n\
                unhealthy_timeout = \"2s\"";
    let hive = Hive::start(HiveOptions::default().policy("asked", &policy(rest)));
    let worker = hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "asked", "device": "cpu"}));
    assert_eq!(http_get(port(&worker), "/sick").expect("it answers").status, 200);
    until(&hive, "w", |w| is(w, "unhealthy"));
    assert_eq!(http_get(port(&worker), "/health").expect("its port still leads to it").status, 503);
    let again = until(&hive, "w", |w| is(w, "ready") && w["restarts"] == 1);
    assert_eq!((lives(&hive, "w"), &again["verdict"]), (vec![json!("health_failed")], &Value::Null), "{again}");
    let told = hive.get("/v1/events?after=0&follow=false&kind=verdict").text();
    assert!(told.contains("health_failed") && told.contains("503"), "what the last probe saw is told: {told}");
}

const WATCHED: &str =
    "[readiness]\nnotify = true\nstart_timeout = \"3s\"\n[liveness]\nwatchdog = true\ninterval = \"1s\"\nunhealthy_timeout = \"0\"";

#[test]
fn a_watched_worker_lives_as_long_as_it_says_so() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("watched", &policy(WATCHED)));
    let start = |id: &str, args: &[&str]| {
        hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "watched", "device": "cpu", "args": args}))
    };
    let worker = start("speaks", &["--notify-ready", "--ping-ms", "200"]);
    let inside = info(&worker);
    assert_eq!((&inside["env"]["WATCHDOG_USEC"], &inside["env"]["WATCHDOG_PID"]), (&json!("1000000"), &json!(inside["pid"].to_string())));
    start("silent", &["--notify-ready"]);
    let ended = until(&hive, "silent", |w| is(w, "failed"));
    assert_eq!(ended["verdict"]["kind"], "health_failed", "{ended}");
    assert!(ended["verdict"]["last_probe"].as_str().is_some_and(|p| p.starts_with("no WATCHDOG=1 for ")), "{ended}");
    let worker = start("gives-up", &["--notify-ready", "--ping-ms", "200"]);
    assert_eq!(http_get(port(&worker), "/notify?text=WATCHDOG%3Dtrigger").expect("it answers").status, 200);
    let ended = until(&hive, "gives-up", |w| is(w, "failed"));
    assert_eq!(ended["verdict"]["last_probe"], "it said WATCHDOG=trigger", "{ended}");
    let alive = status(&hive, "speaks");
    assert!(is(&alive, "ready") && alive["drift"] == json!([]), "{alive}");
}

#[test]
fn what_a_worker_says_of_its_load_is_shown_and_a_slow_one_that_asks_for_time_is_spared() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("watched", &policy(WATCHED)));
    let slow = ["--start-delay-ms", "5000", "--notify-ready", "--ping-ms", "200"];
    let asks = [&slow[..], &["--notify", "STATUS=loading\u{1b}[31m 5 of 9\nEXTEND_TIMEOUT_USEC=30000000"]].concat();
    spawn(&hive, ("asks", "watched"), &asks);
    spawn(&hive, ("keeps-quiet", "watched"), &slow);
    let loading = until(&hive, "asks", |w| w["status_text"] != Value::Null);
    assert_eq!((&loading["status_text"], &loading["state"]), (&json!("loading[31m 5 of 9"), &json!("starting")));
    assert_eq!(until(&hive, "keeps-quiet", |w| is(w, "failed"))["verdict"]["kind"], "start_timeout");
    let worker = until(&hive, "asks", |w| is(w, "ready"));
    let reply = http_get(port(&worker), "/notify?text=STATUS%3D%0ASTOPPING%3D1").expect("it answers");
    assert_eq!(reply.status, 200);
    let worker = until(&hive, "asks", |w| w["status_text"] == Value::Null);
    assert!(is(&worker, "ready"), "what it says of its end is noted, and no more: {worker}");
}

/// The hive is killed without a word, once what it knows of the worker is on disk.
fn kill_hive(hive: &mut Hive, id: &str, state: &str) {
    let record = hive.state_dir().join(format!("hive/workers/{id}.json"));
    let says = || {
        let record: Value = serde_json::from_str(&std::fs::read_to_string(&record).ok()?).ok()?;
        (record["worker"]["state"] == state).then_some(())
    };
    eventually("the record to say so", Duration::from_secs(5), says);
    hive.signal(Signal::SIGKILL);
    hive.wait();
}

#[test]
fn the_next_hive_starts_again_who_fell_before_it_came_while_nobody_was_there_and_since() {
    require_root!();
    let mut hive = Hive::start(HiveOptions::default().policy("again", &policy("[restart]\nwhen = \"on-failure\"\nbackoff = \"1s\"")));
    let first = hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "again", "device": "cpu"}));
    // While nobody is there.
    kill_hive(&mut hive, "w", "ready");
    kill(Pid::from_raw(pid(&first)), Signal::SIGABRT).expect("signal the worker that we started");
    let init = first["init_pid"].as_i64().expect("its init");
    eventually("its init to end", SOON, || (!std::path::Path::new(&format!("/proc/{init}")).exists()).then_some(()));
    hive.start_again();
    let second = until(&hive, "w", |w| is(w, "ready") && w["restarts"] == 1);
    assert_eq!((&second["port"], &second["created_at"]), (&first["port"], &first["created_at"]), "{second}");
    // In the pause.
    hive.call("worker_signal", json!({"worker_id": "w", "signal": 9}));
    until(&hive, "w", |w| is(w, "restarting"));
    kill_hive(&mut hive, "w", "restarting");
    hive.start_again();
    let mut third = until(&hive, "w", |w| is(w, "ready") && w["restarts"] == 2);
    assert_eq!((&third["port"], lives(&hive, "w")), (&first["port"], vec![json!("signaled"), json!("signaled")]), "{third}");
    // Of one that was taken over.
    kill_hive(&mut hive, "w", "ready");
    hive.start_again();
    assert_eq!(status(&hive, "w")["pid"].take(), third["pid"].take());
    hive.call("worker_signal", json!({"worker_id": "w", "signal": 9}));
    let fourth = until(&hive, "w", |w| is(w, "ready") && w["restarts"] == 3);
    assert_eq!(http_get(port(&fourth), "/health").expect("it answers").status, 200);
    assert_eq!(fourth["drift"], json!([]), "{fourth}");
    hive.call("worker_delete", json!({"worker_id": "w"}));
}
