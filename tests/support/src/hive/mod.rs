//! One hive, from its start to the proof that nothing of it is left.
//!
//! Owns: the process, its directories, and its end. Must never know: what workers are for.

mod listening;
mod options;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

pub use options::HiveOptions;

use crate::binaries::{hive_binary, mock_binary};
use crate::eventually::{eventually, poll};
use crate::privilege::{Shared, among_others, base_directory};
use crate::rpc::{self, HttpReply, RpcError};
use crate::snapshot::{Scope, Snapshot, cgroup_mounts};
use crate::sweep;

/// How long a hive may take to listen, and to end.
const START: Duration = Duration::from_secs(20);
const END: Duration = Duration::from_secs(30);
/// uid and gid of the user nobody.
const NOBODY: u32 = 65534;
const ANSWER: Duration = Duration::from_secs(60);

/// A running hive with directories and a cgroup root of its own; ended, checked and removed when dropped.
#[derive(Debug)]
pub struct Hive {
    child: Child,
    port: u16,
    socket: PathBuf,
    cgroup_root: String,
    directory: TempDir,
    options: HiveOptions,
    _machine: Shared,
}

impl Hive {
    /// Starts a hive and waits until it listens.
    ///
    /// # Panics
    /// When it does not say so in time; the message has what it wrote.
    #[track_caller]
    pub fn start(options: HiveOptions) -> Self {
        let machine = among_others();
        let directory = make_directory(&options);
        let cgroup_root = unique_cgroup_root(&options);
        let (child, port, socket) = launch(directory.path(), &cgroup_root, &options);
        Self { child, port, socket, cgroup_root, directory, options, _machine: machine }
    }

    /// The pid of `rbee-hive serve`.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits"))
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The Unix socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The root of its cgroups, relative to each hierarchy's mount, with a leading `/`.
    pub fn cgroup_root(&self) -> &str {
        &self.cgroup_root
    }

    /// `--state-dir`.
    pub fn state_dir(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// `--log-dir`.
    pub fn log_dir(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The directory of this fixture: `state`, `log`, `policies`, `models`, `bin` and `stderr` lie in it.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the hive has written to standard error so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).unwrap_or_default()
    }

    /// Calls a method over the Unix socket.
    ///
    /// # Errors
    /// The hive's error; code 0 when no JSON-RPC answer came.
    pub fn rpc(&self, method: &str, params: Value) -> Result<Value, RpcError> {
        rpc::rpc_over_unix(&self.socket, (method, params), ANSWER)
    }

    /// Calls a method that must succeed.
    ///
    /// # Panics
    /// When it does not; the message has the error and the hive's standard error.
    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.rpc(method, params).unwrap_or_else(|error| panic!("{method} failed: {error}\n--- hive ---\n{}", self.stderr()))
    }

    /// `GET path` from the hive's own TCP port.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn get(&self, path: &str) -> HttpReply {
        rpc::http_get(self.port, path).unwrap_or_else(|error| panic!("GET {path} from the hive: {error}\n{}", self.stderr()))
    }

    /// Runs a client command of `rbee-hive` against this hive.
    pub fn cli<I: IntoIterator<Item = S>, S: AsRef<OsStr>>(&self, arguments: I) -> Output {
        let url = format!("unix://{}", self.socket.display());
        Command::new(hive_binary()).args(arguments).env("RBEE_HIVE_URL", url).output().expect("start rbee-hive as a client")
    }

    /// Sends the hive a signal.
    ///
    /// # Panics
    /// When it is gone.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("signal the hive");
    }

    /// Waits until the hive has ended.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the hive to end", END, || child.try_wait().expect("wait for the hive"))
    }

    /// Starts a hive again on the same directories and cgroups, after the first has ended.
    ///
    /// # Panics
    /// When the first still runs or the second does not listen in time.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.child.try_wait().expect("wait for the hive").is_some(), "the hive still runs");
        (self.child, self.port, self.socket) = launch(self.directory.path(), &self.cgroup_root, &self.options);
    }

    /// What a snapshot of this hive looks at.
    pub fn scope(&self) -> Scope {
        Scope { hive: Some(self.pid()), cgroup_root: self.cgroup_root.clone(), directory: self.directory.path().to_path_buf() }
    }

    /// What is on the machine now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.scope())
    }

    /// Waits up to ten seconds (scaled) until nothing more is on the machine than in `before`.
    ///
    /// # Panics
    /// When something more is; the message lists it.
    #[track_caller]
    pub fn assert_nothing_more_than(&self, before: &Snapshot) {
        poll(Duration::from_secs(10), || self.snapshot().more_than(before).is_empty().then_some(()));
        self.snapshot().assert_nothing_more_than(before);
    }

    /// Ends every worker, then the hive; tells what had to be removed by force.
    fn end(&mut self) -> Vec<String> {
        let mut forced = Vec::new();
        if self.child.try_wait().ok().flatten().is_none() {
            for worker in self.rpc("worker_list", json!({})).ok().and_then(|list| list.as_array().cloned()).unwrap_or_default() {
                // One that is gone by now, or a hive too broken to answer, shows up in the sweep below.
                let _ = self.rpc("worker_stop", json!({"worker_id": worker["worker_id"], "grace_ms": 0}));
            }
            let _ = kill(self.pid(), Signal::SIGTERM);
            if !ends_within(&mut self.child, END) {
                forced.push(format!("hive {} did not end on SIGTERM", self.child.id()));
                let _ = self.child.kill();
                let _ = self.child.wait();
            }
        }
        // The test's own; where something is left in it, that is told below.
        let _ = delegated_group(&self.cgroup_root).map(fs::remove_dir);
        forced.extend(sweep::cgroups(self.cgroup_root.trim_end_matches("/root")));
        forced
    }
}

impl Drop for Hive {
    fn drop(&mut self) {
        let stderr = self.stderr();
        let forced = self.end();
        let failing = std::thread::panicking();
        if failing {
            eprintln!("--- standard error of the hive ---\n{stderr}");
        }
        if self.options.leftovers_are_a_failure() && !failing {
            assert!(forced.is_empty(), "the hive left behind:\n{}\n--- its standard error ---\n{stderr}", forced.join("\n"));
        }
    }
}

/// Runs `rbee-hive` with these arguments, no hive needed.
///
/// # Panics
/// When the program cannot be started.
pub fn run_command(arguments: &[&str]) -> Output {
    Command::new(hive_binary()).args(arguments).stdin(Stdio::null()).output().expect("start rbee-hive")
}

fn ends_within(child: &mut Child, limit: Duration) -> bool {
    poll(limit, || matches!(child.try_wait(), Ok(Some(_)) | Err(_)).then_some(())).is_some()
}

fn unique_cgroup_root(options: &HiveOptions) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let below = if options.is_delegated() { "/root" } else { "" };
    format!("/rbee-hive-test-{}-{}{below}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// The v2 cgroup that a delegated hive is started in.
fn delegated_group(cgroup_root: &str) -> Option<PathBuf> {
    let group = cgroup_root.strip_suffix("/root")?;
    cgroup_mounts().into_iter().map(|mount| mount.join(group.trim_start_matches('/'))).find(|g| {
        // Only v2 has this file in the root of its hierarchy.
        g.parent().is_some_and(|root| root.join("cgroup.controllers").exists())
    })
}

/// The fixture's directory: policies and models as told, and a copy of the mock worker that nobody but root can write.
fn make_directory(options: &HiveOptions) -> TempDir {
    let open = fs::Permissions::from_mode(0o755);
    let directory = tempfile::Builder::new()
        .prefix("rbee-hive-test-")
        .permissions(open.clone())
        .tempdir_in(base_directory())
        .expect("make a directory for the hive");
    for name in ["policies", "models", "bin"] {
        let path = directory.path().join(name);
        fs::create_dir(&path).expect("make a directory for the hive");
        fs::set_permissions(&path, open.clone()).expect("open a directory of the hive for reading");
    }
    let hive = directory.path().join("bin/rbee-hive");
    // Where it was built, not everybody may come.
    fs::hard_link(hive_binary(), &hive).or_else(|_| fs::copy(hive_binary(), &hive).map(drop)).expect("copy the hive");
    let mock = mock_binary();
    for name in ["mock-worker", "llama-worker"] {
        let copy = directory.path().join("bin").join(name);
        fs::copy(&mock, &copy).expect("copy the mock worker");
        fs::set_permissions(&copy, open.clone()).expect("make the mock worker executable");
    }
    if options.is_for_nobody() {
        for name in ["state", "log"] {
            let path = directory.path().join(name);
            fs::create_dir(&path).expect("make a directory for the hive");
            give(&path);
        }
    }
    options.write_files(directory.path());
    directory
}

/// What systemd's `Delegate=` gives away (`/sys/kernel/cgroup/delegate`).
fn delegate(group: &Path) {
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        give(&group.join(file));
    }
}

fn give(path: &Path) {
    std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("give something to nobody");
}

fn launch(directory: &Path, cgroup_root: &str, options: &HiveOptions) -> (Child, u16, PathBuf) {
    let stderr =
        fs::OpenOptions::new().create(true).append(true).open(directory.join("stderr")).expect("make a file for the hive's standard error");
    let mut command = Command::new("sh");
    match delegated_group(cgroup_root) {
        Some(group) => {
            fs::create_dir_all(&group).expect("make a cgroup to start the hive in");
            if options.is_for_nobody() {
                delegate(&group);
            }
            command.args(["-c", "echo 0 > \"$0/cgroup.procs\" && exec \"$@\""]).arg(group);
        }
        None => drop(command.args(["-c", "exec \"$@\"", "sh"])),
    }
    if options.is_for_nobody() {
        let id = NOBODY.to_string();
        command.args(["setpriv", "--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
    }
    command.arg(directory.join("bin/rbee-hive"));
    command.args(["serve", "--port", "0", "--cgroup-root", cgroup_root]);
    for (option, folder) in
        [("--state-dir", "state"), ("--log-dir", "log"), ("--policies", "policies"), ("--model-dir", "models"), ("--binary-dir", "bin")]
    {
        command.arg(option).arg(directory.join(folder));
    }
    options.apply_to(&mut command, directory);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().expect("start rbee-hive");
    let said = listening::wait_for_line(&mut child, START);
    match said {
        Ok(line) => (child, line.port, line.socket),
        Err(why) => {
            let _ = child.kill();
            let _ = child.wait();
            let left = sweep::cgroups(cgroup_root);
            let stderr = fs::read_to_string(directory.join("stderr")).unwrap_or_default();
            panic!("the hive does not listen: {why}\n{}\n--- its standard error ---\n{stderr}", left.join("\n"));
        }
    }
}
