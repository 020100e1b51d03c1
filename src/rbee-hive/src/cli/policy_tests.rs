//! Commands about policies, against the fake hive and against files.

use serde_json::{Value, json};

use super::fake_hive::{hive, run};

fn exposure() -> Value {
    json!({"score": 3.3, "rating": "guarded", "points": [
        {"setting": "seccomp.profile", "value": "inference", "weight": 20, "adds": 0.0, "saves": 1.39, "not_in_force": null, "remedy": null},
        {"setting": "network.mode", "value": "host", "weight": 30, "adds": 2.08, "saves": 0.0, "not_in_force": null, "remedy": "say private"},
        {"setting": "landlock.enforce", "value": "if_available", "weight": 10, "adds": 0.69, "saves": 0.0, "not_in_force": "no ABI", "remedy": "x"}
    ]})
}

fn settings() -> Value {
    json!([
        {"setting": "worker.binary", "value": "llama-server", "from": "p.toml:2", "file": "p.toml", "line": 2},
        {"setting": "filesystem.read_only", "value": "/usr", "from": "default", "file": null, "line": null},
        {"setting": "filesystem.read_only", "value": "/bin", "from": "default", "file": null, "line": null},
        {"setting": "seccomp.allow", "value": "3 calls: to start", "from": "seccomp/inference.toml:9", "file": "seccomp/inference.toml", "line": 9}
    ])
}

pub(super) fn explained() -> Value {
    json!({"name": "p", "source": "/etc/p.toml", "settings": settings(), "exposure": exposure(), "later": "kept"})
}

pub(super) fn scored() -> Value {
    let mut answer = exposure();
    answer["name"] = json!("p");
    answer["source"] = json!("/etc/p.toml");
    answer
}

pub(super) fn judged() -> Value {
    json!({"name": "p", "source": "/etc/p.toml", "judged_as": {"uid": 0}, "starts": false, "refusal": "limits.memory_high: no memory.high",
        "settings": [
            {"setting": "limits.memory_high", "value": "1GiB (required)", "state": "not_in_force", "why": "no memory.high", "refuses": true},
            {"setting": "landlock.enforce", "value": "if_available", "state": "partly", "why": "ABI 4", "refuses": false}
        ], "exposure": exposure()})
}

pub(super) fn checked() -> Value {
    json!({"valid": true, "resolved": {}, "findings": [
        {"level": "warning", "file": "text", "line": 3, "key": "limits.swap_max", "message": "without memory_max it bounds little"},
        {"level": "note", "file": "fragments/own.toml", "line": null, "key": "include", "message": "adds nothing"}
    ]})
}

pub(super) fn worker_explained() -> Value {
    json!({"worker_id": "w1", "policy": "p", "source": "/etc/p.toml", "settings": settings(), "exposure": exposure(),
        "limits": [
            {"limit": "memory_max", "value": 1024, "origin": "request", "from": null},
            {"limit": "pids_max", "value": 512, "origin": "policy", "from": "default"},
            {"limit": "cpuset", "value": "0-3", "origin": "device_lease", "from": null}
        ],
        "not_in_force": [{"setting": "landlock", "why": "no ABI"}]})
}

fn has(text: &str, words: &str) -> bool {
    text.lines().any(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") == words)
}

async fn says(line: &str, all: &[&str]) -> String {
    let text = run(line, &hive().socket).await.unwrap();
    for words in all {
        assert!(has(&text, words), "{line}: {words:?} is not in\n{text}");
    }
    text
}

#[tokio::test]
async fn answers_about_policies_are_tables() {
    let text =
        says("policy explain p", &["worker.binary llama-server p.toml:2", "filesystem.read_only /usr default", "/bin default"]).await;
    assert!(text.contains("seccomp/inference.toml:9"), "{text}");
    let text =
        says("policy show p --resolved", &["worker.binary llama-server", "exposure of p: 3.3 (guarded), where 0.0 is tight and 10.0 open"])
            .await;
    assert!(!text.contains("3 calls"), "the filter's entries are not for this table: {text}");
    assert_eq!(run("policy show p", &hive().socket).await.unwrap(), "# as written\n");
    let text = says("policy score p", &["network.mode host 30 2.08 0.00 say private", "seccomp.profile inference 20 0.00 1.39 -"]).await;
    let at = |word: &str| text.find(word).unwrap();
    assert!(
        at("network.mode") < at("landlock.enforce") && at("landlock.enforce") < at("seccomp.profile"),
        "what adds most is first: {text}"
    );
    assert!(text.contains("not in force: no ABI"), "{text}");
    let text = says(
        "doctor --policy p",
        &["limits.memory_high 1GiB (required) refused no memory.high", "landlock.enforce if_available partly ABI 4"],
    )
    .await;
    assert!(text.starts_with("policy p (/etc/p.toml), judged as root by the hive's launcher\n"), "{text}");
    assert!(text.contains("a worker would be refused: limits.memory_high: no memory.high\n"), "{text}");
    let text = says("explain w1", &["memory_max 1024 request", "pids_max 512 default", "cpuset 0-3 device lease", "landlock no ABI"]).await;
    assert!(text.starts_with("w1 under policy p (/etc/p.toml)\n") && text.contains("exposure of w1: 3.3"), "{text}");
}

#[tokio::test]
async fn json_is_the_hives_answer() {
    let json = async |line: &str| serde_json::from_str::<Value>(&run(line, &hive().socket).await.unwrap()).unwrap();
    assert_eq!(json("policy explain p --json").await, explained());
    assert_eq!(json("policy show p --resolved --json").await, explained());
    assert_eq!(json("policy score p --json").await, scored());
    assert_eq!(json("explain w1 --json").await, worker_explained());
    let mut judged = judged();
    judged["judged_by"] = json!("hive");
    assert_eq!(json("doctor --policy p --json").await, judged);
}

#[tokio::test]
async fn a_checks_findings_name_the_callers_file_and_warnings_fail_it_where_they_are_to() {
    let hive = hive();
    let file = hive.socket.with_file_name("mine.toml");
    std::fs::create_dir(hive.socket.with_file_name("fragments")).unwrap();
    std::fs::write(hive.socket.with_file_name("fragments/own.toml"), "[limits]\npids_max = 7\n").unwrap();
    std::fs::write(&file, "include = [\"fragments/own\"]\n[worker]\nbinary = \"x\"\n").unwrap();
    let text = run(&format!("policy check {}", file.display()), &hive.socket).await.unwrap();
    let path = file.display();
    let want = format!(
        "{path}:3: limits.swap_max: warning: without memory_max it bounds little\nfragments/own.toml: include: note: adds nothing\n{path} is a valid policy\n"
    );
    assert_eq!(text, want);
    let (_, params) = hive.asked.lock().unwrap().iter().find(|(method, _)| method == "policy_check").cloned().unwrap();
    assert_eq!(params["fragments"], json!({"fragments/own": "[limits]\npids_max = 7\n"}), "what lies beside the file goes along");
    let error = run(&format!("policy check --strict {path}"), &hive.socket).await.unwrap_err();
    assert!(error.status() == 1 && error.to_string().ends_with("1 finding makes the check fail"), "{error}");
}

#[tokio::test]
async fn a_file_is_read_here_and_no_hive_is_asked() {
    let hive = hive();
    let file = hive.socket.with_file_name("mine.toml");
    std::fs::write(&file, "[worker]\nbinary = \"x\"\n\n[network]\nmode = \"host\"\n").unwrap();
    let path = file.display();
    let text = run(&format!("policy explain {path}"), &hive.socket).await.unwrap();
    assert!(has(&text, &format!("network.mode host {path}:5")), "{text}");
    let score: Value = serde_json::from_str(&run(&format!("policy score --json {path}"), &hive.socket).await.unwrap()).unwrap();
    assert!(score["score"].as_f64().is_some_and(|s| s > 2.0) && score["name"] == "mine", "{score}");
    assert!(run(&format!("policy show {path}"), &hive.socket).await.unwrap().ends_with("mode = \"host\"\n"));
    assert!(run(&format!("policy show --resolved {path}"), &hive.socket).await.unwrap().contains("exposure of mine"));
    assert!(hive.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn options_of_its_own_launcher_go_with_a_policy() {
    let error = run("doctor --policies /nowhere", &hive().socket).await.unwrap_err();
    assert_eq!(error.status(), 2, "{error}");
}
