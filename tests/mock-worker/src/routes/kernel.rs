//! Acts that a sandbox may forbid, tried on request; the answer is the kernel's.
//!
//! Owns: one small act a function. Must never know: which of them ought to fail.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill as send_signal};
use nix::sys::stat::{Mode, SFlag, makedev, mknod as make_node};
use nix::unistd::Pid;

use crate::http::{Query, Reply};
use crate::json::Json;

/// Bytes that `/read` gives at most.
const READ: u64 = 1 << 20;
const CONNECT: Duration = Duration::from_secs(3);

/// `/read?path=`: the first MiB of a file as text, or the errno.
pub(crate) fn read(query: &Query) -> Reply {
    let mut bytes = Vec::new();
    let result = path(query).and_then(fs::File::open).and_then(|file| file.take(READ).read_to_end(&mut bytes));
    match result {
        Ok(_) => Reply::json(
            200,
            &Json::object([
                ("ok", Json::Bool(true)),
                ("errno", Json::Null),
                ("text", Json::from(String::from_utf8_lossy(&bytes).into_owned())),
            ]),
        ),
        Err(error) => Reply::json(200, &super::outcome(&Err(error))),
    }
}

/// `/write?path=&text=` or `&bytes=`: creates or overwrites a file with a text, or with as many zeros (16 MiB at most).
pub(crate) fn write(query: &Query) -> io::Result<()> {
    let path = path(query)?;
    match query.number("bytes", 0).min(16 << 20) {
        0 => fs::write(path, query.get("text").unwrap_or("mock-worker\n")),
        bytes => fs::write(path, vec![0; usize::try_from(bytes).unwrap_or(0)]),
    }
}

/// `/open?path=&mode=r|w|rw`: opens and closes it; creates nothing.
pub(crate) fn open(query: &Query) -> io::Result<()> {
    let mode = query.get("mode").unwrap_or("r");
    OpenOptions::new().read(mode.contains('r')).write(mode.contains('w')).open(path(query)?).map(drop)
}

/// `/mknod?path=&major=&minor=`: makes a character device node.
pub(crate) fn mknod(query: &Query) -> io::Result<()> {
    let device = makedev(query.number("major", 0), query.number("minor", 0));
    make_node(path(query)?, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), device).map_err(io::Error::from)
}

/// `/connect?addr=`: `host:port`, `unix:/path` or `unix:@abstract`.
pub(crate) fn connect(query: &Query) -> io::Result<()> {
    let address = query.get("addr").unwrap_or_default();
    if let Some(name) = address.strip_prefix("unix:@") {
        return UnixStream::connect_addr(&UnixAddr::from_abstract_name(name)?).map(drop);
    }
    if let Some(path) = address.strip_prefix("unix:") {
        return UnixStream::connect(path).map(drop);
    }
    let address = address.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    TcpStream::connect_timeout(&address, CONNECT).map(drop)
}

/// `/kill?pid=&signal=`: sends a signal; 0 only asks whether it could.
pub(crate) fn kill(query: &Query) -> io::Result<()> {
    let pid = Pid::from_raw(query.get("pid").and_then(|pid| pid.parse().ok()).unwrap_or(0));
    let number = i32::try_from(query.number("signal", 0)).unwrap_or(0);
    let signal = (number != 0).then(|| Signal::try_from(number)).transpose()?;
    send_signal(pid, signal).map_err(io::Error::from)
}

fn path(query: &Query) -> io::Result<&str> {
    query.get("path").ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}
