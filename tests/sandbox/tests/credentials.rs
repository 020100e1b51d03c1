//! Who a worker is on the host, and who it takes itself for.

#![allow(clippy::expect_used, clippy::panic, reason = "a worker that is not as a test needs it ends the test")]

use sandbox_tests::{Ended, Sandboxed, is_root};
use serde_json::json;
use test_support::{Hive, HiveOptions, http_get, require_root, skip};

const IDS: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs)' /proc/self/status; cat /proc/self/uid_map /proc/self/gid_map; id -un; cat /proc/self/setgroups";

fn user(user: &str, extra: &str) -> Sandboxed {
    Sandboxed::with_policy(&format!("[worker]\nbinary = \"unused\"\n[credentials]\nuser = \"{user}\"\n{extra}"))
}

fn line<'e>(ended: &'e Ended, name: &str) -> &'e str {
    ended.stdout.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_else(|| panic!("no {name} in {ended:?}")).trim()
}

fn no_user_namespaces() -> bool {
    std::fs::read_to_string("/proc/sys/user/max_user_namespaces").is_ok_and(|n| n.trim() == "0")
}

#[test]
fn in_a_user_namespace_a_worker_has_another_number_and_nothing_counts_outside() {
    if !is_root() || no_user_namespaces() {
        return;
    }
    let ended = user("user-namespace", "").sh(IDS);
    assert_eq!((line(&ended, "Uid:"), line(&ended, "Gid:")), ("1000\t1000\t1000\t1000", "1000\t1000\t1000\t1000"), "{ended:?}");
    assert_eq!((line(&ended, "Groups:"), line(&ended, "NoNewPrivs:")), ("", "1"), "{ended:?}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(&ended, set), "0000000000000000", "{ended:?}");
    }
    let maps: Vec<Vec<&str>> = ended.stdout.lines().filter(|l| l.starts_with("      ")).map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(maps.len(), 2, "{ended:?}");
    for map in maps {
        let outside: u32 = map[1].parse().expect("a number");
        assert_eq!((map[0], map[2]), ("1000", "1"), "{ended:?}");
        assert!((1_879_048_192..=1_879_113_727).contains(&outside), "a uid of the workers' range: {ended:?}");
    }
    assert!(ended.stdout.ends_with("worker\ndeny\n"), "{ended:?}");
    let own = user("per-worker", "").sh(IDS);
    assert!(own.stdout.contains("0          0 4294967295") && line(&own, "Uid:") != line(&ended, "Uid:"), "{own:?}");
}

#[test]
fn what_is_made_there_is_the_workers_and_the_rest_is_nobodys() {
    if !is_root() || no_user_namespaces() {
        return;
    }
    let shared = tempfile::tempdir_in("/run").expect("a directory to share");
    std::fs::set_permissions(shared.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("open it for the worker");
    let path = shared.path().display();
    let extra = format!("[filesystem]\nread_write = [\"{path}\"]\n");
    let script = format!(
        "touch {path}/f $HOME/h /tmp/t && stat -c %u {path}/f $HOME / /tmp/t; kill -0 1 2>/dev/null && echo reached; mount -t tmpfs x /tmp 2>/dev/null && echo mounted"
    );
    let ended = user("user-namespace", &extra).sh(&script);
    assert_eq!(ended.stdout, "1000\n1000\n65534\n1000\n", "{ended:?}");
    let outside = std::fs::metadata(shared.path().join("f")).map(|f| std::os::unix::fs::MetadataExt::uid(&f)).expect("the file");
    assert!((1_879_048_192..=1_879_113_727).contains(&outside), "on the host it is the worker's own uid: {outside}");
}

#[test]
fn a_user_of_the_host_is_looked_up_and_has_no_groups() {
    if !is_root() {
        return;
    }
    // nobody: uid 65534 everywhere; its group by the host's own list.
    let group = std::process::Command::new("id").args(["-g", "nobody"]).output().expect("id").stdout;
    let group = String::from_utf8_lossy(&group).trim().to_owned();
    for name in ["nobody", "65534"] {
        let ended = user(name, "").below(&["setpriv", "--groups", "4,5"]).sh(IDS);
        assert_eq!(line(&ended, "Uid:"), "65534\t65534\t65534\t65534", "{ended:?}");
        assert_eq!((line(&ended, "Gid:"), line(&ended, "Groups:")), ([group.as_str(); 4].join("\t").as_str(), ""), "{ended:?}");
    }
    let number = user("4000000", "").sh("id -u; id -g");
    assert_eq!(number.stdout, "4000000\n4000000\n", "{number:?}");
}

#[test]
fn no_worker_is_root_the_hive_or_another_worker() {
    require_root!();
    for (name, why) in [
        ("root", "no worker is root"),
        ("0", "no worker is root"),
        ("1879048200", "workers get for themselves"),
        ("no-such-user", "no such user"),
        ("a b", "neither"),
    ] {
        let ended = user(name, "").sh("echo started");
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(125), ""), "{name}: {ended:?}");
        assert!(ended.stderr.contains(why), "{name}: {ended:?}");
    }
    let granted = user("user-namespace", "capabilities = [{ name = \"CAP_SYS_ADMIN\", reason = \"a test\" }]\n").sh("echo started");
    assert!(granted.status == Some(125) && granted.stderr.contains("count for nothing"), "{granted:?}");
    let hive = Hive::start(HiveOptions::default());
    let status = std::fs::read_to_string(format!("/proc/{}/status", hive.pid())).expect("its status");
    let own = status.lines().find_map(|l| l.strip_prefix("Uid:\t")).and_then(|l| l.split('\t').next()).expect("its uid").to_owned();
    assert_ne!(own, "0");
    drop(hive);
    let hive = Hive::start(
        HiveOptions::default().policy("itself", &format!("[worker]\nbinary = \"mock-worker\"\n[credentials]\nuser = \"{own}\"\n")),
    );
    let error = hive.rpc("worker_spawn", json!({"model": "m", "policy": "itself", "device": "cpu"})).expect_err("the hive's own uid");
    assert!(error.kind() == "invalid_policy" && error.message.contains("who the hive runs as"), "{error}");
}

#[test]
fn a_hives_workers_answer_whoever_they_are() {
    require_root!();
    if no_user_namespaces() {
        skip!("user namespaces");
    }
    let policy = |who: &str| format!("[worker]\nbinary = \"mock-worker\"\n[credentials]\nuser = \"{who}\"\n");
    let socket = "[worker]\nbinary = \"mock-worker\"\ncommand = [\"{binary}\", \"--socket\", \"{socket}\"]\n[credentials]\nuser = \"user-namespace\"\n";
    let hive = Hive::start(
        HiveOptions::default().policy("inside", &policy("user-namespace")).policy("named", &policy("nobody")).policy("socket", socket),
    );
    for name in ["inside", "named", "socket"] {
        let worker = hive.call("worker_spawn", json!({"worker_id": name, "model": "m", "policy": name, "device": "cpu"}));
        let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
        assert_eq!(http_get(port, "/health").expect("an answer").status, 200, "{worker}");
        assert_eq!(hive.call("worker_status", json!({"worker_id": name}))["drift"], json!([]), "it is what was planned");
        assert_eq!(
            worker["not_in_force"].as_array().map_or(0, |l| l.iter().filter(|e| e["setting"] == "credentials.user").count()),
            0,
            "{worker}"
        );
    }
}

#[test]
fn an_ordinary_users_worker_serves_a_socket_and_names_no_other_user() {
    require_root!();
    if no_user_namespaces() {
        skip!("user namespaces");
    }
    let socket = "[worker]\nbinary = \"mock-worker\"\ncommand = [\"{binary}\", \"--socket\", \"{socket}\"]\n";
    let of = |who: &str| format!("[worker]\nbinary = \"mock-worker\"\n[credentials]\nuser = \"{who}\"\n");
    let options = HiveOptions::default().policy("socket", socket).policy("own", &of("nobody")).policy("other", &of("daemon"));
    let hive = Hive::start(options.policy("space", &of("user-namespace")).as_nobody());
    for name in ["socket", "own", "space"] {
        let worker = hive.call("worker_spawn", json!({"worker_id": name, "model": "m", "policy": name, "device": "cpu"}));
        let port = worker["port"].as_u64().and_then(|p| u16::try_from(p).ok()).expect("a port");
        // Twice: the init has to come back to itself in between.
        for _ in 0..2 {
            assert_eq!(http_get(port, "/health").expect("an answer").status, 200, "{worker}");
        }
        let noted = worker["not_in_force"].as_array().is_some_and(|l| l.iter().any(|e| e["setting"] == "credentials.user"));
        assert_eq!(noted, name == "socket", "only a uid per worker is asked for and not had: {worker}");
    }
    let other = hive.rpc("worker_spawn", json!({"model": "m", "policy": "other", "device": "cpu"})).expect_err("somebody else");
    assert!(other.kind() == "not_enforceable" && other.message.contains("credentials.user"), "{other}");
}
