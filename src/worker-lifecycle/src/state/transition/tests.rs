//! The table of transitions, and what holds of every way through it.

use proptest::prelude::*;

use super::*;

const BORN: Process = Process { pid: Some(7) };
const BY: StoppedBy = StoppedBy::Request;
/// Asked for because it failed: another life may follow.
const FAILED: StoppedBy = StoppedBy::Readiness;

fn done() -> Verdict {
    Verdict::Exited { code: 0 }
}

fn states() -> Vec<State> {
    vec![
        State::Requested,
        State::Starting { process: BORN },
        State::Ready { process: BORN },
        State::Unhealthy { process: BORN },
        State::Frozen { process: BORN, by: FrozenBy::Request },
        State::Frozen { process: BORN, by: FrozenBy::Idle },
        State::Thawing { process: BORN },
        State::Stopping { process: None, by: BY },
        State::Stopping { process: Some(BORN), by: BY },
        State::Stopping { process: Some(BORN), by: FAILED },
        State::Restarting,
        State::Ended { verdict: done() },
        State::GivenUp { verdict: done() },
    ]
}

fn events() -> Vec<Event> {
    vec![
        Event::Executed { process: BORN },
        Event::Answered,
        Event::Failing,
        Event::Froze { by: FrozenBy::Request },
        Event::Froze { by: FrozenBy::Idle },
        Event::Thawed,
        Event::StopAsked { by: BY },
        Event::StopAsked { by: FAILED },
        Event::Fell,
        Event::Reborn,
        Event::Ended { verdict: done() },
        Event::GaveUp { verdict: done() },
        adopted(Standing::Ready),
    ]
}

fn adopted(standing: Standing) -> Event {
    Event::Adopted { process: BORN, standing }
}

/// The whole table, a row for each state, a column for each event; `None`: nothing changes.
#[test]
fn every_pair_of_state_and_event_leads_where_the_table_says() {
    let requested = State::Requested;
    let starting = State::Starting { process: BORN };
    let ready = State::Ready { process: BORN };
    let unwell = State::Unhealthy { process: BORN };
    let stop = |process, by| State::Stopping { process, by };
    let (early, late) = (stop(None, BY), stop(Some(BORN), BY));
    let (failed_early, failed) = (stop(None, FAILED), stop(Some(BORN), FAILED));
    let (end, given_up) = (State::Ended { verdict: done() }, State::GivenUp { verdict: done() });
    let (wanted, idle) = (State::Frozen { process: BORN, by: FrozenBy::Request }, State::Frozen { process: BORN, by: FrozenBy::Idle });
    let thawing = State::Thawing { process: BORN };
    let down = State::Restarting;
    let (e, g, d) = (Some(&end), Some(&given_up), Some(&down));
    #[rustfmt::skip]
    let table = [
        // executed, answered, failing, froze (request), froze (idle), thawed, stop, stop (failed), fell, reborn, ended, gave up, adopted
        [Some(&starting), None, None, None, None, None, Some(&early), Some(&failed_early), d, None, e, g, Some(&ready)],
        [None, Some(&ready), None, None, None, None, Some(&late), Some(&failed), d, None, e, g, None],
        [None, None, Some(&unwell), Some(&wanted), Some(&idle), None, Some(&late), Some(&failed), d, None, e, g, None],
        [None, Some(&ready), None, Some(&wanted), Some(&idle), None, Some(&late), Some(&failed), d, None, e, g, None],
        [None, None, None, None, None, Some(&thawing), Some(&late), Some(&failed), d, None, e, g, None],
        [None, None, None, Some(&wanted), None, Some(&thawing), Some(&late), Some(&failed), d, None, e, g, None],
        [None, Some(&ready), None, None, None, None, Some(&late), Some(&failed), d, None, e, g, None],
        [Some(&late), None, None, None, None, None, None, None, None, None, e, g, Some(&late)],
        [None, None, None, None, None, None, None, None, None, None, e, g, None],
        [None, None, None, None, None, None, Some(&late), None, d, None, e, g, None],
        [None, None, None, None, None, None, Some(&early), None, None, Some(&requested), e, g, None],
        [None; 13],
        [None; 13],
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
fn an_adopted_worker_is_where_it_was_found_and_is_found_once() {
    for (standing, shown) in [
        (Standing::Starting, WorkerState::Starting),
        (Standing::Ready, WorkerState::Ready),
        (Standing::Frozen(FrozenBy::Idle), WorkerState::Frozen),
        (Standing::Thawing, WorkerState::Frozen),
        (Standing::Stopping(BY), WorkerState::Stopping),
    ] {
        let found = State::Requested.after(adopted(standing));
        assert_eq!((found.shown(), found.process()), (shown, Some(BORN)));
        assert_eq!(found.clone().after(adopted(Standing::Starting)), found, "a second time changes nothing");
    }
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
        Verdict::Unkillable { pids: vec![], processes: vec![] },
    ] {
        assert_eq!(shown(verdict), WorkerState::Failed);
    }
}

#[test]
fn a_worker_that_is_given_up_has_failed_whatever_its_last_life_ended_with() {
    let state = State::Ready { process: BORN }.after(Event::Fell).after(Event::GaveUp { verdict: done() });
    assert_eq!((state.shown(), state.process()), (WorkerState::Failed, None));
}

proptest! {
    /// Within a life only a thaw and a recovery lead back; a life is left for another one only by its end.
    #[test]
    fn a_life_never_goes_back(events in proptest::collection::vec(proptest::sample::select(events()), 0..12)) {
        let rank = |s: &State| match s {
            State::Requested => 0,
            State::Starting { .. } => 1,
            State::Ready { .. } | State::Unhealthy { .. } | State::Frozen { .. } | State::Thawing { .. } => 2,
            State::Stopping { .. } => 3,
            State::Restarting => 4,
            State::Ended { .. } | State::GivenUp { .. } => 5,
        };
        for start in states() {
            let mut state = start;
            for event in &events {
                let before = state.clone();
                state = state.after(event.clone());
                let anew = before == State::Restarting;
                let answered = *event == Event::Answered || *event == adopted(Standing::Ready);
                prop_assert!(anew || rank(&state) >= rank(&before), "{before:?} → {state:?}");
                let next = matches!(state, State::Restarting | State::Requested | State::Stopping { process: None, .. }) || rank(&state) == 5;
                prop_assert!(!anew || next, "{before:?} → {state:?}");
                prop_assert!(state.shown() != WorkerState::Ready || before.shown() == WorkerState::Ready || answered);
                prop_assert!(!matches!(event, Event::Ended { .. } | Event::GaveUp { .. }) || rank(&state) == 5, "an end was not taken");
            }
        }
    }

    #[test]
    fn who_was_asked_to_end_for_good_is_never_started_again(events in proptest::collection::vec(proptest::sample::select(events()), 0..12)) {
        for start in states() {
            let mut state = start.after(Event::StopAsked { by: BY });
            for event in &events {
                state = state.after(event.clone());
                let gone = matches!(state, State::Stopping { by: BY, .. } | State::Ended { .. } | State::GivenUp { .. });
                prop_assert!(gone, "{event:?} → {state:?}");
            }
        }
    }
}
