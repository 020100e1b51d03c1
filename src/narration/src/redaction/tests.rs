use super::{REDACTED, redact};
use proptest::prelude::*;

#[track_caller]
fn becomes(text: &str, expected: &str) {
    assert_eq!(redact(text), expected);
}

#[test]
fn bearer_tokens_are_redacted() {
    becomes("Authorization: Bearer abc.DEF-123/+==", "Authorization: Bearer [REDACTED]");
    becomes("bearer abc123 sent", "bearer [REDACTED] sent");
    becomes(r#"{"Authorization":"Bearer abc"}"#, r#"{"Authorization":"Bearer [REDACTED]"}"#);
    becomes("token=Bearer abc", "token=[REDACTED] [REDACTED]");
    becomes("Bearer abc\0def", "Bearer [REDACTED]");
}

#[test]
fn basic_authorization_is_redacted() {
    becomes("authorization: Basic dXNlcjpwYXNz", "authorization: Basic [REDACTED]");
}

#[test]
fn named_keys_are_redacted() {
    becomes("api_key=abc123", "api_key=[REDACTED]");
    becomes("?api_key=abc&model=m", "?api_key=[REDACTED]&model=m");
    becomes("X-Api-Key: abc", "X-Api-Key: [REDACTED]");
    becomes("HF_TOKEN=abc ok", "HF_TOKEN=[REDACTED] ok");
    becomes("PASSWORD = hunter2,x", "PASSWORD = [REDACTED]");
    becomes(r#"{"apiKey": "a b", "n": 1}"#, r#"{"apiKey": [REDACTED], "n": 1}"#);
    becomes(r#"{"secret":"a\"b","n":1}"#, r#"{"secret":[REDACTED],"n":1}"#);
    becomes(r#""{\"api_key\": \"abc\"}""#, r#""{\"api_key\": [REDACTED]"}""#);
    becomes("password='a b' end", "password=[REDACTED] end");
}

#[test]
fn keys_given_as_arguments_are_redacted() {
    becomes("llama-server --api-key abc --port 1", "llama-server --api-key [REDACTED] --port 1");
    becomes(r#"["--api-key", "abc", "--port"]"#, r#"["--api-key", [REDACTED], "--port"]"#);
    becomes("--api-key=abc", "--api-key=[REDACTED]");
    becomes("--hf-token abc -m x", "--hf-token [REDACTED] -m x");
    becomes("--api-key-file /run/keys", "--api-key-file /run/keys");
}

#[test]
fn keys_as_rust_prints_them_are_redacted() {
    becomes(r#"Login { password: Some("a b"), n: 1 }"#, "Login { password: Some([REDACTED]), n: 1 }");
    becomes(r#"[("HF_TOKEN", "abc"), ("A", "b")]"#, r#"[("HF_TOKEN", [REDACTED]), ("A", "b")]"#);
}

#[test]
fn keys_with_an_issuers_prefix_are_redacted() {
    becomes("using sk-proj-abcdefgh1234", "using [REDACTED]");
    becomes("(hf_abcdefghijklmnopqrst)", "([REDACTED])");
    becomes("ghp_abcdefghijklmnopqrstuvwxyz0123456789", REDACTED);
}

#[test]
fn json_web_tokens_are_redacted() {
    becomes("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc-_1 back", "got [REDACTED] back");
    becomes("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", REDACTED);
    becomes("eyJhbGciOiJSU0EifQ.a.b.c.d", REDACTED);
}

#[test]
fn private_keys_are_redacted_whole() {
    for kind in ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "] {
        let key = format!("a -----BEGIN {kind}PRIVATE KEY-----\nMIIE\n-----END {kind}PRIVATE KEY----- b");
        becomes(&key, "a [REDACTED] b");
    }
    becomes("-----BEGIN PGP PRIVATE KEY BLOCK-----\nx\n-----END PGP PRIVATE KEY BLOCK-----", REDACTED);
}

#[test]
fn a_private_key_without_its_end_is_redacted_to_the_end() {
    becomes("a -----BEGIN PRIVATE KEY-----\nMIIE\nMORE", "a [REDACTED]");
}

#[test]
fn two_private_keys_keep_the_text_between_them() {
    let key = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----";
    becomes(&format!("{key} and {key}"), "[REDACTED] and [REDACTED]");
}

#[test]
fn passwords_in_urls_are_redacted() {
    becomes("postgres://me:hunter2@db:5432/x", "postgres://me:[REDACTED]@db:5432/x");
    becomes("redis://:p@ss@db", "redis://:[REDACTED]@db");
    becomes("http://a:b:c@h/?q", "http://a:[REDACTED]@h/?q");
}

#[test]
fn plain_text_is_left_alone() {
    for text in [
        "Starting worker-1 on GPU-0 at http://127.0.0.1:8601/health",
        "http://host:8600/users/@me",
        "max_tokens=512, disk-12345678, task-12345678",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "token bucket, secret sauce, password required",
    ] {
        becomes(text, text);
    }
}

proptest! {
    #[test]
    fn no_text_makes_redaction_panic(text in any::<String>()) {
        let _ = redact(&text);
    }

    #[test]
    fn no_pieces_of_secrets_make_redaction_panic(
        text in r#"(?:Bearer |api_key|--token |=|: ?|"|'|\\|Some\(|eyJ|\.|sk-|://|@|:|é|\n|-----BEGIN PRIVATE KEY-----){0,20}"#,
    ) {
        let _ = redact(&text);
    }

    #[test]
    fn a_secret_never_survives_its_name(before in "[a-z ]{0,20}", secret in "[A-Z0-9]{12,40}", after in "[a-z ]{0,20}") {
        for text in [
            format!("{before} Bearer {secret} {after}"),
            format!("{before} api_key={secret} {after}"),
            format!("{before} \"password\": \"{secret}\" {after}"),
            format!("{before} https://me:{secret}@host/ {after}"),
            format!("{before} sk-{secret} {after}"),
            format!("{before} -----BEGIN RSA PRIVATE KEY-----\n{secret}\n-----END RSA PRIVATE KEY----- {after}"),
        ] {
            let clean = redact(&text);
            prop_assert!(!clean.contains(&secret), "{}", clean);
            prop_assert!(clean.contains(REDACTED));
            prop_assert!(clean.ends_with(&format!(" {after}")), "{}", clean);
        }
    }
}
