//! From single probes to what is told of them. Pure.

use rbee_hive_policy::LivenessPlan;

/// What has changed with a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has failed as often in a row as it may.
    Unhealthy,
    /// It has answered as often in a row as it must.
    Recovered,
}

/// Counts failures and successes in a row.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tally {
    failures: u32,
    successes: u32,
    /// In a row, of the kind that could change something.
    in_a_row: u32,
    unhealthy: bool,
}

impl Tally {
    pub(super) fn new(plan: &LivenessPlan) -> Self {
        Self { failures: plan.failures, successes: plan.successes, in_a_row: 0, unhealthy: false }
    }

    pub(super) fn failed(&mut self) -> Option<Change> {
        self.count(Change::Unhealthy)
    }

    pub(super) fn succeeded(&mut self) -> Option<Change> {
        self.count(Change::Recovered)
    }

    /// It is unhealthy, whatever was counted.
    pub(super) fn give_up(&mut self) -> Option<Change> {
        self.in_a_row = 0;
        (!std::mem::replace(&mut self.unhealthy, true)).then_some(Change::Unhealthy)
    }

    fn count(&mut self, towards: Change) -> Option<Change> {
        let (is_there, needed) = match towards {
            Change::Unhealthy => (self.unhealthy, self.failures),
            Change::Recovered => (!self.unhealthy, self.successes),
        };
        if is_there {
            self.in_a_row = 0;
            return None;
        }
        self.in_a_row += 1;
        if self.in_a_row < needed {
            return None;
        }
        self.in_a_row = 0;
        self.unhealthy = towards == Change::Unhealthy;
        Some(towards)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rbee_hive_policy::{LivenessProbe, OnUnhealthy};

    use super::*;

    fn tally(failures: u32, successes: u32) -> Tally {
        Tally::new(&LivenessPlan {
            probe: LivenessProbe::Tcp,
            interval_ms: 1000,
            timeout_ms: 1000,
            failures,
            successes,
            unhealthy_timeout_ms: 0,
            then: OnUnhealthy::Nothing,
        })
    }

    #[test]
    fn only_failures_in_a_row_make_it_unhealthy_and_only_successes_in_a_row_ready_again() {
        let mut tally = tally(2, 2);
        assert_eq!((tally.failed(), tally.succeeded(), tally.failed()), (None, None, None));
        assert_eq!(tally.failed(), Some(Change::Unhealthy));
        assert_eq!((tally.succeeded(), tally.failed(), tally.succeeded()), (None, None, None));
        assert_eq!((tally.succeeded(), tally.succeeded()), (Some(Change::Recovered), None));
        assert_eq!((tally.give_up(), tally.give_up()), (Some(Change::Unhealthy), None));
    }

    proptest! {
        /// Against the plainest model: the last so many probes were all alike.
        #[test]
        fn it_says_what_the_last_probes_say(probes in prop::collection::vec(any::<bool>(), 0..60), failures in 1u32..5, successes in 1u32..5) {
            let mut tally = tally(failures, successes);
            let mut unhealthy = false;
            let mut since = 0;
            for (at, ok) in probes.iter().enumerate() {
                let change = if *ok { tally.succeeded() } else { tally.failed() };
                let needed = if unhealthy { successes } else { failures } as usize;
                let turned = at + 1 - since >= needed && probes[at + 1 - needed..=at].iter().all(|p| *p == unhealthy);
                prop_assert_eq!(change.is_some(), turned);
                if turned {
                    (unhealthy, since) = (!unhealthy, at + 1);
                }
            }
        }
    }
}
