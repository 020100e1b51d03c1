//! The interfaces through the router, with a fake spawner.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, Response, StatusCode};
use rbee_hive_policy::WorkerId;
use rbee_hive_worker_lifecycle::{About, EventHub, EventKind};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::peer::{Peer, Transport};
use super::{AccessRules, router};
use crate::hive::fake::{self, FakeWorkers};

struct Fixture {
    router: Router,
    workers: Arc<FakeWorkers>,
    events: Arc<EventHub>,
    stopping: tokio_util::sync::CancellationToken,
}

fn fixture() -> Fixture {
    let (state, workers) = fake::state();
    let (stopping, events) = (state.stopping.clone(), Arc::clone(&state.events));
    let mut rules = AccessRules::default().with_token("secret");
    rules.uids.insert(0);
    Fixture { router: router(state, rules).unwrap(), workers, events, stopping }
}

fn root() -> Peer {
    Peer { transport: Transport::Tcp, uid: Some(0), gids: vec![] }
}

fn request(method: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder().method(method).uri(path).header("host", "localhost:8600").extension(root()).body(body.into()).unwrap()
}

impl Fixture {
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    async fn json(&self, request: Request<Body>) -> (StatusCode, Value) {
        let response = self.send(request).await;
        let status = response.status();
        (status, serde_json::from_slice(&bytes(response).await).unwrap())
    }

    async fn rpc(&self, body: &str) -> Value {
        let (status, answer) = self.json(request("POST", "/rpc", body.to_owned())).await;
        assert_eq!(status, StatusCode::OK);
        answer
    }

    async fn call(&self, method: &str, params: Value) -> Value {
        self.rpc(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()).await
    }
}

async fn bytes(response: Response<Body>) -> Vec<u8> {
    to_bytes(response.into_body(), 1 << 24).await.unwrap().to_vec()
}

fn code(answer: &Value) -> i64 {
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error in {answer}"))
}

#[tokio::test]
async fn every_protocol_error_has_its_code() {
    let hive = fixture();
    assert_eq!(code(&hive.rpc("{").await), -32700);
    assert_eq!(code(&hive.rpc("[]").await), -32600);
    assert_eq!(code(&hive.rpc("{\"id\": 1}").await), -32600);
    assert_eq!(code(&hive.call("worker_spwan", json!({})).await), -32601);
    let unknown = hive.call("worker_status", json!({"worker_id": "a", "colour": "red"})).await;
    assert_eq!(code(&unknown), -32602);
    assert!(unknown["error"]["message"].as_str().unwrap().contains("colour"), "{unknown}");
    let wrong_type = hive.call("worker_status", json!({"worker_id": 5})).await;
    assert_eq!((code(&wrong_type), &wrong_type["error"]["data"]["field"]), (-32602, &json!("worker_id")));
}

#[tokio::test]
async fn what_the_spawner_refuses_comes_with_its_kind() {
    let hive = fixture();
    let refused = hive.call("worker_spawn", json!({"model": "m", "worker_id": "no-gpu"})).await;
    assert_eq!(code(&refused), -32000);
    assert_eq!(refused["error"]["data"], json!({"kind": "no_such_device", "hint": "use CPU-0"}));
    assert_eq!(hive.call("worker_status", json!(["absent"])).await["error"]["data"]["kind"], "not_found");
    assert_eq!(hive.call("hive_shutdown", json!({"workers": "keep"})).await["error"]["data"]["kind"], "not_allowed_now");
    assert!(!hive.stopping.is_cancelled());
}

#[tokio::test]
async fn ids_of_every_kind_come_back_as_they_were() {
    let hive = fixture();
    for id in [json!(null), json!(1), json!(-3), json!(1.5), json!("x"), json!("")] {
        let answer = hive.rpc(&json!({"jsonrpc": "2.0", "id": id, "method": "hive_info"}).to_string()).await;
        assert_eq!(answer["id"], id);
        assert_eq!(answer["result"]["workers"], 1);
    }
}

#[tokio::test]
async fn notifications_are_carried_out_and_get_no_body() {
    let hive = fixture();
    let one = json!({"jsonrpc": "2.0", "method": "worker_stop", "params": ["a"]});
    for body in [one.clone(), json!([one, one])] {
        let response = hive.send(request("POST", "/rpc", body.to_string())).await;
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert!(bytes(response).await.is_empty());
    }
    assert_eq!(*hive.workers.seen.lock().unwrap(), ["stop a"; 3]);
}

#[tokio::test]
async fn a_batch_is_answered_in_order_without_its_notifications() {
    let hive = fixture();
    let body = json!([
        {"jsonrpc": "2.0", "id": 1, "method": "worker_status", "params": {"worker_id": "a"}},
        {"jsonrpc": "2.0", "method": "worker_status", "params": {"worker_id": "b"}},
        7,
        {"jsonrpc": "2.0", "id": "z", "method": "nope"},
    ]);
    let answer = hive.rpc(&body.to_string()).await;
    let ids: Vec<_> = answer.as_array().unwrap().iter().map(|a| a["id"].clone()).collect();
    assert_eq!(ids, [json!(1), json!(null), json!("z")]);
}

#[tokio::test]
async fn a_panic_in_a_method_is_an_internal_error() {
    let hive = fixture();
    assert_eq!(code(&hive.call("worker_spawn", json!({"model": "m", "worker_id": "panics"})).await), -32603);
    assert_eq!(hive.call("worker_status", json!(["a"])).await["result"]["worker_id"], "a");
}

#[tokio::test]
async fn a_spawn_goes_on_when_its_client_leaves() {
    let hive = fixture();
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "worker_spawn", "params": {"model": "m", "worker_id": "hangs"}});
    let mut call = Box::pin(hive.send(request("POST", "/rpc", body.to_string())));
    while hive.workers.seen.lock().unwrap().is_empty() {
        assert!(futures_util::poll!(&mut call).is_pending());
        tokio::task::yield_now().await;
    }
    drop(call);
    hive.call("worker_stop", json!(["hangs"])).await;
    let ended = async {
        while !hive.workers.seen.lock().unwrap().contains(&"ended hangs".to_owned()) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.expect("the spawn was cut with its client");
}

#[tokio::test]
async fn discover_tells_every_parameter() {
    let hive = fixture();
    let document = hive.call("rpc.discover", json!([])).await["result"].clone();
    let spawn = document["methods"].as_array().unwrap().iter().find(|m| m["name"] == "worker_spawn").unwrap();
    let model = spawn["params"].as_array().unwrap().iter().find(|p| p["name"] == "model").unwrap();
    assert_eq!(model["required"], true);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_and_one_at_it_is_read() {
    let hive = fixture();
    for path in ["/rpc", "/v1/jobs"] {
        let over = hive.send(request("POST", path, vec![b' '; 1024 * 1024 + 1])).await;
        assert_eq!(over.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let at = hive.send(request("POST", path, vec![b' '; 1024 * 1024])).await;
        assert_ne!(at.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}

#[tokio::test]
async fn callers_without_permission_reach_health_only() {
    let hive = fixture();
    for (uid, status) in [(Some(1234), StatusCode::FORBIDDEN), (None, StatusCode::UNAUTHORIZED)] {
        let with_peer = |method, path| {
            let mut request = request(method, path, "{}");
            request.extensions_mut().insert(Peer { uid, ..root() });
            request
        };
        assert_eq!(hive.json(with_peer("GET", "/health")).await, (StatusCode::OK, json!({"status": "ok"})));
        for (method, path) in [
            ("POST", "/rpc"),
            ("POST", "/v1/jobs"),
            ("GET", "/v1/capabilities"),
            ("GET", "/v1/jobs/x/stream"),
            ("GET", "/v1/events"),
            ("GET", "/rpc"),
        ] {
            assert_eq!(hive.send(with_peer(method, path)).await.status(), status, "{path}");
        }
        let mut with_token = with_peer("GET", "/v1/capabilities");
        with_token.headers_mut().insert("authorization", "Bearer secret".parse().unwrap());
        assert_eq!(hive.json(with_token).await.1, json!({"devices": [{"name": "CPU-0"}], "notes": ["no GPU"], "source": "test"}));
    }
}

#[tokio::test]
async fn a_request_that_nobody_is_behind_is_refused() {
    let hive = fixture();
    let mut without_peer = request("POST", "/rpc", "{}");
    without_peer.extensions_mut().remove::<Peer>();
    assert_eq!(hive.send(without_peer).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn web_pages_cannot_reach_the_hive() {
    let hive = fixture();
    let with = |name: &'static str, value: &'static str| {
        let mut request = request("GET", "/health", Body::empty());
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    assert_eq!(hive.send(with("host", "evil.org")).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(hive.send(with("origin", "http://evil.org")).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(hive.send(with("origin", "null")).await.status(), StatusCode::FORBIDDEN);
    assert_eq!(hive.send(with("origin", "http://localhost:8600")).await.status(), StatusCode::OK);
    let mut on_unix = with("host", "anything");
    on_unix.extensions_mut().insert(Peer { transport: Transport::Unix, ..root() });
    assert_eq!(hive.send(on_unix).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_told_in_json() {
    let hive = fixture();
    assert_eq!(hive.json(request("GET", "/nope", "")).await.0, StatusCode::NOT_FOUND);
    assert_eq!(hive.json(request("GET", "/rpc", "")).await.0, StatusCode::METHOD_NOT_ALLOWED);
}

async fn start_job(hive: &Fixture, body: Value) -> String {
    let (status, answer) = hive.json(request("POST", "/v1/jobs", body.to_string())).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let id = answer["job_id"].as_str().unwrap();
    assert_eq!(answer["sse_url"], format!("/v1/jobs/{id}/stream"));
    id.to_owned()
}

async fn told(hive: &Fixture, id: &str) -> String {
    let response = hive.send(request("GET", &format!("/v1/jobs/{id}/stream"), "")).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    String::from_utf8(bytes(response).await).unwrap()
}

fn seed(worker: &str) -> Value {
    json!({"operation": "worker_spawn", "hive_id": "localhost", "model": "test-model", "worker": worker, "device": 0})
}

#[tokio::test]
async fn a_job_is_told_from_its_first_line_to_its_end_again_and_again() {
    let hive = fixture();
    let id = start_job(&hive, seed("worker-1")).await;
    let first = told(&hive, &id).await;
    assert!(first.starts_with("data: [router    ] worker_spawn_start: spawning worker 'worker-1'"), "{first}");
    assert!(first.contains("worker_spawn_complete"), "{first}");
    assert!(first.ends_with("data: [DONE]\n\n"), "{first}");
    assert_eq!(told(&hive, &id).await, first);
}

#[tokio::test]
async fn a_failed_job_ends_with_its_kind() {
    let hive = fixture();
    let id = start_job(&hive, seed("no-gpu")).await;
    let text = told(&hive, &id).await;
    assert!(text.contains("worker_spawn_error"), "{text}");
    assert!(text.ends_with("data: [ERROR] no_such_device: this host has no GPU-0\n\n"), "{text}");
    let id = start_job(&hive, seed("panics")).await;
    assert!(told(&hive, &id).await.contains("data: [ERROR] "));
}

#[tokio::test]
async fn a_cancelled_job_stops_its_worker() {
    let hive = fixture();
    let id = start_job(&hive, seed("hangs")).await;
    let (status, answer) = hive.json(request("DELETE", &format!("/v1/jobs/{id}"), "")).await;
    assert_eq!((status, &answer["cancelled"]), (StatusCode::OK, &json!(true)));
    assert!(told(&hive, &id).await.ends_with("data: [CANCELLED]\n\n"));
    assert!(hive.workers.seen.lock().unwrap().contains(&"stop hangs".to_owned()));
    let (_, again) = hive.json(request("DELETE", &format!("/v1/jobs/{id}"), "")).await;
    assert_eq!(again["cancelled"], false);
}

#[tokio::test]
async fn bad_jobs_are_refused_before_they_start() {
    let hive = fixture();
    let refused = async |body: &str| {
        let (status, answer) = hive.json(request("POST", "/v1/jobs", body.to_owned())).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        (answer["error"]["kind"].as_str().unwrap().to_owned(), answer["error"]["message"].as_str().unwrap().to_owned())
    };
    assert_eq!(refused("{").await.0, "invalid_params");
    assert!(refused(r#"{"operation": "worker_spawn", "model": "m", "wroker": "a"}"#).await.1.contains("wroker"));
    assert_eq!(refused(r#"{"operation": "worker_list", "hive_id": "other"}"#).await.0, "unknown_hive");
    assert_eq!(hive.json(request("GET", "/v1/jobs/none/stream", "")).await.0, StatusCode::NOT_FOUND);
}

/// Tells of worker `a`, then of `b`, and so on.
fn tell(hive: &Fixture, ids: &[&str]) {
    for id in ids {
        hive.events.tell(EventKind::State, About::worker(&WorkerId::parse(id).unwrap(), 1), json!({"state": "ready"}));
    }
}

async fn events(hive: &Fixture, path: &str, last: Option<&str>) -> String {
    let mut request = request("GET", path, "");
    if let Some(last) = last {
        request.headers_mut().insert("last-event-id", last.parse().unwrap());
    }
    let response = hive.send(request).await;
    assert_eq!((response.status(), &response.headers()["content-type"]), (StatusCode::OK, &"text/event-stream".parse().unwrap()));
    String::from_utf8(bytes(response).await).unwrap()
}

fn ids(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[tokio::test]
async fn events_are_told_with_their_numbers_and_resumed_behind_the_last_one() {
    let hive = fixture();
    tell(&hive, &["a", "b", "a"]);
    let all = events(&hive, "/v1/events?after=0&follow=false", None).await;
    assert_eq!(ids(&all), ["1", "2", "3"]);
    let first: Vec<&str> = all.split("\n\n").next().unwrap().lines().collect();
    assert_eq!(&first[..2], ["id: 1", "event: state"]);
    let data: Value = serde_json::from_str(first[2].strip_prefix("data: ").unwrap()).unwrap();
    assert_eq!(
        (&data["seq"], &data["worker_id"], &data["generation"], &data["data"]),
        (&json!(1), &json!("a"), &json!(1), &json!({"state": "ready"}))
    );
    assert_eq!(ids(&events(&hive, "/v1/events?after=0&follow=false", Some("2")).await), ["3"]);
    assert_eq!(ids(&events(&hive, "/v1/events?after=0&follow=false&worker_id=b", None).await), ["2"]);
    assert!(events(&hive, "/v1/events?after=0&follow=false&kind=drift", None).await.is_empty());
    assert!(events(&hive, "/v1/events?follow=false", None).await.is_empty(), "from now on");
    assert_eq!(hive.send(request("GET", "/v1/events?colour=red", "")).await.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_followed_stream_goes_on_until_the_hive_stops_and_tells_all_that_came_before() {
    let hive = fixture();
    let reading = events(&hive, "/v1/events?after=0", None);
    let acting = async {
        for id in ["a", "b"] {
            tell(&hive, &[id]);
            tokio::task::yield_now().await;
        }
        tell(&hive, &["c"]);
        hive.stopping.cancel();
    };
    let both = async { tokio::join!(reading, acting) };
    let (text, ()) = tokio::time::timeout(std::time::Duration::from_secs(10), both).await.expect("it does not end with the hive");
    assert_eq!(ids(&text), ["1", "2", "3"]);
}

#[tokio::test]
async fn one_stream_too_many_is_refused_until_another_one_ends() {
    let hive = fixture();
    let mut open = vec![];
    for _ in 0..128 {
        open.push(hive.send(request("GET", "/v1/events", "")).await);
    }
    assert_eq!(hive.send(request("GET", "/v1/events", "")).await.status(), StatusCode::SERVICE_UNAVAILABLE);
    open.pop();
    assert_eq!(hive.send(request("GET", "/v1/events", "")).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_subscription_needs_a_websocket_and_a_worker_is_frozen_over_rpc() {
    let hive = fixture();
    assert_eq!(hive.call("worker_subscribe", json!({})).await["error"]["data"]["kind"], "not_allowed_now");
    hive.call("worker_freeze", json!(["a"])).await;
    hive.call("worker_thaw", json!({"worker_id": "a"})).await;
    assert_eq!(*hive.workers.seen.lock().unwrap(), ["freeze a", "thaw a"]);
}
