//! A hive that comes to a worker which runs already: by the init's socket, through the launcher that found it.
//!
//! ```text
//!  launcher ──connect──► init.sock ──who is it?──► Held (for the launcher), Attached (for its hive), what was kept
//!                                        └─ anybody else: closed
//! ```
//! The hive before it, if it is still there, is told so, and its end is nobody's end any more. Must never know: why there is another.

use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{UnixCredentials, getsockopt, setsockopt, sockopt};
use nix::unistd::geteuid;
use rustix::net::{SocketFlags, accept_with};

use super::Supervisor;
use super::freeze::Freezer;
use crate::protocol::{Attached, Channel, FromInit, MAX_FDS, MAX_MESSAGE};

/// Connections that are looked at in a turn.
const A_TURN: usize = 4;

impl Supervisor {
    /// Takes who has connected, if it is a launcher: the last one.
    pub(super) fn open_door(&mut self) {
        for _ in 0..A_TURN {
            let Some(door) = &self.context.door else { return };
            let Ok(socket) = accept_with(door, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) else { return };
            match getsockopt(&socket, sockopt::PeerCredentials) {
                Ok(peer) if may_command(&peer) => self.take_hive(socket),
                peer => tracing::warn!(?peer, "somebody who is no launcher has connected to the init"),
            }
        }
    }

    fn take_hive(&mut self, socket: OwnedFd) {
        // As for the channel that it was born with: a whole message must fit.
        let _ = setsockopt(&socket, sockopt::SndBuf, &(2 * MAX_MESSAGE));
        let channel = Channel::new(socket);
        let locks: Vec<_> = self.context.locks.iter().take(MAX_FDS).map(AsFd::as_fd).collect();
        if channel.send(&FromInit::Held { locks: locks.len() }, &locks).is_err() {
            // It has gone again, and is no reason to leave the one that is there.
            return;
        }
        if !self.hive_gone {
            let _ = self.context.control.send(&FromInit::Superseded, &[]);
        }
        self.part_with_hive();
        self.context.control = channel;
        (self.hive_gone, self.acknowledged) = (false, false);
        self.greet_hive();
    }

    /// Tells it how things are, and what nobody was told.
    fn greet_hive(&mut self) {
        let kept = self.kept.take();
        let port = self.port.as_ref().and_then(|port| port.try_clone().ok());
        let state = Attached {
            start_ticks: self.start_ticks,
            ready_notified: self.ready_notified,
            stopping: self.stopping.as_ref().map(|stopping| stopping.by),
            ending: self.main_exit.is_some(),
            frozen: self.freezer == Freezer::Frozen,
            oom_kills: self.kills_in_all(),
            oom_kills_since: kept.oom_kills,
            port: port.is_some(),
            unsaid: kept.unsaid,
        };
        let pidfd = self.pidfd.try_clone().ok();
        if pidfd.is_none() {
            // Without a descriptor to hand over nothing can be said that would be true.
            return self.lose_hive();
        }
        self.say(FromInit::Attached { state: Box::new(state) }, pidfd.into_iter().chain(port).collect());
        for message in kept.messages {
            self.say(message, vec![]);
        }
    }

    /// Nobody reads this channel any more: what was news is kept for the next hive, and what was asked is undone or let go.
    pub(super) fn part_with_hive(&mut self) {
        for message in self.outbox.drain() {
            self.kept.keep(message);
        }
        // Nobody was told that it stands still, and half of it may.
        if let Freezer::Freezing { .. } = self.freezer {
            let _ = self.leaf().thaw();
            self.freezer = Freezer::Runs;
        }
        self.reclaiming = None;
    }

    /// Keeps the worker's port, until the init's end.
    pub(super) fn keep_port(&mut self, mut fds: Vec<OwnedFd>) {
        let port = fds.pop().filter(|fd| fds.is_empty() && getsockopt(fd, sockopt::AcceptConn).unwrap_or(false));
        match port {
            Some(port) => self.port = Some(port),
            None => tracing::warn!("what was to be kept as the worker's port is no socket that listens"),
        }
    }
}

/// Root's or the own user's, and from outside: whoever is in the sandbox has a number here, and whoever is not has none (unix(7)).
fn may_command(peer: &UnixCredentials) -> bool {
    peer.pid() == 0 && (peer.uid() == 0 || peer.uid() == geteuid().as_raw())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_number_in_the_sandbox_is_no_launcher() {
        // Of this very process: root's or the user's own, and with a number.
        assert!(!may_command(&UnixCredentials::new()));
    }
}
