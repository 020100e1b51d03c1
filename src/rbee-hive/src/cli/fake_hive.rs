//! A hive that is a table of answers on a Unix socket, for the tests of the commands.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use clap::Parser;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rbee_hive_api::{Client, Endpoint};
use serde_json::{Value, json};
use tokio::net::UnixListener;

use super::error::CliError;
use super::output::Output;
use super::{ClientCommand, ask};

#[derive(Debug, Parser)]
pub(super) struct Line {
    #[command(subcommand)]
    pub(super) command: ClientCommand,
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

pub(super) fn worker() -> Value {
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

pub(super) fn history() -> Value {
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

pub(super) fn drifted() -> Value {
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
