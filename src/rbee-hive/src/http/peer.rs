//! Who is at the other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use procfs::net::TcpNetEntry;

use crate::access::Certificate;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP in clear, on loopback.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// The Unix socket.
    Unix,
}

/// The caller, as the kernel and its certificate name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// How it came.
    pub(crate) transport: Transport,
    /// Its uid, where it could be told for certain.
    pub(crate) uid: Option<u32>,
    /// Its groups, by the account database and, on the Unix socket, the socket's credentials.
    pub(crate) gids: Vec<u32>,
    /// The process that connected, on the Unix socket.
    pub(crate) pid: Option<i32>,
    /// Its end of the connection, on TCP.
    pub(crate) address: Option<SocketAddr>,
    /// Its certificate, verified.
    pub(crate) certificate: Option<Arc<Certificate>>,
    /// What it may call the hive besides the loopback names: the address that it connected to, and the names in the hive's certificate.
    pub(crate) names: Arc<[String]>,
}

impl Peer {
    /// The caller behind a Unix socket's credentials.
    pub(super) fn from_unix(uid: u32, gid: u32, pid: Option<i32>) -> Self {
        let mut gids = groups_of(uid);
        gids.push(gid);
        Self { uid: Some(uid), gids, pid, ..Self::nobody(Transport::Unix) }
    }

    /// The caller at `theirs` on a TCP connection to `ours`. Reads procfs: call it on a blocking thread.
    pub(super) fn from_tcp(theirs: SocketAddr, ours: SocketAddr) -> Self {
        // Beyond loopback an address says nothing about who is behind it: it may be another namespace's, or a router's.
        let uid = theirs.ip().to_canonical().is_loopback().then(|| socket_owner(theirs, ours)).flatten();
        Self { uid, gids: uid.map(groups_of).unwrap_or_default(), address: Some(theirs), ..Self::nobody(Transport::Tcp) }
    }

    /// Nobody in particular.
    pub(super) fn nobody(transport: Transport) -> Self {
        Self { transport, uid: None, gids: vec![], pid: None, address: None, certificate: None, names: Arc::new([]) }
    }

    /// Where it calls from, for the audit.
    pub(super) fn from(&self) -> String {
        let transport = match self.transport {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Unix => "unix",
        };
        match (self.address, self.pid) {
            (Some(address), _) => format!("{transport} {address}"),
            (None, Some(pid)) => format!("{transport} pid {pid}"),
            (None, None) => transport.into(),
        }
    }
}

/// The owner of the client's socket, from `/proc/net/tcp` and `tcp6`.
fn socket_owner(theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let v4 = procfs::net::tcp().unwrap_or_default();
    owner_among(&v4, theirs, ours).or_else(|| owner_among(&procfs::net::tcp6().unwrap_or_default(), theirs, ours))
}

fn owner_among(sockets: &[TcpNetEntry], theirs: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let same = |a: SocketAddr, b: SocketAddr| a.ip().to_canonical() == b.ip().to_canonical() && a.port() == b.port();
    sockets
        .iter()
        .filter(|s| same(s.local_address, theirs) && same(s.remote_address, ours))
        // A socket that its process has closed is listed with uid 0 and inode 0 until its connection ends (tcp4_seq_show,
        // sock_i_uid): taken at its word, anybody who closes early would be root.
        .find(|s| s.inode != 0)
        .map(|s| s.uid)
}

/// All groups of an account; none where it is not in the database.
fn groups_of(uid: u32) -> Vec<u32> {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return vec![] };
    let Ok(name) = std::ffi::CString::new(user.name) else { return vec![user.gid.as_raw()] };
    getgrouplist(&name, user.gid).map_or_else(|_| vec![user.gid.as_raw()], |list| list.into_iter().map(Gid::as_raw).collect())
}

/// A group's number by its name or number.
pub(crate) fn group_id(text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| Group::from_name(text).ok().flatten().map(|g| g.gid.as_raw()))
}

/// A user's number by its name or number.
pub(crate) fn user_id(text: &str) -> Option<u32> {
    text.parse().ok().or_else(|| User::from_name(text).ok().flatten().map(|u| u.uid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_tcp_caller_is_known_by_the_owner_of_its_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = listener.local_addr().unwrap();
        let client = TcpStream::connect(ours).unwrap();
        let (_server, theirs) = listener.accept().unwrap();
        assert_eq!(socket_owner(theirs, ours), Some(Uid::effective().as_raw()));
        drop(client);
    }

    #[test]
    fn a_socket_that_its_process_closed_belongs_to_nobody() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = listener.local_addr().unwrap();
        let client = TcpStream::connect(ours).unwrap();
        let (_server, theirs) = listener.accept().unwrap();
        drop(client);
        assert_eq!(socket_owner(theirs, ours), None);
    }
}
