//! The stream of events from a real hive: each state once and in order, resumed, over HTTP and over WebSocket.

#![allow(clippy::expect_used, clippy::panic, reason = "a hive that does not answer ends the test")]

use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, require_root, within};
use tungstenite::{Message, WebSocket};

const POLICY: &str = "[worker]\nbinary = \"mock-worker\"\n";

fn hive() -> Hive {
    Hive::start(HiveOptions::default().policy("plain", POLICY))
}

fn live_and_die(hive: &Hive, id: &str) {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "plain", "device": "cpu"}));
    hive.call("worker_freeze", json!({"worker_id": id}));
    hive.call("worker_thaw", json!({"worker_id": id}));
    hive.call("worker_stop", json!({"worker_id": id}));
}

fn events(hive: &Hive, query: &str) -> Vec<Value> {
    let text = hive.get(&format!("/v1/events?follow=false&{query}")).text();
    text.lines().filter_map(|l| l.strip_prefix("data: ")).map(|l| serde_json::from_str(l).expect("an event is JSON")).collect()
}

#[test]
fn a_life_is_told_once_in_order_and_the_rest_of_it_to_who_comes_back() {
    require_root!();
    let hive = hive();
    live_and_die(&hive, "a");
    live_and_die(&hive, "b");
    let all = events(&hive, "after=0");
    let seqs: Vec<u64> = all.iter().filter_map(|e| e["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=all.len() as u64).collect::<Vec<_>>(), "{all:#?}");
    for id in ["a", "b"] {
        let own: Vec<&Value> = all.iter().filter(|e| e["worker_id"] == id).collect();
        let states: Vec<&Value> = own.iter().filter(|e| e["kind"] == "state").map(|e| &e["data"]["state"]).collect();
        assert_eq!(states, ["starting", "starting", "ready", "frozen", "ready", "stopping", "stopped"], "{own:#?}");
        assert_eq!(own.iter().filter(|e| e["kind"] == "verdict").count(), 1, "{own:#?}");
        // A lease is no change of the worker.
        let changes: Vec<&&Value> = own.iter().filter(|e| e["kind"] != "lease").collect();
        let generations: Vec<u64> = changes.iter().filter_map(|e| e["generation"].as_u64()).collect();
        assert!(generations.is_sorted() && generations.len() == changes.len(), "{own:#?}");
    }
    let middle = all.len() / 2;
    assert_eq!(events(&hive, &format!("after={middle}")), all[middle..]);
    assert_eq!(events(&hive, "after=0&worker_id=b&kind=verdict").len(), 1);
    let lines = hive.cli(["events", "--json", "--worker", "a"]);
    let told: Vec<Value> = String::from_utf8_lossy(&lines.stdout).lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(told.len(), all.iter().filter(|e| e["worker_id"] == "a").count(), "{lines:?}");
}

#[test]
fn a_subscription_over_websocket_tells_a_life_beside_its_calls() {
    require_root!();
    let hive = hive();
    let mut socket = connect(&hive);
    say(&mut socket, json!({"jsonrpc": "2.0", "id": 1, "method": "worker_subscribe", "params": {"worker_id": "w"}}));
    assert_eq!(hear(&mut socket)["result"], 1);
    let spawn = json!({"worker_id": "w", "model": "m", "policy": "plain", "device": "cpu"});
    say(&mut socket, json!({"jsonrpc": "2.0", "id": 2, "method": "worker_spawn", "params": spawn}));
    let (mut states, mut answers) = (vec![], vec![]);
    while states.last() != Some(&json!("stopped")) {
        let heard = hear(&mut socket);
        if heard["method"] == "worker_event" {
            let event = &heard["params"]["result"];
            states.extend((event["kind"] == "state").then(|| event["data"]["state"].clone()));
            continue;
        }
        answers.push(heard["id"].clone());
        if heard["id"] == 2 {
            say(&mut socket, json!({"jsonrpc": "2.0", "id": 3, "method": "worker_stop", "params": ["w"]}));
        }
    }
    assert_eq!(states, ["starting", "starting", "ready", "stopping", "stopped"]);
    while answers.len() < 2 {
        answers.push(hear(&mut socket)["id"].clone());
    }
    assert_eq!(answers, [2, 3]);
}

fn connect(hive: &Hive) -> WebSocket<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", hive.port())).expect("connect to the hive");
    stream.set_read_timeout(Some(within(Duration::from_secs(20)))).expect("set a deadline");
    tungstenite::client(format!("ws://127.0.0.1:{}/rpc", hive.port()), stream).expect("a WebSocket").0
}

fn say(socket: &mut WebSocket<TcpStream>, message: Value) {
    socket.send(Message::text(message.to_string())).expect("write to the hive");
}

fn hear(socket: &mut WebSocket<TcpStream>) -> Value {
    loop {
        match socket.read().expect("the hive says something in time") {
            Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("{other:?}"),
        }
    }
}
