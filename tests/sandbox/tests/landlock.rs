//! The Landlock domain: each fact with it and without it, on kernels that have that part of it.

#![allow(clippy::expect_used, reason = "a worker that is not as a test needs it ends the test")]

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use sandbox_tests::{Sandboxed, is_root};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, http_get, port, require_root, skip};

const NONE: &str = "[landlock]\nenforce = \"none\"\nreason = \"a test compares\"\n";

/// What this kernel has, as the hive says.
fn abi(hive: &Hive) -> u32 {
    let told = hive.call("hive_info", json!({}))["host"]["landlock"]["why"].as_str().unwrap_or_default().to_owned();
    let number: String = told.trim_start_matches("ABI ").chars().take_while(char::is_ascii_digit).collect();
    number.parse().unwrap_or(0)
}

/// A hive whose policies `with` and `without` are the same but for their domain.
fn two_policies(policy: &str) -> Hive {
    Hive::start(HiveOptions::default().policy("with", policy).policy("without", &format!("{policy}{NONE}")))
}

fn on_the_hosts_network(readiness: &str) -> Hive {
    two_policies(&format!(
        "[worker]\nbinary = \"mock-worker\"\n[network]\nmode = \"host\"\n[readiness]\n{readiness}\n[request]\nmay_set = [\"args\"]\n"
    ))
}

fn spawn(hive: &Hive, policy: &str, args: &[&str]) -> Value {
    hive.call("worker_spawn", json!({"worker_id": policy, "model": "m", "policy": policy, "device": "cpu", "args": args}))
}

#[test]
fn on_the_hosts_network_only_its_own_port_can_be_bound() {
    require_root!();
    let hive = on_the_hosts_network("none = true");
    if abi(&hive) < 4 {
        skip!("Landlock ABI 4 (Linux 6.7)");
    }
    let other = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port().to_string();
    let free = spawn(&hive, "without", &["--bind-port", &other]);
    assert!(free["not_in_force"].as_array().is_some_and(|l| l.iter().all(|e| e["setting"] != "landlock")), "{free}");
    let number: u16 = other.parse().expect("a number");
    test_support::eventually("the other port", std::time::Duration::from_secs(10), || http_get(number, "/health").ok());
    hive.call("worker_stop", json!({"worker_id": "without", "grace_ms": 0}));
    spawn(&hive, "with", &["--bind-port", &other]);
    let ended = hive.call("worker_wait", json!({"worker_id": "with", "for": "exit", "timeout_ms": 60_000}));
    let log = hive.call("worker_logs", json!({"worker_id": "with"})).to_string();
    assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["code"]), (&json!("exited"), &json!(70)), "{ended}");
    assert!(log.contains("Permission denied"), "{log}");
}

#[test]
fn on_the_hosts_network_neither_the_hive_nor_another_worker_can_be_reached() {
    require_root!();
    let hive = on_the_hosts_network("http = \"/health\"");
    if abi(&hive) < 4 {
        skip!("Landlock ABI 4 (Linux 6.7)");
    }
    let stranger = std::net::TcpListener::bind("127.0.0.1:0").expect("a listener");
    let elsewhere = stranger.local_addr().expect("its address").port();
    let (without, with) = (spawn(&hive, "without", &[]), spawn(&hive, "with", &[]));
    let connect = |worker: &Value, to: u16| {
        let reply = http_get(port(worker), &format!("/connect?addr=127.0.0.1:{to}")).expect("the worker answers");
        serde_json::from_str::<Value>(&reply.text()).expect("JSON")
    };
    for (to, open) in [(hive.port(), false), (port(&without), false), (port(&with), true), (elsewhere, true)] {
        assert_eq!(connect(&without, to)["ok"], true, "{to}");
        let confined = connect(&with, to);
        let wanted = if open { json!(true) } else { json!(false) };
        assert_eq!(confined["ok"], wanted, "{to}: {confined}");
        assert!(open || confined["errno"] == 13, "{to}: {confined}");
    }
}

#[test]
fn its_own_port_answers_and_the_hosts_abstract_sockets_do_not() {
    require_root!();
    let hive = on_the_hosts_network("http = \"/health\"");
    if abi(&hive) < 6 {
        skip!("Landlock ABI 6 (Linux 6.12)");
    }
    let name = format!("rbee-hive-test-{}", std::process::id());
    let _host = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("an abstract socket");
    let connect = |worker: &Value| {
        let reply = http_get(port(worker), &format!("/connect?addr=unix:@{name}")).expect("the worker answers");
        serde_json::from_str::<Value>(&reply.text()).expect("JSON")
    };
    let free = connect(&spawn(&hive, "without", &[]));
    assert_eq!(free["ok"], true, "{free}");
    let confined = connect(&spawn(&hive, "with", &[]));
    assert_eq!((&confined["ok"], &confined["errno"]), (&json!(false), &json!(1)), "{confined}");
}

#[test]
fn what_can_be_written_cannot_be_run() {
    if !is_root() {
        return;
    }
    let run = |domain: &str| {
        // Not below /tmp, of which everything may be run.
        let shared = tempfile::tempdir_in("/run").expect("a directory to share");
        std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o777)).expect("open it for the worker");
        let path = shared.path().display().to_string();
        let policy = format!("[worker]\nbinary = \"unused\"\n[filesystem]\nread_write = [\"{path}\"]\n{domain}");
        let script = format!("cp /bin/true {path}/t && {path}/t && echo ran; echo written > {path}/f && cat {path}/f");
        Sandboxed::with_policy(&policy).sh(&script)
    };
    let (without, with) = (run(NONE), run(""));
    assert_eq!(without.stdout, "ran\nwritten\n", "{without:?}");
    assert_eq!(with.stdout, "written\n", "{with:?}");
    assert!(with.stderr.contains("Permission denied"), "{with:?}");
}

#[test]
fn a_required_domain_is_all_of_it_or_a_refusal() {
    require_root!();
    let hive =
        Hive::start(HiveOptions::default().policy("with", "[worker]\nbinary = \"mock-worker\"\n[landlock]\nenforce = \"required\"\n"));
    let asked = hive.rpc("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "with", "device": "cpu"}));
    match (abi(&hive), asked) {
        (6.., asked) => assert_eq!(asked.expect("it is all there")["not_in_force"], json!([])),
        (_, asked) => {
            let error = asked.expect_err("a part is missing");
            assert!(error.kind() == "not_enforceable" && error.message.contains("landlock"), "{error}");
        }
    }
}
