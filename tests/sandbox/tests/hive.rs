//! Workers through a hive: from ready to verdict, and back to nothing.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, info, pid, port, require_root, time_factor};

#[test]
fn a_ready_worker_answers_on_its_port_from_its_own_cgroup_and_namespaces() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let worker = hive.mock("w1", &[]);
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
    let hive = Hive::start(HiveOptions::default());
    let worker = hive.mock("w1", &["--daemonize"]);
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
    let hive = Hive::start(HiveOptions::default());
    hive.mock("w1", &["--ignore-sigterm", "--fork", "3"]);
    let started = Instant::now();
    let stopped = hive.call("worker_stop", json!({"worker_id": "w1", "grace_ms": 300}));
    assert!(started.elapsed() >= Duration::from_millis(300), "killed before its grace was over");
    assert_eq!((&stopped["verdict"]["forced"], &stopped["state"]), (&json!(true), &json!("stopped")), "{stopped}");
    hive.mock("w2", &["--ignore-sigterm"]);
    let stopped = hive.call("worker_stop", json!({"worker_id": "w2", "grace_ms": 0}));
    assert_eq!(stopped["verdict"]["forced"], json!(true), "{stopped}");
}

#[test]
fn out_of_memory_is_told_and_hive_and_sibling_live() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let sibling = hive.mock("sibling", &[]);
    let victim = hive.call(
        "worker_spawn",
        json!({"worker_id": "victim", "model": "m", "policy": "mock", "device": "cpu", "limits": {"memory_max": "48MiB"}}),
    );
    let _ = http_get(port(&victim), "/alloc?bytes=209715200");
    let ended = hive.wait_exit("victim");
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
    let worker = hive.mock(id, &[]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| (hive.wait_exit(id), Instant::now()));
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
    let hive = Hive::start(HiveOptions::default());
    let noticed = median((0..11).map(|n| notice(&hive, &format!("k{n}"))).collect());
    // A machine that has other things to do answers nothing within 10 ms.
    let answer = median((0..11).map(|_| round_trip(&hive)).collect());
    let limit = (answer * 10).max(Duration::from_millis(10) * time_factor());
    assert!(noticed < limit, "median {noticed:?}, where a plain answer takes {answer:?}");
    let worker = hive.mock("code", &[]);
    let _ = http_get(port(&worker), "/exit?code=42");
    let ended = hive.wait_exit("code");
    assert_eq!(
        (&ended["verdict"]["kind"], &ended["verdict"]["code"], &ended["state"]),
        (&json!("exited"), &json!(42), &json!("failed")),
        "{ended}"
    );
}

#[test]
fn a_real_time_signal_is_sent_noticed_and_told_like_any_other() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    hive.mock("w1", &[]);
    hive.call("worker_signal", json!({"worker_id": "w1", "signal": 40}));
    let ended = hive.wait_exit("w1");
    assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["signal"]), (&json!("signaled"), &json!(40)), "{ended}");
    let worker = hive.mock("w2", &[]);
    let killed = std::process::Command::new("kill").args(["-34", &pid(&worker).to_string()]).status();
    assert!(killed.is_ok_and(|s| s.success()), "signal the worker that we started");
    let ended = hive.wait_exit("w2");
    assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["signal"]), (&json!("signaled"), &json!(34)), "{ended}");
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
fn streams_come_through_the_forwarder_piece_by_piece() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let worker = hive.mock("w1", &[]);
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
    let hive = Hive::start(HiveOptions::default());
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
    let hive = Hive::start(HiveOptions::default());
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
    let hive = Hive::start(HiveOptions::default());
    let status = std::fs::read_to_string(format!("/proc/{}/status", hive.pid())).expect("status");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000")), "{set}:\n{status}");
    }
    assert!(!status.contains("Uid:\t0"), "{status}");
}
