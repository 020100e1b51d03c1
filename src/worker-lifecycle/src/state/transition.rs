//! What follows from what happened.

use rbee_hive_sandbox::{StoppedBy, Verdict};

use crate::WorkerState;

/// The worker's own process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its number on the host; `None` where it was reaped before that could be read.
    pub(crate) pid: Option<i32>,
}

/// Who had it frozen; it decides over who wakes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrozenBy {
    /// A client's request: it stays so until one wants it back. Connections wait.
    Request,
    /// Its policy, because it was idle: the next connection wakes it.
    Idle,
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
    /// It was ready, and does not run.
    Frozen { process: Process, by: FrozenBy },
    /// It runs again and has not answered since.
    Thawing { process: Process },
    /// Asked to end; without a process where that came before the execution.
    Stopping { process: Option<Process>, by: StoppedBy },
    /// Over.
    Ended { verdict: Verdict },
}

/// What happens to a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// `execve` succeeded.
    Executed { process: Process },
    /// It answered its probe.
    Answered,
    /// Its processes stand still.
    Froze { by: FrozenBy },
    /// They run again.
    Thawed,
    /// Somebody wants its end.
    StopAsked { by: StoppedBy },
    /// It is over and everything is taken back.
    Ended { verdict: Verdict },
}

impl State {
    /// What follows from `event`. An event that has no meaning in this state changes nothing: it is late news of what is past.
    pub(crate) fn after(self, event: Event) -> Self {
        match (self, event) {
            (ended @ Self::Ended { .. }, _) => ended,
            (_, Event::Ended { verdict }) => Self::Ended { verdict },
            (Self::Requested, Event::Executed { process }) => Self::Starting { process },
            (Self::Stopping { process: None, by }, Event::Executed { process }) => Self::Stopping { process: Some(process), by },
            (Self::Starting { process } | Self::Thawing { process }, Event::Answered) => Self::Ready { process },
            (Self::Ready { process }, Event::Froze { by }) => Self::Frozen { process, by },
            // What a client wants frozen is no longer woken by a connection; the other way round it stays the client's.
            (Self::Frozen { process, .. }, Event::Froze { by: by @ FrozenBy::Request }) => Self::Frozen { process, by },
            (Self::Frozen { process, .. }, Event::Thawed) => Self::Thawing { process },
            (Self::Requested, Event::StopAsked { by }) => Self::Stopping { process: None, by },
            (
                Self::Starting { process } | Self::Ready { process } | Self::Frozen { process, .. } | Self::Thawing { process },
                Event::StopAsked { by },
            ) => Self::Stopping { process: Some(process), by },
            (unchanged, _) => unchanged,
        }
    }

    /// The worker's own process, while there is one.
    pub(crate) fn process(&self) -> Option<Process> {
        match self {
            Self::Starting { process } | Self::Ready { process } | Self::Frozen { process, .. } | Self::Thawing { process } => {
                Some(*process)
            }
            Self::Stopping { process, .. } => *process,
            Self::Requested | Self::Ended { .. } => None,
        }
    }

    /// As clients see it.
    pub(crate) fn shown(&self) -> WorkerState {
        match self {
            Self::Requested | Self::Starting { .. } => WorkerState::Starting,
            Self::Ready { .. } => WorkerState::Ready,
            // Until it has answered nobody is better off for knowing that it runs.
            Self::Frozen { .. } | Self::Thawing { .. } => WorkerState::Frozen,
            Self::Stopping { .. } => WorkerState::Stopping,
            Self::Ended { verdict } => outcome(verdict),
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BORN: Process = Process { pid: Some(7) };
    const BY: StoppedBy = StoppedBy::Request;

    fn done() -> Verdict {
        Verdict::Exited { code: 0 }
    }

    fn states() -> Vec<State> {
        vec![
            State::Requested,
            State::Starting { process: BORN },
            State::Ready { process: BORN },
            State::Frozen { process: BORN, by: FrozenBy::Request },
            State::Frozen { process: BORN, by: FrozenBy::Idle },
            State::Thawing { process: BORN },
            State::Stopping { process: None, by: BY },
            State::Stopping { process: Some(BORN), by: BY },
            State::Ended { verdict: done() },
        ]
    }

    fn events() -> Vec<Event> {
        vec![
            Event::Executed { process: BORN },
            Event::Answered,
            Event::Froze { by: FrozenBy::Request },
            Event::Froze { by: FrozenBy::Idle },
            Event::Thawed,
            Event::StopAsked { by: BY },
            Event::Ended { verdict: done() },
        ]
    }

    /// The whole table, a row for each state, a column for each event; `None`: nothing changes.
    #[test]
    fn every_pair_of_state_and_event_leads_where_the_table_says() {
        let (starting, ready) = (State::Starting { process: BORN }, State::Ready { process: BORN });
        let (early, stopping) = (State::Stopping { process: None, by: BY }, State::Stopping { process: Some(BORN), by: BY });
        let end = State::Ended { verdict: done() };
        let (wanted, idle) = (State::Frozen { process: BORN, by: FrozenBy::Request }, State::Frozen { process: BORN, by: FrozenBy::Idle });
        let thawing = State::Thawing { process: BORN };
        let table = [
            [Some(&starting), None, None, None, None, Some(&early), Some(&end)],
            [None, Some(&ready), None, None, None, Some(&stopping), Some(&end)],
            [None, None, Some(&wanted), Some(&idle), None, Some(&stopping), Some(&end)],
            [None, None, None, None, Some(&thawing), Some(&stopping), Some(&end)],
            [None, None, Some(&wanted), None, Some(&thawing), Some(&stopping), Some(&end)],
            [None, Some(&ready), None, None, None, Some(&stopping), Some(&end)],
            [Some(&stopping), None, None, None, None, None, Some(&end)],
            [None, None, None, None, None, None, Some(&end)],
            [None, None, None, None, None, None, None],
        ];
        for (state, row) in states().into_iter().zip(table) {
            for (event, expected) in events().into_iter().zip(row) {
                assert_eq!(&state.clone().after(event.clone()), expected.unwrap_or(&state), "{state:?} after {event:?}");
            }
        }
    }

    #[test]
    fn stop_while_starting_is_a_stop_even_before_there_is_a_process() {
        let stopping = State::Requested.after(Event::StopAsked { by: BY });
        assert_eq!((stopping.shown(), stopping.process()), (WorkerState::Stopping, None));
        let late = stopping.after(Event::Executed { process: BORN }).after(Event::Answered);
        assert_eq!(late, State::Stopping { process: Some(BORN), by: BY });
    }

    #[test]
    fn only_status_0_and_a_wanted_end_are_stopped() {
        let shown = |verdict| State::Ended { verdict }.shown();
        let by = |by| Verdict::Stopped { by, forced: true, code: None, signal: Some(9) };
        for verdict in
            [Verdict::Exited { code: 0 }, by(StoppedBy::Request), by(StoppedBy::Shutdown), by(StoppedBy::Idle), by(StoppedBy::Evicted)]
        {
            assert_eq!(shown(verdict), WorkerState::Stopped);
        }
        let lost = Verdict::Lost { why: String::new() };
        for verdict in [
            Verdict::Exited { code: 1 },
            by(StoppedBy::HiveExit),
            by(StoppedBy::Readiness),
            by(StoppedBy::Drift),
            by(StoppedBy::GpuMemory),
            lost,
            Verdict::Unkillable { pids: vec![] },
        ] {
            assert_eq!(shown(verdict), WorkerState::Failed);
        }
    }

    proptest! {
        #[test]
        fn a_life_never_goes_back(events in proptest::collection::vec(proptest::sample::select(events()), 0..12)) {
            let rank = |s: &State| match s {
                State::Requested => 0,
                State::Starting { .. } => 1,
                State::Ready { .. } | State::Frozen { .. } | State::Thawing { .. } => 2,
                State::Stopping { .. } => 3,
                State::Ended { .. } => 4,
            };
            for start in states() {
                let mut state = start;
                for event in &events {
                    let before = state.clone();
                    state = state.after(event.clone());
                    prop_assert!(rank(&state) >= rank(&before), "{before:?} → {state:?}");
                    prop_assert!(state.shown() != WorkerState::Ready || before.shown() == WorkerState::Ready || *event == Event::Answered);
                    prop_assert!(!matches!(event, Event::Ended { .. }) || matches!(state, State::Ended { .. }), "an end was not taken");
                }
            }
        }
    }
}
