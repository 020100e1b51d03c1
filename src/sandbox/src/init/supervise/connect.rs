//! Sockets that only an init can make: in the worker's network namespace, or with the worker's uid.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use rbee_hive_policy::MpsPlan;

use super::Supervisor;
use super::as_worker::as_worker;
use crate::protocol::{FromInit, MAX_FDS};

impl Supervisor {
    pub(super) fn give_sockets(&mut self, seq: u64, count: usize) {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made: Result<Vec<OwnedFd>, Errno> =
            (0..count.min(MAX_FDS)).map(|_| socket(AddressFamily::Inet, SockType::Stream, flags, None)).collect();
        match made {
            Ok(sockets) => self.say(FromInit::Sockets { seq }, sockets),
            Err(e) => self.say(FromInit::ConnectFailed { seq, errno: e as i32 }, vec![]),
        }
    }

    pub(super) fn connect_unix(&mut self, seq: u64) {
        match self.connect_as_worker() {
            Ok(socket) => self.say(FromInit::Connected { seq }, vec![socket]),
            Err(e) => self.say(FromInit::ConnectFailed { seq, errno: e as i32 }, vec![]),
        }
    }

    /// With the worker's own uid: the path is the worker's to choose, and root could be led to a socket that the worker may not open.
    fn connect_as_worker(&self) -> Result<OwnedFd, Errno> {
        match self.connect_by(SockType::Stream) {
            // An MPS daemon's takes whole messages; which kind its version has is not documented, and the probe is the connection alone.
            Err(Errno::EPROTOTYPE) if self.context.plan.mps == Some(MpsPlan::Server) => self.connect_by(SockType::SeqPacket),
            connected => connected,
        }
    }

    fn connect_by(&self, kind: SockType) -> Result<OwnedFd, Errno> {
        let path = self.context.plan.socket.as_ref().ok_or(Errno::ENOENT)?;
        let address = UnixAddr::new(path)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let made = socket(AddressFamily::Unix, kind, flags, None)?;
        // The hive would be the one to close what the worker sends along, for as long as that takes (SO_LINGER: an hour if the worker says so).
        rbee_hive_sys::scm::refuse_descriptors(made.as_fd()).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
        as_worker(&self.context.plan.credentials, || connect(made.as_raw_fd(), &address))??;
        Ok(made)
    }
}
