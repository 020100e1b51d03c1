//! A full disk, one that is read-only, and a kernel that refuses: an error that says so, and nothing happens to workers that run.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, RpcError, eventually, hive_with_fail_points, http_get, pid, port, require_root};

/// Room for a hive's records and for some megabytes of logs.
const SIZE: &str = "size=4m,mode=755";

/// A small file system in the place of one of the hive's directories; taken away when dropped, after the hive.
struct Disk(PathBuf);

impl Disk {
    fn fill(&self) {
        let mut file = OpenOptions::new().create(true).append(true).open(self.0.join("filler")).expect("make a file that fills the disk");
        let block = [0_u8; 4096];
        while file.write_all(&block).is_ok() {}
        // The rest of it, byte by byte.
        while file.write_all(&[0]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).expect("make room");
    }

    fn remount(&self, flags: MsFlags) {
        mount(None::<&str>, &self.0, None::<&str>, MsFlags::MS_REMOUNT | flags, Some(SIZE)).expect("change the mount of the test");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
        // The fixture could not remove the place of a mount.
        let _ = self.0.parent().map(fs::remove_dir_all);
    }
}

fn small_disk(directory: &Path, name: &str) {
    let place = directory.join(name);
    if !place.exists() {
        fs::create_dir(&place).expect("make the place of a mount");
        mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::empty(), Some(SIZE)).expect("mount a small file system");
    }
}

fn on_small_disks(directory: &Path, _: &mut Command) {
    ["state", "log"].iter().for_each(|name| small_disk(directory, name));
}

fn hive() -> (Disk, Disk, Hive) {
    let hive = Hive::start(HiveOptions::default().before_start(on_small_disks));
    (Disk(hive.state_dir()), Disk(hive.log_dir()), hive)
}

fn try_to_start(hive: &Hive, id: &str) -> Result<Value, RpcError> {
    hive.rpc("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu"}))
}

fn serves(hive: &Hive, worker: &Value) {
    let id = &worker["worker_id"];
    let view = hive.call("worker_status", json!({"worker_id": id}));
    assert_eq!((&view["state"], &view["pid"]), (&json!("ready"), &worker["pid"]), "{view}");
    assert_eq!(http_get(port(worker), "/health").expect("it serves").status, 200);
}

#[track_caller]
fn says(refused: &RpcError, errno: Errno) {
    assert_eq!((refused.kind(), refused.data["errno"].as_i64()), ("setup_failed", Some(errno as i64)), "{refused}");
    assert!(refused.data["step"].as_str().is_some_and(|step| !step.is_empty()), "no step: {refused}");
}

#[test]
fn a_full_state_directory_is_an_error_that_says_so_and_workers_that_run_go_on_and_end_with_their_verdict() {
    require_root!();
    let (state, _log, hive) = hive();
    let worker = hive.mock("runs", &[]);
    state.fill();
    let refused = try_to_start(&hive, "late").expect_err("no room for its records");
    says(&refused, Errno::ENOSPC);
    assert!(refused.data["hint"].as_str().is_some_and(|hint| hint.contains("free space")), "{refused}");
    serves(&hive, &worker);
    // No room for verdict.json either: what it ended with is told all the same.
    let _ = http_get(port(&worker), "/exit?code=3");
    let ended = hive.wait_exit("runs");
    assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["code"]), (&json!("exited"), &json!(3)), "{ended}");
    state.empty();
    hive.call("worker_delete", json!({"worker_id": "runs"}));
    hive.call("worker_delete", json!({"worker_id": "late"}));
    serves(&hive, &try_to_start(&hive, "late").expect("there is room again"));
}

#[test]
fn a_full_log_directory_loses_lines_and_no_worker() {
    require_root!();
    let (_state, log, hive) = hive();
    let worker = hive.mock("talks", &[]);
    log.fill();
    for _ in 0..3 {
        assert_eq!(http_get(port(&worker), "/log?bytes=300000").expect("it is not blocked by its output").status, 200);
    }
    serves(&hive, &worker);
    log.empty();
    let line = || {
        let _ = http_get(port(&worker), "/log?bytes=20");
        let page = hive.call("worker_logs", json!({"worker_id": "talks", "tail": 5}));
        page["lines"].as_array().filter(|lines| !lines.is_empty()).map(drop)
    };
    eventually("lines to be kept again", Duration::from_secs(20), line);
    let stopped = hive.call("worker_stop", json!({"worker_id": "talks"}));
    assert_eq!(stopped["state"], "stopped", "{stopped}");
}

#[test]
fn a_read_only_state_directory_is_an_error_that_says_so_and_keeps_workers_that_run() {
    require_root!();
    let (state, _log, mut hive) = hive();
    let worker = hive.mock("runs", &[]);
    state.remount(MsFlags::MS_RDONLY);
    says(&try_to_start(&hive, "late").expect_err("nothing can be written"), Errno::EROFS);
    serves(&hive, &worker);
    let stopped = hive.call("worker_stop", json!({"worker_id": "runs"}));
    assert_eq!(stopped["verdict"]["kind"], "stopped", "{stopped}");
    hive.signal(nix::sys::signal::Signal::SIGTERM);
    hive.wait();
    let why = hive.try_to_start_again().expect_err("a hive can't start on it");
    assert!(why.contains("Read-only file system"), "it does not say why: {why}");
    state.remount(MsFlags::empty());
    hive.start_again();
    serves(&hive, &try_to_start(&hive, "late").expect("it can be written again"));
}

#[test]
fn a_cgroup_file_that_can_not_be_written_fails_the_start_by_name_and_leaves_no_cgroup() {
    require_root!();
    let options = HiveOptions::default().program(&hive_with_fail_points()).before_start(crash_tests::board::put_up);
    let hive = Hive::start(options);
    let board = crash_tests::board::Board::of(hive.directory());
    let other = hive.mock("other", &[]);
    let before = hive.snapshot();
    for file in ["pids.max", "memory."] {
        board.set(&format!("launcher.cgroup.write#w-w1/worker/{file}=errno:EIO"));
        let refused = try_to_start(&hive, "w1").expect_err("a required limit can't be written");
        says(&refused, Errno::EIO);
        assert_eq!(refused.data["step"], "write limits", "{refused}");
        assert!(refused.message.contains(file), "it does not name the file: {refused}");
        assert_eq!(pid(&hive.call("worker_status", json!({"worker_id": "other"}))), pid(&other));
        hive.call("worker_delete", json!({"worker_id": "w1"}));
    }
    board.clear();
    let left = || hive.snapshot().more_than(&before).into_iter().filter(|thing| thing.contains("w-w1")).collect::<Vec<_>>();
    eventually("the refused worker's cgroups to be gone", Duration::from_secs(5), || left().is_empty().then_some(()));
    serves(&hive, &try_to_start(&hive, "w1").expect("it can be written again"));
}
