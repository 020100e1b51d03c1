//! The launcher, seen from the hive: requests with numbered answers, and the last word on each worker.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;
use std::sync::{Arc, Mutex};

use rbee_hive_policy::{WorkerId, WorkerRequest};
use rbee_hive_sandbox::launcher::HiveChannel;
use rbee_hive_sandbox::protocol::{CgroupFacts, ChannelError, FromLauncher, MAX_MESSAGE, ToLauncher};
use tokio::sync::{oneshot, watch};

use crate::channel::{Answers, AsyncChannel, Heard, lock};
use crate::{ErrorKind, LifecycleError};

type Answer = (FromLauncher, Vec<OwnedFd>);

/// A worker's init is reaped and its cgroups are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Released {
    /// The init's exit status, where it exited.
    pub(crate) code: Option<i32>,
    /// The signal that ended the init, where one did.
    pub(crate) signal: Option<i32>,
    /// What could not be removed.
    pub(crate) left: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    channel: AsyncChannel<ToLauncher, FromLauncher>,
    answers: Answers<Answer>,
    releases: Mutex<HashMap<WorkerId, oneshot::Sender<Released>>>,
    gone: watch::Sender<bool>,
}

/// The hive's side of the channel to its launcher. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LauncherClient {
    shared: Arc<Shared>,
    /// The tree that it works in.
    pub cgroup: Arc<CgroupFacts>,
}

impl LauncherClient {
    /// Takes over a launcher that has said hello. Called inside the runtime; `child` is reaped when it ends.
    pub fn attach(channel: HiveChannel, child: Child, cgroup: CgroupFacts) -> io::Result<Self> {
        let client = Self::over(channel, cgroup)?;
        tokio::task::spawn_blocking(move || {
            let mut child = child;
            let _ = child.wait();
        });
        Ok(client)
    }

    /// Over a channel alone, for a launcher that is not this process's child.
    pub fn over(channel: HiveChannel, cgroup: CgroupFacts) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            channel: AsyncChannel::over(channel)?,
            answers: Answers::default(),
            releases: Mutex::default(),
            gone: watch::Sender::new(false),
        });
        tokio::spawn(listen(Arc::clone(&shared)));
        Ok(Self { shared, cgroup: Arc::new(cgroup) })
    }

    /// Whether the launcher has ended.
    pub fn is_gone(&self) -> bool {
        *self.shared.gone.borrow()
    }

    /// Waits for the launcher's end.
    pub async fn wait_gone(&self) {
        // The sender lives as long as `self`.
        let _ = self.shared.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Asks for a worker; `init` is its end of the control channel. The receiver tells when everything is taken back.
    pub(crate) async fn spawn(
        &self,
        request: WorkerRequest,
        init: OwnedFd,
    ) -> Result<(Answer, oneshot::Receiver<Released>), LifecycleError> {
        let (tell, released) = oneshot::channel();
        let id = request.worker_id.clone();
        // Before the question: the worker may have ended before the answer is read.
        lock(&self.shared.releases).insert(id.clone(), tell);
        let answer = self.ask(|seq| ToLauncher::Spawn { seq, request: Box::new(request) }, &[init.as_fd()]).await;
        if !matches!(&answer, Ok((FromLauncher::Spawned { .. }, _))) {
            lock(&self.shared.releases).remove(&id);
        }
        Ok((answer?, released))
    }

    /// Sends a request and waits for its answer.
    ///
    /// There is no deadline: a spawn may queue behind the configured rate for as long as that takes. The launcher's end ends the wait,
    /// and so does an answer that could not be read.
    pub(crate) async fn ask(&self, request: impl FnOnce(u64) -> ToLauncher, fds: &[BorrowedFd<'_>]) -> Result<Answer, LifecycleError> {
        let expected = self.shared.answers.expect();
        // After the number is taken: whoever ends meanwhile fails it.
        if self.is_gone() {
            return Err(gone());
        }
        match self.shared.channel.send(&request(expected.seq), fds).await {
            Ok(()) => {}
            Err(ChannelError::TooLong { len }) => return Err(too_long(len)),
            Err(_) => return Err(gone()),
        }
        match expected.get().await {
            Some(answer) => Ok(answer),
            None if self.is_gone() => Err(gone()),
            None => Err(unread()),
        }
    }

    /// Sends a message that has no answer.
    pub(crate) async fn send(&self, message: &ToLauncher) -> Result<(), ChannelError> {
        self.shared.channel.send(message, &[]).await
    }
}

async fn listen(shared: Arc<Shared>) {
    while let Some(heard) = shared.channel.hear().await {
        let (message, fds) = match heard {
            Heard::Message(message, fds) => (message, fds),
            Heard::Unreadable(error) => {
                // Whose answer it was can't be told: who waits is better told so than left waiting.
                tracing::error!(error = &error as &dyn std::error::Error, "a message from the launcher could not be read");
                shared.answers.fail_all();
                continue;
            }
        };
        match &message {
            FromLauncher::Spawned { seq, .. }
            | FromLauncher::Refused { seq, .. }
            | FromLauncher::Policies { seq, .. }
            | FromLauncher::Policy { seq, .. }
            | FromLauncher::Inspected { seq, .. }
            | FromLauncher::Texts { seq, .. }
            | FromLauncher::Judged { seq, .. }
            | FromLauncher::Updated { seq, .. }
            | FromLauncher::Done { seq } => shared.answers.give(*seq, (message, fds)),
            FromLauncher::Released { worker_id, code, signal, left } => {
                if let Some(tell) = lock(&shared.releases).remove(worker_id) {
                    let _ = tell.send(Released { code: *code, signal: *signal, left: left.clone() });
                }
            }
            FromLauncher::Hello { .. } | FromLauncher::Fatal { .. } => {}
        }
    }
    tracing::info!("the launcher has ended");
    shared.gone.send_replace(true);
    shared.answers.fail_all();
    lock(&shared.releases).clear();
}

pub(crate) fn gone() -> LifecycleError {
    let mut error =
        LifecycleError::new(ErrorKind::LauncherGone, "the launcher has ended: nothing can be started until the hive is started again");
    error.hint = Some("restart the hive; running workers go on".into());
    error
}

fn too_long(len: usize) -> LifecycleError {
    let text = format!("the request takes {len} bytes on its way to the launcher, which takes {MAX_MESSAGE}");
    let mut error = LifecycleError::new(ErrorKind::InvalidParams, text);
    error.hint = Some("shorten args and env".into());
    error
}

fn unread() -> LifecycleError {
    let mut error = LifecycleError::new(ErrorKind::StartFailed, "the launcher's answer could not be read");
    error.hint = Some("the hive may be out of file descriptors: look at its open-files limit".into());
    error
}
