//! `sendmsg` and `recvmsg` with `SCM_RIGHTS` (unix(7)), and keeping descriptors out.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};

/// Room for this many descriptors.
const MAX_FDS: usize = 64;

/// Sends `bytes` as one message with `fds`.
///
/// Errors: `EPIPE` when the peer is gone (no SIGPIPE), `EAGAIN` on a full non-blocking socket, `EINVAL` for more than 64 descriptors.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let sent = rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(bytes)], &mut ancillary, SendFlags::NOSIGNAL))?;
    if sent == bytes.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// Receives one message: its length (0 at end of file) and at most `max_fds` descriptors, close-on-exec.
///
/// Errors: `EAGAIN` on an empty non-blocking socket, `InvalidData` for a message that did not fit or carried too many descriptors
/// (which are closed).
pub fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8], max_fds: usize) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        let mut slice = [IoSliceMut::new(buffer)];
        match recvmsg(socket, &mut slice, &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    let cut = got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    if cut || fds.len() > max_fds {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long, or has too many descriptors"));
    }
    Ok((got.bytes, fds))
}

/// Makes whatever is sent to `socket` with descriptors fail at its sender with `EPERM`; whether this kernel can (Linux 6.16).
///
/// For sockets that strangers write to: the last one to close a descriptor does its closing, however long that takes, and a receiver that
/// does not want it is the last one.
pub fn refuse_descriptors(socket: BorrowedFd<'_>) -> io::Result<bool> {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let off: libc::c_int = 0;
    let len = size_of_val(&off) as libc::socklen_t;
    // SAFETY: `off` lives through the call, and `len` is its size.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const off).cast(), len) } {
        0 => Ok(true),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(false),
            e => Err(e),
        },
    }
}

/// Whether the next datagram carries descriptors. It stays in the queue, and so do they.
///
/// Errors: `EAGAIN` where there is none.
pub fn next_has_descriptors(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut byte = [0u8; 1];
    let mut none = RecvAncillaryBuffer::default();
    // Without room for them the kernel says that they were left out, and closes copies, which are not the last.
    let got = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut none, RecvFlags::PEEK | RecvFlags::DONTWAIT)?;
    Ok(got.flags.contains(ReturnFlags::CTRUNC))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn descriptors_are_seen_without_being_taken() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        send(theirs.as_fd(), b"plain", &[]).unwrap();
        assert!(!next_has_descriptors(ours.as_fd()).unwrap());
        assert_eq!(ours.recv(&mut [0; 9]).unwrap(), 5);
        send(theirs.as_fd(), b"x", &[theirs.as_fd()]).unwrap();
        assert!(next_has_descriptors(ours.as_fd()).unwrap());
        assert!(next_has_descriptors(ours.as_fd()).unwrap(), "it is still there");
        assert_eq!(recv(ours.as_fd(), &mut [0; 9], 1).unwrap().1.len(), 1);
        assert_eq!(next_has_descriptors(ours.as_fd()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn where_the_kernel_can_descriptors_are_refused_at_their_sender() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        send(theirs.as_fd(), b"x", &[theirs.as_fd()]).unwrap();
        if refuse_descriptors(ours.as_fd()).unwrap() {
            assert_eq!(send(theirs.as_fd(), b"x", &[theirs.as_fd()]).unwrap_err().raw_os_error(), Some(libc::EPERM));
        }
        send(theirs.as_fd(), b"x", &[]).unwrap();
    }
}
