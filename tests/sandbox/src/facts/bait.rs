//! What the acts are aimed at: all of it is there on the host while this lives.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Laid out when made, taken away when dropped.
#[derive(Debug)]
pub struct Bait {
    directory: tempfile::TempDir,
    shared: tempfile::TempDir,
    victim: Child,
    name: String,
    key: Option<String>,
    port: u16,
    session: i32,
    _listeners: (TcpListener, [UnixListener; 2]),
}

impl Bait {
    /// Files, sockets, shared memory and a process.
    ///
    /// # Panics
    /// When one of them cannot be had.
    pub fn lay() -> Self {
        let base = if nix::unistd::geteuid().is_root() { Path::new("/run") } else { Path::new("/var/tmp") };
        let make = |mode| {
            let mode = fs::Permissions::from_mode(mode);
            tempfile::Builder::new().prefix("rbee-hive-facts-").permissions(mode).tempdir_in(base).expect("a directory")
        };
        let (directory, shared) = (make(0o755), make(0o777));
        fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o777)).expect("open it for the sandboxed user");
        let of_a_group = shared.path().join("of-a-group");
        fs::write(&of_a_group, "for a group\n").expect("write a file");
        fs::set_permissions(&of_a_group, fs::Permissions::from_mode(0o640)).expect("close it");
        // To the group that `runner` gives its callers; an ordinary user may give nothing away, and then the act reads its own file.
        let _ = std::os::unix::fs::chown(&of_a_group, None, Some(crate::runner::SUPPLEMENTARY_GROUP));
        let name = directory.path().file_name().expect("a name").to_string_lossy().into_owned();
        fs::write(directory.path().join("file"), "a secret\n").expect("write a file");
        for shown in [Path::new("/tmp"), Path::new("/dev/shm")] {
            fs::write(shown.join(&name), "x").expect("write a file");
        }
        let unix = [
            UnixListener::bind(directory.path().join("socket")).expect("a socket"),
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).expect("a name")).expect("an abstract socket"),
        ];
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let victim = Command::new("sleep").arg("1000000").stdin(Stdio::null()).spawn().expect("start a process");
        let session = nix::unistd::getsid(None).map_or(0, nix::unistd::Pid::as_raw);
        let port = tcp.local_addr().expect("an address").port();
        Self { directory, shared, victim, key: make_segment(), name, port, session, _listeners: (tcp, unix) }
    }

    /// The directory that the sandbox is given to write in.
    pub fn shared(&self) -> PathBuf {
        self.shared.path().to_owned()
    }

    /// Puts what is there for the words in braces.
    pub(super) fn fill(&self, script: &str) -> String {
        let directory = self.directory.path().display().to_string();
        script
            .replace("{pid}", &self.victim.id().to_string())
            .replace("{session}", &self.session.to_string())
            .replace("{name}", &self.name)
            .replace("{file}", &format!("{directory}/file"))
            .replace("{socket}", &format!("{directory}/socket"))
            .replace("{directory}", &directory)
            .replace("{shared}", &self.shared.path().display().to_string())
            .replace("{port}", &self.port.to_string())
            // Where there is none the act finds nothing, outside as inside.
            .replace("{key}", self.key.as_deref().unwrap_or("no-such-key"))
    }
}

impl Drop for Bait {
    fn drop(&mut self) {
        let _ = self.victim.kill();
        let _ = self.victim.wait();
        for shown in [Path::new("/tmp"), Path::new("/dev/shm")] {
            let _ = fs::remove_file(shown.join(&self.name));
        }
        if let Some(key) = &self.key {
            let _ = Command::new("ipcrm").args(["-M", key]).status();
        }
    }
}

/// A System V segment that everybody may use, by its key; `None` where none can be made. Who made it removes it (`ipcrm -M KEY`).
pub fn make_segment() -> Option<String> {
    let made = Command::new("ipcmk").args(["-M", "4096", "-p", "0666"]).output().ok()?;
    let id = String::from_utf8_lossy(&made.stdout).trim().rsplit(' ').next()?.to_owned();
    let table = fs::read_to_string("/proc/sysvipc/shm").ok()?;
    let line = table.lines().map(|l| l.split_whitespace().collect::<Vec<_>>()).find(|l| l.get(1) == Some(&id.as_str()))?;
    Some(line[0].to_owned())
}
