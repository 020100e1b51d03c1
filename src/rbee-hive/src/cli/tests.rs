//! Commands from their arguments to output and exit status, against a hive that is a table of answers on a Unix socket.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::{CommandFactory as _, Parser};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rbee_hive_api::{Client, Endpoint};
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::error::CliError;
use super::output::Output;
use super::{ClientCommand, ask, execute};

#[derive(Debug, Parser)]
struct Line {
    #[command(subcommand)]
    command: ClientCommand,
}

/// A fake hive, and what it was asked.
pub(super) struct Hive {
    pub(super) socket: PathBuf,
    pub(super) asked: Arc<Mutex<Vec<(String, Value)>>>,
    _dir: tempfile::TempDir,
    _accepting: tokio::task::JoinSet<()>,
}

impl Hive {
    /// A client of it.
    pub(super) fn client(&self) -> Client {
        Client::new(Endpoint::Unix(self.socket.clone()))
    }
}

/// A stream of events, with a sign of life in between.
const EVENTS: &str = "id: 1\nevent: state\ndata: {\"seq\":1,\"time\":\"T\",\"worker_id\":\"w1\",\"generation\":3,\"kind\":\"state\",\
    \"data\":{\"state\":\"ready\",\"pid\":42}}\n\n:\n\nid: 2\nevent: device\ndata: {\"seq\":2,\"time\":\"T\",\"worker_id\":null,\
    \"kind\":\"device\",\"data\":{\"gone\":true}}\n\n";

fn worker() -> Value {
    json!({
        "worker_id": "w1", "model": "m.gguf", "devices": ["CPU-0"], "policy": "cpu-gguf", "labels": {"a": "b"}, "state": "ready", "generation": 7,
        "restarts": 0, "pid": 4242, "init_pid": 4240, "port": 9100, "endpoint": "http://127.0.0.1:9100",
        "created_at": "2026-01-01T00:00:00Z", "started_at": null, "ready_at": null, "ended_at": null,
        "cgroup": {"mode": "hybrid", "path": "/r/workers/w-w1/worker"},
        "limits": {"memory_max": 2_147_483_648_u64, "pids_max": 64, "cpus": 1.5, "swap_max": "max"},
        "not_in_force": [{"setting": "memory_high", "why": "cgroup v1 has no memory.high"}], "drift": [], "later": "kept",
        "resources": {"memory_current": 1_073_741_824, "memory_peak": 1_073_741_824, "cpu_usage_usec": 2_500_000, "pids_current": 16, "oom_kills": 0},
        "verdict": null
    })
}

fn history() -> Value {
    json!({"worker_id": "w1", "interval_ms": 1000, "times": ["2026-01-01T00:00:00.000Z", "2026-01-01T00:00:01.000Z"],
        "columns": {"memory_bytes": [1_073_741_824.0, 2_147_483_648.0_f64], "memory_limit_bytes": [2_147_483_648.0_f64, 2_147_483_648.0_f64],
            "cpus": [null, 1.5], "io_read_ops_per_s": [null, null], "later": [1, 2]},
        "unmeasured": [{"figure": "io_read_ops_per_s", "why": "the controller is not enabled"}]})
}

fn ended() -> Value {
    let mut worker = worker();
    worker["state"] = json!("stopped");
    worker["verdict"] = json!({"kind": "stopped", "by": "request", "forced": false, "message": "stopped on request"});
    worker
}

fn device() -> Value {
    json!({"id": "GPU-0", "kind": "gpu", "name": "Simulated", "memory_bytes": 85_899_345_920_u64, "lease": "w1"})
}

fn drifted() -> Value {
    let mut worker = worker();
    worker["drift"] = json!(["the mount on / lacks ro"]);
    worker["verified"] = json!({"at": "2026-01-01T00:00:00Z", "usec": 300, "unseen": ["its device list"]});
    worker
}

fn lease() -> Value {
    json!({"lease_id": "lease:7", "kind": "external", "holder": "engine", "devices": ["GPU-0"], "share": {"ways": 4}, "state": "held",
        "used_by": null, "expires_at": null, "bound_to_connection": true})
}

/// What the fake answers: a result, or an error.
fn answer(method: &str, params: &Value, asked: &[(String, Value)]) -> Result<Value, Value> {
    let process = json!({"pid": 4242, "ppid": 4240, "worker_id": "w1", "name": "llama-server", "cmdline": ["llama-server", "-m", "m.gguf"],
        "state": "sleeping", "threads": 5, "rss_bytes": 161_480_704, "cpu_usage_usec": 2_500_000, "started_at": null});
    let line = |text: &str| json!({"time": "2026-01-01T00:00:00.1Z", "stream": "stdout", "text": text, "partial": false});
    if params["worker_id"] == "absent" {
        return Err(json!({"code": -32000, "message": "there is no worker \"absent\"", "data": {"kind": "not_found"}}));
    }
    let looks = asked.iter().filter(|(m, _)| m == "worker_logs").count();
    Ok(match method {
        "worker_status" if params["worker_id"] == "over" => ended(),
        "worker_status" if params["worker_id"] == "talks" && looks > 1 => ended(),
        "worker_logs" if params["worker_id"] == "talks" => block_being_written(looks, params),
        "worker_verify" if params["worker_id"] == "bent" => drifted(),
        "worker_spawn" | "worker_status" | "worker_signal" | "worker_verify" | "worker_freeze" | "worker_thaw" => worker(),
        "worker_wait" if params["for"] == "ready" => worker(),
        "worker_wait" | "worker_stop" | "worker_delete" => ended(),
        "worker_list" => json!([worker()]),
        "worker_process_list" => json!([process]),
        "worker_history" => history(),
        "worker_logs" => json!({"lines": [line("one"), line("two")], "truncated": false}),
        "device_list" => json!([device()]),
        "device_topology" => json!({"devices": [device()], "notes": ["why"], "source": "host"}),
        "lease_list" => json!([lease()]),
        "lease_acquire" => lease(),
        "lease_release" => json!({}),
        "policy_list" => json!([{"name": "p", "description": "d", "source": "/etc/p.toml", "error": null}]),
        "policy_check" if params["text"].as_str().is_some_and(|text| text.contains("[worker]")) => super::policy_tests::checked(),
        "policy_explain" => super::policy_tests::explained(),
        "policy_score" => super::policy_tests::scored(),
        "policy_doctor" => super::policy_tests::judged(),
        "worker_explain" => super::policy_tests::worker_explained(),
        "policy_show" => json!({"name": "p", "source": "/etc/p.toml", "text": "# as written\n", "policy": {}}),
        "policy_check" => return Err(json!({"code": -32000, "message": "text:3: limits: wrong", "data": {"kind": "invalid_policy"}})),
        "hive_info" => {
            json!({"version": "9.9", "pid": 1, "cgroup": {"mode": "none", "root": null}, "host": {}, "workers": 1, "draining": false})
        }
        _ => return Err(json!({"code": -32601, "message": "no such method"})),
    })
}

/// A log as a hive reads it: only what is later than `since`, of that the last `tail`. `two` to `four` are one block of one time,
/// of which the first look sees the beginning.
fn block_being_written(looks: usize, params: &Value) -> Value {
    let line = |nanos: u32, text: &str| json!({"time": format!("2026-01-01T00:00:00.{nanos:09}Z"), "stream": "stdout", "text": text, "partial": false});
    let log = [line(1, "one"), line(2, "two"), line(2, "three"), line(2, "four")];
    let time = |text: &Value| text.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
    let since = time(&params["since"]);
    let written = if looks > 1 { 4 } else { 3 };
    let later: Vec<&Value> = log[..written].iter().filter(|l| since.is_none_or(|since| time(&l["time"]) > Some(since))).collect();
    let tail = params["tail"].as_u64().map_or(200, |n| n as usize);
    json!({"lines": later[later.len().saturating_sub(tail)..], "truncated": false})
}

pub(super) fn hive() -> Hive {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("hive.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = Arc::new(Mutex::new(vec![]));
    let record = Arc::clone(&asked);
    let mut accepting = tokio::task::JoinSet::new();
    accepting.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(TokioIo::new(stream), Arc::clone(&record)));
        }
    });
    Hive { socket, asked, _dir: dir, _accepting: accepting }
}

async fn serve(io: TokioIo<tokio::net::UnixStream>, record: Arc<Mutex<Vec<(String, Value)>>>) {
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let record = Arc::clone(&record);
        async move {
            let request_line = format!("{} {}", request.method(), request.uri());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            if request_line.starts_with("GET ") {
                record.lock().unwrap().push((request_line, Value::Null));
                return Ok(Response::new(Full::new(Bytes::from(EVENTS))));
            }
            let body: Value = serde_json::from_slice(&body).unwrap();
            let method = body["method"].as_str().unwrap().to_owned();
            let mut record = record.lock().unwrap();
            record.push((method.clone(), body["params"].clone()));
            let (name, value) = match answer(&method, &body["params"], &record) {
                Ok(result) => ("result", result),
                Err(error) => ("error", error),
            };
            let text = json!({"jsonrpc": "2.0", "id": body["id"], name: value}).to_string();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
}

/// Runs a command line against `socket`.
pub(super) async fn run(line: &str, socket: &Path) -> Result<String, CliError> {
    let mut words: Vec<&str> = line.split(' ').collect();
    let options = ["--socket", socket.to_str().unwrap()];
    let at = words.iter().position(|w| *w == "--").unwrap_or(words.len());
    words.splice(at..at, options);
    let command = Line::try_parse_from(std::iter::once("rbee-hive").chain(words)).unwrap().command;
    let mut bytes = vec![];
    ask(command, &mut Output::to(&mut bytes)).await?;
    Ok(String::from_utf8(bytes).unwrap())
}

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
