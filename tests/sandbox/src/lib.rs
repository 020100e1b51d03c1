//! Runs commands under `rbee-hive run` and says how they ended: the fixture of the tests beside this library.

#![allow(clippy::expect_used, clippy::print_stdout, reason = "a fixture that cannot be made ends its test, and a skipped test says so")]

pub mod facts;
pub mod runner;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A sandboxed command to be.
pub struct Sandboxed {
    directory: tempfile::TempDir,
    policy: String,
    args: Vec<String>,
    stdin: Vec<u8>,
    environment: Vec<(String, String)>,
    prefix: Vec<String>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// Exit status of `rbee-hive run`.
    pub status: Option<i32>,
    /// The command's output.
    pub stdout: String,
    /// The command's errors, and `rbee-hive run`'s.
    pub stderr: String,
    /// The report.
    pub report: Value,
}

/// The program under test: `RBEE_HIVE_BIN`, else the one built beside this test.
pub fn hive_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("RBEE_HIVE_BIN") {
        return path.into();
    }
    let exe = std::env::current_exe().expect("a test has an executable");
    // A program lies beside it, a test one folder below.
    let folders = exe.ancestors().skip(1).take(2).map(|folder| folder.join("rbee-hive"));
    folders.into_iter().find(|path| path.is_file()).expect("rbee-hive is built: cargo build --bin rbee-hive")
}

/// Whether this process may make sandboxes; says so where it may not.
pub fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        println!("SKIPPED: needs root");
    }
    root
}

impl Sandboxed {
    /// Under a policy of nothing but defaults and `extra` lines of TOML.
    pub fn with_policy(extra: &str) -> Self {
        Self {
            directory: tempfile::tempdir().expect("a directory for the policy"),
            policy: format!("description = \"a test\"\n{extra}\n"),
            args: vec![],
            stdin: vec![],
            environment: vec![],
            prefix: vec![],
        }
    }

    /// Under the defaults.
    pub fn new() -> Self {
        Self::with_policy("[worker]\nbinary = \"unused\"")
    }

    /// Adds `--limit key=value`.
    #[must_use]
    pub fn limit(mut self, limit: &str) -> Self {
        self.args.extend(["--limit".into(), limit.into()]);
        self
    }

    /// Adds any option.
    #[must_use]
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.args.extend([name.into(), value.into()]);
        self
    }

    /// What the command reads.
    #[must_use]
    pub fn stdin(mut self, bytes: &[u8]) -> Self {
        self.stdin = bytes.to_vec();
        self
    }

    /// A variable of the caller's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Starts `rbee-hive run` by another program, which executes what follows these words.
    #[must_use]
    pub fn below(mut self, prefix: &[&str]) -> Self {
        self.prefix = prefix.iter().map(ToString::to_string).collect();
        self
    }

    /// A file beside the policy, for the command to find by its host path.
    pub fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).expect("write a test file");
        path
    }

    /// The command line, not yet started.
    pub fn command(&self, argv: &[&str]) -> Command {
        let policy = self.file("test.toml", self.policy.as_bytes());
        let mut words = self.prefix.iter().map(Into::into).chain([hive_binary()]);
        let mut command = Command::new(words.next().expect("the hive at least"));
        command.args(words);
        command.arg("run").arg("--policy").arg(policy).arg("--report").arg(self.report_path());
        command.args(&self.args).arg("--").args(argv).envs(self.environment.iter().cloned());
        command
    }

    /// Gives the policy's directory, and a state directory in it, to another user, who is then to run it.
    #[must_use]
    pub fn owned_by(self, uid: u32) -> Self {
        let state = self.directory.path().join("state");
        std::fs::create_dir(&state).expect("make a state directory");
        for path in [self.directory.path(), &state] {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("give a directory away");
        }
        self.option("--state-dir", &state.display().to_string())
    }

    /// Where the report goes.
    pub fn report_path(&self) -> PathBuf {
        self.directory.path().join("report.json")
    }

    /// Runs a shell script inside.
    pub fn sh(&self, script: &str) -> Ended {
        self.run(&["/bin/sh", "-c", script])
    }

    /// Runs a command inside, to its end.
    pub fn run(&self, argv: &[&str]) -> Ended {
        let mut child =
            self.command(argv).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start rbee-hive run");
        let _ = child.stdin.take().map(|mut s| s.write_all(&self.stdin));
        let mut errors = child.stderr.take().expect("piped");
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        let output = child.wait_with_output().expect("wait for rbee-hive run");
        let report = std::fs::read(self.report_path()).ok().and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or(Value::Null);
        Ended {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: reader.join().unwrap_or_default(),
            report,
        }
    }
}

impl Default for Sandboxed {
    fn default() -> Self {
        Self::new()
    }
}

impl Ended {
    /// The verdict's kind.
    pub fn kind(&self) -> &str {
        self.report["kind"].as_str().unwrap_or("")
    }
}
