//! Where a worker is that has outlived its hive: from what its init says now and what the hive before it had written down.

use rbee_hive_policy::{IdleAction, Readiness, SandboxPlan};
use rbee_hive_sandbox::StoppedBy;

use super::transition::{FrozenBy, Standing};

/// What its init says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Now {
    /// Who has asked for its end.
    pub(crate) stopping: Option<StoppedBy>,
    /// Whether it stands still.
    pub(crate) frozen: bool,
    /// Whether it has ever said READY=1.
    pub(crate) notified: bool,
}

/// What the hive before has seen of it; nothing where its record is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// Whether it has ever answered.
    pub(crate) was_ready: bool,
    /// Whether it stood still, and who wanted that.
    pub(crate) frozen_by: Option<FrozenBy>,
}

/// Where it is. The init knows what runs, the record what was seen; what neither says is not taken for so.
pub(crate) fn standing(now: Now, before: Before, plan: &SandboxPlan) -> Standing {
    let ready = before.was_ready || plan.readiness == Readiness::None || (plan.readiness == Readiness::Notify && now.notified);
    match now {
        Now { stopping: Some(by), .. } => Standing::Stopping(by),
        // Between the freeze and its record the hive ended: it was the policy's doing where that freezes, and a client's elsewhere.
        Now { frozen: true, .. } => {
            Standing::Frozen(before.frozen_by.unwrap_or(if freezes(plan) { FrozenBy::Idle } else { FrozenBy::Request }))
        }
        // It was woken, and has not been seen to answer since.
        _ if ready && before.frozen_by.is_some() => Standing::Thawing,
        _ if ready => Standing::Ready,
        _ => Standing::Starting,
    }
}

fn freezes(plan: &SandboxPlan) -> bool {
    plan.idle.after_ms.is_some() && plan.idle.action == IdleAction::Freeze
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::plans;

    fn before(was_ready: bool, frozen_by: Option<FrozenBy>) -> Before {
        Before { was_ready, frozen_by }
    }

    #[test]
    fn a_worker_is_where_its_init_and_its_record_say_together() {
        let (http, none, notify, naps) = (plans::of("private"), plans::of("bare"), plans::of("notify"), plans::of("naps"));
        let (up, frozen) = (Now::default(), Now { frozen: true, ..Now::default() });
        let (said, stopped) = (Now { notified: true, ..up }, Now { stopping: Some(StoppedBy::Request), ..frozen });
        let (new, seen) = (before(false, None), before(true, None));
        for (now, before, plan, expected) in [
            (up, new, &http, Standing::Starting),
            (up, seen, &http, Standing::Ready),
            (said, new, &http, Standing::Starting),
            (up, new, &none, Standing::Ready),
            (up, new, &notify, Standing::Starting),
            (said, new, &notify, Standing::Ready),
            (frozen, before(true, Some(FrozenBy::Idle)), &http, Standing::Frozen(FrozenBy::Idle)),
            (frozen, before(true, Some(FrozenBy::Request)), &naps, Standing::Frozen(FrozenBy::Request)),
            (frozen, seen, &naps, Standing::Frozen(FrozenBy::Idle)),
            (frozen, seen, &http, Standing::Frozen(FrozenBy::Request)),
            (up, before(true, Some(FrozenBy::Request)), &http, Standing::Thawing),
            (stopped, seen, &http, Standing::Stopping(StoppedBy::Request)),
        ] {
            assert_eq!(standing(now, before, plan), expected, "{now:?} {before:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_ready_that_was_neither_seen_to_answer_nor_said_so(
            stopping in any::<bool>(), frozen in any::<bool>(), notified in any::<bool>(), froze in any::<bool>()
        ) {
            let now = Now { stopping: stopping.then_some(StoppedBy::Drift), frozen, notified };
            let found = standing(now, before(false, froze.then_some(FrozenBy::Idle)), &plans::of("private"));
            prop_assert!(!matches!(found, Standing::Ready | Standing::Thawing));
            prop_assert_eq!(matches!(found, Standing::Stopping(_)), stopping, "a stop goes on");
            prop_assert_eq!(matches!(found, Standing::Frozen(_)), frozen && !stopping);
        }
    }
}
