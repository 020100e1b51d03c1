//! What comes along with a request: counted and looked at before anybody uses it.
//!
//! The launcher hands these to an init, which has privileges. A hive that is somebody else's by now must not make it speak to a
//! service that believes whoever holds a connection made by root, nor write to a file that the hive may not write.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::socket::{AddressFamily, SockType, SockaddrLike, SockaddrStorage, getsockname, getsockopt, sockopt};
use procfs::process::Process;

use super::Purpose;
use crate::protocol::{LaunchError, LaunchErrorKind};

/// Who is at the other end of the channel.
pub(super) struct Asker {
    pub(super) pid: i32,
    purpose: Purpose,
    /// Its uid once it has none of root's any more.
    uid: Option<u32>,
}

/// A spawn's descriptors.
pub(super) struct Handed {
    /// The init's end of its control channel.
    pub(super) control: OwnedFd,
    /// For `run`: stdin, stdout, stderr.
    pub(super) streams: Option<[OwnedFd; 3]>,
}

impl Asker {
    pub(super) fn new(pid: i32, purpose: Purpose) -> Self {
        Self { pid, purpose, uid: None }
    }

    /// Sorts a spawn's descriptors; all are closed where one is not what it has to be.
    pub(super) fn check(&mut self, fds: Vec<OwnedFd>) -> Result<Handed, LaunchError> {
        let count = fds.len();
        let mut fds = fds.into_iter();
        let (Some(control), rest) = (fds.next(), fds.collect::<Vec<_>>()) else { return Err(wrong_count(self.purpose, count)) };
        let streams = match (self.purpose, rest.len()) {
            (_, 0) => None,
            (Purpose::Run, 3) => Some(<[OwnedFd; 3]>::try_from(rest).map_err(|_| wrong_count(self.purpose, count))?),
            _ => return Err(wrong_count(self.purpose, count)),
        };
        self.check_control(control.as_fd())?;
        streams.as_ref().map_or(Ok(()), no_directory)?;
        Ok(Handed { control, streams })
    }

    fn check_control(&mut self, fd: BorrowedFd<'_>) -> Result<(), LaunchError> {
        let refuse = |what: &str| Err(LaunchError::new(LaunchErrorKind::InvalidParams, format!("the control channel {what}")));
        let Ok(kind) = getsockopt(&fd, sockopt::SockType) else { return refuse("is no socket") };
        let family = getsockname::<SockaddrStorage>(fd.as_raw_fd()).ok().and_then(|name| name.family());
        if family != Some(AddressFamily::Unix) || kind != SockType::SeqPacket {
            return refuse("is no Unix socket of the kind SOCK_SEQPACKET");
        }
        if getsockopt(&fd, sockopt::AcceptConn).unwrap_or(true) {
            return refuse("is a socket that listens");
        }
        // For a pair: who made it. For a connection: who listens, which must not be somebody who trusts root (unix(7), SO_PEERCRED).
        let peer = getsockopt(&fd, sockopt::PeerCredentials).ok().map(|peer| (peer.pid(), peer.uid()));
        let asker = self.uid().map(|uid| (self.pid, uid));
        if peer.is_none() || peer != asker {
            return refuse("leads to another process than the hive, or is no channel that it has made since it gave up its privileges");
        }
        Ok(())
    }

    /// The asker's effective uid: until it has dropped root's it may change, after that never.
    fn uid(&mut self) -> Option<u32> {
        if self.uid.is_none_or(|uid| uid == 0) {
            self.uid = Process::new(self.pid).and_then(|p| p.status()).ok().map(|status| status.euid);
        }
        self.uid
    }
}

fn no_directory(streams: &[OwnedFd; 3]) -> Result<(), LaunchError> {
    let is_directory = |fd: &OwnedFd| rustix::fs::fstat(fd).is_ok_and(|s| rustix::fs::FileType::from_raw_mode(s.st_mode).is_dir());
    let Some(number) = streams.iter().position(is_directory) else { return Ok(()) };
    // openat(2) and fchdir(2) would lead from it past the sandbox's root.
    let text = format!("standard stream {number} is a directory: a sandboxed command could leave its root by it");
    Err(LaunchError::new(LaunchErrorKind::InvalidParams, text).with_hint("redirect it from a file or from /dev/null"))
}

fn wrong_count(purpose: Purpose, count: usize) -> LaunchError {
    let wanted = match purpose {
        Purpose::Serve => "one descriptor",
        Purpose::Run => "one descriptor or four",
    };
    LaunchError::new(LaunchErrorKind::InvalidParams, format!("a spawn comes with {wanted}, not with {count}"))
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{Backlog, SockFlag, UnixAddr, bind, listen, socket, socketpair};

    use super::*;

    fn asker(purpose: Purpose) -> Asker {
        Asker::new(std::process::id().cast_signed(), purpose)
    }

    fn pair(kind: SockType) -> OwnedFd {
        socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC).unwrap().0
    }

    fn refused(asker: &mut Asker, fds: Vec<OwnedFd>) -> String {
        asker.check(fds).err().map(|e| e.message).unwrap_or_default()
    }

    #[test]
    fn only_a_channel_of_the_askers_own_is_one() {
        let mut hive = asker(Purpose::Serve);
        assert!(hive.check(vec![pair(SockType::SeqPacket)]).is_ok());
        assert!(refused(&mut hive, vec![pair(SockType::Stream)]).contains("SOCK_SEQPACKET"));
        assert!(refused(&mut hive, vec![std::fs::File::open("/").unwrap().into()]).contains("no socket"));
        let inet = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        assert!(refused(&mut hive, vec![inet]).contains("Unix"));
        let mut stranger = Asker::new(1, Purpose::Serve);
        assert!(refused(&mut stranger, vec![pair(SockType::SeqPacket)]).contains("another process"));
    }

    #[test]
    fn a_socket_that_listens_or_leads_nowhere_is_no_channel() {
        let mut hive = asker(Purpose::Serve);
        let alone = || socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).unwrap();
        assert!(refused(&mut hive, vec![alone()]).contains("another process"));
        let listening = alone();
        bind(listening.as_raw_fd(), &UnixAddr::new_abstract(format!("rbee-hive-test-{}", hive.pid).as_bytes()).unwrap()).unwrap();
        listen(&listening, Backlog::new(1).unwrap()).unwrap();
        assert!(refused(&mut hive, vec![listening]).contains("listens"));
    }

    #[test]
    fn streams_are_for_a_foreground_command_alone() {
        let four = || vec![pair(SockType::SeqPacket), pair(SockType::Stream), pair(SockType::Stream), pair(SockType::Stream)];
        assert!(asker(Purpose::Run).check(four()).is_ok_and(|handed| handed.streams.is_some()));
        assert!(refused(&mut asker(Purpose::Serve), four()).contains("not with 4"));
        assert!(refused(&mut asker(Purpose::Run), vec![]).contains("not with 0"));
    }
}
