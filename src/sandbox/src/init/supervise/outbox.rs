//! Messages to a hive that may be slow to read.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

use crate::protocol::{Channel, ChannelError, FromInit, ToInit};

/// Most messages that wait; further answers are dropped (the hive, which has not read 64 others, times out on them).
pub(super) const MAX_WAITING: usize = 64;

#[derive(Default)]
pub(super) struct Outbox(VecDeque<(FromInit, Vec<OwnedFd>)>);

impl Outbox {
    /// Queues a message. The ending is never dropped.
    pub(super) fn push(&mut self, message: FromInit, fds: Vec<OwnedFd>) {
        if self.0.len() < MAX_WAITING || matches!(message, FromInit::Ended { .. }) {
            self.0.push_back((message, fds));
        }
    }

    /// Sends what the channel takes.
    pub(super) fn flush(&mut self, channel: &Channel<FromInit, ToInit>) -> Result<(), ChannelError> {
        while let Some((message, fds)) = self.0.front() {
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            match channel.send(message, &borrowed) {
                Err(e) if e.would_block() => return Ok(()),
                Err(e @ ChannelError::Closed) => return Err(e),
                // Sent, or not sendable at all: neither gets better by trying again.
                _ => drop(self.0.pop_front()),
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
