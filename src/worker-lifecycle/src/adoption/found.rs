//! What the launcher says of workers that were there before it, heard before anything is served.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rbee_hive_policy::{NotInForce, SandboxPlan, WorkerId};
use rbee_hive_sandbox::launcher::HiveChannel;
use rbee_hive_sandbox::protocol::{ChannelError, FoundHow, FromLauncher};

use crate::launcher::Released;

/// How long the launcher may take from one worker to the next: it waits for each init a moment at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker that was there before this hive, as the launcher has found it.
#[derive(Debug)]
pub struct FoundWorker {
    pub(crate) worker_id: WorkerId,
    pub(crate) plan: Option<Box<SandboxPlan>>,
    pub(crate) cgroup: Option<String>,
    pub(crate) init_pid: Option<i32>,
    pub(crate) not_in_force: Vec<NotInForce>,
    pub(crate) policy_digest: Option<u64>,
    pub(crate) how: FoundHow,
    /// Of a living one its init's pidfd, then the channel to it.
    pub(crate) init: Option<(OwnedFd, OwnedFd)>,
    /// Where it has ended since.
    pub(crate) released: Option<Released>,
}

/// Why it is not known what was there before.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The channel broke.
    #[error("hear from the launcher which workers there are")]
    Channel(#[source] ChannelError),
    /// Nothing came.
    #[error("the launcher does not say which workers there are: it has said nothing for {} s", PATIENCE.as_secs())]
    Silent,
    /// The wait failed.
    #[error("wait for the launcher to say which workers there are")]
    Wait(#[source] io::Error),
    /// Not all of it could be read: a worker that is not known would be nobody's.
    #[error(
        "the launcher has told of {told} workers, and {heard} could be read: the hive may be out of file descriptors, look at its \
         open-files limit"
    )]
    Incomplete {
        /// How many there are.
        told: usize,
        /// How many were understood.
        heard: usize,
    },
}

/// Hears of every worker that was there before. Blocks, for a bounded time; called before the channel is handed to the runtime.
///
/// Errors: not all of it came.
pub fn hear_found(channel: &HiveChannel) -> Result<Vec<FoundWorker>, FoundError> {
    let mut found: Vec<FoundWorker> = Vec::new();
    loop {
        wait(channel)?;
        match channel.recv() {
            Ok((FromLauncher::Found { worker_id, plan, cgroup, init_pid, not_in_force, policy_digest, how }, fds)) => {
                let mut fds = fds.into_iter();
                let init = fds.next().zip(fds.next());
                if how == FoundHow::Living && init.is_none() {
                    // As one whose descriptors there was no room for.
                    continue;
                }
                found.push(FoundWorker { worker_id, plan, cgroup, init_pid, not_in_force, policy_digest, how, init, released: None });
            }
            Ok((FromLauncher::Released { worker_id, code, signal, left }, _)) => {
                if let Some(ended) = found.iter_mut().find(|f| f.worker_id == worker_id) {
                    ended.released = Some(Released { code, signal, left });
                }
            }
            Ok((FromLauncher::FoundAll { count }, _)) if count == found.len() => return Ok(found),
            Ok((FromLauncher::FoundAll { count }, _)) => return Err(FoundError::Incomplete { told: count, heard: found.len() }),
            Ok(_) => {}
            Err(error) if error.is_one_bad_message() => {
                tracing::error!(error = &error as &dyn std::error::Error, "what the launcher says of a worker can't be read");
            }
            Err(error) => return Err(FoundError::Channel(error)),
        }
    }
}

fn wait(channel: &HiveChannel) -> Result<(), FoundError> {
    let timeout = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    loop {
        let mut list = [PollFd::new(channel.as_fd(), PollFlags::POLLIN)];
        match poll(&mut list, timeout) {
            Ok(0) => return Err(FoundError::Silent),
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(FoundError::Wait(e.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use rbee_hive_sandbox::protocol::{Channel, ToLauncher};

    use super::*;

    type Theirs = Channel<FromLauncher, ToLauncher>;

    fn told(id: &str, how: FoundHow) -> FromLauncher {
        FromLauncher::Found {
            worker_id: WorkerId::parse(id).unwrap(),
            plan: None,
            cgroup: None,
            init_pid: None,
            not_in_force: vec![],
            policy_digest: None,
            how,
        }
    }

    fn heard(messages: &[FromLauncher]) -> Result<Vec<String>, FoundError> {
        let (ours, theirs) = HiveChannel::pair().unwrap();
        let theirs = Theirs::new(theirs);
        messages.iter().for_each(|message| theirs.send(message, &[]).unwrap());
        drop(theirs);
        hear_found(&ours).map(|found| found.into_iter().map(|f| f.worker_id.to_string()).collect())
    }

    #[test]
    fn all_of_them_are_heard_or_the_hive_does_not_begin() {
        let ended = || FoundHow::Ended { verdict: None, resources: None };
        assert_eq!(heard(&[FromLauncher::FoundAll { count: 0 }]).unwrap(), [""; 0]);
        assert_eq!(heard(&[told("a", ended()), told("b", ended()), FromLauncher::FoundAll { count: 2 }]).unwrap(), ["a", "b"]);
        let few = heard(&[told("a", ended()), FromLauncher::FoundAll { count: 2 }]).unwrap_err();
        assert!(matches!(few, FoundError::Incomplete { told: 2, heard: 1 }), "{few}");
        let without_descriptors = heard(&[told("a", FoundHow::Living), FromLauncher::FoundAll { count: 1 }]).unwrap_err();
        assert!(matches!(without_descriptors, FoundError::Incomplete { told: 1, heard: 0 }), "{without_descriptors}");
        assert!(matches!(heard(&[told("a", ended())]), Err(FoundError::Channel(ChannelError::Closed))));
    }
}
