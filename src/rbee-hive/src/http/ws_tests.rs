//! The WebSocket over real sockets.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use rbee_hive_policy::WorkerId;
use rbee_hive_worker_lifecycle::{About, EventHub, EventKind};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};
use tokio_util::sync::CancellationToken;

use super::accept::{Listeners, serve};
use super::{AccessRules, router};
use crate::hive::fake;

const LONG: Duration = Duration::from_secs(20);

struct Server {
    address: std::net::SocketAddr,
    events: Arc<EventHub>,
    stopping: CancellationToken,
    _dir: tempfile::TempDir,
}

async fn start() -> Server {
    let dir = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unix = UnixListener::bind(dir.path().join("sock")).unwrap();
    let address = tcp.local_addr().unwrap();
    let mut rules = AccessRules::default();
    rules.uids.insert(nix::unistd::geteuid().as_raw());
    let (state, _) = fake::state();
    let (stopping, events) = (state.stopping.clone(), Arc::clone(&state.events));
    tokio::spawn(serve(Listeners { tcp, unix }, router(state, rules).unwrap(), stopping.clone()));
    Server { address, events, stopping, _dir: dir }
}

async fn connect(server: &Server, headers: &[(&'static str, &str)]) -> Result<WebSocketStream<TcpStream>, Error> {
    let mut request = format!("ws://{}/rpc", server.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    let stream = TcpStream::connect(server.address).await.unwrap();
    client_async(request, stream).await.map(|(socket, _)| socket)
}

async fn say(socket: &mut WebSocketStream<TcpStream>, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

/// The next message that says something.
async fn hear(socket: &mut WebSocketStream<TcpStream>) -> Value {
    let hearing = async {
        loop {
            match socket.next().await.expect("the connection ended").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => return json!({"close": frame.map(|f| u16::from(f.code))}),
                _ => {}
            }
        }
    };
    tokio::time::timeout(LONG, hearing).await.expect("nothing is said")
}

fn tell(server: &Server, id: &str) -> u64 {
    server.events.tell(EventKind::State, About::worker(&WorkerId::parse(id).unwrap(), 1), json!({"state": "ready"}))
}

#[tokio::test]
async fn calls_and_subscriptions_share_a_connection_until_the_hive_stops() {
    let server = start().await;
    tell(&server, "a");
    let mut socket = connect(&server, &[]).await.unwrap();
    say(&mut socket, json!({"jsonrpc": "2.0", "id": 1, "method": "worker_subscribe", "params": {"worker_id": "a", "after": 0}})).await;
    assert_eq!(hear(&mut socket).await, json!({"jsonrpc": "2.0", "id": 1, "result": 1}));
    let first = hear(&mut socket).await;
    assert_eq!(
        (&first["method"], &first["params"]["subscription"], &first["params"]["result"]["seq"]),
        (&json!("worker_event"), &json!(1), &json!(1))
    );
    // One that takes its time does not hold up the next one, nor events.
    say(&mut socket, json!({"jsonrpc": "2.0", "id": 2, "method": "worker_spawn", "params": {"model": "m", "worker_id": "hangs"}})).await;
    say(&mut socket, json!({"jsonrpc": "2.0", "id": 3, "method": "worker_status", "params": ["a"]})).await;
    assert_eq!(hear(&mut socket).await["result"]["worker_id"], "a");
    tell(&server, "b");
    let seq = tell(&server, "a");
    assert_eq!(hear(&mut socket).await["params"]["result"]["seq"], seq);
    say(&mut socket, json!({"jsonrpc": "2.0", "id": 4, "method": "worker_stop", "params": ["hangs"]})).await;
    let ids = [hear(&mut socket).await["id"].clone(), hear(&mut socket).await["id"].clone()];
    assert!(ids.contains(&json!(2)) && ids.contains(&json!(4)), "{ids:?}");
    say(&mut socket, json!({"jsonrpc": "2.0", "method": "nope"})).await;
    socket.send(Message::text("{")).await.unwrap();
    assert_eq!(hear(&mut socket).await["error"]["code"], -32700, "and a notification has no answer");
    server.stopping.cancel();
    assert_eq!(hear(&mut socket).await, json!({"close": 1001}));
}

#[tokio::test]
async fn a_reader_that_was_too_slow_is_told_what_it_has_missed() {
    let server = start().await;
    let mut socket = connect(&server, &[]).await.unwrap();
    say(&mut socket, json!({"jsonrpc": "2.0", "id": 1, "method": "worker_subscribe"})).await;
    hear(&mut socket).await;
    // More than the sockets hold and the ring keeps: the hive must go on telling all the same.
    let long = "x".repeat(2000);
    for n in 0..20_000_u64 {
        server.events.tell(EventKind::Pressure, About::default(), json!({"n": n, "text": long}));
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let (mut next, mut missed) = (1, 0);
    while next <= 20_000 {
        let event = hear(&mut socket).await["params"]["result"].clone();
        let seq = event["seq"].as_u64().unwrap();
        if event["kind"] == "cut" {
            missed += event["data"]["missed"].as_u64().unwrap();
            assert_eq!(seq + 1, next + event["data"]["missed"].as_u64().unwrap());
        } else {
            assert_eq!(seq, next, "a gap without a marker");
        }
        next = seq + 1;
    }
    assert!(missed > 0, "nothing was cut: the test does not test what it should");
}

#[tokio::test]
async fn web_pages_and_strangers_get_no_socket_and_messages_are_bounded() {
    let server = start().await;
    let refused = |result: Result<WebSocketStream<TcpStream>, Error>| match result {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(connect(&server, &[("origin", "http://evil.org")]).await), 403);
    assert_eq!(refused(connect(&server, &[("authorization", "Bearer wrong")]).await), 401);
    let mut socket = connect(&server, &[]).await.unwrap();
    // It may be cut off while it still writes.
    let _ = socket.send(Message::text(" ".repeat(1024 * 1024 + 1))).await;
    let ended = tokio::time::timeout(LONG, async { while let Some(Ok(_)) = socket.next().await {} }).await;
    assert!(ended.is_ok(), "a message over the limit was taken");
}
