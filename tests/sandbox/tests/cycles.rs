//! Workers by the hundred, ended in every way there is: nothing is left behind.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use test_support::{Hive, HiveOptions, exclusively, http_get, pid, port, require_root, time_factor};

const NO_PROGRAM: &str = "[worker]\nbinary = \"no-program\"\n";
const NO_MEMORY: &str = "[worker]\nbinary = \"mock-worker\"\n[limits]\nmemory_max = \"4KiB\"\n";
const ABSENT_PATH: &str = "[worker]\nbinary = \"mock-worker\"\n[filesystem]\nread_only = [\"/usr\", \"/no/such/path\"]\n";
const ON_A_SOCKET: &str = "[worker]\nbinary = \"mock-worker\"\ncommand = [\"{binary}\", \"--socket\", \"{socket}\"]\n";

/// One worker's life, of the kind that `n` falls on.
fn cycle(hive: &Hive, n: usize) {
    let id = format!("c{n}");
    let under = |policy: &str| hive.rpc("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}));
    let fails = |policy: &str, kind: &str| assert_eq!(under(policy).expect_err(policy).kind(), kind, "{policy}");
    let end = |number: i32| kill(Pid::from_raw(number), Signal::SIGKILL).expect("signal a process that we started");
    match n % 10 {
        0 => drop(hive.mock(&id, &[])),
        1 => {
            let worker = hive.mock(&id, &["--daemonize"]);
            let _ = http_get(port(&worker), "/abort");
            hive.wait_exit(&id);
        }
        2 => end(pid(&hive.mock(&id, &["--fork", "2"]))),
        3 => fails("no-program", "exec_failed"),
        4 => fails("no-memory", "setup_failed"),
        5 => fails("absent-path", "not_enforceable"),
        6 => {
            let early = json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu", "args": ["--exit-code", "3"]});
            assert_eq!(hive.rpc("worker_spawn", early).expect_err("it ends at once").kind(), "start_failed");
        }
        7 => {
            let worker = under("on-a-socket").expect("a worker on a socket");
            end(worker["init_pid"].as_i64().and_then(|p| i32::try_from(p).ok()).expect("an init"));
        }
        8 => {
            hive.mock(&id, &["--ignore-sigterm"]);
            hive.call("worker_stop", json!({"worker_id": id, "grace_ms": 0}));
        }
        _ => {
            let asked =
                json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu", "wait": "started", "args": ["--never-ready"]});
            drop(hive.call("worker_spawn", asked));
        }
    }
    if hive.rpc("worker_status", json!({"worker_id": id})).is_ok() {
        hive.call("worker_delete", json!({"worker_id": id}));
    }
}

#[test]
fn cycles_of_every_kind_leave_nothing_behind() {
    require_root!();
    let _alone = exclusively();
    let cycles = std::env::var("RBEE_TEST_CYCLES").ok().and_then(|n| n.parse().ok());
    let cycles = cycles.unwrap_or(if time_factor() > 1 { 10 } else { 500 });
    let directory = tempfile::tempdir().expect("a directory");
    let text = directory.path().join("no-program");
    std::fs::write(&text, "neither a program nor a script").expect("write a text");
    std::fs::set_permissions(&text, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("make it executable");
    let options = HiveOptions::default().with_program(&text.display().to_string());
    let options = options.policy("no-program", NO_PROGRAM).policy("no-memory", NO_MEMORY);
    let hive = Hive::start(options.policy("absent-path", ABSENT_PATH).policy("on-a-socket", ON_A_SOCKET));
    // One of each first: what the hive makes once and keeps is no leak.
    (0..10).for_each(|n| cycle(&hive, n));
    let before = hive.snapshot();
    (0..cycles).for_each(|n| cycle(&hive, n));
    hive.assert_nothing_more_than(&before);
    assert_eq!(hive.call("worker_list", json!({})), json!([]));
}
