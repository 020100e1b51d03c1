//! Who holds what: a hive nothing, a launcher everything but what nobody needs, an init and a worker less than that.

#![allow(clippy::expect_used, reason = "a hive that is not as a test needs it ends the test")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use procfs::process::{FDTarget, Process};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, require_root, skip};

const BARE: &str = "[worker]\nbinary = \"compromised-hive\"\ncommand = [\"{binary}\", \"watch\"]\n[readiness]\nnone = true\n\
    [seccomp]\nprofile = \"none\"\nreason = \"a test compares\"\n";

fn status(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/status")).expect("a status")
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim)
}

/// What `uid` may write below `tops`, links not followed.
fn writable_by(uid: u32, tops: &[PathBuf]) -> BTreeSet<PathBuf> {
    let id = uid.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", "find"]).args(tops);
    // A link has every permission and gives none.
    let output = command.args(["!", "-type", "l", "-writable"]).output().expect("start find");
    String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect()
}

/// Everything that is the hive's own business: its fixture, its cgroups, and where all hives keep something.
fn places(hive: &Hive) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = text.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let roots = mounts.map(|mount| Path::new(mount).join(hive.cgroup_root().trim_start_matches('/')));
    let fixed = ["/run/rbee-hive", "/etc", "/usr/bin", "/usr/lib"].map(PathBuf::from);
    roots.chain([hive.directory().to_path_buf()]).chain(fixed).filter(|path| path.exists()).collect()
}

#[test]
fn a_hive_has_no_capability_in_any_set_and_no_way_to_one() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    for task in Process::new(hive.pid().as_raw()).and_then(|p| p.tasks()).expect("threads").flatten() {
        let text = fs::read_to_string(format!("/proc/{}/task/{}/status", task.pid, task.tid)).expect("a thread's status");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(field(&text, set), "0000000000000000", "{set} of thread {}", task.tid);
        }
        assert_eq!((field(&text, "NoNewPrivs"), field(&text, "Groups")), ("1", ""), "{text}");
        for ids in ["Uid", "Gid"] {
            let ids: BTreeSet<&str> = field(&text, ids).split_whitespace().collect();
            assert!(ids.len() == 1 && !ids.contains("0"), "{ids:?}");
        }
    }
    // The one that started it has what it lacks.
    assert_ne!(field(&status(std::process::id().cast_signed()), "CapEff"), "0000000000000000");
}

#[test]
fn a_hive_can_write_its_own_directory_and_socket_and_nothing_of_roots() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "mock", "device": "cpu"}));
    let process = Process::new(hive.pid().as_raw()).expect("the hive");
    let uid = process.status().expect("its status").euid;
    let tops = places(&hive);
    let own = BTreeSet::from([hive.state_dir().join("hive"), hive.socket().to_path_buf()]);
    assert_eq!(writable_by(uid, &tops), own, "below {tops:?}");
    assert!(own.iter().all(|path| fs::metadata(path).is_ok_and(|there| there.uid() == uid)), "both are its own");
    assert!(writable_by(0, &tops).len() > 100, "root finds more");
    for fd in process.fd().expect("its descriptors").flatten() {
        let FDTarget::Path(path) = &fd.target else { continue };
        let Ok(there) = fs::metadata(format!("/proc/{}/fd/{}", process.pid, fd.fd)) else { continue };
        // Where its log goes is decided by who starts it.
        if there.is_file() && there.uid() != uid && fd.fd > 2 {
            assert!(!fd.mode().contains(procfs::process::FDPermissions::WRITE), "it holds {path:?} open to write");
        }
    }
}

#[test]
fn the_launcher_lives_under_a_deny_list_without_no_new_privs_and_hands_it_on() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let worker = hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "mock", "device": "cpu"}));
    let init = Process::new(worker["init_pid"].as_i64().and_then(|p| i32::try_from(p).ok()).expect("an init")).expect("the init");
    let launcher = status(init.stat().expect("its parent").ppid);
    assert_eq!((field(&launcher, "Seccomp"), field(&launcher, "NoNewPrivs")), ("2", "0"), "{launcher}");
    let filters = |status: &str| field(status, "Seccomp_filters").parse::<u32>().unwrap_or_default();
    let init = status(init.pid);
    assert_eq!(field(&init, "Seccomp"), "2");
    assert!(filters(&init) > filters(&launcher), "the init gives up the rest of bpf(2) as well: {init}");
    let host = &hive.call("hive_info", json!({}))["host"]["deny_list"];
    assert_eq!(host["supported"], true, "{host}");
}

/// What the worker without a profile says of fanotify_init(2), which asks for no privilege outside.
fn watched(hive: &Hive) -> String {
    hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "bare", "device": "cpu"}));
    hive.call("worker_wait", json!({"worker_id": "w", "for": "exit", "timeout_ms": 60_000}));
    let page = hive.call("worker_logs", json!({"worker_id": "w", "tail": 10}));
    page["lines"].as_array().into_iter().flatten().filter_map(|line: &Value| line["text"].as_str()).collect()
}

#[test]
fn without_any_profile_a_worker_is_still_under_the_deny_list_roots_and_anybodys() {
    require_root!();
    let program = env!("CARGO_BIN_EXE_compromised-hive");
    let outside = Command::new("setpriv").args(["--reuid", "65534", "--clear-groups", "--", program, "watch"]).output().expect("setpriv");
    if String::from_utf8_lossy(&outside.stdout) != "watch\tDONE\n" {
        skip!("fanotify for ordinary users (Linux 5.13), and a build directory that they can enter: {outside:?}");
    }
    let options = || HiveOptions::default().policy("bare", BARE).with_program(program);
    assert_eq!(watched(&Hive::start(options())), "watch\tEPERM");
    if fs::read_to_string("/proc/sys/kernel/unprivileged_userns_clone").is_ok_and(|text| text.trim() == "0") {
        skip!("unprivileged user namespaces");
    }
    assert_eq!(watched(&Hive::start(options().as_nobody())), "watch\tEPERM");
}
