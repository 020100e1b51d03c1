//! A hive that is somebody else's: each of its requests refused, told to the operator, and without effect.
//!
//! The attacker is a process of its own, with a hive's privileges. What comes of its attempts is looked at from here, with root's.

#![allow(clippy::expect_used, clippy::panic, reason = "a world that can't be made ends its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, listen, recv, socket};
use nix::unistd::Pid;
use test_support::{Scope, Snapshot, exclusively, hive_binary, mock_binary, poll, require_root};

/// Fewer would mean that a list was lost.
const LEAST: usize = 92;
const FLOOD: &str = "a flood of";
const MOCK: &str = "description = \"the attempts'\"\n[worker]\nbinary = \"mock-worker\"\non_hive_exit = \"kill\"\n\
    [limits]\nmemory_max = \"64MiB\"\npids_max = 32\n[devices]\ngpus = \"leased\"\n\
    [request]\nmay_set = [\"args\", \"env\", \"limits\"]\nmax = { memory_max = \"1GiB\", pids_max = 64 }\n";
const FIXED: &str = "description = \"lets nothing be set\"\n[worker]\nbinary = \"mock-worker\"\n[limits]\nmemory_max = \"64MiB\"\n";
const DEVICES: &str = "[[gpu]]\nindex = 0\nvendor = \"nvidia\"\nnodes = [\"/dev/full\"]\n\
    [[gpu]]\nindex = 1\nvendor = \"nvidia\"\nnodes = [\"/dev/zero\"]\n";

/// A launcher's directories, with traps.
struct World {
    directory: tempfile::TempDir,
    cgroup_root: String,
}

impl World {
    fn new(name: &str) -> Self {
        let open = Permissions::from_mode(0o755);
        let made = tempfile::Builder::new().prefix("rbee-hive-compromised-").permissions(open).tempdir_in("/run");
        let world = Self { directory: made.expect("a directory"), cgroup_root: format!("/rbee-hive-test-{}-{name}", std::process::id()) };
        for folder in ["policies", "models", "bin", "state", "log", "victim"] {
            world.folder(folder, 0o755);
        }
        for (file, text) in [
            ("policies/mock.toml", MOCK.to_owned()),
            ("policies/fixed.toml", FIXED.to_owned()),
            ("policies/shared.toml", MOCK.replace("gpus = \"leased\"", "gpus = \"leased\"\nshare = { ways = 2 }")),
            (
                "policies/models.toml",
                format!("{MOCK}\n").replace("on_hive", &format!("model_dirs = [{:?}]\non_hive", world.path("models"))),
            ),
            ("devices.toml", DEVICES.to_owned()),
            ("config.toml", "memory_total = \"900MiB\"\nspawn_rate = \"500/s\"\n".to_owned()),
            ("models/m.gguf", "GGUF".to_owned()),
            ("launcher.log", String::new()),
        ] {
            world.file(file, &text, 0o644);
        }
        fs::copy(mock_binary(), world.path("bin/mock-worker")).expect("copy the mock worker");
        world
    }

    /// Everything that an attempt could fall over, or could break.
    fn with_traps(self) -> Self {
        self.file("secret.toml", FIXED, 0o600);
        self.file("secret.gguf", "GGUF", 0o644);
        self.file("policies/writable.toml", FIXED, 0o666);
        self.file("policies/foreign.toml", FIXED, 0o644);
        chown(self.path("policies/foreign.toml"), Some(65534), None).expect("chown");
        symlink("../secret.toml", self.path("policies/linked.toml")).expect("symlink");
        symlink("../secret.gguf", self.path("models/link.gguf")).expect("symlink");
        self.file("models/private.gguf", "GGUF", 0o000);
        self.file("victim/verdict.json", "precious", 0o644);
        self.file("victim/log", "precious", 0o644);
        for folder in ["state/workers", "log/workers"] {
            self.folder(folder, 0o750);
        }
        symlink(self.path("victim"), self.path("state/workers/planted")).expect("symlink");
        symlink(self.path("victim"), self.path("log/workers/logs")).expect("symlink");
        self.folder("state/workers/strangers", 0o750);
        self.file("state/workers/strangers/precious", "precious", 0o644);
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn folder(&self, name: &str, mode: u32) {
        fs::create_dir_all(self.path(name)).expect("mkdir");
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("chmod");
    }

    fn file(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).expect("write");
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("chmod");
    }

    fn attacker(&self, what: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_compromised-hive"));
        command.arg(what).arg(self.directory.path()).arg(&self.cgroup_root).arg(hive_binary());
        command
    }

    /// All files' contents but the logs', which grow by right.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        for folder in ["policies", "models", "state", "victim"] {
            read_all(&self.path(folder), &mut found);
        }
        found
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("launcher.log")).unwrap_or_default()
    }
}

fn read_all(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.insert(entry.path(), vec![]);
            read_all(&entry.path(), found);
        } else {
            found.insert(entry.path(), fs::read(entry.path()).unwrap_or_default());
        }
    }
}

/// The attacker, which waits after each attempt.
struct Attacker {
    child: Child,
    orders: ChildStdin,
    lines: BufReader<ChildStdout>,
}

impl Attacker {
    fn start(world: &World) -> Self {
        let mut child = world.attacker("attack").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("start the attacker");
        let (orders, lines) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, orders, lines: BufReader::new(lines) }
    }

    /// Its next line, in fields; `None` at its end.
    fn next(&mut self) -> Option<Vec<String>> {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("read the attacker's line");
        (!line.is_empty()).then(|| line.trim_end_matches('\n').split('\t').map(str::to_owned).collect())
    }

    fn go_on(&mut self) {
        writeln!(self.orders).expect("the attacker waits");
    }
}

/// A service of root's that does whatever a connection made by root says.
struct Service(std::os::fd::OwnedFd);

impl Service {
    fn listen(path: &Path) -> Self {
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None).expect("socket");
        bind(std::os::fd::AsRawFd::as_raw_fd(&fd), &UnixAddr::new(path).expect("a path")).expect("bind");
        listen(&fd, Backlog::new(4).expect("a backlog")).expect("listen");
        fs::set_permissions(path, Permissions::from_mode(0o666)).expect("chmod");
        Self(fd)
    }

    /// How many connections came, and how many bytes by them.
    fn heard(&self) -> (usize, usize) {
        let (mut connections, mut bytes) = (0, 0);
        while let Ok(fd) = accept4(std::os::fd::AsRawFd::as_raw_fd(&self.0), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC) {
            connections += 1;
            bytes += recv(fd, &mut [0; 4096], nix::sys::socket::MsgFlags::empty()).unwrap_or(0);
            nix::unistd::close(fd).expect("close");
        }
        (connections, bytes)
    }
}

/// The audit line that came since `from`, without its time.
fn audit_line(log: &str, from: usize) -> String {
    let new = log.get(from..).unwrap_or_default();
    let line = new.lines().find(|line| line.contains("audit: refused")).unwrap_or_default();
    line.split_once("audit: refused").map_or_else(String::new, |(_, rest)| rest.trim().to_owned())
}

/// What there is of this launcher: cgroups, processes, namespaces, mounts, descriptors, files. Not of the whole machine, where others work.
fn all_of(world: &World, attacker: Pid) -> BTreeSet<String> {
    let scope = Scope { hive: Some(attacker), cgroup_root: world.cgroup_root.clone(), directory: world.directory.path().into() };
    let nothing = Snapshot::take(&Scope { directory: world.path("victim"), ..Scope::default() });
    let of_the_launcher = |line: &String| ["cgroup ", "descriptor ", "file "].iter().any(|kind| line.starts_with(kind));
    // A program for each list of devices is kept, as many as there are lists.
    let kept = |line: &String| line.contains("bpf-prog");
    let mut all: BTreeSet<String> =
        Snapshot::take(&scope).more_than(&nothing).into_iter().filter(|line| of_the_launcher(line) && !kept(line)).collect();
    for pid in descendants(attacker.as_raw()) {
        let namespaces = ["mnt", "net", "pid"].map(|kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap_or_default());
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap_or_default().lines().count();
        all.insert(format!("process {pid} in {namespaces:?} with {mounts} mounts"));
    }
    all
}

fn descendants(of: i32) -> Vec<i32> {
    let parents: Vec<(i32, i32)> =
        procfs::process::all_processes().into_iter().flatten().flatten().filter_map(|p| p.stat().ok()).map(|s| (s.pid, s.ppid)).collect();
    let mut found = vec![of];
    let mut at = 0;
    while let Some(parent) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    found
}

/// What is there now and was not, and what was and is no more; what an attempt needs a moment to take back is waited for.
fn effects(before: &BTreeSet<String>, look: impl Fn() -> BTreeSet<String>) -> Vec<String> {
    poll(Duration::from_secs(5), || (look() == *before).then_some(()));
    let now = look();
    let gone = before.difference(&now).map(|line| format!("gone: {line}"));
    now.difference(before).map(|line| format!("new: {line}")).chain(gone).collect()
}

#[test]
fn every_request_of_a_compromised_hive_is_refused_audited_and_without_effect() {
    require_root!();
    let started = Instant::now();
    let _alone = exclusively();
    let world = World::new("table").with_traps();
    let service = Service::listen(&world.path("service.sock"));
    let mut attacker = Attacker::start(&world);
    assert_eq!(attacker.next().expect("a greeting")[..2], ["hello", "hello"], "{}", world.log());
    assert_eq!(attacker.next().expect("the honest request's answer")[1], "spawned", "{}", world.log());
    let pid = Pid::from_raw(attacker.child.id().cast_signed());
    let look = || all_of(&world, pid);
    // The honest worker's own start goes on for a moment.
    let settled = || {
        let seen = look();
        poll(Duration::from_millis(300), || None::<()>);
        (look() == seen).then_some(seen)
    };
    let mut before = test_support::eventually("the honest worker to run", Duration::from_secs(20), settled);
    assert!(before.iter().filter(|line| line.starts_with("process")).count() >= 4, "attacker, launcher, init and worker: {before:?}");
    let mut contents = world.contents();
    let (mut rows, mut wrong) = (0, Vec::new());
    loop {
        let from = world.log().len();
        attacker.go_on();
        let Some(row) = attacker.next() else { break };
        let [_, name, expected, got, message] = row.as_slice() else { panic!("not a row: {row:?}\n{}", world.log()) };
        let audit = audit_line(&world.log(), from);
        let kind = if expected == "unread" { "invalid_params" } else { expected };
        if got != expected {
            wrong.push(format!("{name}: {got} ({message}), not {expected}"));
        }
        // Of a flood only the first lines are told, which may be of another kind.
        let told = if name.starts_with(FLOOD) { "kind=".to_owned() } else { format!("kind={kind:?}") };
        if !audit.contains(&told) {
            wrong.push(format!("{name}: the operator reads {audit:?}"));
        }
        if name != "a spawn after the shutdown" {
            let came = effects(&before, look);
            if !came.is_empty() || world.contents() != contents {
                wrong.push(format!("{name}: it has changed something: {came:?}"));
                // Told once, not again of each attempt that follows.
                (before, contents) = (look(), world.contents());
            }
        }
        if name.starts_with(FLOOD) {
            // The operator's log has a rate; what comes next is to be read again.
            poll(Duration::from_secs(1), || None::<()>);
        }
        println!("{name:50} → {got:18} → {}", audit.chars().take(150).collect::<String>());
        rows += 1;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(rows >= LEAST, "only {rows} attempts were made");
    println!("{rows} requests: all refused, all audited, 0 effects");
    assert!(attacker.child.wait().expect("wait for the attacker").success(), "{}", world.log());
    assert_eq!(service.heard(), (1, 0), "the attacker has connected, and nobody spoke");
    let left = look();
    assert!(!left.iter().any(|line| line.starts_with("cgroup ")), "{left:?}");
    let lines = world.log().lines().filter(|line| line.contains("audit: refused")).count();
    // The audit's own rate: a burst of 64, then ten a second.
    let most = rows + 100 + 10 * usize::try_from(started.elapsed().as_secs()).unwrap_or(usize::MAX / 20);
    assert!(lines < most.min(2000), "a flood of 3000 does not fill the disk: {lines} lines, {most} at most");
    assert!(world.log().lines().any(|line| line.contains("audit: refused") && !line.contains("unsaid=0")), "how many were not told is");
}

/// What is wrong, and how it is made wrong.
type Spoiled = (&'static str, fn(&World));

#[test]
fn a_launcher_does_not_start_where_others_could_put_links() {
    require_root!();
    let greeting = |world: &World| {
        let output = world.attacker("hello").output().expect("start the attacker");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    };
    let sound = World::new("sound");
    assert!(greeting(&sound).starts_with("hello"), "{}", greeting(&sound));
    let spoiled: [Spoiled; 5] = [
        ("state-link", |w| symlink(w.path("victim"), w.path("state/workers")).expect("symlink")),
        ("log-link", |w| symlink(w.path("victim"), w.path("log/workers")).expect("symlink")),
        ("state-foreign", |w| chown(w.path("state"), Some(65534), None).expect("chown")),
        ("log-writable", |w| w.folder("log", 0o777)),
        ("policies-writable", |w| w.folder("policies", 0o775)),
    ];
    for (name, spoil) in spoiled {
        let world = World::new(name);
        spoil(&world);
        let said = greeting(&world);
        println!("{name:20} → {said}");
        assert!(said.starts_with("fatal"), "{name}: {said}");
        assert_eq!(fs::read_dir(world.path("victim")).expect("victim").count(), 0, "{name}");
    }
}
