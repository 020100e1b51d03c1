//! What the worker says by sd_notify: passed on to the hive as it is, as far as it comes at a bearable rate and without descriptors.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::socket::MsgFlags;
use rbee_hive_sys::scm;

use super::Supervisor;
use crate::protocol::FromInit;

/// Longest datagram that is passed on, bytes.
const LONGEST: usize = 4096;
/// Most datagrams a span: what init and hive do with them is not charged to the worker. Who says more waits.
const MOST: u32 = 32;
const SPAN: Duration = Duration::from_millis(500);

/// The init's end of NOTIFY_SOCKET.
pub(super) struct Notifications {
    socket: OwnedFd,
    left: u32,
    span_ends: Instant,
    deaf: bool,
}

impl Notifications {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, left: MOST, span_ends: Instant::now() + SPAN, deaf: false }
    }

    /// The socket to wait for; `None` while nothing more is heard.
    pub(super) fn listening(&self) -> Option<BorrowedFd<'_>> {
        let heard = !self.deaf && (self.left > 0 || Instant::now() >= self.span_ends);
        heard.then(|| self.socket.as_fd())
    }

    /// When it listens again; `None` where it does, or never will.
    pub(super) fn resumes(&self) -> Option<Instant> {
        (!self.deaf && self.left == 0).then_some(self.span_ends)
    }

    /// The next text. `None` with nothing to hear now.
    fn next(&mut self) -> Option<String> {
        let now = Instant::now();
        if now >= self.span_ends {
            (self.left, self.span_ends) = (MOST, now + SPAN);
        }
        if self.deaf || self.left == 0 {
            return None;
        }
        // sd_notify knows messages with descriptors (FDSTORE=1). Whoever takes one has to close it some day, and a socket with SO_LINGER
        // closes when its owner likes: it is left where it is, and all that comes after it. An ending process does not linger.
        self.deaf = scm::next_has_descriptors(self.socket.as_fd()).ok()?;
        if self.deaf {
            tracing::warn!("the worker sent descriptors with a notification: no further one is heard");
            return None;
        }
        let mut buffer = [0u8; LONGEST];
        let len = nix::sys::socket::recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT).ok()?;
        self.left -= 1;
        Some(String::from_utf8_lossy(&buffer[..len]).into_owned())
    }
}

impl Supervisor {
    /// Passes on what there is, within the bound.
    pub(super) fn pass_notifications(&mut self) {
        while let Some(text) = self.notifications.as_mut().and_then(Notifications::next) {
            self.say(FromInit::Notify { text }, vec![]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;

    fn pair() -> (Notifications, UnixDatagram) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        (Notifications::new(ours.into()), theirs)
    }

    #[test]
    fn a_flood_is_heard_up_to_its_bound_and_then_later() {
        let (mut heard, worker) = pair();
        worker.set_nonblocking(true).unwrap();
        let mut texts = 0;
        for _ in 0..4 * MOST {
            let _ = worker.send(b"STATUS=x");
            texts += u32::from(heard.next().is_some());
        }
        assert_eq!((texts, heard.listening().is_none()), (MOST, true));
        heard.span_ends = Instant::now();
        assert!(heard.listening().is_some() && heard.resumes().is_some());
        assert_eq!(heard.next().as_deref(), Some("STATUS=x"));
    }

    #[test]
    fn a_message_with_a_descriptor_is_the_last_that_is_heard_and_is_never_taken() {
        let (mut heard, worker) = pair();
        worker.send(b"READY=1").unwrap();
        scm::send(worker.as_fd(), b"FDSTORE=1", &[worker.as_fd()]).unwrap();
        worker.send(b"STATUS=after").unwrap();
        assert_eq!(heard.next().as_deref(), Some("READY=1"));
        assert_eq!(heard.next(), None);
        assert!(heard.listening().is_none() && heard.resumes().is_none());
        assert!(scm::next_has_descriptors(heard.socket.as_fd()).unwrap(), "it lies where it lay");
    }
}
