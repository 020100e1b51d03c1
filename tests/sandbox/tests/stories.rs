//! Why workers ended, told with proof and remedy, after they are off the list and after the hive was started again; and numbers of events
//! that no hive gives twice.

#![allow(clippy::expect_used, clippy::panic, reason = "a hive that does not answer ends the test")]

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, port, require_root};

fn story(hive: &Hive, id: &str) -> Value {
    hive.call("worker_explain", json!({"worker_id": id}))["story"].take()
}

fn kinds(story: &Value) -> Vec<&str> {
    story["timeline"].as_array().into_iter().flatten().filter_map(|m| m["kind"].as_str()).collect()
}

fn die_of_memory(hive: &Hive, id: &str) {
    let asked = json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu", "limits": {"memory_max": "48MiB"}});
    let victim = hive.call("worker_spawn", asked);
    let _ = http_get(port(&victim), "/alloc?bytes=209715200");
    let ended = hive.wait_exit(id);
    assert_eq!(ended["verdict"]["kind"], "oom_killed", "{ended}");
}

#[test]
fn a_death_for_want_of_memory_is_proved_and_mended() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    die_of_memory(&hive, "w");
    let story = story(&hive, "w");
    let summary = story["summary"].as_str().expect("a summary");
    assert!(summary.starts_with("memory_max 48 MiB, ") && summary.contains(": raise memory_max"), "{story:#}");
    assert!(story["remedies"][1].as_str().is_some_and(|r| r.contains("set by the request")), "{story:#}");
    let kinds = kinds(&story);
    let at = |kind: &str| kinds.iter().position(|k| *k == kind).unwrap_or_else(|| panic!("no {kind} in {kinds:?}"));
    assert!(at("state") < at("pressure") && at("pressure") < at("verdict") && kinds.last() == Some(&"state"), "{kinds:?}");
    assert!(story["resources"]["oom_kills"].as_u64() > Some(0), "{story:#}");
    let text = hive.cli(["explain", "w"]);
    let text = String::from_utf8_lossy(&text.stdout);
    for part in ["failed oom_killed: ", summary, "\nEvidence\n", "\nWhat to change\n", "\nTimeline\n", "\nLimits\n"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn a_death_while_starting_is_told_with_the_last_probe_and_the_last_lines() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let args = ["--start-delay-ms", "600000", "--crash-after-ms", "1500", "--flood", "200"];
    let asked = json!({"worker_id": "w", "model": "m", "policy": "mock", "device": "cpu", "args": args});
    let error = hive.rpc("worker_spawn", asked).expect_err("it aborts before it is ready");
    assert_eq!(error.kind(), "start_failed", "{error}");
    let story = story(&hive, "w");
    assert!(story["last_probe"].as_str().is_some_and(|p| p.contains("503")), "{story:#}");
    assert!(story["summary"].as_str().is_some_and(|s| s.starts_with("SIGABRT") && s.contains("before it was ready")), "{story:#}");
    assert!(story["log_tail"].as_array().is_some_and(|lines| !lines.is_empty()), "{story:#}");
    assert!(story["ready_at"].is_null() && story["started_at"].is_string(), "{story:#}");
}

#[test]
fn the_story_of_a_life_has_what_was_asked_of_it() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    hive.mock("w", &[]);
    assert!(story(&hive, "w")["verdict"].is_null(), "it lives");
    hive.call("worker_signal", json!({"worker_id": "w", "signal": "SIGWINCH"}));
    hive.call("worker_update", json!({"worker_id": "w", "limits": {"pids_max": 32}}));
    hive.call("worker_freeze", json!({"worker_id": "w"}));
    hive.call("worker_thaw", json!({"worker_id": "w"}));
    hive.call("worker_delete", json!({"worker_id": "w"}));
    let story = story(&hive, "w");
    let told: Vec<(&str, &str)> = story["timeline"]
        .as_array()
        .expect("a timeline")
        .iter()
        .map(|m| (m["kind"].as_str().unwrap_or_default(), m["text"].as_str().unwrap_or_default()))
        .filter(|(kind, _)| *kind != "lease")
        .map(|(kind, text)| (kind, text.split(", pid").next().unwrap_or_default()))
        .collect();
    let all = [
        ("state", "starting"),
        ("state", "starting"),
        ("state", "ready"),
        ("signal", "signal 28 was sent on request"),
        ("limits", "other limits: pids_max"),
        ("state", "frozen"),
        ("state", "ready"),
        ("stop", "a stop with 5000 ms of grace (request)"),
        ("state", "stopping"),
        ("verdict", "it was stopped on request"),
        ("state", "stopped"),
    ];
    assert_eq!(told, all);
    let seqs: Vec<u64> = story["timeline"].as_array().into_iter().flatten().filter_map(|m| m["seq"].as_u64()).collect();
    assert!(seqs.windows(2).all(|two| two[0] < two[1]), "{seqs:?}");
}

fn events(hive: &Hive, after: u64) -> Vec<Value> {
    let text = hive.get(&format!("/v1/events?follow=false&after={after}")).text();
    text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|l| serde_json::from_str(l).expect("an event is JSON")).collect()
}

fn last(hive: &Hive) -> u64 {
    events(hive, 0).last().and_then(|e| e["seq"].as_u64()).expect("an event")
}

#[test]
fn stories_and_numbers_outlive_the_hive_however_it_ends() {
    require_root!();
    let mut hive = Hive::start(HiveOptions::default());
    die_of_memory(&hive, "deleted");
    hive.call("worker_delete", json!({"worker_id": "deleted"}));
    hive.mock("listed", &[]);
    let told = story(&hive, "deleted");
    let before = last(&hive);
    hive.signal(Signal::SIGTERM);
    assert_eq!(hive.wait().code(), Some(0));

    hive.start_again();
    assert_eq!(story(&hive, "deleted"), told);
    assert_eq!(story(&hive, "listed")["verdict"]["by"], "shutdown", "the one that the hive has stopped at its end");
    // It was ended as it should, so that how much is missing is known; what was told after the reader's last number is.
    let cut = events(&hive, before - 3);
    assert_eq!((&cut[0]["kind"], &cut[0]["data"]["why"]), (&json!("cut"), &json!("restart")), "{cut:?}");
    assert!(cut[0]["data"]["missed"].as_u64() > Some(3), "{cut:?}");
    hive.mock("w", &[]);
    hive.call("worker_delete", json!({"worker_id": "w"}));
    let first = cut[0]["seq"].as_u64().expect("a number");
    let all = events(&hive, first);
    assert_eq!(all[0]["seq"], first + 1, "{all:?}");

    let kept = hive.state_dir().join("hive/explained.json");
    let is_kept = || std::fs::read_to_string(&kept).is_ok_and(|text| text.contains("\"worker_id\":\"w\"")).then_some(());
    eventually("it to be written", Duration::from_secs(10), is_kept);
    let before = last(&hive);
    hive.signal(Signal::SIGKILL);
    hive.wait();
    hive.start_again();
    for id in ["deleted", "listed", "w"] {
        assert!(story(&hive, id)["summary"].is_string(), "{id}");
    }
    let cut = events(&hive, before);
    assert_eq!((&cut[0]["data"]["missed"], &cut[0]["data"]["why"]), (&Value::Null, &json!("restart")), "nobody knows: {cut:?}");
    assert!(cut[0]["seq"].as_u64() > Some(before), "a number was given again: {cut:?}");
}

#[test]
fn records_that_are_none_of_ours_are_set_aside_and_the_hive_starts() {
    require_root!();
    let mut hive = Hive::start(HiveOptions::default());
    hive.mock("w", &[]);
    hive.call("worker_delete", json!({"worker_id": "w"}));
    hive.signal(Signal::SIGTERM);
    assert_eq!(hive.wait().code(), Some(0));
    let own = hive.state_dir().join("hive");
    std::fs::write(own.join("explained.json"), "{\"version\":1,\"explained\":[").expect("cut a record short");
    std::fs::write(own.join("workers/w.deleted.json"), "{\"version\":1,").expect("cut another one short");
    std::fs::remove_file(own.join("events.json")).expect("take a record away");
    std::os::unix::fs::symlink("/etc/hostname", own.join("events.json")).expect("put a link there");
    hive.start_again();
    assert_eq!(hive.rpc("worker_explain", json!({"worker_id": "w"})).map_err(|e| e.kind().to_owned()), Err("not_found".to_owned()));
    for name in ["explained.json.bad", "events.json.bad", "workers/w.deleted.json.bad-1"] {
        assert!(std::fs::symlink_metadata(own.join(name)).is_ok(), "{name} is not there");
    }
    assert!(hive.stderr().contains("set aside"), "{}", hive.stderr());
    hive.mock("w", &[]);
}
