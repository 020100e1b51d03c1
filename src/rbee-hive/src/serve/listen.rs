//! The hive's two sockets: bound while root, listening only after the privileges are gone.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, UnixAddr, bind, getsockname, listen, setsockopt, socket,
    sockopt,
};

/// Sockets that are bound and refuse every connection as yet.
#[derive(Debug)]
pub(super) struct Bound {
    tcp: OwnedFd,
    unix: OwnedFd,
    /// The TCP address, with the port that was picked where 0 was asked.
    pub(super) address: SocketAddr,
    /// The Unix socket's path.
    pub(super) path: PathBuf,
}

/// Owner and mode of the Unix socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketAccess {
    /// Owner, where root decides.
    pub(super) uid: Option<u32>,
    /// Group.
    pub(super) gid: Option<u32>,
    /// Permission bits.
    pub(super) mode: u32,
}

impl Bound {
    /// Binds both.
    pub(super) fn bind(address: SocketAddr, path: &Path, access: SocketAccess) -> anyhow::Result<Self> {
        let (tcp, address) = bind_tcp(address)?;
        let unix = bind_unix(path, access)?;
        Ok(Self { tcp, unix, address, path: path.into() })
    }

    /// Starts to listen. The sockets are non-blocking.
    pub(super) fn listen(self) -> anyhow::Result<(std::net::TcpListener, std::os::unix::net::UnixListener)> {
        let backlog = Backlog::new(1024).context("choose a backlog")?;
        listen(&self.tcp, backlog).with_context(|| format!("listen on {}", self.address))?;
        listen(&self.unix, backlog).with_context(|| format!("listen on {:?}", self.path))?;
        Ok((self.tcp.into(), self.unix.into()))
    }
}

fn flags() -> SockFlag {
    SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK
}

fn bind_tcp(address: SocketAddr) -> anyhow::Result<(OwnedFd, SocketAddr)> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd = socket(family, SockType::Stream, flags(), None).context("make a TCP socket")?;
    // A restarted hive must not wait for its old connections' TIME_WAIT to pass.
    setsockopt(&fd, sockopt::ReuseAddr, &true).context("set SO_REUSEADDR")?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))
        .with_context(|| format!("bind {address}: choose another with --port, 0 picks a free one"))?;
    let bound: SockaddrStorage = getsockname(fd.as_raw_fd()).context("read the bound address")?;
    let port = match (bound.as_sockaddr_in(), bound.as_sockaddr_in6()) {
        (Some(v4), _) => v4.port(),
        (_, Some(v6)) => v6.port(),
        _ => bail!("bind {address}: the kernel gave an address of another family (length {})", bound.len()),
    };
    Ok((fd, SocketAddr::new(address.ip(), port)))
}

fn bind_unix(path: &Path, access: SocketAccess) -> anyhow::Result<OwnedFd> {
    clear_stale(path)?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags(), None).context("make a Unix socket")?;
    let name = UnixAddr::new(path).with_context(|| format!("bind {path:?}: a socket's path has at most 107 bytes"))?;
    bind(fd.as_raw_fd(), &name).with_context(|| format!("bind {path:?}"))?;
    // Nobody can have connected in between: the socket does not listen yet.
    chown(path, access.uid, access.gid).with_context(|| format!("change the owner of {path:?}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(access.mode)).with_context(|| format!("set the mode of {path:?}"))?;
    Ok(fd)
}

/// Removes a socket that a hive left behind; one that answers, and anything that is no socket, stays.
fn clear_stale(path: &Path) -> anyhow::Result<()> {
    match path.symlink_metadata() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("look at {path:?}")),
        Ok(meta) if !meta.file_type().is_socket() => bail!("{path:?} exists and is not a socket: give another --socket"),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).with_context(|| format!("remove the stale socket {path:?}"))
        }
        Err(e) => Err(e).with_context(|| format!("find out whether anybody answers on {path:?}")),
        Ok(_) => bail!("another process answers on {path:?}: stop it, or give another --socket"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACCESS: SocketAccess = SocketAccess { uid: None, gid: None, mode: 0o660 };

    fn any_port() -> SocketAddr {
        ([127, 0, 0, 1], 0).into()
    }

    #[test]
    fn nobody_is_answered_before_listen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hive.sock");
        let bound = Bound::bind(any_port(), &path, ACCESS).unwrap();
        let address = bound.address;
        assert_ne!(address.port(), 0);
        assert!(UnixStream::connect(&path).is_err() && std::net::TcpStream::connect(address).is_err());
        let _listening = bound.listen().unwrap();
        assert!(UnixStream::connect(&path).is_ok() && std::net::TcpStream::connect(address).is_ok());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o660);
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hive.sock");
        drop(Bound::bind(any_port(), &path, ACCESS).unwrap().listen().unwrap());
        assert!(path.exists(), "a closed socket leaves its file");
        let _live = Bound::bind(any_port(), &path, ACCESS).unwrap().listen().unwrap();
        assert!(Bound::bind(any_port(), &path, ACCESS).is_err());
        let file = dir.path().join("file");
        std::fs::write(&file, "kept").unwrap();
        assert!(Bound::bind(any_port(), &file, ACCESS).is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
    }
}
