//! The launcher, started and spoken to as a hive does it, but by hand.
//!
//! Owns: the process and the channel. Must never know: what is asked.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
use nix::unistd::{Gid, Uid, setgid, setgroups, setuid};
use rbee_hive_sys::scm;
use serde_json::Value;

use crate::Place;

/// Largest message of the protocol, bytes, and most descriptors.
const MAX_MESSAGE: usize = 160 * 1024;
const MAX_FDS: usize = 32;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// Who a hive becomes that root starts.
const NOBODY: u32 = 1_879_048_191;

/// What the launcher said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Answer {
    pub(crate) op: String,
    /// Of a refusal.
    pub(crate) kind: String,
    pub(crate) message: String,
}

/// A running launcher.
pub(crate) struct Launcher {
    child: Child,
    channel: OwnedFd,
    probes: u64,
}

impl Launcher {
    /// Starts it; what it said first.
    pub(crate) fn start(place: &Place) -> io::Result<(Self, Answer)> {
        let (channel, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        // More than a message may have: one that is too long must get there.
        setsockopt(&channel, sockopt::SndBuf, &(4 * MAX_MESSAGE))?;
        setsockopt(&theirs, sockopt::SndBuf, &(2 * MAX_MESSAGE))?;
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let log = OpenOptions::new().create(true).append(true).open(place.directory.join("launcher.log"))?;
        let child = command(place, theirs.as_raw_fd(), log).spawn()?;
        drop(theirs);
        let mut launcher = Self { child, channel, probes: 5_000_000 };
        let greeting = launcher.hear(ANSWER)?.map(|(_, answer)| answer);
        Ok((launcher, greeting.ok_or_else(|| io::Error::other("the launcher says nothing"))?))
    }

    /// This end of the channel.
    pub(crate) fn channel(&self) -> io::Result<OwnedFd> {
        self.channel.try_clone()
    }

    pub(crate) fn tell(&self, message: &[u8], fds: Vec<OwnedFd>) -> io::Result<()> {
        scm::send(self.channel.as_fd(), message, &fds.iter().map(AsFd::as_fd).collect::<Vec<_>>())
    }

    /// Sends a message and waits for the answer with its number.
    pub(crate) fn ask(&mut self, message: &[u8], fds: Vec<OwnedFd>) -> io::Result<Answer> {
        let seq = serde_json::from_slice::<Value>(message).ok().and_then(|m| m["seq"].as_u64());
        self.tell(message, fds)?;
        let end = Instant::now() + ANSWER;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.hear(left)? {
                Some((number, answer)) if number == seq => return Ok(answer),
                Some(_) => {}
                None => break,
            }
        }
        Ok(Answer { op: "no answer".into(), ..Answer::default() })
    }

    /// Nothing was answered to what came before, and the launcher goes on.
    pub(crate) fn still_answers(&mut self) -> io::Result<Answer> {
        self.probes += 1;
        let probe = format!("{{\"op\":\"policy_show\",\"seq\":{},\"name\":\"mock\"}}", self.probes);
        let answer = self.ask(probe.as_bytes(), vec![])?;
        let op = if answer.op == "policy" { "unread".to_owned() } else { answer.op };
        Ok(Answer { op, message: "no answer; the next question is answered".into(), ..answer })
    }

    /// The next answer, to whatever.
    pub(crate) fn hear_within(&mut self, limit: Duration) -> io::Result<Option<Answer>> {
        Ok(self.hear(limit)?.map(|(_, answer)| answer))
    }

    /// The next message, its number first; `None` where none comes in time or ever.
    fn hear(&mut self, limit: Duration) -> io::Result<Option<(Option<u64>, Answer)>> {
        let mut list = [PollFd::new(self.channel.as_fd(), PollFlags::POLLIN)];
        if poll(&mut list, PollTimeout::try_from(limit).unwrap_or(PollTimeout::ZERO))? == 0 {
            return Ok(None);
        }
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, _) = scm::recv(self.channel.as_fd(), &mut buffer, MAX_FDS)?;
        if length == 0 {
            return Ok(None);
        }
        let message: Value = serde_json::from_slice(&buffer[..length])?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let error = &message["error"];
        let answer = Answer { op: text(&message["op"]), kind: text(&error["kind"]), message: text(&error["message"]) };
        Ok(Some((message["seq"].as_u64(), answer)))
    }

    pub(crate) fn shut_down(&mut self) -> io::Result<()> {
        // One that said why it can't serve has ended.
        let _ = self.tell(crate::attempts::SHUTDOWN, vec![]);
        self.wait()
    }

    /// Waits for its end, reading what it says.
    pub(crate) fn wait(&mut self) -> io::Result<()> {
        while self.hear(ANSWER)?.is_some() {}
        self.child.wait().map(drop)
    }
}

fn command(place: &Place, channel: i32, log: File) -> Command {
    let mut command = Command::new(&place.hive);
    command.arg0("rbee-hive").args(["launcher", "--channel-fd", &channel.to_string(), "--hive-gid", &NOBODY.to_string()]);
    for (option, name) in [
        ("--state-dir", "state"),
        ("--log-dir", "log"),
        ("--policies", "policies"),
        ("--model-dir", "models"),
        ("--binary-dir", "bin"),
        ("--devices", "devices.toml"),
        ("--config", "config.toml"),
    ] {
        command.arg(option).arg(place.directory.join(name));
    }
    command.args(["--cgroup-root", &place.cgroup_root]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command
}

/// As a hive does once everything is open.
pub(crate) fn become_nobody() -> io::Result<()> {
    setgroups(&[])?;
    setgid(Gid::from_raw(NOBODY))?;
    Ok(setuid(Uid::from_raw(NOBODY))?)
}
