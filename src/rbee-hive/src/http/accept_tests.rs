//! The accept loop over real sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::accept::{Listeners, serve};
use super::{AccessRules, router};
use crate::hive::fake;

const LONG: Duration = Duration::from_secs(20);
const INFO: &str = r#"{"jsonrpc":"2.0","id":1,"method":"hive_info"}"#;

struct Server {
    dir: tempfile::TempDir,
    fake: std::sync::Arc<fake::FakeWorkers>,
    address: std::net::SocketAddr,
    stopping: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn start(uids: &[u32]) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let unix = UnixListener::bind(dir.path().join("sock")).unwrap();
    let address = tcp.local_addr().unwrap();
    let mut rules = AccessRules::default();
    rules.uids.extend(uids);
    let (state, fake) = fake::state();
    let stopping = state.stopping.clone();
    let task = tokio::spawn(serve(Listeners { tcp, unix }, router(state, rules).unwrap(), stopping.clone()));
    Server { dir, fake, address, stopping, task }
}

fn rpc(host: &str) -> String {
    format!("POST /rpc HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{INFO}", INFO.len())
}

async fn exchange(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin, text: &str) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await.expect("no answer").unwrap();
    answer
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

#[tokio::test]
async fn the_kernel_tells_both_listeners_who_calls() {
    for (uids, status) in [(vec![own_uid()], "200"), (vec![own_uid() + 1], "403")] {
        let server = start(&uids).await;
        let over_tcp = exchange(TcpStream::connect(server.address).await.unwrap(), &rpc("localhost")).await;
        let over_unix = exchange(UnixStream::connect(server.dir.path().join("sock")).await.unwrap(), &rpc("any")).await;
        for answer in [over_tcp, over_unix] {
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed() {
    let server = start(&[own_uid()]).await;
    let answer = exchange(TcpStream::connect(server.address).await.unwrap(), "").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test]
async fn a_stopped_server_ends_and_refuses() {
    let server = start(&[own_uid()]).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    server.stopping.cancel();
    tokio::time::timeout(LONG, server.task).await.expect("still running").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    drop(idle);
}

const BOUND: &str = r#"{"jsonrpc":"2.0","id":1,"method":"lease_acquire","params":{"device":0,"holder":"e","bound_to_connection":true}}"#;

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    length.is_some_and(|length: usize| body.len() >= length)
}

async fn acquire(stream: &mut (impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin)) -> String {
    let text = format!("POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{BOUND}", BOUND.len());
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = vec![];
    // Up to the end of the body: the connection stays open.
    while !is_whole(&answer) {
        let read = tokio::time::timeout(LONG, stream.read_buf(&mut answer)).await.expect("no answer").unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_lease_that_is_bound_to_a_connection_lives_as_long_as_that_however_idle_it_is() {
    let server = start(&[own_uid()]).await;
    let mut stream = UnixStream::connect(server.dir.path().join("sock")).await.unwrap();
    let answer = acquire(&mut stream).await;
    assert!(answer.contains("\"bound_to_connection\":true"), "{answer}");
    // Longer than an idle connection without a lease may be.
    tokio::time::sleep(Duration::from_millis(5_500)).await;
    assert_eq!(*server.fake.seen.lock().unwrap(), ["lease e"]);
    drop(stream);
    let ended = async {
        while server.fake.seen.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, ended).await.expect("the lease is still there");
    assert_eq!(*server.fake.seen.lock().unwrap(), ["lease e", "lease ended e"]);
}

#[tokio::test]
async fn a_connection_that_is_closed_when_idle_is_no_leases_life() {
    let server = start(&[own_uid()]).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let answer = acquire(&mut stream).await;
    assert!(answer.contains("bound_to_connection") && answer.contains("-32602") && answer.contains("Unix socket"), "{answer}");
    assert!(server.fake.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_silent_connection_to_the_unix_socket_is_closed_too() {
    let server = start(&[own_uid()]).await;
    let mut stream = UnixStream::connect(server.dir.path().join("sock")).await.unwrap();
    stream.write_all(b"POST /rpc HTTP/1.1\r\nHost:").await.unwrap();
    let mut rest = vec![];
    tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await.expect("it is open").unwrap();
}
