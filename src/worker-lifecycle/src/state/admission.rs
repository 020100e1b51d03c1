//! May this be asked now?

use crate::WorkerState;

/// What can be asked of a worker that there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Its end.
    Stop,
    /// A signal to its own process.
    Signal,
    /// Other limits.
    Update,
    /// That it stands still.
    Freeze,
    /// That it runs again.
    Thaw,
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// Its task is to be told.
    Go,
    /// It is so already.
    Done,
    /// Not now.
    No,
}

/// Whether `ask` may be put to a worker in `state`; `pid` is its own process, if there is one.
pub(crate) fn may(ask: Ask, state: WorkerState, pid: Option<i32>) -> Permit {
    let ended = matches!(state, WorkerState::Stopped | WorkerState::Failed);
    match ask {
        Ask::Stop if ended => Permit::Done,
        // Also while it is starting or stopping already: a second stop can hasten the first.
        Ask::Stop => Permit::Go,
        Ask::Signal if ended || pid.is_none() => Permit::No,
        Ask::Signal => Permit::Go,
        // Until its program runs, its init has limits of its own still to set; one on its way to its end needs none.
        Ask::Update if ended || state == WorkerState::Stopping || pid.is_none() => Permit::No,
        Ask::Update => Permit::Go,
        Ask::Freeze | Ask::Thaw if pid.is_none() => Permit::No,
        // One that is frozen because it was idle is from then on frozen by request.
        Ask::Freeze if matches!(state, WorkerState::Ready | WorkerState::Unhealthy | WorkerState::Frozen) => Permit::Go,
        Ask::Thaw if state == WorkerState::Frozen => Permit::Go,
        Ask::Thaw if matches!(state, WorkerState::Ready | WorkerState::Unhealthy) => Permit::Done,
        // Its start has deadlines, and a probe that nobody would answer.
        Ask::Freeze | Ask::Thaw => Permit::No,
    }
}

/// What of the hive itself decides over a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hive {
    pub(crate) draining: bool,
    pub(crate) launcher_gone: bool,
}

/// Why the hive starts nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Draining,
    LauncherGone,
}

/// Whether a worker may be started at all. What belongs to the single request (name, port, totals, lease) is reserved, not asked.
pub(crate) fn may_start(hive: Hive) -> Result<(), Refusal> {
    match hive {
        Hive { draining: true, .. } => Err(Refusal::Draining),
        Hive { launcher_gone: true, .. } => Err(Refusal::LauncherGone),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [WorkerState; 8] = [
        WorkerState::Starting,
        WorkerState::Ready,
        WorkerState::Unhealthy,
        WorkerState::Frozen,
        WorkerState::Restarting,
        WorkerState::Stopping,
        WorkerState::Stopped,
        WorkerState::Failed,
    ];

    #[test]
    fn a_stop_is_never_refused_and_an_end_is_never_stopped_again() {
        for state in STATES {
            for pid in [None, Some(7)] {
                let ended = matches!(state, WorkerState::Stopped | WorkerState::Failed);
                assert_eq!(may(Ask::Stop, state, pid), if ended { Permit::Done } else { Permit::Go }, "{state:?}");
            }
        }
    }

    #[test]
    fn a_signal_needs_a_process_that_has_not_ended() {
        for state in STATES {
            assert_eq!(may(Ask::Signal, state, None), Permit::No, "{state:?} has no process");
            let ended = matches!(state, WorkerState::Stopped | WorkerState::Failed);
            assert_eq!(may(Ask::Signal, state, Some(7)), if ended { Permit::No } else { Permit::Go }, "{state:?}");
        }
    }

    #[test]
    fn limits_are_changed_of_what_runs_and_is_not_being_stopped() {
        for state in STATES {
            assert_eq!(may(Ask::Update, state, None), Permit::No, "{state:?} has no process");
            let over = matches!(state, WorkerState::Stopping | WorkerState::Stopped | WorkerState::Failed);
            assert_eq!(may(Ask::Update, state, Some(7)), if over { Permit::No } else { Permit::Go }, "{state:?}");
        }
    }

    #[test]
    fn only_what_has_been_ready_is_frozen_and_only_what_is_frozen_is_thawed() {
        use WorkerState::{Frozen, Ready, Unhealthy};
        for state in STATES {
            let (frozen, awake) = (state == Frozen, matches!(state, Ready | Unhealthy));
            assert_eq!(may(Ask::Freeze, state, Some(7)), if awake || frozen { Permit::Go } else { Permit::No }, "{state:?}");
            let thaw = if frozen {
                Permit::Go
            } else if awake {
                Permit::Done
            } else {
                Permit::No
            };
            assert_eq!(may(Ask::Thaw, state, Some(7)), thaw, "{state:?}");
            assert_eq!((may(Ask::Freeze, state, None), may(Ask::Thaw, state, None)), (Permit::No, Permit::No), "{state:?} has no process");
        }
    }

    #[test]
    fn a_draining_hive_says_so_even_without_a_launcher() {
        let hive = |draining, launcher_gone| may_start(Hive { draining, launcher_gone });
        assert_eq!(hive(false, false), Ok(()));
        assert_eq!(hive(false, true), Err(Refusal::LauncherGone));
        assert_eq!((hive(true, false), hive(true, true)), (Err(Refusal::Draining), Err(Refusal::Draining)));
    }
}
