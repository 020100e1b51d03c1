//! Roles through the router, and what becomes of callers who lose theirs.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tower::ServiceExt as _;

use super::accept::{Ending, Listeners, serve};
use super::peer::{Peer, Transport};
use super::router;
use crate::access::{AccessRules, NewToken, Owners, Readers, Role, TokenSet, Watched};
use crate::hive::fake;

const LONG: Duration = Duration::from_secs(20);

/// A router for callers with uid 1 (observe), 2 (operate) and 3 (admin).
fn hive() -> Router {
    let mut rules = AccessRules::default();
    for (uid, role) in [(1, Role::Observe), (2, Role::Operate), (3, Role::Admin)] {
        rules.grant_uid(uid, role);
    }
    router(fake::state().0, rules).unwrap()
}

async fn ask(hive: &Router, uid: u32, (method, path, body): (&str, &str, &str)) -> (StatusCode, Value) {
    let peer = Peer { uid: Some(uid), ..Peer::nobody(Transport::Unix) };
    let request = Request::builder().method(method).uri(path).extension(peer).body(Body::from(body.to_owned())).unwrap();
    let response = hive.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

fn call(method: &str) -> String {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": []}).to_string()
}

#[tokio::test]
async fn each_method_and_operation_asks_for_its_role() {
    let hive = hive();
    for (uid, method, allowed) in [
        (1, "worker_list", true),
        (1, "worker_stop", false),
        (1, "hive_drain", false),
        (2, "worker_stop", true),
        (2, "hive_drain", false),
        (2, "hive_shutdown", false),
        (3, "hive_drain", true),
    ] {
        let (status, answer) = ask(&hive, uid, ("POST", "/rpc", &call(method))).await;
        let is_forbidden = answer["error"]["data"]["kind"] == "forbidden";
        assert_eq!((status == StatusCode::FORBIDDEN, is_forbidden), (!allowed, !allowed), "{uid} {method}: {answer}");
        assert_eq!(answer["id"], 7);
    }
    let stop = r#"{"operation": "worker_stop", "worker": "a"}"#;
    for (uid, request, status) in [
        (1, ("POST", "/v1/jobs", r#"{"operation": "worker_list"}"#), StatusCode::OK),
        (1, ("POST", "/v1/jobs", stop), StatusCode::FORBIDDEN),
        (2, ("POST", "/v1/jobs", stop), StatusCode::OK),
        (1, ("DELETE", "/v1/jobs/x", ""), StatusCode::FORBIDDEN),
        (2, ("DELETE", "/v1/jobs/x", ""), StatusCode::NOT_FOUND),
        (1, ("GET", "/v1/capabilities", ""), StatusCode::OK),
        (9, ("GET", "/v1/capabilities", ""), StatusCode::FORBIDDEN),
    ] {
        assert_eq!(ask(&hive, uid, request).await.0, status, "{uid} {request:?}");
    }
}

#[tokio::test]
async fn a_forbidden_call_is_not_carried_out() {
    let (state, fake) = fake::state();
    let mut rules = AccessRules::default();
    rules.grant_uid(1, Role::Observe);
    let hive = router(state, rules).unwrap();
    let notification = r#"{"jsonrpc": "2.0", "method": "worker_stop", "params": ["a"]}"#;
    for body in [call("worker_stop"), notification.to_owned(), format!("[{notification}]")] {
        ask(&hive, 1, ("POST", "/rpc", &body)).await;
    }
    assert!(fake.seen.lock().unwrap().is_empty());
}

fn put(path: &Path, set: &TokenSet) {
    let new = path.with_added_extension("new");
    std::fs::write(&new, set.to_text().unwrap()).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, path).unwrap();
}

#[tokio::test]
async fn a_websocket_ends_with_its_callers_token() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens");
    let new = NewToken::make("a", Role::Observe, None).unwrap();
    let mut set = TokenSet::default();
    set.add(new.entry).unwrap();
    put(&path, &set);
    let owners = Owners { uids: [nix::unistd::geteuid().as_raw(); 2], gid: None };
    let tokens = Watched::open(vec![(path.clone(), Readers::HiveGroup)], owners, |files| Ok(TokenSet::parse(&files[0])?)).unwrap();
    let rules = AccessRules { tokens: Some(Arc::new(tokens)), ..AccessRules::default() };
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unix = UnixListener::bind(dir.path().join("sock")).unwrap();
    let address = tcp.local_addr().unwrap();
    let (state, fake) = fake::state();
    let ending = Ending::of(&state);
    tokio::spawn(serve(Listeners { tcp, tls: None, unix }, router(state, rules).unwrap(), ending));
    let mut request = format!("ws://{address}/rpc").into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", new.token).parse().unwrap());
    let (mut socket, _) = client_async(request, TcpStream::connect(address).await.unwrap()).await.unwrap();
    let told = async {
        socket.send(Message::text(call("worker_stop"))).await.unwrap();
        let Some(Ok(Message::Text(answer))) = socket.next().await else { panic!("no answer") };
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(answer["error"]["data"]["kind"], "forbidden", "{answer}");
        set.remove("a");
        put(&path, &set);
        loop {
            socket.send(Message::text(call("worker_list"))).await.unwrap();
            match socket.next().await {
                Some(Ok(Message::Text(_) | Message::Ping(_))) => tokio::time::sleep(Duration::from_millis(20)).await,
                Some(Ok(Message::Close(Some(frame)))) => return u16::from(frame.code),
                other => panic!("{other:?}"),
            }
        }
    };
    let code = tokio::time::timeout(LONG, told).await.expect("it goes on without its token");
    assert_eq!(code, 1008);
    assert!(fake.seen.lock().unwrap().is_empty());
}
