//! The contract's errors, asked of a whole hive over TCP: each is clear, and none leaves anything behind.

#![allow(clippy::panic, clippy::expect_used, reason = "an answer that is not as a test needs it ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, HttpReply, exclusively, http_over_tcp, require_root};

const LIMIT: Duration = Duration::from_secs(20);

fn post(hive: &Hive, body: &str) -> HttpReply {
    let head = "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length:";
    http_over_tcp(hive.port(), &format!("{head} {}\r\n\r\n{body}", body.len()), LIMIT).expect("an answer")
}

fn answer(hive: &Hive, body: &str) -> Value {
    let reply = post(hive, body);
    serde_json::from_slice(&reply.body).unwrap_or_else(|e| panic!("{body:.200} gave HTTP {} {e}: {:?}", reply.status, reply.text()))
}

#[test]
fn what_is_no_request_has_the_protocols_own_code() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let deep = "[".repeat(100_000);
    for (body, code, id) in [
        ("", -32700, Value::Null),
        ("{\"jsonrpc", -32700, Value::Null),
        (deep.as_str(), -32700, Value::Null),
        ("[]", -32600, Value::Null),
        ("5", -32600, Value::Null),
        (r#"{"id":1,"method":"hive_info"}"#, -32600, json!(1)),
        (r#"{"jsonrpc":"1.0","id":1,"method":"hive_info"}"#, -32600, json!(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":3}"#, -32600, json!(1)),
        (r#"{"jsonrpc":"2.0","id":{},"method":"hive_info"}"#, -32600, Value::Null),
        (r#"{"jsonrpc":"2.0","id":"a","method":"nope"}"#, -32601, json!("a")),
        (r#"{"jsonrpc":"2.0","id":null,"method":"nope"}"#, -32601, Value::Null),
        (r#"{"jsonrpc":"2.0","id":1,"method":"worker_list","params":{"x":1}}"#, -32602, json!(1)),
        (r#"{"jsonrpc":"2.0","id":1,"method":"worker_list","params":"x"}"#, -32600, json!(1)),
    ] {
        let answer = answer(&hive, body);
        assert_eq!((&answer["error"]["code"], &answer["id"]), (&json!(code), &id), "{body:.100}: {answer}");
        assert!(answer["error"]["message"].as_str().is_some_and(|m| !m.is_empty()), "{answer}");
    }
    let long = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{}\"}}", "x".repeat(1 << 20));
    assert_eq!(post(&hive, &long).status, 413);
    assert_eq!(hive.call("worker_list", json!({})), json!([]), "the hive goes on");
}

#[test]
fn a_batch_answers_in_order_and_a_notification_not_at_all() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let call = |id: Value, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
    let notification = json!({"jsonrpc": "2.0", "method": "worker_list"});
    let batch = json!([call(json!(1), "worker_list"), notification, call(json!("b"), "nope"), 7]);
    let answers = answer(&hive, &batch.to_string());
    assert_eq!(answers.as_array().map(Vec::len), Some(3), "{answers}");
    assert_eq!((&answers[0]["id"], &answers[0]["result"]), (&json!(1), &json!([])));
    assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!("b"), &json!(-32601)));
    assert_eq!((&answers[2]["id"], &answers[2]["error"]["code"]), (&Value::Null, &json!(-32600)));
    for silent in [notification.clone(), json!([notification]), json!({"jsonrpc": "2.0", "method": "nope"})] {
        let reply = post(&hive, &silent.to_string());
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{silent}");
    }
}

/// Parameters of `worker_spawn` over a good set, the error's code, and its kind or field.
fn refused_spawns() -> Vec<(Value, i64, &'static str)> {
    let mut all = Vec::new();
    let ids = ["a/b", "..", "a\0b", "-a", "_a", "", "a b", "a\n", "ä", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"];
    all.extend(ids.map(|id| (json!({"worker_id": id}), -32602, "worker_id")));
    all.extend([
        (json!({"worker_id": 5}), -32602, "worker_id"),
        (json!({"typo": 1}), -32602, "typo"),
        (json!({"model": ""}), -32602, "model"),
        (json!({"model": 5}), -32602, "model"),
        (json!({"model": "a\0b"}), -32602, "model"),
        (json!({"args": "x"}), -32602, "args"),
        (json!({"args": ["a\0b"]}), -32602, "args"),
        (json!({"args": ["x".repeat(200_000)]}), -32602, "args"),
        (json!({"env": {"A=B": "c"}}), -32602, "env"),
        (json!({"env": {"LD_PRELOAD": "/x"}}), -32000, "policy_violation"),
        (json!({"env": {"CUDA_VISIBLE_DEVICES": "0"}}), -32000, "policy_violation"),
        (json!({"labels": {"a": 1}}), -32602, "labels"),
        (json!({"wait": "never"}), -32602, "wait"),
        (json!({"device": "gpu"}), -32602, "device"),
        (json!({"device": -1}), -32602, "device"),
        (json!({"device": []}), -32602, "device"),
        (json!({"device": "GPU-0"}), -32000, "no_such_device"),
        (json!({"device": "CPU-99"}), -32000, "no_such_device"),
        (json!({"policy": "nope"}), -32000, "unknown_policy"),
        (json!({"policy": "../../etc/passwd"}), -32000, "unknown_policy"),
        (json!({"policy": "typo"}), -32000, "invalid_policy"),
        (json!({"policy": "trusted"}), -32000, "policy_violation"),
        (json!({"policy": "absent"}), -32000, "binary_not_found"),
        (json!({"policy": "models", "model": "absent.gguf"}), -32000, "model_not_found"),
        (json!({"policy": "models", "model": "../bin/mock-worker"}), -32000, "policy_violation"),
        (json!({"policy": "models", "model": "/etc/passwd"}), -32000, "policy_violation"),
        (json!({"limits": {"memory_mx": 1}}), -32602, "limits.memory_mx"),
        (json!({"limits": {"memory_max": -1}}), -32602, "limits.memory_max"),
        (json!({"limits": {"memory_max": 0}}), -32602, "limits.memory_max"),
        (json!({"limits": {"memory_max": "1 banana"}}), -32602, "limits.memory_max"),
        (json!({"limits": {"memory_max": "100GiB"}}), -32000, "policy_violation"),
        (json!({"limits": {"memory_max": "max"}}), -32000, "policy_violation"),
        (json!({"limits": {"cpuset": "a-b"}}), -32602, "limits.cpuset"),
        (json!({"limits": {"cpuset": "4095"}}), -32000, "not_enforceable"),
    ]);
    all
}

#[test]
fn a_refused_spawn_names_what_is_wrong_and_leaves_nothing() {
    require_root!();
    let _alone = exclusively();
    let options = HiveOptions::default()
        .policy("typo", "[worker]\nbinary = \"mock-worker\"\n[limits]\nmemory_mx = \"1GiB\"\n")
        .policy("absent", "[worker]\nbinary = \"no-such-worker\"\n")
        .policy("models", "[worker]\nbinary = \"mock-worker\"\nmodel_dirs = [\"/var/empty\"]\n")
        .model("there.gguf", b"x");
    let hive = Hive::start(options);
    let before = hive.snapshot();
    for (change, code, what) in refused_spawns() {
        let mut params = json!({"worker_id": "w", "model": "m", "policy": "mock", "device": "cpu"});
        for (name, value) in change.as_object().into_iter().flatten() {
            params[name] = value.clone();
        }
        let error = hive.rpc("worker_spawn", params).expect_err(&change.to_string());
        let said = if code == -32602 { error.data["field"].as_str().unwrap_or_default() } else { error.kind() };
        assert_eq!((error.code, said), (code, what), "{change:.200}: {error}");
        if what == "binary_not_found" || what == "model_not_found" {
            assert!(error.data["tried"].as_array().is_some_and(|t| !t.is_empty()), "{error}");
        }
    }
    assert_eq!(hive.call("worker_list", json!({})), json!([]), "what is refused is not listed");
    let broken = hive.rpc("worker_spawn", json!({"model": "m", "policy": "typo"})).expect_err("a typo");
    assert!(broken.message.contains("typo.toml:4") && broken.message.contains("memory_mx"), "file, line and key: {broken}");
    hive.assert_nothing_more_than(&before);
}

#[test]
fn every_method_on_an_unknown_or_ended_worker_says_so() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let calls = |id: &str| {
        [
            ("worker_status", json!({"worker_id": id})),
            ("worker_stop", json!({"worker_id": id})),
            ("worker_delete", json!({"worker_id": id})),
            ("worker_wait", json!({"worker_id": id, "for": "exit"})),
            ("worker_signal", json!({"worker_id": id, "signal": "SIGTERM"})),
            ("worker_logs", json!({"worker_id": id})),
            ("worker_process_list", json!({"worker_id": id})),
        ]
    };
    for (method, params) in calls("absent") {
        assert_eq!(hive.rpc(method, params).expect_err(method).kind(), "not_found", "{method}");
    }
    let spawned = json!({"worker_id": "w", "model": "m", "policy": "mock", "device": "cpu"});
    hive.call("worker_spawn", spawned.clone());
    assert_eq!(hive.rpc("worker_spawn", spawned.clone()).expect_err("a second one").kind(), "already_exists");
    let timed_out = hive.rpc("worker_wait", json!({"worker_id": "w", "for": "exit", "timeout_ms": 50})).expect_err("it runs");
    assert_eq!(timed_out.kind(), "timeout");
    let stopped = hive.call("worker_stop", json!({"worker_id": "w"}));
    assert!(stopped["ended_at"].is_string() && stopped["pid"].is_null(), "{stopped}");
    assert_eq!(hive.call("worker_wait", json!({"worker_id": "w", "for": "exit"})), stopped);
    assert_eq!(hive.rpc("worker_wait", json!({"worker_id": "w", "for": "ready"})).expect_err("it ended").kind(), "start_failed");
    assert_eq!(hive.rpc("worker_signal", json!({"worker_id": "w", "signal": 15})).expect_err("it ended").kind(), "not_allowed_now");
    assert_eq!(hive.rpc("worker_spawn", spawned.clone()).expect_err("its name is taken").kind(), "already_exists");
    assert_eq!(hive.call("worker_delete", json!({"worker_id": "w"})), hive.call("worker_delete", json!({"worker_id": "w"})));
    hive.call("worker_spawn", spawned);
    hive.call("hive_drain", json!({}));
    assert_eq!(hive.rpc("worker_spawn", json!({"model": "m", "policy": "mock"})).expect_err("it drains").kind(), "draining");
}
