//! Readers that do not read, over real sockets: nobody waits for them, nothing piles up, and they are told what they have missed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::ws_tests::{Server, connect, hear, say, start};
use rbee_hive_worker_lifecycle::{About, EventKind};

const LONG: Duration = Duration::from_secs(60);
const EVENTS: u64 = 50_000;
/// What the ring and the sockets may hold of events of 4 KiB; all of them would be 200 MiB and more.
const MOST_KIB: usize = 140 << 10;

/// Tells more than the sockets hold and the ring keeps; how many KiB this process has grown by.
async fn flood(server: &Server) -> usize {
    let before = resident_kib();
    let long = "x".repeat(4096);
    for n in 0..EVENTS {
        server.events.tell(EventKind::Pressure, About::default(), json!({"n": n, "text": long}));
        if n % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    resident_kib().saturating_sub(before)
}

fn resident_kib() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok()).unwrap()
}

/// Takes events one by one: none is missing without a marker that says how many.
#[derive(Default)]
struct Count {
    last: u64,
    missed: u64,
}

impl Count {
    fn take(&mut self, event: &Value) {
        let seq = event["seq"].as_u64().unwrap();
        let missed = if event["kind"] == "cut" { event["data"]["missed"].as_u64().unwrap() } else { 0 };
        let told = u64::from(event["kind"] != "cut");
        assert_eq!(seq, self.last + missed + told, "a gap without a marker, or a marker for another gap: {}", event["kind"]);
        self.missed += missed;
        self.last = seq;
    }
}

#[tokio::test]
async fn a_websocket_that_does_not_read_is_cut_and_holds_nothing_up() {
    let server = start().await;
    let mut socket = connect(&server, &[]).await.unwrap();
    say(&mut socket, json!({"jsonrpc": "2.0", "id": 1, "method": "worker_subscribe"})).await;
    hear(&mut socket).await;
    let grown = flood(&server).await;
    assert!(grown < MOST_KIB, "grown by {grown} KiB");
    let mut count = Count::default();
    while count.last < EVENTS {
        count.take(&hear(&mut socket).await["params"]["result"]);
    }
    assert!(count.missed > EVENTS / 2, "{} were cut: the test does not test what it should", count.missed);
}

#[tokio::test]
async fn a_stream_of_server_sent_events_that_is_not_read_is_cut_and_holds_nothing_up() {
    let server = start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut lines = BufReader::new(stream).lines();
    // It is being read from: its head has come.
    assert!(lines.next_line().await.unwrap().unwrap().contains("200"));
    let grown = flood(&server).await;
    assert!(grown < MOST_KIB, "grown by {grown} KiB");
    let mut count = Count::default();
    while count.last < EVENTS {
        let line = tokio::time::timeout(LONG, lines.next_line()).await.expect("nothing is said").unwrap().expect("it was closed");
        if let Some(data) = line.strip_prefix("data: ") {
            count.take(&serde_json::from_str(data).unwrap());
        }
    }
    assert!(count.missed > EVENTS / 2, "{} were cut: the test does not test what it should", count.missed);
}
