//! Files of the tests' own, where a hive that has given up root can read them: tokens, certificates, keys.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::unistd::User;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_support::{Hive, HttpReply, hive_binary, http_over_tcp, run_command};

/// uid and gid of a hive that root starts where there is no user `rbee-hive`.
const DEFAULT_HIVE: u32 = 1_879_048_191;
/// The user nobody.
pub(crate) const NOBODY: u32 = 65534;

/// A directory that everybody may enter.
pub(crate) struct Files(TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        let open = Permissions::from_mode(0o755);
        Self(tempfile::Builder::new().prefix("rbee-hive-access-").permissions(open).tempdir().expect("make a directory"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and renames it into its place.
    pub(crate) fn put(&self, name: &str, text: &str, (owner, mode): (u32, u32)) -> PathBuf {
        let (path, new) = (self.path(name), self.path("new"));
        fs::write(&new, text).expect("write a file");
        fs::set_permissions(&new, Permissions::from_mode(mode)).expect("set a mode");
        chown(&new, Some(owner), Some(owner)).expect("give a file away");
        fs::rename(&new, &path).expect("rename a file");
        path
    }

    /// Makes a token and gives it back; the hive's group may read the file.
    pub(crate) fn token(&self, name: &str, role: &str) -> String {
        let (file, group) = (self.path("tokens"), hive_uid().to_string());
        let made = run_command(&["token", "add", "--token-file", text(&file), "--role", role, "--group", &group, name]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        String::from_utf8(made.stdout).expect("a token").trim().to_owned()
    }

    /// Takes a token back.
    pub(crate) fn revoke(&self, name: &str) {
        let removed = run_command(&["token", "remove", "--token-file", text(&self.path("tokens")), name]);
        assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    }
}

/// The uid of the hives of these tests.
pub(crate) fn hive_uid() -> u32 {
    User::from_name("rbee-hive").ok().flatten().map_or(DEFAULT_HIVE, |user| user.uid.as_raw())
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the tests' own is UTF-8")
}

/// A CA of a test's own.
pub(crate) struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key for these names, as a server's and a client's.
    pub(crate) fn issue(&self, names: &[&str]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }
}

/// A call over plain TCP with a token, and further lines of the head.
pub(crate) fn call(hive: &Hive, token: &str, (method, params): (&str, Value)) -> HttpReply {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    send(hive, &format!("Host: localhost\r\nAuthorization: Bearer {token}\r\n"), ("/rpc", &body))
}

/// A POST with these lines in its head.
pub(crate) fn send(hive: &Hive, head: &str, (path, body): (&str, &str)) -> HttpReply {
    let request = format!("POST {path} HTTP/1.1\r\n{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    http_over_tcp(hive.port(), &request, std::time::Duration::from_secs(30)).expect("an answer")
}

/// The error of an answer: its HTTP status, and `data.kind` or `kind`.
pub(crate) fn refusal(reply: &HttpReply) -> (u16, String) {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let error = &body["error"];
    let kind = error["data"]["kind"].as_str().or(error["kind"].as_str()).unwrap_or_default();
    (reply.status, kind.to_owned())
}

/// `rbee-hive call METHOD` over TLS, as root, or as nobody.
pub(crate) fn call_over_tls(hive: &Hive, user: Option<u32>, (host, arguments): (&str, &[&str]), token: Option<&str>) -> Output {
    let program = hive.directory().join("bin/rbee-hive");
    let mut command = match user {
        Some(id) => {
            let mut command = Command::new("setpriv");
            let id = id.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]).arg(program);
            command
        }
        None => Command::new(hive_binary()),
    };
    command.args(["call", "--url", &format!("https://{host}:{}", hive.port())]).args(arguments);
    if let Some(token) = token {
        command.env("RBEE_HIVE_TOKEN", token);
    }
    command.output().expect("start rbee-hive as a client")
}

/// What a failed command said.
pub(crate) fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "it was let in: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}
