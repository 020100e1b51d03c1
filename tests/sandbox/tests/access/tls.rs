//! TLS: who is believed, by whom, and that slow strangers hold nobody up.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::Duration;

use serde_json::json;
use test_support::{Hive, HiveOptions, eventually, require_root, within};

use crate::files::{Ca, Files, NOBODY, call_over_tls, complaint, hive_uid, text};

const LIMIT: Duration = Duration::from_secs(30);
/// An address of this machine that no hive takes for a loopback name.
const HOST: &str = "127.0.0.2";

fn certify(files: &Files, ca: &Ca) {
    let (cert, key) = ca.issue(&[HOST, "hive.example"]);
    files.put("cert", &cert, (0, 0o644));
    files.put("key", &key, (hive_uid(), 0o600));
}

fn options(files: &Files) -> HiveOptions {
    let (cert, key) = (files.path("cert"), files.path("key"));
    let options = HiveOptions::default().argument("--listen").argument("0.0.0.0");
    options.argument("--tls-cert").argument(text(&cert)).argument("--tls-key").argument(text(&key))
}

#[test]
fn beyond_loopback_a_caller_needs_the_hives_ca_and_a_token() {
    require_root!();
    let (files, ca, other) = (Files::new(), Ca::new(), Ca::new());
    certify(&files, &ca);
    let token = files.token("ops", "operate");
    let hive = Hive::start(options(&files).argument("--token-file").argument(text(&files.path("tokens"))));
    let (good, bad) = (files.put("ca", &ca.pem(), (0, 0o644)), files.put("other", &other.pem(), (0, 0o644)));
    let list = |ca: &[&str], token: Option<&str>| call_over_tls(&hive, Some(NOBODY), (HOST, &[ca, &["worker_list"]].concat()), token);
    let listed = list(&["--ca", text(&good)], Some(&token));
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert!(complaint(&list(&["--ca", text(&good)], None)).contains("forbidden"));
    assert!(complaint(&list(&["--ca", text(&good)], Some("wrong"))).contains("unauthorized"));
    assert!(complaint(&list(&["--ca", text(&bad)], Some(&token))).contains("speak TLS"));
    assert!(complaint(&list(&[], Some(&token))).contains("--ca"));
    assert!(test_support::http_get(hive.port(), "/health").is_err(), "it answers in clear");
    let drained = call_over_tls(&hive, Some(NOBODY), (HOST, &["--ca", text(&good), "hive_drain"]), Some(&token));
    assert!(complaint(&drained).contains("role admin"), "{}", String::from_utf8_lossy(&drained.stderr));
    // The certificate is exchanged under the hive's feet.
    certify(&files, &other);
    eventually("the new certificate to be shown", LIMIT, || list(&["--ca", text(&bad)], Some(&token)).status.success().then_some(()));
    assert!(complaint(&list(&["--ca", text(&good)], Some(&token))).contains("speak TLS"));
    assert_eq!(hive.call("hive_info", json!({}))["access"]["tls"], json!({"names": ["hive.example"], "problem": null}));
}

#[test]
fn a_client_certificate_is_asked_for_and_has_its_role() {
    require_root!();
    let (files, ca, clients) = (Files::new(), Ca::new(), Ca::new());
    certify(&files, &ca);
    let good = files.put("ca", &ca.pem(), (0, 0o644));
    let client_ca = files.put("clients", &clients.pem(), (0, 0o644));
    for (name, issuer) in [("ci.example", &clients), ("unnamed.example", &clients), ("stranger.example", &ca)] {
        let (cert, key) = issuer.issue(&[name]);
        files.put(&format!("{name}.cert"), &cert, (0, 0o644));
        files.put(&format!("{name}.key"), &key, (NOBODY, 0o600));
    }
    let config = "[tls]\nclient_role = \"observe\"\n[[access.grant]]\nrole = \"operate\"\ncertificates = [\"ci.example\"]\n";
    let hive = Hive::start(options(&files).config(config).argument("--tls-client-ca").argument(text(&client_ca)));
    let as_client = |name: Option<&str>, method: &[&str]| {
        let pair = name.map(|name| [files.path(&format!("{name}.cert")), files.path(&format!("{name}.key"))]);
        let mut arguments = vec!["--ca", text(&good)];
        if let Some([cert, key]) = &pair {
            arguments.extend(["--cert", text(cert), "--key", text(key)]);
        }
        arguments.extend(method);
        call_over_tls(&hive, Some(NOBODY), (HOST, &arguments), None)
    };
    let stop: &[&str] = &["worker_stop", r#"{"worker_id": "absent"}"#];
    assert!(complaint(&as_client(Some("ci.example"), stop)).contains("not_found"), "it may ask for it");
    assert!(complaint(&as_client(Some("ci.example"), &["hive_drain"])).contains("role admin"));
    assert!(as_client(Some("unnamed.example"), &["worker_list"]).status.success());
    assert!(complaint(&as_client(Some("unnamed.example"), stop)).contains("role operate"));
    for nobody in [None, Some("stranger.example")] {
        let said = complaint(&as_client(nobody, &["worker_list"]));
        assert!(!said.contains("unauthorized") && !said.contains("forbidden"), "it got past the handshake: {said}");
    }
    let log = hive.stderr();
    assert!(log.contains("who=\"certificate:ci.example\"") && log.contains("method=\"worker_stop\""), "{log}");
    assert!(log.contains("audit: refused") && log.contains("TLS: "), "{log}");
}

#[test]
fn silent_connections_are_closed_and_hold_nobody_up() {
    require_root!();
    let (files, ca) = (Files::new(), Ca::new());
    certify(&files, &ca);
    let token = files.token("ops", "operate");
    let good = files.put("ca", &ca.pem(), (0, 0o644));
    let hive = Hive::start(options(&files).argument("--token-file").argument(text(&files.path("tokens"))));
    let silent: Vec<TcpStream> = (0..600).map_while(|_| TcpStream::connect((HOST, hive.port())).ok()).collect();
    assert!(silent.len() > 448, "only {} connections", silent.len());
    // More than the hive takes over TCP: the operator's socket answers all the same.
    assert_eq!(hive.call("worker_list", json!({})), json!([]));
    let listed = eventually("a caller to have its turn", LIMIT, || {
        let listed = call_over_tls(&hive, Some(NOBODY), (HOST, &["--ca", text(&good), "worker_list"]), Some(&token));
        listed.status.success().then_some(listed)
    });
    assert_eq!(String::from_utf8_lossy(&listed.stdout).trim(), "[]");
    for mut stream in silent {
        stream.set_read_timeout(Some(within(LIMIT))).expect("set a time limit");
        let mut byte = [0];
        assert!(matches!(stream.read(&mut byte), Ok(0) | Err(_)), "it says something to who says nothing");
    }
}
