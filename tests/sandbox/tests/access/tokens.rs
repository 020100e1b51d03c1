//! Bearer tokens: what each lets do, how they change, and what is told of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_support::{Hive, HiveOptions, eventually, require_root};

use crate::files::{Files, call, hive_uid, refusal, send, text};

const LIMIT: Duration = Duration::from_secs(20);

fn start(files: &Files) -> Hive {
    Hive::start(HiveOptions::default().argument("--token-file").argument(text(&files.path("tokens"))))
}

fn forbidden(hive: &Hive, token: &str, method: &str, needs: &str) {
    let reply = call(hive, token, (method, json!({})));
    assert_eq!(refusal(&reply), (403, "forbidden".into()), "{method}: {}", reply.text());
    let body: Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!(body["error"]["data"]["needs"], needs, "{body}");
}

#[test]
fn a_token_lets_do_what_its_role_says_and_no_more() {
    require_root!();
    let files = Files::new();
    let [reader, operator, admin] = ["observe", "operate", "admin"].map(|role| files.token(&format!("the-{role}"), role));
    let hive = start(&files);
    for token in [&reader, &operator, &admin] {
        assert_eq!(call(&hive, token, ("hive_info", json!({}))).status, 200);
    }
    for method in ["worker_spawn", "worker_stop", "worker_signal", "worker_update", "worker_freeze", "lease_acquire", "worker_delete"] {
        forbidden(&hive, &reader, method, "operate");
    }
    for method in ["hive_drain", "hive_shutdown", "device_heal"] {
        forbidden(&hive, &reader, method, "admin");
        forbidden(&hive, &operator, method, "admin");
    }
    let batch =
        json!([{"jsonrpc": "2.0", "id": 1, "method": "hive_drain"}, {"jsonrpc": "2.0", "id": 2, "method": "worker_list"}]).to_string();
    let reply = send(&hive, &format!("Host: localhost\r\nAuthorization: Bearer {operator}\r\n"), ("/rpc", &batch));
    let answers: Value = serde_json::from_slice(&reply.body).expect("JSON");
    assert_eq!((&answers[0]["error"]["data"]["kind"], &answers[1]["result"]), (&json!("forbidden"), &json!([])), "{answers}");
    let job = json!({"operation": "worker_stop", "worker": "absent"}).to_string();
    let as_job = |token: &str| send(&hive, &format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n"), ("/v1/jobs", &job));
    assert_eq!(refusal(&as_job(&reader)), (403, "forbidden".into()));
    assert_eq!(as_job(&operator).status, 200);
    let spawned = call(&hive, &operator, ("worker_spawn", json!({"worker_id": "w1", "model": "m", "policy": "mock", "device": "cpu"})));
    assert_eq!(spawned.status, 200, "{}", spawned.text());
    assert!(spawned.text().contains("\"ready\""), "{}", spawned.text());
    assert!(!hive.call("hive_info", json!({}))["draining"].as_bool().expect("a bool"), "nothing that was refused was done");
    assert_eq!(call(&hive, &admin, ("hive_drain", json!({}))).status, 200);
}

#[test]
fn a_caller_with_a_wrong_token_or_from_a_web_page_is_nobody() {
    require_root!();
    let files = Files::new();
    let token = files.token("a", "admin");
    let hive = start(&files);
    for wrong in ["", "x", "rbh_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", &token[..token.len() - 1], &format!("{token}A")] {
        let reply = call(&hive, wrong, ("hive_info", json!({})));
        // Also of root, whom the kernel names: a token that is presented decides alone.
        assert_eq!(refusal(&reply), (401, "unauthorized".into()), "{}", reply.text());
        assert!(reply.headers.to_ascii_lowercase().contains("www-authenticate: bearer"), "{}", reply.headers);
    }
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "hive_info"}).to_string();
    let with = |head: &str| refusal(&send(&hive, &format!("Authorization: Bearer {token}\r\n{head}"), ("/rpc", &body)));
    assert_eq!(with("Host: evil.example\r\n"), (403, "forbidden".into()));
    assert_eq!(with("Host: localhost\r\nOrigin: http://evil.example\r\n"), (403, "forbidden".into()));
    assert_eq!(with(&format!("Host: localhost:{0}\r\nOrigin: http://localhost:{0}\r\n", hive.port())), (200, String::new()));
}

#[test]
fn tokens_come_and_go_with_the_file_and_a_bad_one_changes_nothing() {
    require_root!();
    let files = Files::new();
    let first = files.token("first", "admin");
    let hive = start(&files);
    let status = |token: &str| call(&hive, token, ("worker_list", json!({}))).status;
    assert_eq!(status(&first), 200);
    let second = files.token("second", "observe");
    eventually("the new token to let in", LIMIT, || (status(&second) == 200).then_some(()));
    files.revoke("first");
    eventually("the old token to be nobody's", LIMIT, || (status(&first) == 401).then_some(()));
    let told = || hive.call("hive_info", json!({}))["access"]["tokens"].clone();
    assert_eq!(told(), json!({"valid": 1, "expired": 0, "problem": null}));
    let good = std::fs::read_to_string(files.path("tokens")).expect("the file of tokens");
    for (bad, mode, why) in [("[[token]]\nname = \"x\"\n", 0o600, "missing field"), (good.as_str(), 0o644, "others can read it")] {
        files.put("tokens", bad, (hive_uid(), mode));
        let problem = eventually("the hive to say so", LIMIT, || told()["problem"].as_str().filter(|p| p.contains(why)).map(str::to_owned));
        assert!(problem.starts_with("what was read before stays in force"), "{problem}");
        assert_eq!(status(&second), 200, "it is as it was");
    }
    assert!(hive.stderr().contains("changed files can't be used"), "{}", hive.stderr());
    files.put("tokens", "# none\n", (hive_uid(), 0o600));
    eventually("nobody to be let in", LIMIT, || (status(&second) == 401).then_some(()));
    assert_eq!(told(), json!({"valid": 0, "expired": 0, "problem": null}));
}

#[test]
fn a_change_is_on_record_with_who_asked_and_never_a_secret() {
    require_root!();
    let files = Files::new();
    let (token, reader) = (files.token("deployer", "operate"), files.token("reader", "observe"));
    // What RUST_LOG leaves out, the audit has.
    let options = HiveOptions::default().argument("--token-file").argument(text(&files.path("tokens"))).variable("RUST_LOG", "off");
    let hive = Hive::start(options);
    let secret = "sesame-in-an-environment";
    let params = json!({"worker_id": "w1", "model": "m", "policy": "mock", "device": "cpu", "env": {"PASSWORD": secret}, "args": [secret]});
    call(&hive, &token, ("worker_spawn", params));
    call(&hive, &token, ("worker_stop", json!(["w1"])));
    call(&hive, &token, ("worker_stop", json!({"worker_id": "absent"})));
    call(&hive, &token, ("worker_stop", json!({"worker_id": "forged\n", "x": secret})));
    call(&hive, &reader, ("worker_stop", json!(["w1"])));
    hive.call("worker_delete", json!({"worker_id": "w1"}));
    let lines: Vec<String> = hive.stderr().lines().filter(|line| line.contains("audit: ")).map(str::to_owned).collect();
    let told = |parts: &[&str]| lines.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    let who = "who=\"token:deployer\"";
    assert!(
        told(&["audit: change", who, "from=\"tcp 127.0.0.1:", "method=\"worker_spawn\"", "worker_id=\"w1\"", "outcome="]),
        "{lines:#?}"
    );
    assert!(told(&["audit: change", who, "method=\"worker_stop\"", "worker_id=\"absent\"", "outcome=\"not_found\""]), "{lines:#?}");
    assert!(told(&["audit: change", who, "method=\"worker_stop\"", "outcome=\"invalid_params\""]), "{lines:#?}");
    assert!(told(&["audit: change", "who=\"uid:0\"", "from=\"unix pid ", "method=\"worker_delete\"", "worker_id=\"w1\""]), "{lines:#?}");
    assert!(told(&["audit: refused", "token:reader is observe", "worker_stop needs operate"]), "{lines:#?}");
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(call(&hive, "wrong-token-of-a-stranger", ("hive_info", json!({}))).status, 401);
    }
    // Ten in ten seconds, and one of each such time may have begun before.
    let most = 10 * (2 + usize::try_from(begun.elapsed().as_secs() / 10).expect("a small number"));
    let all = hive.stderr();
    let refused = all.lines().filter(|line| line.contains("an unknown token")).count();
    assert!((1..=most).contains(&refused), "{refused} lines for 100 strangers, at most {most}");
    for never in [secret, &token, &reader, "wrong-token-of-a-stranger", "forged"] {
        assert!(!all.contains(never), "{never} stands in the log");
    }
}
