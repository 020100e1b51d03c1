//! Whether a record's init is there: by its number and start time, by its cgroups, and by who answers at its socket.
//!
//! Must never know: what follows where it is not.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, connect, getsockopt, setsockopt, socket, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::super::birth::{SOCKET, address};
use super::super::record::{InitIdentity, Record};
use super::{Gone, Seen};
use crate::protocol::{Channel, FromInit, MAX_MESSAGE, ToInit};

/// How long all inits together may take to say their first words. One that is slow is adopted all the same.
const WITHIN: Duration = Duration::from_secs(5);
/// How long an init that has closed its socket, or was killed, may take to end.
pub(super) const DYING: Duration = Duration::from_secs(2);

/// A record, and where its socket would be.
pub(super) struct Known<'a> {
    pub(super) record: &'a Record,
    pub(super) state: &'a OwnedFd,
    /// The machine's present run.
    pub(super) boot_id: &'a str,
}

/// A process that no other can be taken for.
pub(super) struct Named {
    pub(super) init: InitIdentity,
    pub(super) pidfd: OwnedFd,
}

/// An init that has been connected to, and has not said anything yet.
pub(super) struct Caller {
    named: Named,
    control: OwnedFd,
}

/// An init that lives.
pub(super) struct Alive {
    pub(super) named: Named,
    /// The channel, for the hive.
    pub(super) control: OwnedFd,
    /// Its locks.
    pub(super) held: Vec<OwnedFd>,
}

impl Known<'_> {
    /// Connects to the init of this record; `in_place` judges `/proc/<pid>/cgroup` of it.
    ///
    /// Errors: why it is not that init.
    pub(super) fn knock(&self, in_place: impl FnOnce(&str) -> Result<(), String>) -> Result<Caller, Gone> {
        if self.record.boot_id != self.boot_id {
            return Err(Gone::unknown("the machine was started anew since"));
        }
        // By its own account first: a number alone may be another's by now.
        let named = self.record.init.map(Named::open).transpose().map_err(Gone::unknown)?;
        let (control, peer) = match call(self.state).and_then(|control| Ok((peer(control.as_fd())?, control))) {
            Ok((peer, control)) => (control, peer),
            Err(why) => return Err(Gone { why, alive: named }),
        };
        let named = match named {
            Some(named) if named.init.pid != peer => {
                let why = format!("process {peer} answers at {SOCKET}, and its init is {}", named.init.pid);
                // Neither of them is known to be its init.
                return Err(Gone::unknown(why));
            }
            Some(named) => named,
            // Its launcher died before it could write the number down.
            None => Named::of(peer).map_err(Gone::unknown)?,
        };
        let groups = std::fs::read_to_string(format!("/proc/{peer}/cgroup")).map_err(|e| format!("its init's cgroups can't be read: {e}"));
        match groups.and_then(|groups| in_place(&groups)) {
            Err(why) => Err(Gone { why, alive: Some(named) }),
            // Its number was its own all the while.
            Ok(()) if has_ended(&named.pidfd, Duration::ZERO) => Err(Gone::unknown("its init has ended")),
            Ok(()) => Ok(Caller { named, control }),
        }
    }
}

impl Named {
    /// A descriptor of the very process.
    ///
    /// Errors: that it is not there any more.
    fn open(init: InitIdentity) -> Result<Self, String> {
        let number = Pid::from_raw(init.pid).filter(|_| init.pid > 1).ok_or_else(|| format!("its init's number is {}", init.pid))?;
        let pidfd = pidfd_open(number, PidfdFlags::empty()).map_err(|_| "its init is gone".to_owned())?;
        // The descriptor was opened before: so this is said by the same process, or by one that has its number after it.
        let now = InitIdentity::of(init.pid).map_err(|_| "its init is gone".to_owned())?;
        if now != init {
            return Err(format!("its init is gone: process {} is another one", init.pid));
        }
        if has_ended(&pidfd, Duration::ZERO) { Err("its init has ended".into()) } else { Ok(Self { init, pidfd }) }
    }

    /// Of the process at the other end of a connection that is open.
    fn of(peer: i32) -> Result<Self, String> {
        InitIdentity::of(peer).map_err(|_| "its init is gone".to_owned()).and_then(Self::open)
    }
}

/// Connects to the socket in a state directory.
fn call(state: &OwnedFd) -> Result<OwnedFd, String> {
    let failed = |e: nix::Error| format!("its init does not answer at {SOCKET}: {e}");
    let there = rustix::fs::statat(state, SOCKET, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).map_err(|e| format!("{SOCKET}: {e}"))?;
    if rustix::fs::FileType::from_raw_mode(there.st_mode) != rustix::fs::FileType::Socket {
        return Err(format!("{SOCKET} is no socket"));
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(failed)?;
    connect(made.as_raw_fd(), &address(state).map_err(failed)?).map_err(failed)?;
    let _ = setsockopt(&made, sockopt::SndBuf, &(2 * MAX_MESSAGE));
    Ok(made)
}

/// Who listens: root, or the own user.
fn peer(control: BorrowedFd<'_>) -> Result<i32, String> {
    let peer = getsockopt(&control, sockopt::PeerCredentials).map_err(|e| format!("who answers at {SOCKET} is not told: {e}"))?;
    let own = rustix::process::geteuid().as_raw();
    if peer.uid() != 0 && peer.uid() != own {
        return Err(format!("uid {} answers at {SOCKET}", peer.uid()));
    }
    Ok(peer.pid())
}

type Living = Vec<(Seen, Alive)>;
type Ended = Vec<(Seen, Gone)>;

/// Waits for the first words of all of them: who lives, and who has ended meanwhile.
pub(super) fn hear(mut calls: Vec<(Seen, Caller)>) -> (Living, Ended) {
    let until = Instant::now() + WITHIN;
    let (mut living, mut ended) = (Vec::new(), Vec::new());
    while !calls.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        for (seen, caller) in std::mem::take(&mut calls) {
            match caller.first_words(left.is_zero()) {
                Heard::Nothing(caller) => calls.push((seen, caller)),
                Heard::Alive(alive) => living.push((seen, alive)),
                Heard::Gone(gone) => ended.push((seen, gone)),
            }
        }
        let mut list: Vec<PollFd<'_>> = calls.iter().map(|(_, caller)| PollFd::new(caller.control.as_fd(), PollFlags::POLLIN)).collect();
        if !list.is_empty() {
            let _ = poll(&mut list, PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX));
        }
    }
    (living, ended)
}

enum Heard {
    Nothing(Caller),
    Alive(Alive),
    Gone(Gone),
}

impl Caller {
    /// Takes them if they are there; `last`: there is no time left for them.
    fn first_words(self, last: bool) -> Heard {
        let Self { named, control } = self;
        let channel = Channel::<ToInit, FromInit>::new(control);
        let held = match channel.recv() {
            Ok((FromInit::Held { .. }, held)) => held,
            Err(e) if e.would_block() && !last => return Heard::Nothing(Self { named, control: channel.into_fd() }),
            // It is there, and no worker is to end because its init is slow: what it says first is then said to the hive. Nor because this process has
            // no descriptor left to take the locks with.
            Err(e) if e.would_block() || e.is_one_bad_message() => vec![],
            Err(_) if has_ended(&named.pidfd, DYING) => return Heard::Gone(Gone::unknown("its init has ended")),
            Ok(_) | Err(_) => {
                return Heard::Gone(Gone { why: format!("its init does not speak as one of ours at {SOCKET}"), alive: Some(named) });
            }
        };
        Heard::Alive(Alive { named, control: channel.into_fd(), held })
    }
}

/// Whether a process has ended, or does within this time.
pub(super) fn has_ended(pidfd: &OwnedFd, within: Duration) -> bool {
    let mut list = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    poll(&mut list, PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX)).is_ok_and(|ready| ready > 0)
}
