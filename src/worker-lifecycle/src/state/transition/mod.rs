//! What follows from what happened.

use rbee_hive_sandbox::{StoppedBy, Verdict};
use serde::{Deserialize, Serialize};

use crate::WorkerState;
use crate::supervision::is_final;

/// The worker's own process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number on the host; `None` where it was reaped before that could be read.
    pub(crate) pid: Option<i32>,
}

/// Who had it frozen; it decides over who wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FrozenBy {
    /// A client's request: it stays so until one wants it back. Connections wait.
    Request,
    /// Its policy, because it was idle: the next connection wakes it.
    Idle,
}

/// Where a worker is that has outlived its hive. Its program was executed: an init that had not come so far ended with its launcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not answered yet.
    Starting,
    /// It answered.
    Ready,
    /// It stands still.
    Frozen(FrozenBy),
    /// It was woken, and has not answered since.
    Thawing,
    /// Its stop goes on.
    Stopping(StoppedBy),
}

/// Where a worker is. No process before its execution, no verdict without an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Admitted; nothing runs yet.
    Requested,
    /// Executed, not answering yet.
    Starting { process: Process },
    /// It answers.
    Ready { process: Process },
    /// It did, and has failed its probes.
    Unhealthy { process: Process },
    /// It was ready, and does not run.
    Frozen { process: Process, by: FrozenBy },
    /// It runs again and has not answered since.
    Thawing { process: Process },
    /// Asked to end; without a process where that came before the execution.
    Stopping { process: Option<Process>, by: StoppedBy },
    /// Its last life is over, and it will be started again.
    Restarting,
    /// Over.
    Ended { verdict: Verdict },
    /// Over, because it is not started again any more.
    GivenUp { verdict: Verdict },
}

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `execve` succeeded.
    Executed { process: Process },
    /// It was found running by a hive that has not started it.
    Adopted { process: Process, standing: Standing },
    /// It answered its probe.
    Answered,
    /// It has failed its probes.
    Failing,
    /// Its processes stand still.
    Froze { by: FrozenBy },
    /// They run again.
    Thawed,
    /// Somebody wants its end.
    StopAsked { by: StoppedBy },
    /// A life has ended, and another one is to follow.
    Fell,
    /// The next one has begun: there is an init.
    Reborn,
    /// It is over and everything is taken back.
    Ended { verdict: Verdict },
    /// The same, and it is told as a failure whatever the verdict.
    GaveUp { verdict: Verdict },
}

impl State {
    /// What follows from `event`. An event that has no meaning in this state changes nothing: it is late news of what is past.
    pub(crate) fn after(self, event: Event) -> Self {
        match (self, event) {
            (over @ (Self::Ended { .. } | Self::GivenUp { .. }), _) => over,
            (_, Event::Ended { verdict }) => Self::Ended { verdict },
            (_, Event::GaveUp { verdict }) => Self::GivenUp { verdict },
            // Whoever wants it gone does not get it back.
            (stopping @ Self::Stopping { by, .. }, Event::Fell) if is_final(by) => stopping,
            (_, Event::Fell) => Self::Restarting,
            (Self::Restarting, Event::Reborn) => Self::Requested,
            // What the last life was to be ended for is over with it.
            (Self::Restarting, Event::StopAsked { by }) if is_final(by) => Self::Stopping { process: None, by },
            (Self::Stopping { process, by: before }, Event::StopAsked { by }) if is_final(by) && !is_final(before) => {
                Self::Stopping { process, by }
            }
            (Self::Requested, Event::Executed { process }) => Self::Starting { process },
            (Self::Requested, Event::Adopted { process, standing }) => Self::of(process, standing),
            (Self::Stopping { process: None, by }, Event::Executed { process } | Event::Adopted { process, .. }) => {
                Self::Stopping { process: Some(process), by }
            }
            (Self::Starting { process } | Self::Thawing { process } | Self::Unhealthy { process }, Event::Answered) => {
                Self::Ready { process }
            }
            (Self::Ready { process }, Event::Failing) => Self::Unhealthy { process },
            (Self::Ready { process } | Self::Unhealthy { process }, Event::Froze { by }) => Self::Frozen { process, by },
            // What a client wants frozen is no longer woken by a connection; the other way round it stays the client's.
            (Self::Frozen { process, .. }, Event::Froze { by: by @ FrozenBy::Request }) => Self::Frozen { process, by },
            (Self::Frozen { process, .. }, Event::Thawed) => Self::Thawing { process },
            (Self::Requested, Event::StopAsked { by }) => Self::Stopping { process: None, by },
            (
                Self::Starting { process }
                | Self::Ready { process }
                | Self::Unhealthy { process }
                | Self::Frozen { process, .. }
                | Self::Thawing { process },
                Event::StopAsked { by },
            ) => Self::Stopping { process: Some(process), by },
            (unchanged, _) => unchanged,
        }
    }

    fn of(process: Process, standing: Standing) -> Self {
        match standing {
            Standing::Starting => Self::Starting { process },
            Standing::Ready => Self::Ready { process },
            Standing::Frozen(by) => Self::Frozen { process, by },
            Standing::Thawing => Self::Thawing { process },
            Standing::Stopping(by) => Self::Stopping { process: Some(process), by },
        }
    }

    /// The worker's own process, while there is one.
    pub(crate) fn process(&self) -> Option<Process> {
        match self {
            Self::Starting { process }
            | Self::Ready { process }
            | Self::Unhealthy { process }
            | Self::Frozen { process, .. }
            | Self::Thawing { process } => Some(*process),
            Self::Stopping { process, .. } => *process,
            Self::Requested | Self::Restarting | Self::Ended { .. } | Self::GivenUp { .. } => None,
        }
    }

    /// As clients see it.
    pub(crate) fn shown(&self) -> WorkerState {
        match self {
            Self::Requested | Self::Starting { .. } => WorkerState::Starting,
            Self::Ready { .. } => WorkerState::Ready,
            Self::Unhealthy { .. } => WorkerState::Unhealthy,
            // Until it has answered nobody is better off for knowing that it runs.
            Self::Frozen { .. } | Self::Thawing { .. } => WorkerState::Frozen,
            Self::Stopping { .. } => WorkerState::Stopping,
            Self::Restarting => WorkerState::Restarting,
            Self::Ended { verdict } => outcome(verdict),
            Self::GivenUp { .. } => WorkerState::Failed,
        }
    }
}

/// Ended with status 0 or on request is `stopped`, anything else `failed`.
fn outcome(verdict: &Verdict) -> WorkerState {
    match verdict {
        Verdict::Exited { code: 0 } => WorkerState::Stopped,
        Verdict::Stopped { by: StoppedBy::Request | StoppedBy::Shutdown | StoppedBy::Idle | StoppedBy::Evicted, .. } => {
            WorkerState::Stopped
        }
        _ => WorkerState::Failed,
    }
}

#[cfg(test)]
mod tests;
