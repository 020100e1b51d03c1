//! A channel to another process under tokio, and the answers that are waited for on it.
//!
//! Must never know what the messages mean.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rbee_hive_sandbox::protocol::{Channel, ChannelError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// One end of a channel, driven by the runtime.
#[derive(Debug)]
pub(crate) struct AsyncChannel<S, R> {
    channel: AsyncFd<Channel<S, R>>,
    /// Senders in the order in which they came: a full socket wakes all that wait for room.
    sending: tokio::sync::Mutex<()>,
}

/// What came in.
#[derive(Debug)]
pub(crate) enum Heard<R> {
    /// A message with its descriptors.
    Message(R, Vec<OwnedFd>),
    /// A message that could not be read, such as one whose descriptors this process had no room for. The channel goes on.
    Unreadable(ChannelError),
}

impl<S: Serialize, R: DeserializeOwned> AsyncChannel<S, R> {
    /// Takes a channel over. Called inside the runtime.
    pub(crate) fn over(channel: Channel<S, R>) -> io::Result<Self> {
        channel.set_nonblocking()?;
        Ok(Self { channel: async_fd(channel)?, sending: tokio::sync::Mutex::new(()) })
    }

    /// Sends one message, waiting for room.
    pub(crate) async fn send(&self, message: &S, fds: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let _one_at_a_time = self.sending.lock().await;
        let sent = self.channel.async_io(Interest::WRITABLE, |channel| unless_blocked(channel.send(message, fds)));
        sent.await.map_err(|source| ChannelError::Io { call: "sendmsg", source })?
    }

    /// The next message; `None` once the other process has closed its end.
    pub(crate) async fn hear(&self) -> Option<Heard<R>> {
        match self.channel.async_io(Interest::READABLE, |channel| unless_blocked(channel.recv())).await {
            Ok(Ok((message, fds))) => Some(Heard::Message(message, fds)),
            Ok(Err(e @ ChannelError::Decode(_))) => Some(Heard::Unreadable(e)),
            Ok(Err(e)) if matches!(&e, ChannelError::Io { source, .. } if source.kind() == io::ErrorKind::InvalidData) => {
                Some(Heard::Unreadable(e))
            }
            _ => None,
        }
    }
}

/// For `async_io`, which waits on `WouldBlock` and on nothing else.
fn unless_blocked<T>(result: Result<T, ChannelError>) -> io::Result<Result<T, ChannelError>> {
    match result {
        Err(e) if e.would_block() => Err(io::ErrorKind::WouldBlock.into()),
        other => Ok(other),
    }
}

/// Requests under way, by number.
#[derive(Debug)]
pub(crate) struct Answers<T> {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<T>>>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self { next: AtomicU64::new(1), waiting: Mutex::default() }
    }
}

/// An answer that will come, or will not; who stops waiting leaves nothing behind.
#[derive(Debug)]
pub(crate) struct Expected<'a, T> {
    pub(crate) seq: u64,
    answer: oneshot::Receiver<T>,
    of: &'a Answers<T>,
}

impl<T> Answers<T> {
    /// A fresh number to ask under.
    pub(crate) fn expect(&self) -> Expected<'_, T> {
        let seq = self.next.fetch_add(1, Ordering::Relaxed);
        let (tell, answer) = oneshot::channel();
        lock(&self.waiting).insert(seq, tell);
        Expected { seq, answer, of: self }
    }

    /// Hands an answer to who waits for it. One that nobody waits for any more is dropped, with its descriptors.
    pub(crate) fn give(&self, seq: u64, answer: T) {
        if let Some(tell) = lock(&self.waiting).remove(&seq) {
            let _ = tell.send(answer);
        }
    }

    /// No answer comes to any request under way.
    pub(crate) fn fail_all(&self) {
        lock(&self.waiting).clear();
    }

    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.waiting).len()
    }
}

impl<T> Expected<'_, T> {
    /// The answer; `None` where there will be none.
    pub(crate) async fn get(mut self) -> Option<T> {
        (&mut self.answer).await.ok()
    }
}

impl<T> Drop for Expected<'_, T> {
    fn drop(&mut self) {
        lock(&self.of.waiting).remove(&self.seq);
    }
}

/// Registers a descriptor with the runtime.
pub(crate) fn async_fd<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    #[allow(deprecated, reason = "what is registered owns its descriptor and never gives it away while it is registered")]
    AsyncFd::new(inner)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held leaves a map whole: every change is one insert or remove.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_stops_waiting_leaves_no_request_behind() {
        let answers = Answers::<u8>::default();
        let kept = answers.expect();
        drop(answers.expect());
        assert_eq!(answers.waiting(), 1);
        answers.give(kept.seq, 7);
        assert_eq!(kept.get().await, Some(7));
        let failed = answers.expect();
        answers.fail_all();
        assert_eq!(failed.get().await, None);
    }

    #[tokio::test]
    async fn a_message_that_is_not_understood_does_not_end_the_channel() {
        let (ours, theirs) = Channel::<u8, u8>::pair().unwrap();
        let ours = AsyncChannel::over(ours).unwrap();
        let (texts, bytes) = (Channel::<String, u8>::new(theirs.try_clone().unwrap()), Channel::<u8, u8>::new(theirs));
        texts.send(&"seven".to_owned(), &[]).unwrap();
        bytes.send(&7, &[]).unwrap();
        assert!(matches!(ours.hear().await, Some(Heard::Unreadable(ChannelError::Decode(_)))));
        assert!(matches!(ours.hear().await, Some(Heard::Message(7, _))));
        drop((texts, bytes));
        assert!(ours.hear().await.is_none(), "the end of the other process ends the channel");
    }
}
