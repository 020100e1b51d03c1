//! A model that not everybody may read: shown to its worker by an id-mapped mount, or refused by name.

#![allow(clippy::expect_used, reason = "a worker that is not as a test needs it ends the test")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, http_get, require_root};

const POLICY: &str = "[worker]\nbinary = \"mock-worker\"\n";

fn hive(options: HiveOptions) -> Hive {
    Hive::start(options.policy("plain", POLICY).model("m.gguf", b"secret weights").model("n.gguf", b"other weights"))
}

/// What a worker for `model` reads at `path` inside.
fn read(hive: &Hive, model: &str, path: &str) -> Result<Value, test_support::RpcError> {
    let worker = hive.rpc("worker_spawn", json!({"worker_id": "w", "model": model, "policy": "plain", "device": "cpu"}))?;
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    let reply = http_get(port, &format!("/read?path={path}")).expect("the worker answers").text();
    hive.call("worker_stop", json!({"worker_id": "w", "grace_ms": 0}));
    hive.call("worker_delete", json!({"worker_id": "w"}));
    Ok(serde_json::from_str(&reply).expect("JSON"))
}

/// tmpfs, where the fixture lies, can be id-mapped from Linux 6.3 on, ext4 from 5.12 on.
fn can_map(hive: &Hive) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("the kernel's release");
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let on_tmpfs = nix::sys::statfs::statfs(hive.directory()).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    version >= if on_tmpfs { (6, 3) } else { (5, 12) }
}

#[test]
fn a_private_model_is_its_workers_own_and_nothing_changes_on_disk() {
    require_root!();
    let hive = hive(HiveOptions::default());
    let file = hive.directory().join("models/m.gguf");
    for (uid, mode) in [(0, 0o600), (12_345, 0o400)] {
        chown(&file, Some(uid), Some(uid)).expect("chown");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).expect("chmod");
        let before = std::fs::metadata(&file).map(|m| (m.uid(), m.mode(), m.ctime(), m.ctime_nsec())).expect("stat");
        let asked = read(&hive, "m.gguf", "/models/m.gguf");
        if !can_map(&hive) {
            let error = asked.expect_err("no map, no model");
            assert!(error.kind() == "model_not_readable" && error.message.contains("id-mapped"), "{error}");
            continue;
        }
        let read = asked.expect("it is mapped");
        assert!(read["ok"] == true && read.to_string().contains("secret weights"), "{read}");
        let after = std::fs::metadata(&file).map(|m| (m.uid(), m.mode(), m.ctime(), m.ctime_nsec())).expect("stat");
        assert_eq!(after, before);
    }
    let inside = read(&hive, "n.gguf", "/models/m.gguf").expect("one that all may read");
    assert_eq!(inside["ok"], false, "a worker for another model has no map, nor the file: {inside}");
    let left = std::process::Command::new("pgrep").args(["-P", &hive.pid().to_string()]).output().expect("pgrep").stdout;
    assert_eq!(String::from_utf8_lossy(&left).lines().count(), 1, "the map's process is gone: only the launcher is left");
}

#[test]
fn what_not_even_its_owner_may_read_is_refused() {
    require_root!();
    let hive = hive(HiveOptions::default());
    let file = hive.directory().join("models/m.gguf");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o000)).expect("chmod");
    let error = read(&hive, "m.gguf", "/models/m.gguf").expect_err("nobody may read it");
    assert!(error.kind() == "model_not_readable" && error.message.contains("mode 0000"), "{error}");
}

#[test]
fn an_ordinary_user_reads_its_own_model_and_no_other() {
    require_root!();
    if std::fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() == "0") {
        test_support::skip!("unprivileged user namespaces");
    }
    let hive = hive(HiveOptions::default().as_nobody());
    let file = hive.directory().join("models/m.gguf");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("chmod");
    let error = read(&hive, "m.gguf", "/models/m.gguf").expect_err("it is root's");
    assert_eq!(error.kind(), "model_not_readable", "{error}");
    chown(&file, Some(65_534), None).expect("chown");
    let own = read(&hive, "m.gguf", "/models/m.gguf").expect("its own");
    assert!(own.to_string().contains("secret weights"), "{own}");
}
