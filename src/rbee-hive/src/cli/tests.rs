//! Commands from their arguments to output and exit status.

use clap::{CommandFactory as _, Parser as _};
use serde_json::{Value, json};

use super::execute;
use super::fake_hive::{Line, drifted, history, hive, run, worker};
use super::output::Output;

#[test]
fn the_options_are_consistent() {
    Line::command().debug_assert();
    crate::args::Args::command().debug_assert();
}

#[tokio::test]
async fn commands_ask_what_the_contract_says() {
    let table = [
        ("spawn --model m --id w1 --wait started", "worker_spawn", json!({"model": "m", "worker_id": "w1", "wait": "started"})),
        ("ps --state ready --label a=b", "worker_list", json!({"state": "ready", "labels": {"a": "b"}})),
        ("logs w1 --tail 5", "worker_logs", json!({"worker_id": "w1", "tail": 5})),
        ("wait w1 --for ready --timeout 30s", "worker_wait", json!({"worker_id": "w1", "for": "ready", "timeout_ms": 30_000})),
        ("wait w1", "worker_wait", json!({"worker_id": "w1", "for": "exit"})),
        ("stop w1 --grace 10s", "worker_stop", json!({"worker_id": "w1", "grace_ms": 10_000})),
        ("stop w1 --grace 0", "worker_stop", json!({"worker_id": "w1", "grace_ms": 0})),
        ("stop w1", "worker_stop", json!({"worker_id": "w1"})),
        ("rm w1", "worker_delete", json!({"worker_id": "w1"})),
        ("kill w1 --signal SIGUSR1", "worker_signal", json!({"worker_id": "w1", "signal": "SIGUSR1"})),
        ("freeze w1", "worker_freeze", json!({"worker_id": "w1"})),
        ("thaw w1", "worker_thaw", json!({"worker_id": "w1"})),
        ("events", "GET /v1/events?follow=false&after=0", Value::Null),
        ("events -f --worker w1 --kind state", "GET /v1/events?follow=true&worker_id=w1&kind=state", Value::Null),
        ("events -f --after 7", "GET /v1/events?follow=true&after=7", Value::Null),
        ("call worker_list [1]", "worker_list", json!([1])),
        ("devices", "device_topology", Value::Null),
        ("devices --json", "device_list", Value::Null),
        ("spawn --model m --lease lease:7", "worker_spawn", json!({"model": "m", "lease_id": "lease:7", "wait": "ready"})),
        ("lease list", "lease_list", Value::Null),
        ("lease release lease:7", "lease_release", json!({"lease_id": "lease:7"})),
        ("lease acquire --device GPU-0 --holder e --ttl 1s", "lease_acquire", json!({"device": "GPU-0", "holder": "e", "ttl_ms": 1000})),
        (
            "lease acquire --device {\"count\":2} --holder e --queue --queue-timeout 2s",
            "lease_acquire",
            json!({"device": {"count": 2}, "holder": "e", "when_busy": "queue", "queue_timeout_ms": 2000}),
        ),
        ("policy show p", "policy_show", json!({"name": "p"})),
        ("policy show p --resolved", "policy_explain", json!({"name": "p"})),
        ("policy explain p", "policy_explain", json!({"name": "p"})),
        ("policy score p", "policy_score", json!({"name": "p"})),
        ("doctor --policy p", "policy_doctor", json!({"name": "p"})),
        ("explain w1", "worker_explain", json!({"worker_id": "w1"})),
        ("history w1", "worker_history", json!({"worker_id": "w1", "max_points": 60})),
        ("history w1 --since T --points 5", "worker_history", json!({"worker_id": "w1", "since": "T", "max_points": 5})),
        ("history w1 --json", "worker_history", json!({"worker_id": "w1"})),
    ];
    for (line, method, params) in table {
        let hive = hive();
        run(line, &hive.socket).await.unwrap();
        assert_eq!(*hive.asked.lock().unwrap(), [(method.to_owned(), params)], "{line}");
    }
}

#[tokio::test]
async fn events_are_lines_or_objects_one_a_line() {
    let text = run("events", &hive().socket).await.unwrap();
    assert_eq!(text, "T 1 w1 state ready (pid 42)\nT 2 - device {\"gone\":true}\n");
    let lines = run("events --json", &hive().socket).await.unwrap();
    let seqs: Vec<Value> = lines.lines().map(|l| serde_json::from_str::<Value>(l).unwrap()["seq"].clone()).collect();
    assert_eq!(seqs, [1, 2]);
    assert_eq!(run("freeze w1", &hive().socket).await.unwrap(), "w1 is ready\n", "the state is the hive's");
}

#[tokio::test]
async fn json_is_the_hives_answer_with_all_that_is_new_in_it() {
    let hive = hive();
    let lines = ["status w1 --json", "spawn --model m --json", "wait w1 --for ready --json", "call worker_status {}"];
    for line in lines {
        let value: Value = serde_json::from_str(&run(line, &hive.socket).await.unwrap()).unwrap();
        assert_eq!(value, worker(), "{line}");
    }
    let value: Value = serde_json::from_str(&run("ps --json", &hive.socket).await.unwrap()).unwrap();
    assert_eq!(value, json!([worker()]));
    for line in ["logs w1 --json", "devices --json", "policy list --json", "info --json", "doctor --json"] {
        assert!(serde_json::from_str::<Value>(&run(line, &hive.socket).await.unwrap()).is_ok(), "{line}");
    }
}

#[tokio::test]
async fn status_sets_limits_against_use() {
    let text = run("status w1", &hive().socket).await.unwrap();
    let has = |words: &[&str]| text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == words.join(" "));
    assert!(text.starts_with("w1: ready, made "), "{text}");
    for line in [
        &["memory_max", "2 GiB", "1 GiB (50 %)"][..],
        &["pids_max", "64", "16 (25 %)"],
        &["swap_max", "no limit"],
        &["memory_high", "cgroup v1 has no memory.high"],
        &["4242", "4240", "sleeping", "5", "154 MiB", "2.5 s", "llama-server -m m.gguf"],
        &["cgroup", "/r/workers/w-w1/worker (hybrid)"],
    ] {
        assert!(has(line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains("Verdict") && !text.contains('\u{1b}'));
    let over = run("status over", &hive().socket).await.unwrap();
    assert!(over.ends_with("Verdict\n  stopped on request (stopped)\n") && !over.contains("Processes"), "{over}");
}

#[tokio::test]
async fn a_history_is_plotted_memory_against_its_limit() {
    let hive = hive();
    let text = run("history w1", &hive.socket).await.unwrap();
    let has = |words: &str| text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == words);
    for line in ["memory_bytes ▅█ 2 GiB 2 GiB", "cpus █ 1.50 1.50", "later ▅█ 2 2", "io_read_ops_per_s the controller is not enabled"]
    {
        assert!(has(line), "{line:?} is not in\n{text}");
    }
    let value: Value = serde_json::from_str(&run("history w1 --json", &hive.socket).await.unwrap()).unwrap();
    assert_eq!(value, history());
}

#[tokio::test]
async fn answers_for_people_are_sentences_and_tables() {
    let hive = hive();
    let table = [
        ("spawn --model m", "w1 is ready at http://127.0.0.1:9100 (pid 4242 on CPU-0)\n"),
        ("stop w1", "w1 stopped: stopped on request\n"),
        ("wait w1", "w1 stopped: stopped on request\n"),
        ("rm w1", "w1 removed\n"),
        ("verify w1", "w1 is as planned\n"),
        ("kill w1", "SIGKILL sent to w1\n"),
        ("logs w1", "one\ntwo\n"),
        ("logs over -f", "one\ntwo\n"),
    ];
    for (line, want) in table {
        assert_eq!(run(line, &hive.socket).await.unwrap(), want, "{line}");
    }
    for (line, part) in [("ps", "m.gguf"), ("devices", "80 GiB"), ("policy list", "/etc/p.toml"), ("info", "9.9"), ("doctor", "hive 9.9")] {
        let text = run(line, &hive.socket).await.unwrap();
        assert!(text.contains(part) && !text.contains('\u{1b}'), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_followed_log_shows_each_line_once_from_its_tail_on() {
    let table = [
        ("logs talks -f", "one\ntwo\nthree\nfour\n"),
        ("logs talks -f --tail 2", "two\nthree\nfour\n"),
        ("logs talks -f --tail 1", "three\nfour\n"),
        ("logs talks -f --tail 0", "four\n"),
    ];
    for (line, want) in table {
        assert_eq!(run(line, &hive().socket).await.unwrap(), want, "{line}");
    }
}

#[tokio::test]
async fn exit_status_tells_what_went_wrong() {
    let hive = hive();
    for line in
        ["status absent", "explain absent", "history absent", "stop absent", "rm absent", "logs absent", "logs absent -f", "call nonsense"]
    {
        assert_eq!(run(line, &hive.socket).await.unwrap_err().status(), 1, "{line}");
    }
    let nowhere = hive.socket.with_file_name("nowhere.sock");
    for line in [
        "status w1",
        "explain w1",
        "history w1",
        "ps",
        "policy score p",
        "doctor --policy p",
        "spawn --model m",
        "devices",
        "info",
        "policy list",
        "doctor",
        "call rpc.discover",
    ] {
        assert_eq!(run(line, &nowhere).await.unwrap_err().status(), 3, "{line}");
    }
}

#[tokio::test]
async fn a_drift_is_shown_and_fails_the_command() {
    let hive = hive();
    let error = run("verify bent", &hive.socket).await.unwrap_err();
    assert_eq!((error.status(), error.to_string().as_str()), (1, "w1 is not as planned: 1 difference"));
    let shown = super::render::verified(&serde_json::from_value(drifted()).unwrap());
    assert_eq!(shown, "w1 is not as planned\n  the mount on / lacks ro\n\nNot looked at\n  its device list\n");
}

#[test]
fn a_wrong_command_line_is_usage() {
    for line in [
        "status",
        "spawn",
        "logs w1 --tail x",
        "stop w1 --grace 10",
        "wait w1 --for started",
        "call m {",
        "ps --socket a --url unix:///b",
        "ps --url ftp://x",
    ] {
        let result = Line::try_parse_from(std::iter::once("rbee-hive").chain(line.split(' ')));
        assert_eq!(result.err().map(|e| e.exit_code()), Some(2), "{line}");
    }
}

#[tokio::test]
async fn a_policy_error_names_the_callers_file() {
    let hive = hive();
    let file = hive.socket.with_file_name("mine.toml");
    std::fs::write(&file, "x").unwrap();
    let error = run(&format!("policy check {}", file.display()), &hive.socket).await.unwrap_err();
    assert!(error.to_string().ends_with("mine.toml:3: limits: wrong"), "{error}");
    assert_eq!(error.status(), 1);
}

#[test]
fn completions_and_manual_know_the_commands() {
    for line in ["completions bash", "completions zsh", "completions fish", "man"] {
        let command = Line::try_parse_from(std::iter::once("rbee-hive").chain(line.split(' '))).unwrap().command;
        let mut bytes = vec![];
        execute(command, &mut Output::to(&mut bytes)).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("spawn") && text.contains("doctor"), "{line}");
    }
}
