//! What costs others than the worker: quotas of the whole machine, kernel modules, and whoever has to close what a worker sends.

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

use crate::attempt::{Outcome, attempts};
use crate::raw::{self, n, z};

attempts! {
    Harmless "take contexts for asynchronous I/O" => raw::call(libc::SYS_io_setup, &[n(64), z(8)]),
    Harmless "have other processes' files written back" => raw::call(libc::SYS_syncfs, &[n(0)]),
    Harmless "use a transport that few have audited (UDP-Lite)" => raw::call(libc::SYS_socket, &[n(2), n(2), n(136)]),
    Harmless "use a transport that few have audited (MPTCP)" => raw::call(libc::SYS_socket, &[n(2), n(1), n(262)]),
    Harmless "make the closing of a socket wait (SO_LINGER)" => lingering().map(drop),
    Harmless "send the init a descriptor" => send_the_init(),
}

/// A connection with more to send than its peer takes: who closes it waits.
fn lingering() -> std::io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let (ours, theirs) = (TcpStream::connect(listener.local_addr()?)?, listener.accept()?.0);
    setsockopt(&ours, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: Duration::from_secs(5).as_secs() as i32 })?;
    Ok((ours, theirs))
}

/// Where it is not refused the init leaves it where it is; that it can still be stopped is what the tests of notifications say.
fn send_the_init() -> Outcome {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Outcome::Untried("this worker has no NOTIFY_SOCKET") };
    let sent = UnixDatagram::unbound().and_then(|socket| {
        socket.connect(path)?;
        rbee_hive_sys::scm::send(socket.as_fd(), b"FDSTORE=1", &[std::io::stdin().as_fd()])
    });
    match sent {
        Ok(()) => Outcome::Untried("this kernel refuses no descriptors (before 6.16)"),
        Err(e) => Outcome::from(Err::<(), _>(e)),
    }
}
