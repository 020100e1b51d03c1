//! Workers through a hive: from request to verdict, and back to nothing.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, exclusively, http_get, require_root, time_factor};

fn hive() -> Hive {
    Hive::start(HiveOptions::default())
}

fn spawn(hive: &Hive, id: &str, args: &[&str]) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": "mock", "device": "cpu", "args": args}))
}

fn port(worker: &Value) -> u16 {
    worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or_else(|| panic!("no port: {worker}"))
}

fn pid(worker: &Value) -> i32 {
    worker["pid"].as_i64().and_then(|p| i32::try_from(p).ok()).unwrap_or_else(|| panic!("no pid: {worker}"))
}

fn wait_exit(hive: &Hive, id: &str) -> Value {
    hive.call("worker_wait", json!({"worker_id": id, "for": "exit", "timeout_ms": 30_000 * time_factor()}))
}

fn info(worker: &Value) -> Value {
    let reply = http_get(port(worker), "/info").unwrap_or_else(|e| panic!("the worker does not answer: {e}"));
    serde_json::from_str(&reply.text()).unwrap_or_else(|e| panic!("/info: {e}: {}", reply.text()))
}

#[test]
fn a_ready_worker_answers_on_its_port_from_its_own_cgroup_and_namespaces() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w1", &[]);
    assert_eq!(worker["state"], "ready", "{worker}");
    // The list of devices is enforced on every host that these tests run on, and by a program that the launcher knows where there is v2.
    assert!(worker["not_in_force"].as_array().is_some_and(|l| l.iter().all(|n| n["setting"] != "device_program")), "{worker}");
    assert_eq!(worker["endpoint"], format!("http://127.0.0.1:{}", port(&worker)));
    assert!(info(&worker).is_object());
    let pid = pid(&worker);
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("the worker's cgroups");
    let path = worker["cgroup"]["path"].as_str().expect("a cgroup");
    assert!(path.ends_with("/w-w1/worker") && groups.lines().any(|l| l.ends_with(path)), "{path} not in\n{groups}");
    for kind in ["mnt", "pid", "ipc", "uts", "net", "cgroup"] {
        let of = |p: &str| std::fs::read_link(format!("/proc/{p}/ns/{kind}")).expect("a namespace");
        assert_ne!(of(&pid.to_string()), of("self"), "{kind}");
    }
    let list = hive.call("worker_process_list", json!({"worker_id": "w1"}));
    assert!(list.as_array().is_some_and(|l| l.iter().any(|p| p["pid"] == pid && p["rss_bytes"].as_u64() > Some(0))), "{list}");
    assert!(worker["resources"]["memory_current"].as_u64() > Some(0), "{worker}");
    assert_eq!(worker["limits"]["memory_max"], 256 << 20, "{worker}");
}

#[test]
fn stop_returns_when_cgroup_and_port_are_free_and_may_be_said_twice() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w1", &["--daemonize"]);
    let before = std::net::TcpListener::bind(("127.0.0.1", port(&worker)));
    assert!(before.is_err(), "the hive holds the port");
    let stopped = hive.call("worker_stop", json!({"worker_id": "w1"}));
    assert_eq!((&stopped["state"], &stopped["verdict"]["kind"]), (&json!("stopped"), &json!("stopped")), "{stopped}");
    assert!(std::net::TcpListener::bind(("127.0.0.1", port(&worker))).is_ok(), "the port is not free");
    let leaf = worker["cgroup"]["path"].as_str().expect("a path").trim_end_matches("/worker").trim_start_matches('/').to_owned();
    for entry in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
        assert!(!entry.path().join(&leaf).exists(), "{:?} is left", entry.path().join(&leaf));
    }
    assert!(!std::path::Path::new("/sys/fs/cgroup").join(&leaf).exists());
    let again = hive.call("worker_stop", json!({"worker_id": "w1"}));
    assert_eq!(again["verdict"], stopped["verdict"]);
}

#[test]
fn grace_expiry_kills_the_whole_cgroup() {
    require_root!();
    let hive = hive();
    spawn(&hive, "w1", &["--ignore-sigterm", "--fork", "3"]);
    let started = Instant::now();
    let stopped = hive.call("worker_stop", json!({"worker_id": "w1", "grace_ms": 300}));
    assert!(started.elapsed() >= Duration::from_millis(300), "killed before its grace was over");
    assert_eq!((&stopped["verdict"]["forced"], &stopped["state"]), (&json!(true), &json!("stopped")), "{stopped}");
    spawn(&hive, "w2", &["--ignore-sigterm"]);
    let stopped = hive.call("worker_stop", json!({"worker_id": "w2", "grace_ms": 0}));
    assert_eq!(stopped["verdict"]["forced"], json!(true), "{stopped}");
}

#[test]
fn out_of_memory_is_told_and_hive_and_sibling_live() {
    require_root!();
    let hive = hive();
    let sibling = spawn(&hive, "sibling", &[]);
    let victim = hive.call(
        "worker_spawn",
        json!({"worker_id": "victim", "model": "m", "policy": "mock", "device": "cpu", "limits": {"memory_max": "48MiB"}}),
    );
    let _ = http_get(port(&victim), "/alloc?bytes=209715200");
    let ended = wait_exit(&hive, "victim");
    assert_eq!((&ended["state"], &ended["verdict"]["kind"]), (&json!("failed"), &json!("oom_killed")), "{ended}");
    assert_eq!(ended["verdict"]["limit"], 48 << 20, "{ended}");
    assert_eq!(http_get(port(&sibling), "/health").expect("the sibling lives").status, 200);
    assert_eq!(hive.call("worker_status", json!({"worker_id": "sibling"}))["state"], "ready");
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

/// How long the hive takes to answer what it need not think about.
fn round_trip(hive: &Hive) -> Duration {
    let asked = Instant::now();
    hive.call("worker_list", json!({"state": "ready"}));
    asked.elapsed()
}

/// From the signal that ends a worker to the answer of who waits for that, everything taken back.
fn notice(hive: &Hive, id: &str) -> Duration {
    let worker = spawn(hive, id, &[]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| (wait_exit(hive, id), Instant::now()));
        // Until it waits, or nearly so: a wait that begins later is answered all the sooner.
        eventually("the worker to be ready", Duration::from_secs(5), || {
            (hive.call("worker_status", json!({"worker_id": id}))["state"] == "ready").then_some(())
        });
        kill(Pid::from_raw(pid(&worker)), Signal::SIGABRT).expect("signal the worker that we started");
        let killed = Instant::now();
        let (ended, answered) = waiting.join().expect("a thread");
        assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["signal"]), (&json!("signaled"), &json!(6)), "{ended}");
        answered.saturating_duration_since(killed)
    })
}

#[test]
fn a_crash_is_noticed_at_once_and_told_by_signal_and_status() {
    require_root!();
    let hive = hive();
    let noticed = median((0..11).map(|n| notice(&hive, &format!("k{n}"))).collect());
    // A machine that has other things to do answers nothing within 10 ms.
    let answer = median((0..11).map(|_| round_trip(&hive)).collect());
    let limit = (answer * 10).max(Duration::from_millis(10) * time_factor());
    assert!(noticed < limit, "median {noticed:?}, where a plain answer takes {answer:?}");
    let worker = spawn(&hive, "code", &[]);
    let _ = http_get(port(&worker), "/exit?code=42");
    let ended = wait_exit(&hive, "code");
    assert_eq!(
        (&ended["verdict"]["kind"], &ended["verdict"]["code"], &ended["state"]),
        (&json!("exited"), &json!(42), &json!("failed")),
        "{ended}"
    );
}

#[test]
fn a_real_time_signal_is_sent_noticed_and_told_like_any_other() {
    require_root!();
    let hive = hive();
    spawn(&hive, "w1", &[]);
    hive.call("worker_signal", json!({"worker_id": "w1", "signal": 40}));
    let ended = wait_exit(&hive, "w1");
    assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["signal"]), (&json!("signaled"), &json!(40)), "{ended}");
    let worker = spawn(&hive, "w2", &[]);
    let killed = std::process::Command::new("kill").args(["-34", &pid(&worker).to_string()]).status();
    assert!(killed.is_ok_and(|s| s.success()), "signal the worker that we started");
    let ended = wait_exit(&hive, "w2");
    assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["signal"]), (&json!("signaled"), &json!(34)), "{ended}");
}

#[test]
fn a_worker_that_dies_while_starting_fails_the_spawn_with_verdict_and_log() {
    require_root!();
    let hive = hive();
    let asked = json!({"worker_id": "w1", "model": "m", "policy": "mock", "device": "cpu", "args": ["--never-ready", "--flood", "2000", "--crash-after-ms", "300"]});
    let started = Instant::now();
    let e = hive.rpc("worker_spawn", asked).expect_err("it never becomes ready");
    assert_eq!((e.kind(), &e.data["verdict"]["kind"]), ("start_failed", &json!("signaled")), "{e}");
    assert!(started.elapsed() < Duration::from_secs(10) * time_factor(), "not at once: {:?}", started.elapsed());
    assert!(e.data["log_tail"].as_array().is_some_and(|l| !l.is_empty()), "{e}");
    let e = hive.rpc("worker_spawn", json!({"worker_id": "w1", "model": "m", "policy": "mock"})).expect_err("it is still listed");
    assert_eq!(e.kind(), "already_exists");
    hive.call("worker_delete", json!({"worker_id": "w1"}));
    spawn(&hive, "w1", &[]);
}

#[test]
fn a_worker_that_never_answers_is_a_start_timeout_with_its_last_probe() {
    require_root!();
    let policy = "[worker]\nbinary = \"mock-worker\"\n[readiness]\nstart_timeout = \"2s\"\n[request]\nmay_set = [\"args\"]\n";
    let hive = Hive::start(HiveOptions::default().policy("hasty", policy));
    let asked = json!({"worker_id": "w1", "model": "m", "policy": "hasty", "args": ["--never-ready"]});
    let e = hive.rpc("worker_spawn", asked).expect_err("it never becomes ready");
    assert_eq!(e.kind(), "start_timeout", "{e}");
    let status = hive.call("worker_status", json!({"worker_id": "w1"}));
    assert_eq!((&status["state"], &status["verdict"]["kind"]), (&json!("failed"), &json!("start_timeout")), "{status}");
    assert!(status["verdict"]["last_probe"].as_str().is_some_and(|p| p.contains("503")), "{status}");
}

#[test]
fn a_stranger_on_the_port_does_not_make_a_worker_ready() {
    require_root!();
    let policy = "[worker]\nbinary = \"mock-worker\"\n[readiness]\nstart_timeout = \"2s\"\n[request]\nmay_set = [\"args\"]\n";
    let hive = Hive::start(HiveOptions::default().policy("hasty", policy));
    // It answers, but on another port than its own.
    let asked = json!({"worker_id": "w1", "model": "m", "policy": "hasty", "args": ["--bind-port", "9999"]});
    let e = hive.rpc("worker_spawn", asked).expect_err("nobody answers on its port");
    assert_eq!(e.kind(), "start_timeout", "{e}");
}

#[test]
fn of_two_spawns_with_one_id_one_succeeds_and_one_process_exists() {
    require_root!();
    let hive = hive();
    let results: Vec<_> = std::thread::scope(|scope| {
        let asked = || hive.rpc("worker_spawn", json!({"worker_id": "twin", "model": "m", "policy": "mock", "device": "cpu"}));
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(asked)).collect();
        threads.into_iter().map(|t| t.join().expect("a thread")).collect()
    });
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1, "{results:?}");
    assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|e| e.kind() == "already_exists"), "{results:?}");
    assert_eq!(hive.call("worker_process_list", json!({"worker_id": "twin"})).as_array().map(Vec::len), Some(1));
}

#[test]
fn no_port_is_handed_out_twice_and_the_one_too_many_gets_none() {
    require_root!();
    let ports = 20;
    let hive = Hive::start(HiveOptions::default().argument("--ports").argument("9180-9199"));
    let results: Vec<_> = std::thread::scope(|scope| {
        let hive = &hive;
        let spawn = |n: usize| {
            move || hive.rpc("worker_spawn", json!({"worker_id": format!("p{n}"), "model": "m", "policy": "mock", "device": "cpu"}))
        };
        let threads: Vec<_> = (0..ports * 2).map(|n| scope.spawn(spawn(n))).collect();
        threads.into_iter().map(|t| t.join().expect("a thread")).collect()
    });
    let mut given: Vec<_> = results.iter().flatten().map(port).collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), ports, "distinct ports: {given:?}");
    assert!(results.iter().filter_map(|r| r.as_ref().err()).all(|e| e.kind() == "no_free_port"), "{results:?}");
    hive.call("worker_stop", json!({"worker_id": results.iter().flatten().next().expect("one")["worker_id"], "grace_ms": 0}));
    spawn(&hive, "late", &[]);
}

const STAND_INS: &str = r#"
[[gpu]]
index = 0
uuid = "GPU-5c0e3b1a-0000-4000-8000-000000000000"
vendor = "nvidia"
name = "Simulated"
memory = "80GiB"
nodes = ["/dev/full"]

[[gpu]]
index = 1
uuid = "GPU-5c0e3b1a-0000-4000-8000-000000000001"
vendor = "nvidia"
name = "Simulated"
memory = "80GiB"
nodes = ["/dev/fuse"]
"#;

#[test]
fn a_leased_gpu_is_there_and_another_is_refused_even_by_a_node_of_ones_own() {
    require_root!();
    if !std::path::Path::new("/dev/fuse").exists() {
        test_support::skip!("/dev/fuse as a stand-in");
    }
    let policy = "[worker]\nbinary = \"mock-worker\"\n[devices]\ngpus = \"leased\"\n[credentials]\ncapabilities = [{ name = \"CAP_MKNOD\", reason = \"shows that the refusal is the device policy's\" }]\n";
    let hive = Hive::start(HiveOptions::default().policy("gpu", policy).devices(STAND_INS));
    let worker = hive.call("worker_spawn", json!({"worker_id": "g0", "model": "m", "policy": "gpu", "device": 0}));
    assert_eq!(worker["devices"], json!(["GPU-0"]), "{worker}");
    let ask = |path: &str| http_get(port(&worker), path).expect("the worker answers").text();
    assert!(ask("/open?path=/dev/full&mode=r").contains("\"ok\":true"), "{}", ask("/open?path=/dev/full&mode=r"));
    assert!(ask("/open?path=/dev/fuse&mode=r").contains("\"errno\":2"), "it has no node: {}", ask("/open?path=/dev/fuse&mode=r"));
    assert!(ask("/mknod?path=/tmp/other&major=10&minor=229").contains("\"ok\":true"), "a node can be made");
    assert!(ask("/open?path=/tmp/other&mode=r").contains("\"errno\":1"), "{}", ask("/open?path=/tmp/other&mode=r"));
    let env = info(&worker)["env"].to_string();
    assert!(env.contains("GPU-5c0e3b1a-0000-4000-8000-000000000000") && env.contains("PCI_BUS_ID"), "{env}");
    let e =
        hive.rpc("worker_spawn", json!({"worker_id": "g1", "model": "m", "policy": "gpu", "device": "GPU-0"})).expect_err("it is taken");
    assert_eq!(e.kind(), "device_busy", "{e}");
    let e =
        hive.rpc("worker_spawn", json!({"worker_id": "g1", "model": "m", "policy": "gpu", "device": "GPU-7"})).expect_err("there is none");
    assert_eq!(e.kind(), "no_such_device", "{e}");
    let second = hive.call("worker_spawn", json!({"worker_id": "g1", "model": "m", "policy": "gpu"}));
    assert_eq!(second["devices"], json!(["GPU-1"]), "auto takes the free one: {second}");
    let cpu = hive.call("worker_spawn", json!({"worker_id": "c0", "model": "m", "policy": "mock", "device": "CPU-0"}));
    assert_eq!(info(&cpu)["env"]["CUDA_VISIBLE_DEVICES"], "", "{}", info(&cpu)["env"]);
}

#[test]
fn bad_input_is_refused_by_name_and_leaves_no_entry() {
    require_root!();
    let hive = hive();
    let refused = |params: Value| hive.rpc("worker_spawn", params.clone()).map(|w| panic!("{params} gave {w}")).expect_err("refused");
    for id in ["a/b", "..", "a\0b", &"x".repeat(64), ""] {
        let e = refused(json!({"worker_id": id, "model": "m", "policy": "mock"}));
        assert!(e.code == -32602 && e.message.contains("worker"), "{id:?}: {e}");
    }
    let e = refused(json!({"model": "m", "polizy": "mock"}));
    assert!(e.code == -32602 && (e.message.contains("polizy") || e.data.to_string().contains("polizy")), "{e}");
    assert_eq!(refused(json!({"model": 7, "policy": "mock"})).code, -32602);
    assert_eq!(refused(json!({"model": "m", "policy": "nope"})).kind(), "unknown_policy");
    assert_eq!(refused(json!({"model": "m", "policy": "trusted"})).kind(), "policy_violation");
    assert_eq!(refused(json!({"model": "m", "policy": "mock", "device": "CPU-77"})).kind(), "no_such_device");
    assert!(refused(json!({"model": "m", "policy": "mock", "limits": {"memory_max": -1}})).code != 0);
    assert_eq!(refused(json!({"model": "m", "policy": "mock", "limits": {"memory_max": "1TiB"}})).kind(), "policy_violation");
    assert_eq!(hive.rpc("no_such_method", json!({})).expect_err("no method").code, -32601);
    assert_eq!(hive.rpc("worker_status", json!({"worker_id": "nobody"})).expect_err("nobody").kind(), "not_found");
    assert_eq!(hive.call("worker_list", json!({})), json!([]), "an entry was left");
}

#[test]
fn a_missing_binary_lists_every_place_tried() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("lost", "[worker]\nbinary = \"no-such-llama\"\n"));
    let e = hive.rpc("worker_spawn", json!({"model": "m", "policy": "lost"})).expect_err("there is no such binary");
    assert_eq!(e.kind(), "binary_not_found", "{e}");
    let tried = e.data["tried"].to_string();
    for place in ["/usr/local/bin/no-such-llama", "target/release/no-such-llama"] {
        assert!(tried.contains(place), "{place} not in {tried}");
    }
    assert_eq!(hive.call("worker_list", json!({})), json!([]));
}

#[test]
fn a_model_comes_read_only_and_from_below_model_dirs_only() {
    require_root!();
    let policy = "[worker]\nbinary = \"mock-worker\"\nmodel_dirs = [\"/var/lib/rbee-hive/models\"]\n";
    let hive = Hive::start(HiveOptions::default().policy("models", policy).model("m.gguf", b"weights"));
    let worker = hive.call("worker_spawn", json!({"worker_id": "w1", "model": "m.gguf", "policy": "models"}));
    let inside = info(&worker)["args"].to_string();
    let path = inside.split('"').find(|a| a.ends_with("/m.gguf")).unwrap_or_else(|| panic!("no model in {inside}")).to_owned();
    let ask = |query: String| http_get(port(&worker), &query).expect("the worker answers").text();
    assert!(ask(format!("/open?path={path}&mode=r")).contains("\"ok\":true"));
    assert!(ask(format!("/open?path={path}&mode=w")).contains("\"ok\":false"));
    let e = hive.rpc("worker_spawn", json!({"model": "absent.gguf", "policy": "models"})).expect_err("it is not there");
    assert_eq!(e.kind(), "model_not_found", "{e}");
    let e = hive.rpc("worker_spawn", json!({"model": "/etc/passwd", "policy": "models"})).expect_err("it is elsewhere");
    assert!(["policy_violation", "model_not_found"].contains(&e.kind()), "{e}");
}

/// Writes a MiB where a worker may have a model, and takes it out of the page cache; `None` where reading it back asks no device.
fn cold_file(directory: &std::path::Path) -> Option<std::path::PathBuf> {
    let path = directory.join("cold.gguf");
    std::fs::write(&path, vec![7; 1 << 20]).expect("write a model");
    let file = std::fs::File::open(&path).expect("open a model");
    let read_so_far = || procfs::process::Process::myself().and_then(|p| p.io()).map_or(0, |io| io.read_bytes);
    let forget = || {
        file.sync_all().expect("sync");
        nix::fcntl::posix_fadvise(&file, 0, 0, nix::fcntl::PosixFadviseAdvice::POSIX_FADV_DONTNEED).expect("fadvise");
    };
    forget();
    let before = read_so_far();
    std::fs::read(&path).expect("read a model");
    let is_counted = read_so_far() >= before + (1 << 20);
    forget();
    is_counted.then_some(path)
}

#[test]
fn what_is_read_from_a_disk_is_counted_while_it_runs_and_in_the_end() {
    require_root!();
    let directory = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .tempdir_in("/var/lib")
        .expect("a directory for a model");
    let Some(_cold) = cold_file(directory.path()) else { test_support::skip!("a disk below /var/lib") };
    let policy = "[worker]\nbinary = \"mock-worker\"\nmodel_dirs = [\"/var/empty\"]\n";
    let hive =
        Hive::start(HiveOptions::default().policy("models", policy).argument("--model-dir").argument(&directory.path().to_string_lossy()));
    let worker = hive.call("worker_spawn", json!({"worker_id": "w1", "model": "cold.gguf", "policy": "models", "device": "cpu"}));
    let read = |worker: &Value| worker["resources"]["io_read_bytes"].as_u64().unwrap_or_else(|| panic!("no figure: {worker}"));
    let before = read(&worker);
    let _ = http_get(port(&worker), "/read?path=/models/cold.gguf").expect("the worker reads");
    let after = read(&hive.call("worker_status", json!({"worker_id": "w1"})));
    assert!(after >= before + (1 << 20), "{before} before, {after} after a MiB");
    assert!(read(&hive.call("worker_list", json!({}))[0]) >= after, "the list has it, too");
    let ended = hive.call("worker_stop", json!({"worker_id": "w1"}));
    assert!(read(&ended) >= after, "{ended}");
}

#[test]
fn output_is_kept_in_bounds_and_in_order() {
    require_root!();
    let policy = "[worker]\nbinary = \"mock-worker\"\n[readiness]\nstart_timeout = \"10min\"\n[request]\nmay_set = [\"args\"]\n";
    let hive = Hive::start(HiveOptions::default().policy("loud", policy));
    let bytes: u64 = if time_factor() > 1 { 64 << 20 } else { 1 << 30 };
    let asked = json!({"worker_id": "loud", "model": "m", "policy": "loud", "wait": "started", "args": ["--flood", bytes.to_string()]});
    hive.call("worker_spawn", asked);
    eventually("all of it to be printed", Duration::from_secs(300), || {
        (hive.call("worker_status", json!({"worker_id": "loud"}))["state"] == "ready").then_some(())
    });
    let size = |path: &std::path::Path| -> u64 {
        std::fs::read_dir(path).into_iter().flatten().flatten().filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum()
    };
    let logs = hive.log_dir().join("workers/loud");
    assert!(size(&logs) > 0 && size(&logs) < 20 << 20, "{} bytes of log", size(&logs));
    let status = hive.call("worker_status", json!({"worker_id": "loud"}));
    let init = status["init_pid"].as_i64().expect("an init");
    let rss =
        procfs::process::Process::new(init as i32).and_then(|p| p.stat()).map(|s| s.rss * procfs::page_size()).expect("the init lives");
    assert!(rss < 32 << 20, "the init grew to {rss} bytes");
    let page = hive.call("worker_logs", json!({"worker_id": "loud", "tail": 5}));
    assert_eq!(page["lines"].as_array().map(Vec::len), Some(5), "{page}");
}

#[test]
fn a_client_that_goes_away_in_mid_spawn_loses_no_worker() {
    require_root!();
    let hive = hive();
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "worker_spawn",
        "params": {"worker_id": "kept", "model": "m", "policy": "mock", "args": ["--start-delay-ms", "1000"]}})
    .to_string();
    let mut socket = UnixStream::connect(hive.socket()).expect("connect");
    write!(
        socket,
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("send");
    eventually("the worker to be listed", Duration::from_secs(10), || hive.rpc("worker_status", json!({"worker_id": "kept"})).ok());
    drop(socket);
    let ready = hive.call("worker_wait", json!({"worker_id": "kept", "for": "ready", "timeout_ms": 60_000}));
    assert_eq!(ready["state"], "ready", "{ready}");
}

#[test]
fn stop_while_starting_ends_the_spawn_and_leaves_nothing() {
    require_root!();
    let hive = hive();
    std::thread::scope(|scope| {
        let spawn =
            scope.spawn(|| hive.rpc("worker_spawn", json!({"worker_id": "w1", "model": "m", "policy": "mock", "args": ["--never-ready"]})));
        eventually("the worker to start", Duration::from_secs(10), || {
            hive.rpc("worker_status", json!({"worker_id": "w1"})).ok().filter(|w| w["pid"].is_i64())
        });
        let stopped = hive.call("worker_stop", json!({"worker_id": "w1"}));
        assert_eq!(stopped["state"], "stopped", "{stopped}");
        let e = spawn.join().expect("a thread").expect_err("it was stopped");
        assert_eq!(e.data["verdict"]["kind"], "stopped", "{e}");
    });
}

#[test]
fn streams_come_through_the_forwarder_piece_by_piece() {
    require_root!();
    let hive = hive();
    let worker = spawn(&hive, "w1", &[]);
    let mut socket = TcpStream::connect(("127.0.0.1", port(&worker))).expect("connect");
    socket.write_all(b"GET /stream?chunks=3&delay_ms=150 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("send");
    let (mut pieces, mut buffer) = (0, [0u8; 4096]);
    while socket.read(&mut buffer).expect("read") > 0 {
        pieces += 1;
    }
    assert!(pieces >= 3, "it came in {pieces} pieces");
}

#[test]
fn a_job_tells_its_story_and_ends() {
    require_root!();
    let hive = hive();
    let body = json!({"operation": "worker_spawn", "hive_id": "localhost", "model": "m", "worker": "w1", "device": "CPU-0"}).to_string();
    let request = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = test_support::http_over_tcp(hive.port(), &request, Duration::from_secs(10)).expect("an answer");
    let job: Value = serde_json::from_str(&reply.text()).expect("JSON");
    let url = job["sse_url"].as_str().expect("an address");
    let stream = hive.get(url).text();
    let mut from = 0;
    for action in [
        "[router    ] worker_spawn_start",
        "] spawn_start    :",
        "] spawn_port     :",
        "] spawn_binary   :",
        "] spawn_process  :",
        "] spawn_registered:",
        "] spawn_waiting  :",
        "[worker-lc ] spawn_complete :",
        "worker_spawn_complete",
    ] {
        let at = stream[from..].find(action).unwrap_or_else(|| panic!("{action} is missing, or not in its place, in\n{stream}"));
        from += at;
    }
    assert!(stream.trim_end().ends_with("data: [DONE]"), "{stream}");
    assert_eq!(hive.get(url).text(), stream, "it is replayed from the first line");
    let no_gpu = body.replace("\"CPU-0\"", "0").replace("\"w1\"", "\"w2\"");
    let request = format!(
        "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{no_gpu}",
        no_gpu.len()
    );
    let reply = test_support::http_over_tcp(hive.port(), &request, Duration::from_secs(10)).expect("an answer");
    let job: Value = serde_json::from_str(&reply.text()).expect("JSON");
    let stream = hive.get(job["sse_url"].as_str().expect("an address")).text();
    assert!(stream.contains("data: [ERROR] no_such_device"), "{stream}");
}

#[test]
fn a_second_hive_on_the_same_state_is_refused() {
    require_root!();
    let hive = hive();
    let second = std::process::Command::new(test_support::hive_binary())
        .args(["serve", "--port", "0", "--state-dir"])
        .arg(hive.state_dir())
        .output()
        .expect("start a second hive");
    assert!(!second.status.success());
    assert!(!second.stderr.is_empty());
    assert_eq!(hive.get("/health").text(), "{\"status\":\"ok\"}", "the first one is not disturbed");
}

#[test]
fn the_hive_itself_has_no_privilege() {
    require_root!();
    let hive = hive();
    let status = std::fs::read_to_string(format!("/proc/{}/status", hive.pid())).expect("status");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set}:\n{status}");
    }
    assert!(!status.contains("Uid:\t0"), "{status}");
}

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
        0 => drop(spawn(hive, &id, &[])),
        1 => {
            let worker = spawn(hive, &id, &["--daemonize"]);
            let _ = http_get(port(&worker), "/abort");
            wait_exit(hive, &id);
        }
        2 => end(pid(&spawn(hive, &id, &["--fork", "2"]))),
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
            spawn(hive, &id, &["--ignore-sigterm"]);
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
