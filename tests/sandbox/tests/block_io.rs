//! Block I/O on a disk that somebody throttles: what a worker has written is counted whole, and a bound is only called one where it holds.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, http_get, require_root, skip};

const MIB: u64 = 1 << 20;

/// A directory on a disk that every worker may write to, and the disk's number.
fn on_a_disk() -> Option<(tempfile::TempDir, String)> {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).expect("give it to all");
    let device = fs::metadata(directory.path()).expect("it is there").dev();
    let number = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    Path::new("/sys/dev/block").join(&number).exists().then_some((directory, number))
}

fn policy(directory: &Path, io_max: &str) -> String {
    let path = directory.display();
    format!(
        "[worker]\nbinary = \"mock-worker\"\n[limits]\nmemory_max = \"256MiB\"\n{io_max}\n[filesystem]\nread_write = [\"{path}\"]\n\
         [request]\nmay_set = [\"limits\"]\n"
    )
}

fn spawn(hive: &Hive, policy: &str) -> Result<Value, test_support::RpcError> {
    hive.rpc("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": policy, "device": "cpu"}))
}

fn status(hive: &Hive) -> Value {
    hive.call("worker_status", json!({"worker_id": "w"}))
}

fn write(worker: &Value, directory: &Path, bytes: u64) {
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    let path = format!("/write?path={}/x&bytes={bytes}", directory.display());
    assert_eq!(http_get(port, &path).expect("the worker answers").status, 200);
}

fn on_v1(controller: &str) -> bool {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines().any(|line| {
        let Some((_, end)) = line.split_once(" - cgroup ") else { return false };
        end.split(' ').next_back().is_some_and(|options| options.split(',').any(|option| option == controller))
    })
}

#[test]
fn what_a_worker_writes_is_counted_whole_on_v1_while_somebody_throttles_the_disk() {
    require_root!();
    let Some((directory, disk)) = on_a_disk() else { skip!("a block device below the temporary directory") };
    if !on_v1("blkio") {
        skip!("a controller of block I/O on cgroup v1");
    }
    // With any bound on it the kernel begins to count this disk by cgroup, and leaves out what is buffered.
    let bounded = policy(directory.path(), &format!("io_max = \"{disk} rbps=1GiB\""));
    let hive = Hive::start(HiveOptions::default().policy("bounded", &bounded).config("sample_interval = \"250ms\"\n"));
    let worker = spawn(&hive, "bounded").expect("a bound of reads holds");
    let before = status(&hive);
    write(&worker, directory.path(), 16 * MIB);
    let after = status(&hive);
    let bytes = |worker: &Value| worker["resources"]["io_write_bytes"].as_u64();
    let gained = bytes(&after).zip(bytes(&before)).map(|(after, before)| after - before);
    assert!(gained >= Some(16 * MIB), "{gained:?}: {after:#}");
    let why = |figure: &str| after["unmeasured"].as_array().into_iter().flatten().any(|u| u["figure"] == figure);
    assert!(after["resources"]["io_write_ops"].is_null() && why("io_write_ops") && !why("io_write_bytes"), "{after:#}");

    let stopped = hive.call("worker_stop", json!({"worker_id": "w", "grace_ms": 0}));
    assert!(bytes(&stopped) >= bytes(&after), "they never go back: {stopped:#}");
}

#[test]
fn a_bound_of_writes_holds_all_of_them_or_is_refused_where_it_is_required_and_listed_where_it_is_a_wish() {
    require_root!();
    let Some((directory, disk)) = on_a_disk() else { skip!("a block device below the temporary directory") };
    let loose = on_v1("blkio") || on_v1("memory");
    let required = policy(directory.path(), &format!("io_max = \"{disk} wbps=1MiB\""));
    let wish = required.replace("io_max = ", "io_max = { value = ").replace("wbps=1MiB\"", "wbps=1MiB\", enforce = \"if_available\" }");
    let hive = Hive::start(HiveOptions::default().policy("required", &required).policy("wish", &wish));
    let refused = spawn(&hive, "required");
    if loose {
        let refused = refused.expect_err("most writes would go past it");
        assert_eq!(refused.kind(), "not_enforceable", "{refused}");
        assert!(refused.to_string().contains("direct and synchronous"), "{refused}");
    } else if let Err(refused) = refused {
        skip!("a controller of block I/O: {refused}");
    } else {
        hive.call("worker_delete", json!({"worker_id": "w"}));
    }
    let worker = spawn(&hive, "wish").expect("a wish is no reason to refuse");
    let listed = |worker: &Value| worker["not_in_force"].as_array().into_iter().flatten().any(|n| n["setting"] == "io_max");
    assert_eq!(listed(&worker), loose, "{worker:#}");
    assert!(worker["limits"]["io_max"].is_string(), "direct writes are held to it all the same: {worker:#}");
    if loose {
        let asked = json!({"worker_id": "w", "limits": {"io_max": format!("{disk} wbps=512KiB")}});
        let refused = hive.rpc("worker_update", asked).expect_err("what is asked for must hold");
        assert_eq!(refused.kind(), "not_enforceable", "{refused}");
    }
}
