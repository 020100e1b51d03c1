//! What two workers have in common, which is nothing but what both were given; and what a worker with rights of its own does to the host.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use sandbox_tests::{Sandboxed, is_root};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, exclusively, http_get, require_root};

const STRONG: &str = "[worker]\nbinary = \"unused\"\n[seccomp]\nprofile = \"none\"\nreason = \"a test compares\"\n\
     [credentials]\ncapabilities = [{ name = \"CAP_SYS_ADMIN\", reason = \"a test compares\" }]\n\
     [landlock]\nenforce = \"none\"\nreason = \"a test compares\"\n";

fn ask(worker: &Value, path: &str) -> Value {
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    let reply = http_get(port, path).expect("the worker answers");
    serde_json::from_str(&reply.text()).unwrap_or_else(|e| panic!("{path}: {e}: {}", reply.text()))
}

/// A directory that every worker may write.
fn shared() -> tempfile::TempDir {
    let directory = tempfile::tempdir_in("/run").expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).expect("open it");
    directory
}

#[test]
fn two_workers_share_what_both_were_given_and_no_scratch() {
    require_root!();
    let shared = shared();
    let policy = format!("[worker]\nbinary = \"mock-worker\"\n[filesystem]\nread_write = [\"{}\"]\n", shared.path().display());
    let hive = Hive::start(HiveOptions::default().policy("sharing", &policy));
    let spawn = |id: &str| hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "sharing", "device": "cpu"}));
    let (one, two) = (spawn("one"), spawn("two"));
    let given = shared.path().join("x").display().to_string();
    for path in [given.as_str(), "/tmp/x", "/dev/shm/x", "/run/worker/x"] {
        assert_eq!(ask(&one, &format!("/write?path={path}&text=hello"))["ok"], true, "{path}");
        let read = ask(&two, &format!("/read?path={path}"));
        assert_eq!(read["ok"], json!(path == given), "{path}: {read}");
        assert_eq!(ask(&one, &format!("/read?path={path}"))["ok"], true, "{path} is still there for the first");
    }
    for pid in [&two["pid"], &two["init_pid"], &json!(hive.pid().as_raw())] {
        assert_eq!(ask(&one, &format!("/kill?pid={pid}&signal=0"))["errno"], 3, "{pid} has no number in here");
    }
}

#[test]
fn what_a_worker_with_rights_mounts_stays_its_own() {
    if !is_root() {
        return;
    }
    let _alone = exclusively();
    let table = || fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let before = table();
    let script =
        "mount -t tmpfs inside /tmp && mount --make-rshared / && mount -t tmpfs inside /dev/shm; grep -c ' inside ' /proc/self/mountinfo";
    let strong = Sandboxed::with_policy(STRONG).sh(script);
    assert_eq!(strong.stdout.trim(), "2", "it can mount, and sees it: {strong:?}");
    assert_eq!(table(), before);
    let weak = Sandboxed::new().sh(script);
    assert_eq!(weak.stdout.trim(), "0", "{weak:?}");
}

#[test]
fn a_host_name_that_a_worker_with_rights_sets_is_its_own() {
    if !is_root() {
        return;
    }
    let before = nix::unistd::gethostname().expect("host name");
    let strong = Sandboxed::with_policy(STRONG).sh("hostname hostile && hostname");
    assert_eq!(strong.stdout.trim(), "hostile", "{strong:?}");
    assert_eq!(nix::unistd::gethostname().expect("host name"), before);
}

#[test]
fn a_link_that_one_worker_plants_leads_no_later_one_out_of_what_it_was_given() {
    if !is_root() {
        return;
    }
    let (shared, victim) = (shared(), shared());
    fs::create_dir_all(victim.path().join("deep")).expect("a directory");
    fs::write(victim.path().join("deep/secret"), "secret").expect("a file");
    fs::set_permissions(victim.path().join("deep"), fs::Permissions::from_mode(0o777)).expect("open it");
    let deep = shared.path().join("sub/deep");
    let run = |list: &str, script: String| {
        let text = format!("[worker]\nbinary = \"unused\"\n[filesystem]\n{list} = [\"{}\"]\n", deep.display());
        Sandboxed::with_policy(&text).sh(&script)
    };
    let read = format!("cat {}/secret; echo x > {}/written", deep.display(), deep.display());
    // As it was meant: a directory with a file.
    fs::create_dir_all(&deep).expect("a directory");
    fs::set_permissions(&deep, fs::Permissions::from_mode(0o777)).expect("open it");
    fs::write(deep.join("secret"), "its own").expect("a file");
    assert_eq!(run("read_write", read.clone()).stdout, "its own");
    // As a worker that may write the directory above leaves it: what is on the way leads elsewhere.
    fs::rename(shared.path().join("sub"), shared.path().join("moved")).expect("rename");
    symlink(victim.path(), shared.path().join("sub")).expect("a link");
    for list in ["read_write", "read_only"] {
        let ended = run(list, read.clone());
        assert!(!ended.stdout.contains("secret"), "{list}: {ended:?}");
    }
    assert!(!Path::new(&victim.path().join("deep/written")).exists(), "the host was written to");
}

#[test]
fn the_program_that_made_the_sandbox_cannot_be_run_or_written_from_inside() {
    if !is_root() {
        return;
    }
    // CVE-2019-5736: a command that is /proc/self/exe is the runtime's own binary while it has not executed anything.
    for command in ["/proc/self/exe", "/proc/1/exe"] {
        let ended = Sandboxed::new().run(&[command, "--version"]);
        assert!(matches!(ended.status, Some(126 | 127)), "{command}: {ended:?}");
        assert!(!ended.stdout.contains("rbee"), "{command}: {ended:?}");
    }
    let own = Sandboxed::new().run(&["/bin/sh", "-c", "exec /proc/self/exe -c 'echo its own'"]);
    assert_eq!(own.stdout, "its own\n", "a program of its own may be run by that name: {own:?}");
}

#[test]
fn a_command_starts_in_its_home_wherever_its_caller_is() {
    if !is_root() {
        return;
    }
    let caller = tempfile::tempdir_in("/run").expect("a directory");
    let sandboxed = Sandboxed::new();
    let mut run =
        sandboxed.command(&["/bin/sh", "-c", "[ \"$(pwd)\" = \"$HOME\" ] && echo home; ls ../../../.. | grep -c . ; ls /proc/self/cwd/.."]);
    let output = run.current_dir(caller.path()).output().expect("start it");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.starts_with("home\n"), "{output:?}");
    let name = caller.path().file_name().expect("a name").to_string_lossy().into_owned();
    assert!(!text.contains(&name), "{text}");
}
