//! What a hostile worker is to go for: all of it is there on the host, and can be reached from the host.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use sandbox_tests::facts::make_segment;
use serde_json::Value;
use test_support::Hive;

/// Laid out when made, taken away when dropped.
pub(crate) struct Bait {
    directory: tempfile::TempDir,
    programs: tempfile::TempDir,
    words: Vec<String>,
    victim: Child,
    memory: PathBuf,
    segment: Option<String>,
    /// They listen for as long as this lives.
    _listeners: (Vec<TcpListener>, Vec<UnixListener>),
}

impl Bait {
    /// Files, sockets, shared memory and a process of root's.
    pub(crate) fn lay() -> Self {
        let open = fs::Permissions::from_mode(0o755);
        let base = if Path::new("/run").is_dir() { Path::new("/run") } else { Path::new("/tmp") };
        let make = || tempfile::Builder::new().prefix("rbee-hive-bait-").permissions(open.clone()).tempdir_in(base).expect("a directory");
        let (directory, programs) = (make(), make());
        let name = directory.path().file_name().expect("a name").to_string_lossy().into_owned();
        let at = |n: &str| directory.path().join(n);
        fs::write(at("file"), "a secret\n").expect("write a file");
        let program = programs.path().join("hostile-id");
        fs::copy("/usr/bin/id", &program).expect("copy id");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).expect("set its bit");
        let memory = Path::new("/dev/shm").join(&name);
        fs::write(&memory, "shared\n").expect("write shared memory");
        let unix = [
            UnixListener::bind(at("socket")).expect("a socket"),
            UnixListener::bind_addr(&UnixAddr::from_abstract_name(&name).expect("a name")).expect("an abstract socket"),
        ];
        let mut tcp = vec![TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port")];
        let victim = Command::new("sleep").arg("1000000").stdin(Stdio::null()).spawn().expect("start a process");
        let mut words = vec![
            format!("file={}", at("file").display()),
            format!("state={}", directory.path().display()),
            format!("unix={}", at("socket").display()),
            format!("set-user-id={}", program.display()),
            format!("shm={name}"),
            format!("abstract={name}"),
            format!("pid={}", victim.id()),
            format!("tcp={}", port(&tcp[0])),
        ];
        if let Some(listener) = on_an_address_of_its_own() {
            words.push(format!("address={}", listener.local_addr().expect("an address")));
            tcp.push(listener);
        }
        let segment = make_segment();
        words.extend(segment.as_ref().map(|key| format!("sysv={key}")));
        Self { directory, programs, words, victim, memory, segment, _listeners: (tcp, unix.into()) }
    }

    /// A hive and one of its workers as well.
    pub(crate) fn beside(mut self, hive: &Hive, sibling: &Value) -> Self {
        self.words.retain(|w| !w.starts_with("state="));
        self.words.extend([
            format!("hive={}", hive.port()),
            format!("hive-pid={}", hive.pid()),
            format!("hive-socket={}", hive.socket().display()),
            format!("state={}", hive.state_dir().display()),
            format!("sibling={}", sibling["port"]),
        ]);
        self
    }

    /// For the worker's command line.
    pub(crate) fn words(&self) -> Vec<String> {
        self.words.clone()
    }

    /// The directory of the program with the set-user-ID bit.
    pub(crate) fn programs(&self) -> &Path {
        self.programs.path()
    }

    /// What an attempt that worked would have changed.
    pub(crate) fn host(&self) -> Vec<String> {
        let files = [
            "/proc/sys/kernel/hostname",
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/modprobe",
            "/proc/sys/user/max_user_namespaces",
            "/proc/sys/vm/overcommit_memory",
            "/proc/self/mountinfo",
            "/proc/swaps",
            "/etc/passwd",
            "/etc/hosts",
        ];
        let mut state: Vec<String> = files.iter().map(|f| fs::read_to_string(f).unwrap_or_default()).collect();
        let directories = ["/", "/usr", "/etc", "/dev", "/run", "/usr/bin"].map(hostile_names);
        state.extend(directories.into_iter().flatten());
        state.push(format!("{:?}", fs::metadata("/usr/bin/env").map(|m| m.permissions().mode())));
        state.push(fs::read_to_string(self.directory.path().join("file")).unwrap_or_default());
        // Not by its name, which is another one until it has executed its program.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.victim.id())).unwrap_or_default();
        let lives = stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X', 'T']));
        state.push(format!("victim lives: {lives}"));
        state
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        let _ = fs::remove_file(&self.memory);
        if let Some(key) = &self.segment {
            let _ = Command::new("ipcrm").args(["-M", key]).status();
        }
    }
}

fn hostile_names(directory: &str) -> Vec<String> {
    let names = fs::read_dir(directory).into_iter().flatten().flatten().map(|e| e.path().display().to_string());
    names.filter(|n| n.contains("hostile")).collect()
}

fn port(listener: &TcpListener) -> u16 {
    listener.local_addr().expect("an address").port()
}

/// The address that datagrams would be sent from; none is sent.
fn on_an_address_of_its_own() -> Option<TcpListener> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    TcpListener::bind(SocketAddr::new(socket.local_addr().ok()?.ip(), 0)).ok()
}
