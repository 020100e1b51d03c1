//! Where a hive refuses to listen, and which files it refuses.

use std::fs;
use std::process::Command;

use test_support::{hive_binary, require_root};

use crate::files::{Ca, Files, text};

/// `serve` with these options, which must not come up; what it said, and its status.
fn refused(files: &Files, options: &[&str]) -> (Option<i32>, String) {
    let (state, log) = (files.path("state"), files.path("log"));
    let places = ["serve", "--port", "0", "--state-dir", text(&state), "--log-dir", text(&log)];
    // One that comes up all the same is asked to stop, and ends with another status.
    let mut command = Command::new("timeout");
    let output = command.arg("20").arg(hive_binary()).args(places).args(options).output().expect("start rbee-hive");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn beyond_loopback_nothing_is_opened_without_tls_and_a_way_to_know_the_caller() {
    require_root!();
    let (files, ca) = (Files::new(), Ca::new());
    let (cert, key) = ca.issue(&["hive.example"]);
    let (cert, key) = (files.put("cert", &cert, (0, 0o644)), files.put("key", &key, (0, 0o600)));
    files.token("a", "observe");
    let tokens = files.path("tokens");
    let (tls, token) = (["--tls-cert", text(&cert), "--tls-key", text(&key)], ["--token-file", text(&tokens)]);
    for lacking in [&[][..], &token, &tls] {
        for address in ["0.0.0.0", "::", "192.0.2.1"] {
            let (status, said) = refused(&files, &[&["--listen", address], lacking].concat());
            assert_eq!(status, Some(2), "{said}");
            assert!(said.contains("--tls-cert") && said.contains("--token-file") && said.contains("--tls-client-ca"), "{said}");
            assert!(!files.path("state").exists(), "something was made");
        }
    }
}

#[test]
fn a_key_or_token_that_others_can_read_stops_the_start() {
    require_root!();
    let (files, ca) = (Files::new(), Ca::new());
    let (cert, key) = ca.issue(&["hive.example"]);
    let (cert, open) = (files.put("cert", &cert, (0, 0o644)), files.put("open", &key, (0, 0o644)));
    let own = files.put("key", &key, (0, 0o600));
    let other = files.put("other", &ca.issue(&["hive.example"]).1, (0, 0o600));
    let strangers = files.put("strangers", &key, (65534, 0o600));
    let tls = |key| refused(&files, &["--tls-cert", text(&cert), "--tls-key", text(key)]);
    for (key, why) in [(&open, "chmod 600"), (&strangers, "belongs to uid 65534"), (&other, "the certificate with its key")] {
        let (status, said) = tls(key);
        assert!(status == Some(1) && said.contains(why), "{status:?} {said}");
    }
    files.token("a", "observe");
    let tokens = files.path("tokens");
    let text_of = fs::read_to_string(&tokens).expect("the tokens");
    files.put("tokens", &text_of, (0, 0o644));
    let (status, said) = refused(&files, &["--token-file", text(&tokens), "--tls-cert", text(&cert), "--tls-key", text(&own)]);
    assert!(status == Some(1) && said.contains("others can read it"), "{status:?} {said}");
}
