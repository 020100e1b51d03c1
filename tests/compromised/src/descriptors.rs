//! What a message can carry.
//!
//! Owns: making them. Must never know: which attempt carries which.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket, socketpair};

/// A control channel whose other end is held: the worker goes on while it is.
pub(crate) fn held() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?)
}

/// An honest control channel, alone.
pub(crate) fn control() -> io::Result<Vec<OwnedFd>> {
    Ok(vec![pair(SockType::SeqPacket)?])
}

/// One end of a pair; the other end is closed, which is all the same to who looks at it.
pub(crate) fn pair(kind: SockType) -> io::Result<OwnedFd> {
    Ok(socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?.0)
}

/// `count` files.
pub(crate) fn files(count: usize) -> io::Result<Vec<OwnedFd>> {
    (0..count).map(|_| file("/dev/null")).collect()
}

/// Anything by its path, to read.
pub(crate) fn file(path: &str) -> io::Result<OwnedFd> {
    Ok(File::open(path)?.into())
}

pub(crate) fn tcp() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?)
}

/// A socket that waits for connections.
pub(crate) fn listening() -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(fd.as_raw_fd(), &UnixAddr::new_abstract(format!("rbee-hive-compromised-{}", std::process::id()).as_bytes())?)?;
    listen(&fd, Backlog::new(1)?)?;
    Ok(fd)
}

/// A connection to a service of root's, which anybody may have.
pub(crate) fn connected(directory: &Path) -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(fd.as_raw_fd(), &UnixAddr::new(&directory.join("service.sock"))?)?;
    Ok(fd)
}
