//! Launchers, started and spoken to as a hive does it, but by hand: so that they can be killed while a hive is not.
//!
//! Owns: the directories, the processes, the channels. Must never know: what a test is about.

#![allow(clippy::expect_used, clippy::panic, reason = "a world that can't be made ends its test")]

use std::fs::{self, OpenOptions, Permissions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use procfs::process::Process;
use rbee_hive_policy::{SandboxPlan, WorkerId};
use rbee_hive_sandbox::Verdict;
use rbee_hive_sandbox::protocol::{Channel, FoundHow, FromInit, FromLauncher, LaunchError, LaunchErrorKind, ToInit, ToLauncher};
use serde_json::{Value, json};
use test_support::{eventually, hive_binary, mock_binary, within};

const PATIENCE: Duration = Duration::from_secs(30);
const MOCK: &str = "[worker]\nbinary = \"mock-worker\"\non_hive_exit = \"keep\"\n[limits]\nmemory_max = \"64MiB\"\npids_max = 32\n\
    [request]\nmay_set = [\"limits\"]\nmax = { memory_max = \"64MiB\", pids_max = 32 }\n";
const DEVICES: &str = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnodes = [\"/dev/full\"]\n";

/// Directories and a cgroup root of one test.
pub(super) struct World {
    directory: tempfile::TempDir,
    pub(super) cgroup_root: String,
}

impl World {
    pub(super) fn new(name: &str) -> Self {
        let open = Permissions::from_mode(0o755);
        let made = tempfile::Builder::new().prefix("rbee-hive-found-").permissions(open).tempdir_in("/run").expect("a directory");
        let world = Self { directory: made, cgroup_root: format!("/rbee-hive-test-{}-{name}", std::process::id()) };
        for folder in ["policies", "models", "bin", "state", "log"] {
            fs::create_dir(world.path(folder)).expect("mkdir");
            fs::set_permissions(world.path(folder), Permissions::from_mode(0o755)).expect("chmod");
        }
        let leased = MOCK.replace("[request]", "[devices]\ngpus = \"leased\"\n[request]");
        for (file, text) in [
            ("policies/mock.toml", MOCK.to_owned()),
            ("policies/dies.toml", MOCK.replace("\"keep\"", "\"kill\"")),
            ("policies/shared.toml", leased.replace("gpus = \"leased\"", "gpus = \"leased\"\nshare = { ways = 2 }")),
            ("policies/leased.toml", leased),
            ("devices.toml", DEVICES.to_owned()),
            ("config.toml", "spawn_rate = \"500/s\"\n".to_owned()),
        ] {
            fs::write(world.path(file), text).expect("write");
        }
        fs::copy(mock_binary(), world.path("bin/mock-worker")).expect("copy the mock worker");
        world
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A worker's state directory.
    pub(super) fn state(&self, id: &str) -> PathBuf {
        self.path("state/workers").join(id)
    }

    /// A worker's groups, in every hierarchy that has one.
    pub(super) fn groups_of(&self, id: &str) -> Vec<PathBuf> {
        self.groups().into_iter().map(|root| root.join("workers").join(format!("w-{id}"))).filter(|path| path.exists()).collect()
    }

    fn groups(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
        let cgroups = mounts.lines().filter(|line| line.contains(" - cgroup"));
        let points = cgroups.filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        points.map(|mount| mount.join(self.cgroup_root.trim_start_matches('/'))).filter(|path| path.exists()).collect()
    }

    /// Nothing is left of it.
    pub(super) fn end(self) {
        assert_eq!(self.groups(), Vec::<PathBuf>::new(), "cgroups are left; {}", self.log());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("launcher.log")).unwrap_or_default()
    }
}

impl Drop for World {
    /// Whatever became of the test: a worker that nobody knows must not go on.
    fn drop(&mut self) {
        for root in self.groups() {
            for group in ["init", "worker"] {
                let workers = fs::read_dir(root.join("workers")).into_iter().flatten().flatten();
                for path in workers.map(|worker| worker.path().join(group)) {
                    let listed = fs::read_to_string(path.join("cgroup.procs")).unwrap_or_default();
                    for pid in listed.lines().filter_map(|pid| pid.parse().ok()) {
                        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
                    }
                }
            }
            let _ = test_support::poll(Duration::from_secs(5), || remove(&root).then_some(()));
        }
    }
}

fn remove(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove(&entry.path());
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

pub(super) fn id(name: &str) -> WorkerId {
    WorkerId::parse(name).expect("a name")
}

pub(super) fn lives(pid: i32) -> bool {
    Process::new(pid).and_then(|p| p.stat()).is_ok_and(|s| s.state != 'Z')
}

pub(super) fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut list = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut list, PollTimeout::ZERO).expect("poll") > 0
}

/// The verdict that an init tells.
pub(super) fn ended(init: &Channel<ToInit, FromInit>) -> Verdict {
    loop {
        if let (FromInit::Ended { verdict, .. }, _) = init.recv().expect("a verdict") {
            return verdict;
        }
    }
}

/// A worker that was started, and what its hive has of it.
pub(super) struct Worker {
    pub(super) init: Channel<ToInit, FromInit>,
    pub(super) init_pid: i32,
    pub(super) init_fd: OwnedFd,
    pub(super) worker: OwnedFd,
    pub(super) plan: SandboxPlan,
}

impl Worker {
    /// The next message of a kind.
    pub(super) fn hear(&self, wanted: impl Fn(&FromInit) -> bool) -> FromInit {
        loop {
            let (message, _) = self.init.recv().expect("a message from the init");
            if wanted(&message) {
                return message;
            }
        }
    }
}

/// A worker that was there when a launcher started.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) id: WorkerId,
    pub(super) plan: Option<SandboxPlan>,
    pub(super) cgroup: Option<String>,
    pub(super) init_pid: Option<i32>,
    pub(super) how: FoundHow,
    pub(super) fds: Vec<OwnedFd>,
}

/// Another port than the last ones', of those that workers may have.
fn next_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    9110 + NEXT.fetch_add(1, Ordering::Relaxed) % 80
}

/// A launcher that has said hello.
pub(super) struct Launcher {
    child: Child,
    channel: Channel<ToLauncher, FromLauncher>,
    seq: u64,
    ended: bool,
}

impl Launcher {
    pub(super) fn start(world: &World) -> Self {
        let (channel, theirs) = Channel::<ToLauncher, FromLauncher>::pair().expect("a channel");
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).expect("hand it over");
        let mut command = Command::new(hive_binary());
        command.arg0("rbee-hive").args(["launcher", "--channel-fd", &theirs.as_raw_fd().to_string(), "--hive-gid", "0"]);
        for (option, name) in [
            ("--state-dir", "state"),
            ("--log-dir", "log"),
            ("--policies", "policies"),
            ("--binary-dir", "bin"),
            ("--devices", "devices.toml"),
            ("--config", "config.toml"),
        ] {
            command.arg(option).arg(world.path(name));
        }
        let log = OpenOptions::new().create(true).append(true).open(world.path("launcher.log")).expect("a log");
        command.args(["--cgroup-root", &world.cgroup_root]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        // As under systemd: the hive, which is this test, stays where it is.
        let child = command.env("INVOCATION_ID", "test").spawn().expect("start the launcher");
        drop(theirs);
        let mut launcher = Self { child, channel, seq: 1000, ended: false };
        match launcher.next().0 {
            FromLauncher::Hello { .. } => launcher,
            other => panic!("{other:?}\n{}", world.log()),
        }
    }

    fn next(&mut self) -> (FromLauncher, Vec<OwnedFd>) {
        let mut list = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut list, PollTimeout::try_from(within(PATIENCE)).expect("a timeout")).expect("poll");
        assert_eq!(ready, 1, "the launcher says nothing");
        self.channel.recv().expect("a message from the launcher")
    }

    /// Everything that it has found.
    pub(super) fn found(&mut self) -> Vec<Found> {
        let mut all = Vec::new();
        loop {
            match self.next() {
                (FromLauncher::Found { worker_id, plan, cgroup, init_pid, how, .. }, fds) => {
                    all.push(Found { id: worker_id, plan: plan.map(|plan| *plan), cgroup, init_pid, how, fds });
                }
                (FromLauncher::FoundAll { count }, _) => {
                    assert_eq!(count, all.len());
                    all.sort_by(|a, b| a.id.cmp(&b.id));
                    return all;
                }
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    /// Sends a request; its answer.
    pub(super) fn ask(&mut self, message: &ToLauncher, fds: &[std::os::fd::BorrowedFd<'_>]) -> FromLauncher {
        self.channel.send(message, fds).expect("ask the launcher");
        loop {
            match self.next().0 {
                FromLauncher::Found { .. } | FromLauncher::FoundAll { .. } | FromLauncher::Released { .. } => {}
                answer => return answer,
            }
        }
    }

    /// Starts a worker, with `change` in its request.
    pub(super) fn try_spawn(&mut self, id: &str, policy: &str, change: Value) -> Result<Worker, LaunchError> {
        self.seq += 1;
        let mut request = json!({
            "worker_id": id, "policy": policy, "command": {"worker": {"model": "m", "args": []}},
            "devices": ["CPU-0"], "env": {}, "limits": {}, "port": next_port(),
        });
        if let (Some(request), Value::Object(change)) = (request.as_object_mut(), change) {
            request.extend(change);
        }
        let message = serde_json::from_value(json!({"op": "spawn", "seq": self.seq, "request": request})).expect("a request");
        let (init, theirs) = Channel::<ToInit, FromInit>::pair().expect("a channel");
        self.channel.send(&message, &[theirs.as_fd()]).expect("ask the launcher");
        drop(theirs);
        loop {
            match self.next() {
                (FromLauncher::Spawned { plan, init_pid, .. }, mut fds) => {
                    let init_fd = fds.pop().expect("the init's pidfd");
                    let (started, mut fds) = init.recv().expect("the init's first words");
                    assert!(matches!(started, FromInit::Started { .. }), "{started:?}");
                    return Ok(Worker { init, init_pid, init_fd, worker: fds.pop().expect("the worker's pidfd"), plan: *plan });
                }
                (FromLauncher::Refused { error, .. }, _) => return Err(error),
                (FromLauncher::Found { .. } | FromLauncher::FoundAll { .. } | FromLauncher::Released { .. }, _) => {}
                (other, _) => panic!("{other:?}"),
            }
        }
    }

    pub(super) fn spawn(&mut self, id: &str, policy: &str, change: Value) -> Worker {
        self.try_spawn(id, policy, change).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// The kind of a refusal.
    pub(super) fn refusal(&mut self, id: &str, policy: &str, change: Value) -> LaunchErrorKind {
        match self.try_spawn(id, policy, change) {
            Ok(_) => panic!("{id} was started"),
            Err(error) => error.kind,
        }
    }

    /// The last word on a worker.
    pub(super) fn released(&mut self, id: &str) -> (Option<i32>, Option<i32>, Vec<String>) {
        loop {
            match self.next().0 {
                FromLauncher::Released { worker_id, code, signal, left } if worker_id.as_str() == id => return (code, signal, left),
                FromLauncher::Released { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// SIGKILL.
    pub(super) fn kill(mut self) {
        self.child.kill().expect("kill the launcher that we started");
        self.child.wait().expect("wait");
        self.ended = true;
    }

    /// Ends all workers, and then itself.
    pub(super) fn shut_down(self) {
        let status = self.shut_down_anyhow();
        assert!(status.success(), "{status}");
    }

    pub(super) fn shut_down_anyhow(mut self) -> ExitStatus {
        self.channel.send(&ToLauncher::Shutdown, &[]).expect("say so");
        self.ended = true;
        let end = Instant::now() + within(PATIENCE);
        while self.channel.recv().is_ok() && Instant::now() < end {}
        eventually("the launcher to end", PATIENCE, || self.child.try_wait().expect("wait"))
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        if !self.ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A file system that is soon full; unmounted when dropped.
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    const PAGES: u64 = 256;

    pub(super) fn mount(at: &Path) -> Self {
        let size = format!("size={},mode=755", Self::PAGES * procfs::page_size());
        mount(Some("small"), at, Some("tmpfs"), MsFlags::empty(), Some(size.as_str())).expect("mount a small tmpfs");
        Self(at.to_owned())
    }

    /// Fills it up to so many pages.
    pub(super) fn leave_free(&self, pages: u64) {
        let filler = self.0.join("filler");
        let _ = fs::remove_file(&filler);
        let there = nix::sys::statvfs::statvfs(&self.0).expect("statvfs");
        let free = there.blocks_available() * there.fragment_size();
        let fill = free.saturating_sub(pages * procfs::page_size());
        fs::write(&filler, vec![0; usize::try_from(fill).expect("a size")]).expect("fill it");
    }
}

impl SmallDisk {
    pub(super) fn read_only(&self) {
        mount(None::<&str>, &self.0, None::<&str>, MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, None::<&str>).expect("remount it");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
