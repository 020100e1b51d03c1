//! System calls: what a profile allows works, what it refuses gets its errno, and what it does not know ends the worker by name.

#![allow(clippy::expect_used, reason = "a worker that is not as a test needs it ends the test")]

use sandbox_tests::{Ended, Sandboxed, is_root};
use serde_json::json;
use test_support::{Hive, HiveOptions, http_get, mock_binary, require_root};

const NONE: &str = "[worker]\nbinary = \"unused\"\n[seccomp]\nprofile = \"none\"\nreason = \"a test compares\"\n";

/// The mock under a policy, asking for what no worker may have; `before` and `after` are more of the shell's script.
fn violate(sandbox: Sandboxed, script: &str) -> Ended {
    let mock = mock_binary();
    let directory = mock.parent().and_then(|d| d.to_str()).expect("a directory");
    sandbox.option("--binary-dir", directory).sh(script)
}

#[test]
fn a_violation_is_killed_and_named_with_number_and_arguments() {
    if !is_root() {
        return;
    }
    let script = "mock-worker --violate --exit-code 0; echo survived";
    let without = violate(Sandboxed::with_policy(NONE), script);
    assert!(without.stdout.contains("delete_module: Err(") && without.stdout.contains("survived"), "{without:?}");
    let with = violate(Sandboxed::new(), script);
    assert_eq!((with.status, with.kind(), with.stdout.as_str()), (Some(128 + 31), "seccomp_killed", ""), "{with:?}");
    assert_eq!(with.report["syscall"], "delete_module", "{with:?}");
    // O_NONBLOCK
    assert_eq!((&with.report["args"][1], with.report["number"].as_i64().is_some()), (&json!("0x800"), true), "{with:?}");
}

#[test]
fn a_violation_in_a_forgotten_child_ends_the_whole_worker() {
    if !is_root() {
        return;
    }
    let ended = violate(Sandboxed::new(), "setsid mock-worker --violate --exit-code 0 & exec sleep 100");
    assert_eq!((ended.kind(), &ended.report["syscall"]), ("seccomp_killed", &json!("delete_module")), "{ended:?}");
}

#[test]
fn a_refused_call_gets_its_errno_and_the_worker_goes_on() {
    if !is_root() {
        return;
    }
    let script = "unshare --user true && echo made; echo alive; grep ^Seccomp: /proc/self/status";
    let without = Sandboxed::with_policy(NONE).sh(script);
    assert!(without.stdout.contains("made"), "{without:?}");
    let with = Sandboxed::new().sh(script);
    assert!(!with.stdout.contains("made") && with.stdout.contains("alive") && with.stdout.contains("Seccomp:\t2"), "{with:?}");
    assert!(with.stderr.contains("Operation not permitted"), "{with:?}");
}

#[test]
fn a_hive_tells_the_violation_and_goes_on_with_the_others() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let spawn = |id: &str, args: &[&str]| json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu", "args": args});
    let sibling = hive.call("worker_spawn", spawn("sibling", &[]));
    assert!(sibling["not_in_force"].as_array().is_some_and(|l| l.iter().all(|e| e["setting"] != "seccomp")), "{sibling}");
    let error = hive.rpc("worker_spawn", spawn("bad", &["--violate"])).expect_err("it may not ask for that");
    assert_eq!((error.kind(), &error.data["verdict"]["kind"]), ("start_failed", &json!("seccomp_killed")), "{error}");
    let ended = hive.call("worker_status", json!({"worker_id": "bad"}));
    assert_eq!((&ended["state"], &ended["verdict"]["syscall"]), (&json!("failed"), &json!("delete_module")), "{ended}");
    let port = sibling["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    assert_eq!(http_get(port, "/health").expect("the sibling lives").status, 200);
}

#[test]
fn a_profile_of_ones_own_is_a_file_beside_the_policies_and_its_mistakes_are_named() {
    require_root!();
    let policy = |profile: &str| format!("[worker]\nbinary = \"mock-worker\"\n[seccomp]\nprofile = \"{profile}\"\n");
    let options =
        HiveOptions::default().policy("strict", &policy("strict")).policy("typo", &policy("typo")).policy("gone", &policy("gone"));
    let least = "[[allow]]\nreason = \"to start\"\ncalls = [\"execve\", \"exit_group\", \"sendmsg\"]\n";
    let hive = Hive::start(
        options
            .seccomp_profile("strict", least)
            .seccomp_profile("typo", &format!("{least}[[allow]]\nreason = \"r\"\ncalls = [\"reed\"]\n")),
    );
    let spawn = |policy: &str| hive.rpc("worker_spawn", json!({"model": "m", "policy": policy, "device": "cpu"})).expect_err(policy);
    let strict = spawn("strict");
    assert_eq!(strict.data["verdict"]["kind"], "seccomp_killed", "a program needs more than that: {strict}");
    let typo = spawn("typo");
    assert_eq!(typo.kind(), "invalid_policy", "{typo}");
    assert!(typo.message.contains("seccomp/typo.toml:6") && typo.message.contains("\"reed\" is no system call"), "{typo}");
    assert!(spawn("gone").message.contains("there is no profile \"gone\""));
}
