//! A `SOCK_SEQPACKET` socket that carries one type each way.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use rbee_hive_sys::scm;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{MAX_FDS, MAX_MESSAGE};

/// Why a message was not sent or received.
#[derive(Debug, thiserror::Error)]
pub enum ChannelError {
    /// The peer closed its end.
    #[error("the other process closed the channel")]
    Closed,
    /// The kernel refused; `WouldBlock` on a non-blocking channel.
    #[error("{call} on the channel failed")]
    Io {
        /// `sendmsg` or `recvmsg`.
        call: &'static str,
        /// The error.
        source: io::Error,
    },
    /// Larger than [`MAX_MESSAGE`].
    #[error("a message of {len} bytes is longer than the {MAX_MESSAGE} that a channel takes")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not what this direction carries.
    #[error("decode a message from the other process")]
    Decode(#[source] serde_json::Error),
    /// Could not be encoded.
    #[error("encode a message")]
    Encode(#[source] serde_json::Error),
}

impl ChannelError {
    /// Whether a non-blocking channel has nothing to read, or no room to write.
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock)
    }

    /// Whether one message was lost (not understood, cut, or with more descriptors than there was room for) and the next may be well.
    pub fn is_one_bad_message(&self) -> bool {
        match self {
            Self::Decode(_) => true,
            Self::Io { source, .. } => source.kind() == io::ErrorKind::InvalidData,
            Self::Closed | Self::TooLong { .. } | Self::Encode(_) => false,
        }
    }
}

/// One end: sends `S`, receives `R`. Blocking unless set otherwise.
#[derive(Debug)]
pub struct Channel<S, R> {
    socket: OwnedFd,
    types: PhantomData<fn(S) -> R>,
}

impl<S: Serialize, R: DeserializeOwned> Channel<S, R> {
    /// Takes over one end of a `SOCK_SEQPACKET` pair.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket, types: PhantomData }
    }

    /// A fresh pair: this end, and the raw other one (both close-on-exec).
    pub fn pair() -> Result<(Self, OwnedFd), ChannelError> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|e| ChannelError::Io { call: "socketpair", source: e.into() })?;
        for end in [&ours, &theirs] {
            // A whole message must fit: the default is the sysctl net.core.wmem_default, which may be less.
            nix::sys::socket::setsockopt(end, nix::sys::socket::sockopt::SndBuf, &(2 * MAX_MESSAGE))
                .map_err(|e| ChannelError::Io { call: "setsockopt", source: e.into() })?;
        }
        Ok((Self::new(ours), theirs))
    }

    /// Sends one message with descriptors.
    pub fn send(&self, message: &S, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let bytes = serde_json::to_vec(message).map_err(ChannelError::Encode)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(ChannelError::TooLong { len: bytes.len() });
        }
        match scm::send(self.socket.as_fd(), &bytes, fds) {
            Ok(()) => Ok(()),
            Err(e) if matches!(e.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => Err(ChannelError::Closed),
            Err(source) => Err(ChannelError::Io { call: "sendmsg", source }),
        }
    }

    /// Receives one message with its descriptors (close-on-exec).
    pub fn recv(&self) -> Result<(R, Vec<OwnedFd>), ChannelError> {
        let mut buffer = vec![0u8; MAX_MESSAGE];
        let (len, fds) = match scm::recv(self.socket.as_fd(), &mut buffer, MAX_FDS) {
            Ok(got) => got,
            Err(e) if e.raw_os_error() == Some(libc::ECONNRESET) => return Err(ChannelError::Closed),
            Err(source) => return Err(ChannelError::Io { call: "recvmsg", source }),
        };
        // A message without a byte looks like the end, and is not understood.
        if len == 0 && self.hung_up() {
            return Err(ChannelError::Closed);
        }
        Ok((Self::decode(&buffer[..len])?, fds))
    }

    /// What a message says.
    pub fn decode(message: &[u8]) -> Result<R, ChannelError> {
        serde_json::from_slice(message).map_err(ChannelError::Decode)
    }

    fn hung_up(&self) -> bool {
        let mut list = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let asked = poll(&mut list, PollTimeout::ZERO);
        asked.is_err() || list[0].revents().is_none_or(|got| got.intersects(PollFlags::POLLHUP | PollFlags::POLLERR))
    }

    /// Makes `send` and `recv` return `WouldBlock` instead of waiting.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        rustix::io::ioctl_fionbio(&self.socket, true).map_err(Into::into)
    }

    /// Gives the socket back.
    pub fn into_fd(self) -> OwnedFd {
        self.socket
    }
}

impl<S, R> AsFd for Channel<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<S, R> AsRawFd for Channel<S, R> {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
