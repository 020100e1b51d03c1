//! What a worker uses is measured by kind, moves when it uses more, is remembered for ten minutes, and is null where nothing measures it.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use std::time::Duration;

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, http_get, require_root};

const MIB: u64 = 1 << 20;
/// What it is told to use: anonymous memory, a file on a tmpfs, and time.
const ANON: u64 = 32 * MIB;
const FILE: u64 = 4 * MIB;
const SPIN_MS: u64 = 1000;

const POLICY: &str = "[worker]\nbinary = \"mock-worker\"\n[limits]\nmemory_max = \"256MiB\"\ncpus = 0.5\n";

fn hive() -> Hive {
    Hive::start(HiveOptions::default().policy("figures", POLICY).config("sample_interval = \"250ms\"\n"))
}

fn ask(worker: &Value, path: &str) {
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    assert_eq!(http_get(port, path).expect("the worker answers").status, 200, "{path}");
}

fn status(hive: &Hive) -> Value {
    hive.call("worker_status", json!({"worker_id": "w"}))
}

/// What a figure gained from one status to another; panics where the later one has none.
fn gain(figure: &str, (before, after): (&Value, &Value)) -> u64 {
    let pointer = format!("/resources/{}", figure.replace('.', "/"));
    let of = |worker: &Value| worker.pointer(&pointer).and_then(Value::as_u64);
    let after = of(after).unwrap_or_else(|| panic!("no {figure} in {after}"));
    // A worker that has just started was met by no tick of the clock, which is how cgroup v1 measures time by mode.
    after.saturating_sub(of(before).unwrap_or(0))
}

/// The figures that this host cannot measure: by mode and kernel, and no others.
fn unmeasured_here(worker: &Value) -> Vec<&'static str> {
    let v1 = [
        "memory_by_kind.kernel_stack",
        "memory_by_kind.page_tables",
        "memory_by_kind.slab",
        "memory_events.high",
        "memory_events.low",
        "memory_events.oom",
        "memory_events.oom_group_kill",
        "swap_peak",
    ];
    // Bytes are counted by process there, and operations by nobody.
    let no_io = ["io_read_ops", "io_write_ops"];
    let mut figures = match worker["cgroup"]["mode"].as_str() {
        Some("unified") => vec![],
        Some("hybrid") => [&v1[..], &no_io].concat(),
        Some("legacy") => [&v1[..], &no_io, &["pressure"]].concat(),
        other => panic!("mode {other:?}"),
    };
    if older_than(6, 5) && figures.is_empty() {
        figures.push("swap_peak");
    }
    figures.sort_unstable();
    figures
}

fn older_than(major: u32, minor: u32) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(['.', '-']).map_while(|n| n.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < (major, minor)
}

#[test]
fn figures_move_with_what_a_worker_uses_and_what_cannot_be_measured_is_null_and_says_why() {
    require_root!();
    let hive = hive();
    let worker = hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "figures", "device": "cpu"}));
    let before = status(&hive);
    ask(&worker, &format!("/alloc?bytes={ANON}"));
    ask(&worker, &format!("/write?path=/tmp/x&bytes={FILE}"));
    ask(&worker, &format!("/spin?ms={SPIN_MS}"));
    let after = status(&hive);
    let gained = |figure: &str| gain(figure, (&before, &after));
    for (figure, least) in [
        ("memory_current", ANON + FILE - MIB),
        ("memory_by_kind.anon", ANON - MIB),
        ("memory_by_kind.shmem", FILE),
        ("memory_by_kind.file", FILE),
        ("page_faults.minor", 16),
        ("cpu_usage_usec", 200_000),
        // The emulated machine of the VM spends most of its time in the kernel.
        ("cpu_user_usec", 10_000),
        // Half a CPU for a second of spinning.
        ("cpu_throttled.throttled_periods", 2),
        ("cpu_throttled.usec", 100_000),
    ] {
        assert!(gained(figure) >= least, "{figure} gained {} and not {least}: {after:#}", gained(figure));
    }
    assert!(after["resources"]["memory_peak"].as_u64() >= after["resources"]["memory_current"].as_u64().map(|now| now - MIB), "{after:#}");
    assert!(after["resources"]["pids_peak"].as_u64() >= after["resources"]["pids_current"].as_u64(), "{after:#}");

    let mut unmeasured: Vec<&str> = after["unmeasured"].as_array().expect("a list").iter().filter_map(|u| u["figure"].as_str()).collect();
    unmeasured.sort_unstable();
    assert_eq!(unmeasured, unmeasured_here(&after), "{after:#}");
    for figure in &unmeasured {
        let value = after["resources"].pointer(&format!("/{}", figure.replace('.', "/"))).expect("it is named as it stands there");
        assert!(nothing_in(value), "{figure} is {value}");
    }

    let list = hive.call("worker_process_list", json!({"worker_id": "w"}));
    let process = list.as_array().expect("a list").iter().find(|p| p["pid"] == after["pid"]).expect("its own process");
    assert!(process["rss_anon_bytes"].as_u64() >= Some(ANON) && process["cpu_user_usec"].as_u64() >= Some(10_000), "{process}");
    assert!(process["minor_faults"].as_u64() > Some(16) && process["swap_bytes"].is_u64(), "{process}");
    assert!(process["rss_peak_bytes"].as_u64() >= Some(ANON), "{process}");
    let why = |figure: &str| process["unmeasured"].as_array().into_iter().flatten().any(|u| u["figure"] == figure && u["why"].is_string());
    assert!(why("io_read_ops") && why("io_write_ops") && !why("io_write_bytes"), "{process}");
    assert!(process["io_write_bytes"].is_u64() && process["oom_score_adj"].is_i64(), "only its init may look: {process}");
}

/// Whether there is no figure in it at all: 0 is one.
fn nothing_in(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(|members| members.values().all(nothing_in))
}

#[test]
fn a_history_shows_what_was_used_and_outlives_the_worker_until_it_is_deleted() {
    require_root!();
    let hive = hive();
    let worker = hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "figures", "device": "cpu"}));
    let history = |params: Value| hive.call("worker_history", params);
    let points = |history: &Value| history["times"].as_array().map_or(0, Vec::len);
    let most = |history: &Value, column: &str| {
        let values = history["columns"][column].as_array().expect("a column");
        assert_eq!(values.len(), points(history), "{column}");
        values.iter().filter_map(Value::as_f64).fold(-1.0, f64::max)
    };
    ask(&worker, &format!("/alloc?bytes={ANON}"));
    ask(&worker, &format!("/spin?ms={SPIN_MS}"));
    let told = eventually("a history of some points", Duration::from_secs(20), || {
        let told = history(json!({"worker_id": "w"}));
        (points(&told) >= 3 && most(&told, "cpus") > 0.1).then_some(told)
    });
    assert!(most(&told, "memory_bytes") >= ANON as f64 && most(&told, "memory_anon_bytes") >= ANON as f64, "{told:#}");
    assert_eq!(most(&told, "memory_limit_bytes"), (256 * MIB) as f64);
    for (column, least) in [("memory_peak_bytes", ANON as f64), ("cpus_user", 0.05), ("minor_faults_per_s", 0.0), ("oom_kills", 0.0)] {
        assert!(most(&told, column) >= least, "{column}: {told:#}");
    }
    // Also where no cgroup counts them: its init does, without being asked by anybody else.
    let told = eventually("what went to block devices", Duration::from_secs(20), || {
        let told = history(json!({"worker_id": "w"}));
        (most(&told, "io_write_bytes_per_s") >= 0.0 && most(&told, "io_read_bytes_per_s") >= 0.0).then_some(told)
    });
    let gaps: Vec<&Value> = told["unmeasured"].as_array().into_iter().flatten().map(|u| &u["figure"]).collect();
    assert!(!gaps.iter().any(|figure| figure.as_str().is_some_and(|f| f.ends_with("_bytes_per_s"))), "{gaps:?}");
    // Its limit is half a CPU; a period more or less falls into a sample.
    assert!(most(&told, "cpus") < 1.5 && most(&told, "pids") >= 1.0, "{told:#}");

    let one = history(json!({"worker_id": "w", "max_points": 1}));
    assert_eq!((points(&one), most(&one, "memory_bytes") >= ANON as f64), (1, true), "the largest of all");
    let last = told["times"].as_array().and_then(|t| t.last()).cloned().expect("a time");
    assert!(points(&history(json!({"worker_id": "w", "since": last}))) < points(&told));
    let refused = hive.rpc("worker_history", json!({"worker_id": "w", "since": "yesterday"})).expect_err("no time");
    assert_eq!(refused.code, -32602, "{refused}");

    let stopped = hive.call("worker_stop", json!({"worker_id": "w", "grace_ms": 0}));
    assert!(stopped["resources"]["cpu_usage_usec"].as_u64() > Some(200_000), "{stopped:#}");
    let after = history(json!({"worker_id": "w"}));
    assert!(points(&after) >= points(&told) && most(&after, "memory_bytes") >= ANON as f64, "{after:#}");
    let plot = String::from_utf8(hive.cli(["history", "w"]).stdout).expect("text");
    assert!(plot.contains("memory_bytes") && plot.contains('█'), "{plot}");
    hive.call("worker_delete", json!({"worker_id": "w"}));
    assert_eq!(hive.rpc("worker_history", json!({"worker_id": "w"})).expect_err("it is gone").kind(), "not_found");
}

#[test]
fn reaching_the_limit_is_never_told_as_0_where_nobody_has_counted_it() {
    require_root!();
    let policy =
        "[worker]\nbinary = \"mock-worker\"\n[limits]\nmemory_max = \"64MiB\"\nswap_max = { value = \"0\", enforce = \"if_available\" }\n";
    let hive = Hive::start(HiveOptions::default().policy("small", policy));
    let worker = hive.call("worker_spawn", json!({"worker_id": "w", "model": "m", "policy": "small", "device": "cpu"}));
    let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    // It dies before it has answered.
    let _ = http_get(port, &format!("/alloc?bytes={}", 256 * MIB));
    let ended = hive.wait_exit("w");
    assert_eq!(ended["verdict"]["kind"], "oom_killed", "{ended:#}");
    let (events, why) = (&ended["resources"]["memory_events"], &ended["unmeasured"]);
    let explained = why.as_array().into_iter().flatten().any(|u| u["figure"] == "memory_events.max");
    assert!(events["max"].as_u64() > Some(0) || (events["max"].is_null() && explained), "{events} {why}");
}
