//! An init that is a thread. Its worker is a `sleep` process, and a server thread that answers in its place.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rbee_hive_policy::{MpsPlan, NetworkMode, SandboxPlan};
use rbee_hive_sandbox::protocol::{Channel, FromInit, IoBytes, ProcessIo, Resources, ToInit};
use rbee_hive_sandbox::{SetupFailure, Verdict};
use rustix::process::{PidfdFlags, pidfd_open};

use super::forks;

/// Makes a fake worker that has not served until then do it.
pub(super) const SERVE_NOW: i32 = 10;
/// Makes a fake worker say READY=1.
pub(super) const NOTIFY_NOW: i32 = 12;

pub(super) struct FakeInit {
    pub(super) plan: SandboxPlan,
    pub(super) control: Channel<FromInit, ToInit>,
    /// What it does, by the model's name.
    pub(super) act: String,
    pub(super) directory: PathBuf,
    /// Requests for sockets that came.
    pub(super) batches: Arc<AtomicUsize>,
}

impl FakeInit {
    /// Lives; returns when an init would have exited.
    pub(super) fn run(self) {
        match self.act.as_str() {
            "vanish-early" => return,
            "setup-fails" => {
                let failure =
                    SetupFailure { step: "mount proc".into(), errno: Some(1), message: "mount(proc) => EPERM".into(), hint: None };
                return self.say(FromInit::SetupFailed(failure), &[]);
            }
            "exec-fails" => return self.say(FromInit::ExecFailed { errno: 13, message: "execve(x) => EACCES".into() }, &[]),
            // It gets the order to stop while it still makes the sandbox.
            "slow" => {
                let first = self.control.recv().map(|m| m.0);
                self.started();
                if let Ok(ToInit::Stop { by, .. }) = first {
                    return self.end(Verdict::Stopped { by, forced: true, code: None, signal: Some(9) });
                }
            }
            "vanish" => return self.started(),
            "crash" => {
                self.log("F", "about to fail");
                self.started();
                return self.end(Verdict::Exited { code: 3 });
            }
            "done" => {
                self.started();
                return self.end(Verdict::Exited { code: 0 });
            }
            _ => {}
        }
        let mut worker = forks::start(Command::new("sleep").arg("600").stdin(Stdio::null()));
        let ending = self.supervise(&worker);
        worker.kill().unwrap();
        worker.wait().unwrap();
        if let Some(verdict) = ending {
            self.end(verdict);
        }
    }

    fn supervise(&self, worker: &Child) -> Option<Verdict> {
        if self.plan.network == NetworkMode::Private && self.act == "netns" {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            assert!(forks::start(Command::new("ip").args(["link", "set", "lo", "up"])).wait().unwrap().success());
        }
        let pidfd = pidfd_open(rustix::process::Pid::from_child(worker), PidfdFlags::empty()).unwrap();
        let ticks = procfs::process::Process::new(worker.id() as i32).unwrap().stat().unwrap().starttime;
        // A daemon answers on its socket, whatever else it does.
        if matches!(self.act.as_str(), "serve" | "netns" | "unkillable") || self.plan.mps == Some(MpsPlan::Server) {
            self.serve();
        }
        if self.act != "slow" {
            self.say(FromInit::Started { start_ticks: Some(ticks) }, &[&pidfd]);
        }
        let mut stops = 0;
        loop {
            // The hive is gone: as with on_hive_exit = "kill".
            let (message, _) = self.control.recv().ok()?;
            match message {
                ToInit::Sockets { seq, count } => {
                    self.batches.fetch_add(1, Ordering::SeqCst);
                    let sockets: Vec<OwnedFd> = (0..count).map(|_| tcp_socket()).collect();
                    self.say(FromInit::Sockets { seq }, &sockets.iter().collect::<Vec<_>>());
                }
                ToInit::ConnectUnix { seq } => match UnixStream::connect(self.socket()) {
                    Ok(stream) => self.say(FromInit::Connected { seq }, &[&stream.into()]),
                    Err(e) => self.say(FromInit::ConnectFailed { seq, errno: e.raw_os_error().unwrap() }, &[]),
                },
                ToInit::Signal { signal: SERVE_NOW } => self.serve(),
                ToInit::Signal { signal: NOTIFY_NOW } => self.say(FromInit::Notify { text: "STATUS=up\nREADY=1".into() }, &[]),
                ToInit::Signal { signal } => return Some(Verdict::Signaled { signal, core_dumped: false }),
                ToInit::Stop { by, grace_ms } => {
                    stops += 1;
                    if self.act == "unkillable" && stops == 1 {
                        let verdict = Verdict::Unkillable { pids: vec![worker.id() as i32] };
                        self.say(FromInit::Ended { verdict, resources: Box::default() }, &[]);
                    } else if self.act != "stubborn" || grace_ms == 0 {
                        return Some(Verdict::Stopped { by, forced: grace_ms == 0, code: None, signal: Some(15) });
                    }
                }
                ToInit::Io { seq } => self.say(FromInit::Io { seq, bytes: Some(IoBytes { read: 11, written: 12 }) }, &[]),
                ToInit::ProcessIo { seq } => {
                    let bytes = IoBytes { read: 5, written: 6 };
                    let pid = worker.id() as i32;
                    self.say(FromInit::ProcessIo { seq, processes: vec![ProcessIo { pid, start_ticks: ticks, bytes }] }, &[]);
                }
                ToInit::Freeze { seq } => self.say(
                    match self.act.as_str() {
                        "unfreezable" => FromInit::NotDone { seq, errno: nix::libc::EBUSY },
                        "no-freezer" => FromInit::NotDone { seq, errno: nix::libc::ENOTSUP },
                        _ => FromInit::Settled { seq },
                    },
                    &[],
                ),
                ToInit::Thaw { seq } => self.say(FromInit::Settled { seq }, &[]),
                ToInit::Reclaim { seq } => self.say(FromInit::Reclaimed { seq, bytes: Some(4096) }, &[]),
                // As an init that does not answer: nothing is said of what it would have seen.
                ToInit::Made { .. } | ToInit::Inspect { .. } | ToInit::Limits | ToInit::Ack => {}
            }
        }
    }

    fn started(&self) {
        // A program that has ended by the time its number is looked up.
        let mut gone = forks::start(&mut Command::new("true"));
        let pidfd = pidfd_open(rustix::process::Pid::from_child(&gone), PidfdFlags::empty()).unwrap();
        gone.wait().unwrap();
        self.say(FromInit::Started { start_ticks: Some(1) }, &[&pidfd]);
    }

    fn end(&self, verdict: Verdict) {
        self.say(FromInit::Ended { verdict, resources: Box::new(Resources { cpu_usage_usec: Some(7), ..Default::default() }) }, &[]);
        while !matches!(self.control.recv(), Ok((ToInit::Ack, _)) | Err(_)) {}
    }

    /// The hive may be gone.
    fn say(&self, message: FromInit, fds: &[&OwnedFd]) {
        let _ = self.control.send(&message, &fds.iter().map(|fd| fd.as_fd()).collect::<Vec<_>>());
    }

    fn socket(&self) -> PathBuf {
        self.directory.join(format!("{}.sock", self.plan.worker_id))
    }

    fn log(&self, tag: &str, text: &str) {
        let directory = self.directory.join("logs").join(self.plan.worker_id.as_str());
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("log"), format!("2026-01-01T00:00:00Z stderr {tag} {text}\n")).unwrap();
    }

    /// Answers in the worker's place, until the process of the test ends.
    fn serve(&self) {
        if self.plan.socket.is_some() {
            let listener = UnixListener::bind(self.socket()).unwrap();
            std::thread::spawn(move || listener.incoming().flatten().for_each(|s| drop(std::thread::spawn(move || answer(s)))));
        } else if let Some(port) = self.plan.port {
            let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
            std::thread::spawn(move || listener.incoming().flatten().for_each(|s| drop(std::thread::spawn(move || answer(s)))));
        }
    }
}

/// HTTP where it is spoken to so; else what was sent, once the sender has no more to say.
fn answer(mut stream: impl Read + Write) {
    let mut heard = Vec::new();
    let mut block = [0; 4096];
    while !heard.ends_with(b"\r\n\r\n") {
        match stream.read(&mut block) {
            Ok(0) | Err(_) => break,
            Ok(len) => heard.extend_from_slice(&block[..len]),
        }
    }
    if heard.starts_with(b"GET /health") {
        heard = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok".to_vec();
    }
    let _ = stream.write_all(&heard);
}

fn tcp_socket() -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap()
}
