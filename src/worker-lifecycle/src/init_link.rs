//! The channel to one worker's init, seen from the hive: numbered answers to requests, and a stream of events.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rbee_hive_sandbox::protocol::{Channel, ChannelError, FromInit, Inside, IoBytes, Made, ProcessIo, ToInit};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::channel::{Answers, AsyncChannel, Heard};

/// Events that may wait for the worker's task.
const MAX_EVENTS: usize = 256;
/// How long an init may take to read a message, and to answer one. It drops answers when too many wait, so that some never come.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an init answers.
#[derive(Debug)]
enum Answer {
    Descriptors(Vec<OwnedFd>),
    Failed(i32),
    Made(Box<Made>),
    Inside(Box<Inside>),
    Io(Option<IoBytes>),
    ProcessIo(Vec<ProcessIo>),
    Settled,
    Reclaimed(Option<u64>),
}

/// What an init says by itself, with its descriptors.
pub(crate) type Event = (FromInit, Vec<OwnedFd>);

/// The hive's end of an init's channel.
#[derive(Debug)]
pub(crate) struct InitLink {
    channel: AsyncChannel<ToInit, FromInit>,
    answers: Answers<Answer>,
}

impl InitLink {
    /// A new link, the init's end of it, and its events; the events end with the init.
    pub(crate) fn open() -> io::Result<(Arc<Self>, OwnedFd, mpsc::Receiver<Event>)> {
        let (channel, theirs) = Channel::pair().map_err(io::Error::other)?;
        let link = Arc::new(Self { channel: AsyncChannel::over(channel)?, answers: Answers::default() });
        let (tell, events) = mpsc::channel(MAX_EVENTS);
        tokio::spawn(listen(Arc::clone(&link), tell));
        Ok((link, theirs, events))
    }

    /// Sends a message that has no answer.
    ///
    /// Errors: `BrokenPipe` where the init is gone, `TimedOut` where it does not read.
    pub(crate) async fn send(&self, message: &ToInit) -> io::Result<()> {
        timeout(PATIENCE, self.channel.send(message, &[])).await?.map_err(|e| match e {
            ChannelError::Closed => io::ErrorKind::BrokenPipe.into(),
            other => io::Error::other(other),
        })
    }

    /// Sends a request and waits for its descriptors.
    ///
    /// Errors: the init's own errno; `BrokenPipe` where it is gone, `TimedOut` where it does not answer.
    pub(crate) async fn ask(&self, request: impl FnOnce(u64) -> ToInit) -> io::Result<Vec<OwnedFd>> {
        match self.answer(request).await? {
            Answer::Descriptors(fds) => Ok(fds),
            Answer::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The sandbox as it was made.
    ///
    /// Errors: as [`InitLink::ask`].
    pub(crate) async fn made(&self) -> io::Result<Made> {
        match self.answer(|seq| ToInit::Made { seq }).await? {
            Answer::Made(made) => Ok(*made),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The sandbox as its init sees it.
    ///
    /// Errors: as [`InitLink::ask`].
    pub(crate) async fn inspect(&self) -> io::Result<Inside> {
        match self.answer(|seq| ToInit::Inspect { seq }).await? {
            Answer::Inside(inside) => Ok(*inside),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// What its processes have read and written, counted by process; `None` where not all of them can be seen.
    ///
    /// Errors: as [`InitLink::ask`].
    pub(crate) async fn io(&self) -> io::Result<Option<IoBytes>> {
        match self.answer(|seq| ToInit::Io { seq }).await? {
            Answer::Io(bytes) => Ok(bytes),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// The same of each process that can be seen.
    ///
    /// Errors: as [`InitLink::ask`].
    pub(crate) async fn process_io(&self) -> io::Result<Vec<ProcessIo>> {
        match self.answer(|seq| ToInit::ProcessIo { seq }).await? {
            Answer::ProcessIo(processes) => Ok(processes),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Lets the worker's processes stand still; they do when this returns.
    ///
    /// Errors: as [`InitLink::ask`]; see [`FromInit::NotDone`] for what its errno means. Where the answer stays out, they may stand still.
    pub(crate) async fn freeze(&self) -> io::Result<()> {
        settled(self.answer(|seq| ToInit::Freeze { seq }).await?)
    }

    /// Lets them run again.
    ///
    /// Errors: as [`InitLink::ask`].
    pub(crate) async fn thaw(&self) -> io::Result<()> {
        settled(self.answer(|seq| ToInit::Thaw { seq }).await?)
    }

    /// Takes memory back from the worker's cgroup; bytes, where they are counted.
    ///
    /// Errors: as [`InitLink::ask`].
    pub(crate) async fn reclaim(&self) -> io::Result<Option<u64>> {
        match self.answer(|seq| ToInit::Reclaim { seq }).await? {
            Answer::Reclaimed(bytes) => Ok(bytes),
            other => settled(other).map(|()| None),
        }
    }

    async fn answer(&self, request: impl FnOnce(u64) -> ToInit) -> io::Result<Answer> {
        let expected = self.answers.expect();
        self.send(&request(expected.seq)).await?;
        timeout(PATIENCE, expected.get()).await?.ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

fn settled(answer: Answer) -> io::Result<()> {
    match answer {
        Answer::Settled => Ok(()),
        Answer::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

async fn listen(link: Arc<InitLink>, events: mpsc::Sender<Event>) {
    while let Some(heard) = link.channel.hear().await {
        match heard {
            Heard::Message(FromInit::Sockets { seq } | FromInit::Connected { seq }, fds) => {
                link.answers.give(seq, Answer::Descriptors(fds));
            }
            Heard::Message(FromInit::ConnectFailed { seq, errno }, _) => link.answers.give(seq, Answer::Failed(errno)),
            Heard::Message(FromInit::Made { seq, made }, _) => link.answers.give(seq, Answer::Made(made)),
            Heard::Message(FromInit::Inspected { seq, inside }, _) => link.answers.give(seq, Answer::Inside(inside)),
            Heard::Message(FromInit::NotDone { seq, errno }, _) => link.answers.give(seq, Answer::Failed(errno)),
            Heard::Message(FromInit::Settled { seq }, _) => link.answers.give(seq, Answer::Settled),
            Heard::Message(FromInit::Reclaimed { seq, bytes }, _) => link.answers.give(seq, Answer::Reclaimed(bytes)),
            Heard::Message(FromInit::Io { seq, bytes }, _) => link.answers.give(seq, Answer::Io(bytes)),
            Heard::Message(FromInit::ProcessIo { seq, processes }, _) => link.answers.give(seq, Answer::ProcessIo(processes)),
            Heard::Message(event, fds) => {
                if events.send((event, fds)).await.is_err() {
                    break;
                }
            }
            // Ending the link for it would tell a living worker as lost; a request that it answered times out.
            Heard::Unreadable(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "a message from an init could not be read");
            }
        }
    }
    link.answers.fail_all();
}
