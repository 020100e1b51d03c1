//! Who is at the other end of a connection.

use std::net::SocketAddr;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use procfs::net::TcpNetEntry;

/// How a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP, on loopback.
    Tcp,
    /// The Unix socket.
    Unix,
}

/// The caller, as the kernel names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// How it came.
    pub(crate) transport: Transport,
    /// Its uid, where it could be told for certain.
    pub(crate) uid: Option<u32>,
    /// Its groups, by the account database and, on the Unix socket, the socket's credentials.
    pub(crate) gids: Vec<u32>,
}

impl Peer {
    /// The caller behind a Unix socket's credentials.
    pub(super) fn from_unix(uid: u32, gid: u32) -> Self {
        let mut gids = groups_of(uid);
        gids.push(gid);
        Self { transport: Transport::Unix, uid: Some(uid), gids }
    }

    /// The caller at `theirs` on a TCP connection to `ours`. Reads procfs: call it on a blocking thread.
    pub(super) fn from_tcp(theirs: SocketAddr, ours: SocketAddr) -> Self {
        let uid = socket_owner(theirs, ours);
        Self { transport: Transport::Tcp, uid, gids: uid.map(groups_of).unwrap_or_default() }
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
