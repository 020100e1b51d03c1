//! Policies through a whole hive: what the doctor says of one is what a spawn under it does, and a start is explained by what was in force.

#![allow(clippy::expect_used, reason = "an answer that is not as a test needs it ends the test")]

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, exclusively, require_root, skip};

const PLAIN: &str = "[worker]\nbinary = \"mock-worker\"\n[request]\nmay_set = [\"limits\"]\n";

/// What may be in force here or not, and what can't be.
const POLICIES: [(&str, &str); 12] = [
    ("plain", ""),
    ("high", "[limits]\nmemory_high = \"1GiB\"\n"),
    ("high-wish", "[limits]\nmemory_high = { value = \"1GiB\", enforce = \"if_available\" }\n"),
    ("swap", "[limits]\nmemory_max = \"1GiB\"\nswap_max = \"0\"\n"),
    ("swap-alone", "[limits]\nswap_max = \"1MiB\"\n"),
    ("cpus", "[limits]\ncpus = 0.5\ncpu_weight = 50\npids_max = 64\n"),
    ("far-cpus", "[limits]\ncpuset = \"0-4095\"\n"),
    ("domain", "[landlock]\nenforce = \"required\"\n"),
    (
        "absent",
        "[filesystem]\nread_only = [\"/usr\", \"/rbee-hive-test-absent\", \"/bin\", \"/lib\", { path = \"/lib64\", optional = true }]\n",
    ),
    ("node", "[devices]\nnodes = [{ path = \"/dev/rbee-hive-test-absent\", reason = \"a test\" }]\n"),
    ("host", "[network]\nmode = \"host\"\n"),
    ("restarts", "[restart]\nwhen = \"always\"\n"),
];

fn hive(options: HiveOptions) -> Hive {
    let all = POLICIES.iter().fold(options, |options, (name, more)| options.policy(name, &format!("{PLAIN}{more}")));
    Hive::start(all.policy("no-binary", "[worker]\nbinary = \"rbee-hive-test-absent\"\n"))
}

fn spawn(hive: &Hive, id: &str, policy: &str) -> Result<Value, test_support::RpcError> {
    hive.rpc("worker_spawn", json!({"worker_id": id, "model": "m", "policy": policy, "device": "cpu"}))
}

/// Reasons, whichever worker's cgroup they name.
fn whys(list: &Value, worker: &str, wanted: impl Fn(&Value) -> bool) -> Vec<String> {
    let anyone = |why: &str| why.replace(&format!("/w-{worker}/"), "/w-ID/");
    let mut whys: Vec<String> = list
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| wanted(entry))
        .flat_map(|entry| entry["why"].as_str().unwrap_or_default().split("; ").map(anyone).collect::<Vec<_>>())
        .collect();
    whys.sort();
    whys.dedup();
    whys
}

/// For each policy: judged, started, and the two compared.
fn the_doctor_and_a_spawn_agree(hive: &Hive) {
    for (name, _) in POLICIES {
        let judged = hive.call("policy_doctor", json!({"name": name}));
        let started = spawn(hive, name, name);
        assert_eq!(judged["starts"], started.is_ok(), "{name}: {judged}\nbut {started:?}");
        let Ok(worker) = started else {
            let refused: Vec<&Value> = judged["settings"].as_array().into_iter().flatten().filter(|row| row["refuses"] == true).collect();
            assert!(!refused.is_empty() && judged["refusal"].is_string(), "{name}: {judged}");
            continue;
        };
        let gaps = whys(&worker["not_in_force"], name, |_| true);
        assert_eq!(whys(&judged["settings"], "judged-0", |row| row["state"] != "enforced"), gaps, "{name}: {judged}\nbut {worker}");
        let explained = hive.call("worker_explain", json!({"worker_id": name}));
        assert_eq!(explained["exposure"]["score"], judged["exposure"]["score"], "{name}: both count what is not in force");
        hive.call("worker_delete", json!({"worker_id": name}));
    }
    let judged = hive.call("policy_doctor", json!({"name": "no-binary"}));
    assert_eq!((&judged["starts"], spawn(hive, "w", "no-binary").is_err()), (&json!(false), true), "{judged}");
}

#[test]
fn what_the_doctor_says_of_a_policy_is_what_a_spawn_under_it_does() {
    require_root!();
    let _alone = exclusively();
    let hive = hive(HiveOptions::default());
    // The launcher keeps the device program of a list that was asked for once.
    hive.call("policy_doctor", json!({"name": "plain"}));
    let before = hive.snapshot();
    the_doctor_and_a_spawn_agree(&hive);
    hive.assert_nothing_more_than(&before);
}

#[test]
fn the_doctor_and_a_spawn_agree_for_an_ordinary_user_too() {
    require_root!();
    let _alone = exclusively();
    let number = |path: &str| std::fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) || number("/proc/sys/user/max_user_namespaces") == Some(0) {
        skip!("unprivileged user namespaces");
    }
    let hive = hive(HiveOptions::default().as_nobody());
    let before = hive.snapshot();
    the_doctor_and_a_spawn_agree(&hive);
    assert_eq!(hive.call("policy_doctor", json!({"name": "plain"}))["judged_as"]["uid"], 65534);
    hive.assert_nothing_more_than(&before);
}

#[test]
fn a_start_is_explained_by_the_policy_as_it_was_then() {
    require_root!();
    let text = format!("{PLAIN}[limits]\nmemory_max = \"512MiB\"\npids_max = 100\n");
    let hive = Hive::start(HiveOptions::default().policy("mine", &text));
    let asked = json!({"worker_id": "w", "model": "m", "policy": "mine", "device": "cpu", "limits": {"memory_max": "256MiB"}});
    hive.call("worker_spawn", asked);
    let before = hive.call("worker_explain", json!({"worker_id": "w"}));
    let file = before["source"].as_str().expect("a file").to_owned();
    let limit = |name: &str| before["limits"].as_array().into_iter().flatten().find(|l| l["limit"] == name).cloned().expect(name);
    assert_eq!((&limit("memory_max")["origin"], &limit("memory_max")["value"]), (&json!("request"), &json!(256 << 20)));
    assert_eq!((&limit("pids_max")["origin"], &limit("pids_max")["from"]), (&json!("policy"), &json!(format!("{file}:7"))));
    assert!(before["settings"].as_array().is_some_and(|s| s.iter().any(|s| s["setting"] == "network.mode" && s["from"] == "default")));
    let score = before["exposure"]["score"].as_f64().expect("a score");
    assert!(score >= hive.call("policy_score", json!({"name": "mine"}))["score"].as_f64().expect("a score"), "{before}");
    std::fs::write(&file, format!("# another line\n{text}[network]\nmode = \"host\"\n")).expect("edit the policy");
    assert_eq!(hive.call("worker_explain", json!({"worker_id": "w"})), before, "a worker's start does not change with the file");
    let now = hive.call("policy_explain", json!({"name": "mine"}));
    let mode = now["settings"].as_array().into_iter().flatten().find(|s| s["setting"] == "network.mode").expect("a mode");
    assert_eq!((&mode["value"], &mode["from"]), (&json!("host"), &json!(format!("{file}:10"))));
    assert!(now["exposure"]["score"].as_f64().is_some_and(|s| s > score + 1.0), "{now}");
}

#[test]
fn the_commands_ask_the_hive_and_a_file_is_judged_without_it() {
    require_root!();
    let _alone = exclusively();
    let hive = hive(HiveOptions::default());
    let out = |arguments: &[&str]| {
        let output = hive.cli(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(out(&["doctor", "--policy", "plain"]).contains("judged as root by the hive's launcher"));
    let file = hive.directory().join("own.toml");
    std::fs::write(&file, "[worker]\nbinary = \"sh\"\n").expect("write a policy");
    let before = hive.snapshot();
    let judged = out(&["doctor", "--policy", &file.display().to_string()]);
    assert!(judged.contains("judged as root by a launcher of its own") && judged.contains("a worker would be started"), "{judged}");
    hive.assert_nothing_more_than(&before);
    spawn(&hive, "w", "plain").expect("a worker");
    let explained = out(&["explain", "w"]);
    assert!(explained.contains("Limits") && explained.contains("exposure of w:"), "{explained}");
    assert!(out(&["policy", "score", "plain"]).contains("exposure of plain:"));
    let torn = "[worker]\nbinary = \"sh\"\n[limits]\nmemory_max = \"1GiB\"\nmemory_low = \"2GiB\"\n";
    std::fs::write(&file, torn).expect("write a policy");
    let checked = hive.cli(["policy", "check", &file.display().to_string()]);
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(text.contains("own.toml:5: limits.memory_low: error: "), "{text}");
    let too_long = hive.rpc("policy_check", json!({"text": "#".repeat(300 * 1024)})).expect_err("it is bounded");
    assert_eq!((too_long.code, too_long.data["field"].as_str()), (-32602, Some("text")), "{too_long}");
}

#[test]
fn a_policy_too_long_for_a_message_is_refused_and_not_waited_for() {
    require_root!();
    let hive = Hive::start(HiveOptions::default().policy("long", &format!("{PLAIN}#{}\n", "x".repeat(200 * 1024))));
    for method in ["policy_show", "policy_explain", "policy_score"] {
        let error = hive.rpc(method, json!({"name": "long"})).expect_err("it can't be told");
        assert_eq!(error.kind(), "invalid_policy", "{method}: {error}");
    }
    assert_eq!(spawn(&hive, "w", "long").expect_err("its policy can't be told").kind(), "invalid_policy");
    assert_eq!(hive.call("worker_list", json!({})), json!([]), "the hive goes on");
}
