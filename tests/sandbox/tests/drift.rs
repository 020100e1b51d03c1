//! Trust, then verify: an honest worker is as planned, and whatever is broken from outside is named at the next look.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, pid, require_root, skip, time_factor};

/// Looked at after exec and on request only, so that nothing but the test's own look finds what the test has broken.
const QUIET: &str = "[verify]\ninterval = \"0\"\n";
const PLAIN: &str = "[worker]\nbinary = \"mock-worker\"\n[limits]\npids_max = 64\nopen_files = 256\n[request]\nmay_set = [\"args\"]\n";

fn hive() -> Hive {
    Hive::start(HiveOptions::default().policy("plain", &format!("{PLAIN}{QUIET}")))
}

fn spawn(hive: &Hive, id: &str, policy: &str) -> Value {
    spawn_with(hive, id, policy, json!({"device": "cpu"}))
}

fn spawn_with(hive: &Hive, id: &str, policy: &str, more: Value) -> Value {
    let mut asked = json!({"worker_id": id, "model": "m", "policy": policy});
    for (name, value) in more.as_object().into_iter().flatten() {
        asked[name] = value.clone();
    }
    hive.call("worker_spawn", asked)
}

fn verify(hive: &Hive, id: &str) -> Value {
    hive.call("worker_verify", json!({"worker_id": id}))
}

#[track_caller]
fn assert_honest(hive: &Hive, id: &str, unseen: &[&str]) {
    let worker = verify(hive, id);
    assert_eq!(worker["drift"], json!([]), "{worker}");
    let seen = worker["verified"]["unseen"].as_array().cloned().unwrap_or_else(|| panic!("never looked at: {worker}"));
    let known = |text: &Value| text.as_str().is_some_and(|t| unseen.iter().any(|u| t.contains(u)));
    assert!(seen.iter().all(known) && seen.len() == unseen.len(), "{seen:?}, expected {unseen:?}");
}

/// One look finds one difference, whose sentence has all of `words`.
#[track_caller]
fn assert_drift(hive: &Hive, id: &str, words: &[&str]) -> Value {
    let worker = verify(hive, id);
    let drift = worker["drift"].as_array().cloned().unwrap_or_default();
    let named = |d: &Value| d.as_str().is_some_and(|d| words.iter().all(|w| d.contains(w)));
    assert!(drift.iter().any(named), "{words:?} is not in {drift:?}");
    assert!(drift.iter().all(named), "more than {words:?}: {drift:?}");
    worker
}

/// The directory of the worker's leaf in the hierarchy of `controller`, or in the v2 tree.
fn leaf(worker: &Value, controller: &str) -> Option<PathBuf> {
    let path = worker["cgroup"]["path"].as_str()?.trim_start_matches('/');
    let mounts = [controller, "unified", ""].map(|m| Path::new("/sys/fs/cgroup").join(m).join(path));
    mounts.into_iter().find(|dir| dir.join("cgroup.procs").exists())
}

#[test]
fn an_honest_worker_is_as_planned_with_all_its_processes() {
    require_root!();
    let hive = hive();
    let worker = spawn_with(&hive, "w", "plain", json!({"device": "cpu", "args": ["--fork", "3", "--daemonize"]}));
    let count = || hive.call("worker_process_list", json!({"worker_id": "w"})).as_array().map_or(0, Vec::len);
    eventually("its children", Duration::from_secs(10), || (count() >= 5).then_some(()));
    let before = hive.call("worker_status", json!({"worker_id": "w"}));
    assert!(before["verified"]["at"].is_string(), "looked at after exec: {before}");
    assert!(!before["not_in_force"].to_string().contains("device_program"), "the program is on its leaf, and found there: {before}");
    for _ in 0..5 {
        assert_honest(&hive, "w", &[]);
    }
    let after = hive.call("worker_status", json!({"worker_id": "w"}));
    assert_eq!(before["generation"], after["generation"], "a look that finds nothing is no change");
    let said = hive.cli(["verify", "w"]);
    assert_eq!((said.status.code(), String::from_utf8_lossy(&said.stdout).as_ref()), (Some(0), "w is as planned\n"), "{said:?}");
    assert_eq!(hive.rpc("worker_verify", json!({"worker_id": "x"})).expect_err("there is none").kind(), "not_found");
    hive.call("worker_stop", json!({"worker_id": "w"}));
    assert_eq!(hive.rpc("worker_verify", json!({"worker_id": "w"})).expect_err("it has ended").kind(), "not_allowed_now");
    drop(worker);
}

#[test]
fn an_honest_worker_of_another_kind_is_as_planned() {
    require_root!();
    let host = "[worker]\nbinary = \"mock-worker\"\n[network]\nmode = \"host\"\n";
    let unix = "[worker]\nbinary = \"mock-worker\"\ncommand = [\"{binary}\", \"--socket\", \"{socket}\"]\n";
    let gpu = "[worker]\nbinary = \"mock-worker\"\n[devices]\ngpus = \"leased\"\n";
    let node = "[[gpu]]\nindex = 0\nuuid = \"GPU-5c0e3b1a-0000-4000-8000-000000000000\"\nvendor = \"nvidia\"\nname = \"Simulated\"\nmemory = \"80GiB\"\nnodes = [\"/dev/full\"]\n";
    let may = "[worker]\nbinary = \"mock-worker\"\n[credentials]\ncapabilities = [{ name = \"CAP_MKNOD\", reason = \"a test\" }]\n";
    let apart = "[worker]\nbinary = \"mock-worker\"\n[credentials]\nuser = \"user-namespace\"\n";
    let limited = "[worker]\nbinary = \"mock-worker\"\n[limits]\nfile_size = \"1GiB\"\nlocked_memory = \"64KiB\"\nopen_files = 99\n";
    // Who may execute it and not read it: its process is not dumpable (execve(2)).
    let hidden = "[worker]\nbinary = \"hidden-worker\"\n";
    let mut options = HiveOptions::default().devices(node);
    for (name, text) in
        [("host", host), ("unix", unix), ("gpu", gpu), ("may", may), ("hidden", hidden), ("apart", apart), ("limited", limited)]
    {
        options = options.policy(name, &format!("{text}{QUIET}"));
    }
    let hive = Hive::start(options);
    let (there, hidden) = (hive.directory().join("bin/mock-worker"), hive.directory().join("bin/hidden-worker"));
    fs::copy(there, &hidden).expect("copy the mock worker");
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o711)).expect("hide the mock worker");
    for (name, device, unseen) in [
        ("host", json!("cpu"), &[][..]),
        ("unix", json!("cpu"), &[]),
        ("gpu", json!(0), &[]),
        ("apart", json!("cpu"), &[]),
        ("limited", json!("cpu"), &[]),
        // An init that lacks the worker's capabilities may not look at its namespaces (ptrace(2)), and says so.
        ("may", json!("cpu"), &["keeps them from its own uid"]),
        ("hidden", json!("cpu"), &["keeps them from its own uid"]),
    ] {
        spawn_with(&hive, name, name, json!({"device": device}));
        assert_honest(&hive, name, unseen);
    }
}

#[test]
fn an_honest_worker_in_a_directory_as_its_root_is_as_planned() {
    require_root!();
    if !Path::new("/bin/busybox").exists() {
        skip!("busybox-static");
    }
    let open = fs::Permissions::from_mode(0o755);
    let root = tempfile::Builder::new().permissions(open).tempdir_in("/run").expect("a directory");
    for name in ["bin", "www"] {
        fs::create_dir(root.path().join(name)).expect("a directory in the root");
    }
    fs::copy("/bin/busybox", root.path().join("bin/busybox")).expect("copy busybox");
    fs::write(root.path().join("www/health"), "well\n").expect("a page");
    let command = "command = [\"{binary}\", \"httpd\", \"-f\", \"-p\", \"127.0.0.1:{port}\", \"-h\", \"/www\"]";
    let text = format!("[worker]\nbinary = \"busybox\"\n{command}\n[filesystem]\nroot = \"{}\"\n{QUIET}", root.path().display());
    let hive = Hive::start(HiveOptions::default().policy("rooted", &text));
    spawn(&hive, "w", "rooted");
    assert_honest(&hive, "w", &[]);
}

#[test]
fn on_a_host_whose_mounts_are_shared_no_mount_of_a_worker_is() {
    require_root!();
    // systemd makes them so. A hive that this thread starts is in this thread's mount namespace.
    let apart = || {
        let all = |flag| mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | flag, None::<&str>).expect("set propagation");
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        all(MsFlags::MS_PRIVATE);
        all(MsFlags::MS_SHARED);
        let hive = Hive::start(HiveOptions::default().policy("plain", &format!("{PLAIN}{QUIET}")).model("m.gguf", b"a model"));
        let worker = spawn_with(&hive, "w", "plain", json!({"device": "cpu", "model": "m.gguf"}));
        let table = fs::read_to_string(format!("/proc/{}/mountinfo", pid(&worker))).expect("its mounts");
        assert!(table.contains(" /models/m.gguf "), "{table}");
        assert_honest(&hive, "w", &[]);
    };
    std::thread::scope(|scope| scope.spawn(apart).join().expect("the test in a thread of its own"));
}

#[test]
fn an_honest_worker_of_an_ordinary_user_is_as_planned() {
    require_root!();
    let number = |path: &str| fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) || number("/proc/sys/user/max_user_namespaces") == Some(0) {
        skip!("unprivileged user namespaces");
    }
    let unix = "[worker]\nbinary = \"mock-worker\"\ncommand = [\"{binary}\", \"--socket\", \"{socket}\"]\n";
    let options = HiveOptions::default().policy("plain", &format!("[worker]\nbinary = \"mock-worker\"\n{QUIET}"));
    let hive = Hive::start(options.policy("unix", &format!("{unix}{QUIET}")).as_nobody());
    for name in ["plain", "unix"] {
        let worker = spawn(&hive, name, name);
        let unseen: &[&str] = if worker["cgroup"]["path"].is_null() { &["no cgroup that lists them"] } else { &[] };
        assert_honest(&hive, name, unseen);
    }
}

#[test]
fn a_process_that_is_taken_out_of_its_cgroup_is_named_with_its_place() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w", "plain");
    let Some(home) = leaf(&worker, "memory") else { skip!("a writable cgroup") };
    let top = home.ancestors().nth(home.components().count() - if home.starts_with("/sys/fs/cgroup/memory") { 5 } else { 4 });
    let top = top.filter(|t| t.join("cgroup.procs").exists()).map_or_else(|| mount_of(&home), Path::to_owned);
    let away = top.join(format!("rbee-hive-test-away-{}", std::process::id()));
    fs::create_dir(&away).expect("a group of the test's own");
    fs::write(away.join("cgroup.procs"), pid(&worker).to_string()).expect("move the worker");
    let name = away.file_name().expect("a name").to_string_lossy().into_owned();
    let seen = verify(&hive, "w");
    fs::write(home.join("cgroup.procs"), pid(&worker).to_string()).expect("move the worker back");
    eventually("the group to be empty", Duration::from_secs(5), || fs::remove_dir(&away).ok());
    let drift = seen["drift"].to_string();
    assert!(drift.contains(&format!("process {} (mock-worker)", pid(&worker))) && drift.contains(&name), "{drift}");
    assert_honest(&hive, "w", &[]);
}

/// The mount that a cgroup's directory is on.
fn mount_of(dir: &Path) -> PathBuf {
    let named = ["memory", "unified"].map(|m| Path::new("/sys/fs/cgroup").join(m));
    named.into_iter().find(|m| dir.starts_with(m)).unwrap_or_else(|| "/sys/fs/cgroup".into())
}

#[test]
fn a_stranger_in_the_workers_cgroup_is_named() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w", "plain");
    let Some(home) = leaf(&worker, "pids") else { skip!("a writable cgroup") };
    let mut stranger = Command::new("sleep").arg("600").spawn().expect("start a stranger");
    let moved = fs::write(home.join("cgroup.procs"), stranger.id().to_string());
    let seen = verify(&hive, "w");
    let _ = stranger.kill();
    let _ = stranger.wait();
    moved.expect("move the stranger");
    let drift = seen["drift"].to_string();
    assert!(drift.contains(&format!("process {} (sleep) is in the worker's cgroup and not of its sandbox", stranger.id())), "{drift}");
    assert_honest(&hive, "w", &[]);
}

#[test]
fn a_limit_that_is_raised_behind_the_hives_back_is_named_and_its_repair_too() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w", "plain");
    let Some(file) = leaf(&worker, "pids").map(|l| l.join("pids.max")).filter(|f| f.exists()) else { skip!("a pids controller") };
    fs::write(&file, "max").expect("raise the limit");
    let seen = assert_drift(&hive, "w", &["pids.max", "\"max\"", "pids_max = 64"]);
    assert!(seen["generation"].as_u64() > worker["generation"].as_u64(), "a change has a number: {seen}");
    assert!(hive.stderr().contains("no longer as planned"), "{}", hive.stderr());
    let said = hive.cli(["verify", "w"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stdout).contains("pids.max"), "{said:?}");
    fs::write(&file, "64").expect("put the limit back");
    assert_honest(&hive, "w", &[]);
    assert!(hive.stderr().contains("as planned again"), "{}", hive.stderr());
}

#[test]
fn a_process_limit_that_is_not_the_plans_is_named() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w", "plain");
    // Downwards and with the worker's own uid, which needs no CAP_SYS_RESOURCE.
    let mut lower = as_worker(pid(&worker), "setpriv");
    let set = lower.args(["prlimit", "--pid", &pid(&worker).to_string(), "--nofile=32:32"]).status();
    if !set.is_ok_and(|s| s.success()) {
        skip!("setpriv(1) and prlimit(1)");
    }
    assert_drift(&hive, "w", &["mock-worker", "\"Max open files\" 32", "planned 256"]);
}

/// `setpriv` with a worker's uid and gid; COMMAND is to follow.
fn as_worker(pid: i32, setpriv: &str) -> Command {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let id = status.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().next()).expect("a uid").to_owned();
    let mut command = Command::new(setpriv);
    command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
    command
}

#[test]
fn a_process_that_is_put_into_the_sandbox_is_named_with_its_descriptors() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w", "plain");
    let entered = as_worker(pid(&worker), "setpriv");
    let mut intruder = Command::new("nsenter");
    intruder
        .args(["-t", &pid(&worker).to_string(), "-m", "-p", "-n", "-i", "-u", "setpriv"])
        .args(entered.get_args())
        .args(["sleep", "600"]);
    // A directory of the host comes along as its standard input. The worker's end is the intruder's: it is in that pid namespace.
    let mut intruder = intruder.stdin(fs::File::open("/").expect("a directory")).spawn().expect("start nsenter(1)");
    let seen = || verify(&hive, "w")["drift"].to_string();
    let drift = eventually("the intruder to be seen", Duration::from_secs(10), || Some(seen()).filter(|d| d.contains("(sleep)")));
    for words in [
        "(sleep) of the sandbox is in the cgroup",
        "(sleep) of the sandbox (/) leads to a mount that is not",
        "the hive's cgroup namespace",
    ] {
        assert!(drift.contains(words), "{words} is not in {drift}");
    }
    hive.call("worker_stop", json!({"worker_id": "w", "grace_ms": 0}));
    intruder.wait().expect("it ends with the sandbox");
}

#[test]
fn a_mount_that_is_added_or_changed_from_outside_is_named() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w", "plain");
    within_mounts_of(pid(&worker), || mount(Some("x"), "/tmp", Some("tmpfs"), MsFlags::empty(), None::<&str>)).expect("mount inside");
    let drift = verify(&hive, "w")["drift"].to_string();
    assert!(drift.contains("a mount of tmpfs on /tmp that was not made"), "{drift}");
    within_mounts_of(pid(&worker), || umount2("/tmp", MntFlags::MNT_DETACH)).expect("unmount inside");
    assert_honest(&hive, "w", &[]);
    let writable = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    within_mounts_of(pid(&worker), || mount(None::<&str>, "/", None::<&str>, writable, None::<&str>)).expect("remount inside");
    let drift = verify(&hive, "w")["drift"].to_string();
    assert!(drift.contains("the mount on / lacks ro"), "{drift}");
}

/// Acts in the mount namespace of a process: a thread with its own file system context may enter one.
fn within_mounts_of<T: Send>(pid: i32, act: impl FnOnce() -> nix::Result<T> + Send) -> nix::Result<T> {
    std::thread::scope(|scope| {
        let entered = scope.spawn(move || {
            unshare(CloneFlags::CLONE_FS)?;
            let namespace = fs::File::open(format!("/proc/{pid}/ns/mnt")).expect("its namespace");
            setns(namespace.as_fd(), CloneFlags::CLONE_NEWNS)?;
            act()
        });
        entered.join().expect("a thread")
    })
}

#[test]
fn a_device_list_that_is_loosened_is_named() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w", "plain");
    let Some(file) = leaf(&worker, "devices").map(|l| l.join("devices.allow")).filter(|f| f.exists()) else { skip!("v1 devices") };
    fs::write(&file, "c 10:229 rw").expect("allow a device");
    assert_drift(&hive, "w", &["devices.list", "c 10:229 rw"]);
}

#[test]
fn a_policy_may_kill_for_drift_and_the_verdict_says_so() {
    require_root!();
    let text = "[worker]\nbinary = \"mock-worker\"\n[limits]\npids_max = 64\n[verify]\ninterval = \"1s\"\non_drift = \"kill\"\n";
    let hive = Hive::start(HiveOptions::default().policy("strict", text));
    let worker = spawn(&hive, "w", "strict");
    let Some(file) = leaf(&worker, "pids").map(|l| l.join("pids.max")).filter(|f| f.exists()) else { skip!("a pids controller") };
    // It lives through looks that find nothing.
    let looked = |status: &Value| status["verified"]["at"].as_str().map(str::to_owned);
    let status = || hive.call("worker_status", json!({"worker_id": "w"}));
    let first = eventually("a look", Duration::from_secs(10), || looked(&status()));
    eventually("another look", Duration::from_secs(10), || looked(&status()).filter(|at| *at != first));
    assert_eq!(status()["state"], "ready");
    fs::write(&file, "max").expect("raise the limit");
    let ended = hive.call("worker_wait", json!({"worker_id": "w", "for": "exit", "timeout_ms": 20_000 * time_factor()}));
    let verdict = &ended["verdict"];
    assert_eq!((&verdict["kind"], &verdict["by"], &verdict["forced"]), (&json!("stopped"), &json!("drift"), &json!(true)), "{ended}");
    assert_eq!(ended["state"], "failed", "{ended}");
    assert!(ended["drift"].to_string().contains("pids.max"), "{ended}");
}

#[test]
fn a_look_costs_the_hive_little() {
    require_root!();
    if time_factor() > 1 {
        skip!("a machine of full speed");
    }
    let hive = hive();
    spawn(&hive, "w", "plain");
    let cpu = || {
        let tasks = fs::read_dir(format!("/proc/{}/task", hive.pid())).expect("its threads").flatten();
        let spent = tasks.filter_map(|t| fs::read_to_string(t.path().join("schedstat")).ok()?.split(' ').next()?.parse::<u64>().ok());
        spent.sum::<u64>()
    };
    let median = |method: &str| {
        let mut costs: Vec<u64> = (0..60)
            .map(|_| {
                let before = cpu();
                hive.call(method, json!({"worker_id": "w"}));
                cpu().saturating_sub(before) / 1000
            })
            .collect();
        costs.sort_unstable();
        costs[costs.len() / 2]
    };
    let (status, look) = (median("worker_status"), median("worker_verify"));
    let wall = verify(&hive, "w")["verified"]["usec"].clone();
    #[allow(clippy::print_stdout, reason = "the figure is what this test is for")]
    {
        println!(
            "one look: {} µs of the hive's CPU (worker_verify {look}, worker_status {status}), {wall} µs by the clock",
            look.saturating_sub(status)
        );
    }
    // Many times what it is in a release build.
    assert!(look.saturating_sub(status) < 5_000, "{look} − {status} µs");
}
