//! A port of a foreground command, to be reached from this host's loopback while it runs: so that a server that is watched can be asked.
//!
//! The command's network is its own, so each connection goes by a socket that its init made there. Must never know: what is said on it.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Most connections that wait for a socket; further ones are closed.
const MAX_WAITING: usize = 16;
/// Most connections at one time.
const MAX_OPEN: usize = 32;

/// A port that is listened on.
pub(crate) struct Published {
    listener: TcpListener,
    port: u16,
    waiting: VecDeque<TcpStream>,
    /// One more is held for each connection.
    open: Arc<()>,
}

impl Published {
    /// Listens on `port` of 127.0.0.1.
    pub(crate) fn open(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, port, waiting: VecDeque::new(), open: Arc::new(()) })
    }

    /// Takes a connection; whether it now waits for a socket.
    pub(crate) fn accept(&mut self) -> bool {
        let Ok((stream, _)) = self.listener.accept() else { return false };
        if self.waiting.len() >= MAX_WAITING || Arc::strong_count(&self.open) > MAX_OPEN {
            return false; // and is closed
        }
        self.waiting.push_back(stream);
        true
    }

    /// Gives a connection its socket in the command's network; `None` closes it.
    pub(crate) fn connect(&mut self, socket: Option<OwnedFd>) {
        let Some(outside) = self.waiting.pop_front() else { return };
        let Some(socket) = socket else { return };
        let (port, held) = (self.port, Arc::clone(&self.open));
        // Each direction waits by itself. They end with the connection, or with this process.
        let forward = move || {
            let _ = forward(&outside, socket, port);
            drop(held);
        };
        let _ = std::thread::Builder::new().name("published".into()).spawn(forward);
    }
}

impl AsFd for Published {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

fn forward(outside: &TcpStream, socket: OwnedFd, port: u16) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&socket, false)?;
    rustix::net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    let inside = TcpStream::from(socket);
    outside.set_nonblocking(false)?;
    std::thread::scope(|scope| {
        scope.spawn(|| pass(outside, &inside));
        pass(&inside, outside);
    });
    Ok(())
}

/// All that comes from one side, and then its end.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn both_directions_pass_and_end_by_themselves() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut published = Published::open(0).unwrap();
        published.port = server.local_addr().unwrap().port();
        let mut client = TcpStream::connect(published.listener.local_addr().unwrap()).unwrap();
        published.listener.set_nonblocking(false).unwrap();
        assert!(published.accept());
        let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
        published.connect(Some(socket));
        let (mut inside, _) = server.accept().unwrap();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        inside.read_to_string(&mut text).unwrap();
        assert_eq!(text, "question");
        inside.write_all(b"answer").unwrap();
        drop(inside);
        text.clear();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, "answer");
    }

    #[test]
    fn connections_are_bounded() {
        let mut published = Published::open(0).unwrap();
        published.listener.set_nonblocking(false).unwrap();
        let address = published.listener.local_addr().unwrap();
        let clients: Vec<TcpStream> = (0..=MAX_WAITING).map(|_| TcpStream::connect(address).unwrap()).collect();
        let taken = clients.iter().filter(|_| published.accept()).count();
        assert_eq!(taken, MAX_WAITING);
        published.connect(None);
        assert_eq!(published.waiting.len(), MAX_WAITING - 1);
    }
}
