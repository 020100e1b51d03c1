//! The hostile worker in every sandbox that there is: each attempt refused, and nothing of it to be seen outside.

#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a worker that is not as a test needs it ends the test")]

mod bait;
mod report;

use std::process::Command;

use bait::Bait;
use report::{Report, hostile};
use sandbox_tests::Sandboxed;
use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, exclusively, http_get, require_root, skip, time_factor};

/// Attempts at least that are seen to work outside and to fail inside; fewer would mean that a list was lost.
const LEAST: usize = 60;
/// What an ordinary user's worker can do where its init has its uid: told in `not_in_force` as `init_isolation`.
const WITH_ONE_UID: [&str; 9] = [
    "kill the init",
    "stop the init",
    "ask whether the init may be signalled",
    "ask by thread whether the init may be signalled",
    "ask by pidfd whether the init may be signalled",
    "slow the init down",
    "pin the init",
    "make the init idle",
    "limit the init's files",
];
const LIMITS: &str = "[limits]\npids_max = 48\nopen_files = 512\n[filesystem]\ntmp_size = \"8MiB\"\nshm_size = \"8MiB\"\n";

/// The policy of a hive's hostile worker.
fn policy(bait: &Bait) -> String {
    let words: Vec<String> = bait.words().iter().map(|w| format!("\"{w}\"")).collect();
    format!("[worker]\nbinary = \"hostile-worker\"\ncommand = [\"{{binary}}\", {}]\n[readiness]\nnone = true\n{LIMITS}", words.join(", "))
}

/// `rbee-hive run` with the bait's own directory of programs.
fn sandboxed(bait: &Bait, extra: &str) -> Sandboxed {
    let directory = hostile().parent().expect("a directory").display().to_string();
    let policy = format!("[worker]\nbinary = \"unused\"\n{LIMITS}{extra}");
    Sandboxed::with_policy(&policy).option("--binary-dir", &directory).option("--binary-dir", &bait.programs().display().to_string())
}

fn run(sandboxed: &Sandboxed, words: &[String]) -> sandbox_tests::Ended {
    let program = hostile().display().to_string();
    let argv: Vec<&str> = std::iter::once(program.as_str()).chain(words.iter().map(String::as_str)).collect();
    sandboxed.run(&argv)
}

#[test]
fn what_works_outside_is_refused_in_a_sandbox_of_root_and_the_host_is_as_before() {
    require_root!();
    let _alone = exclusively();
    let bait = Bait::lay();
    // Outside first: what cannot be done there proves nothing when it cannot be done in here.
    let outside = Report::outside(&bait);
    let before = bait.host();
    // Left open on purpose, without close-on-exec.
    let leak = nix::fcntl::open("/etc/passwd", nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty()).expect("open");
    let ended = run(&sandboxed(&bait, ""), &bait.words());
    drop(leak);
    let inside = Report::parse(&ended.stdout);
    println!("{}", inside.table(&outside));
    assert_eq!(inside.holes(), Vec::<String>::new());
    assert_eq!((ended.status, ended.kind()), (Some(0), "exited"), "{} {}", ended.stderr, ended.report);
    assert_eq!(bait.host(), before);
    let proven = inside.proven(&outside);
    assert!(proven >= LEAST, "only {proven} attempts work outside and not inside");
}

#[test]
fn a_deadly_attempt_ends_the_worker_and_the_verdict_names_the_call() {
    require_root!();
    let bait = Bait::lay();
    for name in Report::list("deadly") {
        let ended = run(&sandboxed(&bait, ""), &["only".to_owned(), name.clone()]);
        println!("{name:<52} {}", ended.report["message"]);
        assert_eq!(ended.kind(), "seccomp_killed", "{name}: {ended:?}");
        // One by the number of another architecture has no name.
        assert_eq!(ended.report["syscall"].is_string(), !name.contains("x32"), "{name}: {ended:?}");
        assert!(!ended.stdout.contains("DONE"), "{ended:?}");
    }
}

#[test]
fn without_its_inner_layers_a_sandbox_has_a_hole_and_the_report_says_so() {
    require_root!();
    let bait = Bait::lay();
    let off = "[seccomp]\nprofile = \"none\"\nreason = \"r\"\n[landlock]\nenforce = \"none\"\nreason = \"r\"\n";
    for name in ["unshare a user namespace", "join a session keyring", "netlink to netfilter"] {
        let ended = run(&sandboxed(&bait, off), &["only".to_owned(), name.to_owned()]);
        assert_eq!(Report::parse(&ended.stdout).holes().len(), 1, "{name}: {ended:?}");
        assert_eq!(ended.status, Some(1), "{ended:?}");
    }
}

#[test]
fn with_wider_limits_a_flood_goes_on_to_its_end() {
    require_root!();
    let wide = "[worker]\nbinary = \"unused\"\n[limits]\npids_max = 1024\nopen_files = 8192\n\
                [filesystem]\ntmp_size = \"80MiB\"\nshm_size = \"80MiB\"\n";
    let directory = hostile().parent().expect("a directory").display().to_string();
    for name in ["flood processes", "flood threads", "flood descriptors", "flood sockets", "flood /tmp", "flood /dev/shm", "flood its home"]
    {
        let ended = run(&Sandboxed::with_policy(wide).option("--binary-dir", &directory), &["only".to_owned(), name.to_owned()]);
        assert_eq!(Report::parse(&ended.stdout).holes().len(), 1, "{name}: {ended:?}");
    }
}

#[test]
fn beside_a_hostile_worker_hive_and_sibling_go_on() {
    require_root!();
    let hive = Hive::start(HiveOptions::default());
    let sibling = spawn(&hive, "sibling", "mock");
    let bait = Bait::lay().beside(&hive, &sibling);
    std::fs::write(hive.directory().join("policies/hostile.toml"), policy(&bait)).expect("write a policy");
    std::fs::copy(hostile(), hive.directory().join("bin/hostile-worker")).expect("copy the program");
    let before = bait.host();
    spawn(&hive, "hostile", "hostile");
    let ended = hive.call("worker_wait", json!({"worker_id": "hostile", "for": "exit", "timeout_ms": 60_000 * time_factor()}));
    let inside = Report::parse(&log(&hive));
    assert_eq!(inside.holes(), Vec::<String>::new());
    assert_eq!((&ended["verdict"]["kind"], &ended["verdict"]["code"]), (&json!("exited"), &json!(0)), "{ended}\n{}", log(&hive));
    assert!(inside.len() >= LEAST, "{}", log(&hive));
    assert_eq!(bait.host(), before);
    let port = sibling["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
    assert_eq!(http_get(port, "/health").expect("the sibling lives").status, 200);
    let now = hive.call("worker_status", json!({"worker_id": "sibling"}));
    assert_eq!((&now["state"], &now["pid"], &now["restarts"]), (&json!("ready"), &sibling["pid"], &json!(0)), "{now}");
}

#[test]
fn in_a_sandbox_of_an_ordinary_user_only_what_is_listed_is_open() {
    require_root!();
    let number = |path: &str| std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) || number("/proc/sys/user/max_user_namespaces") == Some(0) {
        skip!("unprivileged user namespaces");
    }
    // Without a cgroup nothing bounds how many processes there are: what is required is refused, so this one asks for less.
    let bait = Bait::lay();
    let policy = policy(&bait).replace("pids_max = 48", "pids_max = { value = 48, enforce = \"if_available\" }");
    let hive = Hive::start(HiveOptions::default().policy("hostile", &policy).with_program(&hostile().display().to_string()).as_nobody());
    let before = bait.host();
    let worker = spawn(&hive, "hostile", "hostile");
    let told = |setting: &str| worker["not_in_force"].as_array().is_some_and(|l| l.iter().any(|e| e["setting"] == setting));
    let ended = hive.call("worker_wait", json!({"worker_id": "hostile", "for": "exit", "timeout_ms": 60_000 * time_factor()}));
    let inside = Report::parse(&log(&hive));
    assert!(ended["verdict"]["kind"] == "exited" && inside.len() >= LEAST, "{ended}\n{}", log(&hive));
    let mut open = inside.holes();
    if told("init_isolation") {
        open.retain(|hole| !WITH_ONE_UID.iter().any(|known| hole.starts_with(&format!("{known} "))));
    }
    if told("pids_max") {
        open.retain(|hole| !["flood processes ", "flood threads "].iter().any(|known| hole.starts_with(known)));
    }
    assert_eq!(open, Vec::<String>::new());
    assert_eq!(bait.host(), before);
    assert_eq!(hive.call("hive_info", json!({}))["workers"], json!(1), "the hive goes on");
}

#[test]
fn outside_of_a_sandbox_nothing_is_tried_unasked() {
    let output = Command::new(hostile()).output().expect("start it");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(64), 0), "{output:?}");
    let harmful = Command::new(hostile()).args(["outside", "load another kernel"]).env_remove("RBEE_TEST_THROW_AWAY").output();
    assert_eq!(harmful.expect("start it").status.code(), Some(64));
}

fn spawn(hive: &Hive, id: &str, policy: &str) -> Value {
    hive.call("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}))
}

fn log(hive: &Hive) -> String {
    let page = hive.call("worker_logs", json!({"worker_id": "hostile", "tail": 10_000}));
    let lines = page["lines"].as_array().cloned().unwrap_or_default();
    lines.iter().filter_map(|l: &Value| l["text"].as_str()).collect::<Vec<_>>().join("\n")
}
