//! What follows from the end of a worker's life. Pure.

use std::time::Duration;

use rbee_hive_policy::{LivenessPlan, OnUnhealthy, RestartPlan, RestartWhen};
use rbee_hive_sandbox::{StoppedBy, Verdict};
use serde::{Deserialize, Serialize};

/// Whether an end that was asked for is the last one: nobody who wants it gone wants it back.
pub(crate) fn is_final(by: StoppedBy) -> bool {
    match by {
        StoppedBy::Request | StoppedBy::Shutdown | StoppedBy::HiveExit | StoppedBy::Drift | StoppedBy::Idle | StoppedBy::Evicted => true,
        // It failed, and was ended for that.
        StoppedBy::Readiness | StoppedBy::GpuMemory | StoppedBy::Oom => false,
    }
}

/// A life that has ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended<'a> {
    /// How.
    pub(crate) verdict: &'a Verdict,
    /// Who had asked for it, if anybody.
    pub(crate) asked: Option<StoppedBy>,
    /// Whether its program ran, in this life or in one before.
    pub(crate) has_run: bool,
    /// How long it had been ready.
    pub(crate) was_ready: Option<Duration>,
}

/// What follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The end, as it is.
    Over,
    /// It is started once more, after the pause.
    Again { number: u32, pause: Duration },
    /// It was started again as often as it may be.
    GivenUp { restarts: u32 },
}

/// How far new starts have come, for the hive after this one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Backoff {
    /// New starts in a row.
    pub(crate) in_a_row: u32,
    /// When the next one is due, RFC 3339, while that is waited for.
    pub(crate) due_at: Option<String>,
}

/// New starts in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Restarts {
    in_a_row: u32,
}

impl Restarts {
    /// So many there were already.
    pub(crate) fn counted(in_a_row: u32) -> Self {
        Self { in_a_row }
    }

    /// Counts an end, and says what follows.
    pub(crate) fn after(&mut self, end: Ended<'_>, plan: RestartPlan, liveness: Option<&LivenessPlan>) -> Next {
        // Who asks for a start hears at once that nothing of it ever ran.
        if !end.has_run || !calls_for_another(end, plan, liveness) {
            return Next::Over;
        }
        if end.was_ready.is_some_and(|time| time >= Duration::from_millis(plan.stable_ms)) {
            self.in_a_row = 0;
        }
        if self.in_a_row >= plan.max_restarts {
            return Next::GivenUp { restarts: self.in_a_row };
        }
        self.in_a_row += 1;
        Next::Again { number: self.in_a_row, pause: Duration::from_millis(plan.pause_ms(self.in_a_row)) }
    }
}

fn calls_for_another(end: Ended<'_>, plan: RestartPlan, liveness: Option<&LivenessPlan>) -> bool {
    if end.asked.is_some_and(is_final) {
        return false;
    }
    match (plan.when, end.verdict) {
        (RestartWhen::Never, _) => false,
        (_, Verdict::Stopped { by, .. }) => !is_final(*by),
        (_, Verdict::HealthFailed { .. }) => liveness.is_none_or(|plan| plan.then == OnUnhealthy::Restart),
        (RestartWhen::OnFailure, Verdict::Exited { code: 0 }) => false,
        // News that something of it still lives; not the end.
        (_, Verdict::Unkillable { .. }) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use rbee_hive_sandbox::SetupFailure;

    use super::*;

    const CRASH: Verdict = Verdict::Signaled { signal: 11, core_dumped: false };

    fn plan(when: RestartWhen) -> RestartPlan {
        RestartPlan { when, max_restarts: 2, ..RestartPlan::default() }
    }

    fn end(verdict: &Verdict) -> Ended<'_> {
        Ended { verdict, asked: None, has_run: true, was_ready: None }
    }

    fn is_again(verdict: &Verdict, when: RestartWhen) -> bool {
        matches!(Restarts::default().after(end(verdict), plan(when), None), Next::Again { number: 1, .. })
    }

    #[test]
    fn a_failure_is_what_is_neither_status_0_nor_an_end_that_somebody_wanted() {
        let stopped = |by| Verdict::Stopped { by, forced: false, code: None, signal: None };
        let setup = SetupFailure { step: "s".into(), errno: None, message: "m".into(), hint: None };
        let failures = [
            Verdict::Exited { code: 1 },
            CRASH,
            Verdict::SeccompKilled { syscall: None, number: None, args: None },
            Verdict::SetupFailed(setup),
            Verdict::ExecFailed { errno: 2, message: "m".into() },
            Verdict::StartTimeout { last_probe: None },
            Verdict::HealthFailed { last_probe: None },
            Verdict::Lost { why: "w".into() },
            stopped(StoppedBy::GpuMemory),
            stopped(StoppedBy::Oom),
        ];
        for verdict in &failures {
            assert!(is_again(verdict, RestartWhen::OnFailure) && is_again(verdict, RestartWhen::Always), "{verdict:?}");
            assert!(!is_again(verdict, RestartWhen::Never), "{verdict:?}");
        }
        for by in [StoppedBy::Request, StoppedBy::Shutdown, StoppedBy::HiveExit, StoppedBy::Drift, StoppedBy::Idle, StoppedBy::Evicted] {
            assert!(!is_again(&stopped(by), RestartWhen::OnFailure) && !is_again(&stopped(by), RestartWhen::Always), "{by:?}");
            // A worker that crashes while it is stopped has ended as its owner wanted it.
            let asked = Ended { asked: Some(by), ..end(&CRASH) };
            assert_eq!(Restarts::default().after(asked, plan(RestartWhen::Always), None), Next::Over, "{by:?}");
        }
        let done = Verdict::Exited { code: 0 };
        assert!(!is_again(&done, RestartWhen::OnFailure) && is_again(&done, RestartWhen::Always));
        assert!(!is_again(&Verdict::Unkillable { pids: vec![1], processes: vec![] }, RestartWhen::Always));
    }

    #[test]
    fn what_has_never_run_is_not_started_again() {
        let never = Ended { has_run: false, ..end(&CRASH) };
        assert_eq!(Restarts::default().after(never, plan(RestartWhen::Always), None), Next::Over);
    }

    #[test]
    fn it_is_given_up_after_its_last_try_unless_it_was_stable_meanwhile() {
        let plan = plan(RestartWhen::OnFailure);
        let mut restarts = Restarts::default();
        let again = |number, secs| Next::Again { number, pause: Duration::from_secs(secs) };
        assert_eq!(restarts.after(end(&CRASH), plan, None), again(1, 10));
        assert_eq!(restarts.after(end(&CRASH), plan, None), again(2, 20));
        let stable = Duration::from_millis(plan.stable_ms);
        let short = Ended { was_ready: Some(stable - Duration::from_millis(1)), ..end(&CRASH) };
        assert_eq!(restarts.after(short, plan, None), Next::GivenUp { restarts: 2 });
        let long = Ended { was_ready: Some(stable), ..end(&CRASH) };
        assert_eq!(restarts.after(long, plan, None), again(1, 10));
    }

    #[test]
    fn a_policy_that_ends_unhealthy_workers_for_good_does_so_whatever_it_says_of_restarts() {
        let verdict = Verdict::HealthFailed { last_probe: None };
        let text = "[worker]\nbinary = \"x\"\n[restart]\nwhen = \"always\"\n[liveness]\nwatchdog = true\nthen = \"stop\"\n";
        let policy =
            rbee_hive_policy::Policy::parse("t", "t", text, &|name| rbee_hive_policy::embedded::fragment(name).map(str::to_owned)).unwrap();
        assert_eq!(Restarts::default().after(end(&verdict), policy.restart, policy.liveness.as_ref()), Next::Over);
        assert_ne!(Restarts::default().after(end(&CRASH), policy.restart, policy.liveness.as_ref()), Next::Over);
    }
}
