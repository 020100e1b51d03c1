//! The client against a hive that is a few lines of hyper on a Unix socket.
#![allow(clippy::unwrap_used, reason = "a test: what fails here fails the test")]

use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rbee_hive_api::{Client, ClientError, Deadline, Endpoint, MAX_ANSWER_BYTES, SpawnParams, WaitFor};
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};

/// What the fake answers to a request.
type Answer = fn(&Value) -> (StatusCode, String);

/// A hive with one answer; it keeps what it was asked.
struct Fake {
    client: Client,
    asked: Arc<Mutex<Vec<(String, Value)>>>,
    _dir: tempfile::TempDir,
    _task: tokio::task::JoinSet<()>,
}

fn at(path: &Path) -> Client {
    Client::new(Endpoint::Unix(path.to_owned()))
}

async fn fake(answer: Answer) -> Fake {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hive.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let asked = Arc::new(Mutex::new(vec![]));
    let mut task = tokio::task::JoinSet::new();
    let record = Arc::clone(&asked);
    task.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let record = Arc::clone(&record);
            tokio::spawn(serve(TokioIo::new(stream), answer, record));
        }
    });
    Fake { client: at(&path), asked, _dir: dir, _task: task }
}

async fn serve<S>(io: S, answer: Answer, record: Arc<Mutex<Vec<(String, Value)>>>)
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let service = hyper::service::service_fn(|request: Request<Incoming>| {
        let record = Arc::clone(&record);
        async move {
            let host = request.headers()["host"].to_str().unwrap().to_owned();
            let line = format!("{} {} {host}", request.method(), request.uri());
            let body = request.into_body().collect().await.unwrap().to_bytes();
            let body: Value = serde_json::from_slice(&body).unwrap();
            let (status, text) = answer(&body);
            record.lock().unwrap().push((line, body));
            Ok::<_, Infallible>(Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap())
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
}

fn result(request: &Value, result: Value) -> (StatusCode, String) {
    (StatusCode::OK, json!({"jsonrpc": "2.0", "id": request["id"], "result": result}).to_string())
}

fn worker(request: &Value) -> (StatusCode, String) {
    let worker = json!({"worker_id": "w1", "model": "m", "policy": "default", "state": "ready", "created_at": "2026-01-01T00:00:00Z",
        "cgroup": {"mode": "none", "path": null}});
    result(request, worker)
}

#[tokio::test]
async fn a_call_posts_json_rpc_and_returns_the_result() {
    let fake = fake(|request| result(request, json!({"echo": request["params"]}))).await;
    assert_eq!(fake.client.call("m", json!({"a": 1})).await.unwrap(), json!({"echo": {"a": 1}}));
    assert_eq!(fake.client.call("m", Value::Null).await.unwrap(), json!({"echo": null}));
    let asked = fake.asked.lock().unwrap();
    assert_eq!(asked[0].0, "POST /rpc localhost");
    assert_eq!(asked[0].1, json!({"jsonrpc": "2.0", "id": 1, "method": "m", "params": {"a": 1}}));
    assert!(asked[1].1.get("params").is_none());
}

#[tokio::test]
async fn methods_send_the_contracts_parameters() {
    let fake = fake(worker).await;
    fake.client.worker_spawn(&SpawnParams { model: "m".into(), ..SpawnParams::default() }).await.unwrap();
    fake.client.worker_stop("w1", Some(Duration::from_secs(10))).await.unwrap();
    fake.client.worker_wait("w1", WaitFor::Exit, Some(Duration::from_millis(5))).await.unwrap();
    fake.client.worker_wait("w1", WaitFor::Ready, None).await.unwrap();
    fake.client.worker_signal("w1", "SIGUSR1").await.unwrap();
    let asked = fake.asked.lock().unwrap();
    let sent: Vec<_> = asked.iter().map(|(_, body)| (body["method"].as_str().unwrap(), body["params"].clone())).collect();
    let want = [
        ("worker_spawn", json!({"model": "m"})),
        ("worker_stop", json!({"worker_id": "w1", "grace_ms": 10_000})),
        ("worker_wait", json!({"worker_id": "w1", "for": "exit", "timeout_ms": 5})),
        ("worker_wait", json!({"worker_id": "w1", "for": "ready"})),
        ("worker_signal", json!({"worker_id": "w1", "signal": "SIGUSR1"})),
    ];
    assert_eq!(sent, want);
}

#[tokio::test]
async fn the_hives_errors_keep_code_kind_and_message() {
    let fake = fake(|request| {
        let error = json!({"code": -32000, "message": "no such device", "data": {"kind": "no_such_device", "hint": "h"}});
        (StatusCode::OK, json!({"jsonrpc": "2.0", "id": request["id"], "error": error}).to_string())
    })
    .await;
    let error = fake.client.call("m", Value::Null).await.unwrap_err();
    assert_eq!(error.kind(), Some("no_such_device"));
    assert!(matches!(error, ClientError::Rpc(e) if e.code == -32000 && e.data.hint.as_deref() == Some("h")));
}

#[tokio::test]
async fn a_guards_plain_error_is_read_like_the_hives() {
    let fake = fake(|_| (StatusCode::FORBIDDEN, json!({"error": {"kind": "forbidden", "message": "no"}}).to_string())).await;
    let error = fake.client.call("m", Value::Null).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().as_str()), (Some("forbidden"), "no"));
}

#[tokio::test]
async fn what_is_no_hive_is_a_protocol_error() {
    let answers: [Answer; 5] = [
        |_| (StatusCode::OK, "<html>".into()),
        |_| (StatusCode::OK, "[]".into()),
        |_| (StatusCode::BAD_GATEWAY, "{}".into()),
        |_| (StatusCode::OK, json!({"jsonrpc": "2.0", "id": 99, "result": 1}).to_string()),
        |request| (StatusCode::OK, json!({"jsonrpc": "2.0", "id": request["id"]}).to_string()),
    ];
    for (n, answer) in answers.into_iter().enumerate() {
        let fake = fake(answer).await;
        let error = fake.client.call("m", Value::Null).await.unwrap_err();
        assert!(matches!(error, ClientError::Protocol { .. }), "answer {n}: {error:?}");
    }
}

#[tokio::test]
async fn an_answer_beyond_the_bound_is_refused() {
    let fake = fake(|_| (StatusCode::OK, "x".repeat(MAX_ANSWER_BYTES + 1))).await;
    let error = fake.client.call("m", Value::Null).await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_no_hive() {
    let dir = tempfile::tempdir().unwrap();
    let absent = dir.path().join("absent.sock");
    assert!(matches!(at(&absent).call("m", Value::Null).await, Err(ClientError::NoHive { .. })));
    let stale = dir.path().join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    assert!(matches!(at(&stale).probe().await, Err(ClientError::NoHive { .. })));
}

#[tokio::test]
async fn silence_ends_at_the_deadline_but_not_for_methods_that_wait() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hive.sock");
    let _silent = UnixListener::bind(&path).unwrap();
    let client = at(&path);
    let limit = Deadline::Within(Duration::from_millis(50));
    assert!(matches!(client.call_within(limit, "m", Value::Null).await, Err(ClientError::Timeout { .. })));
    for method in ["worker_spawn", "worker_wait", "worker_stop", "worker_delete"] {
        assert_eq!(Deadline::for_method(method), Deadline::None);
    }
    assert!(matches!(Deadline::for_method("worker_status"), Deadline::Within(_)));
}

#[tokio::test]
async fn a_hive_that_dies_in_mid_call_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hive.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let client = at(&path);
    let (answer, accepted) = tokio::join!(client.call("worker_wait", Value::Null), async { listener.accept().await.map(drop) });
    accepted.unwrap();
    assert!(matches!(answer, Err(ClientError::Protocol { .. })), "{answer:?}");
}

#[tokio::test]
async fn a_url_names_its_host() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(vec![]));
    let record = Arc::clone(&asked);
    let server = async {
        let (stream, _) = listener.accept().await.unwrap();
        serve(TokioIo::new(stream), |request| result(request, json!(1)), record).await;
    };
    let client = Client::new(format!("http://{address}").parse().unwrap());
    let (answer, ()) = tokio::join!(client.call("m", Value::Null), server);
    assert_eq!(answer.unwrap(), json!(1));
    assert_eq!(asked.lock().unwrap()[0].0, format!("POST /rpc {address}"));
}
