//! From evidence to what an end had to do with memory. Pure: the same evidence gives the same finding.
//!
//! | own process ended by | log | counters | finding |
//! |---|---|---|---|
//! | SIGKILL of somebody's | names it | | it was killed for want of memory |
//! | | does not, and is whole | | none: somebody sent the signal |
//! | | has a gap, or can't be read | more kills than were others' before | it was |
//! | | | no more | none |
//! | anything else | | | none, unless the init ended the worker for another's kill |
//!
//! Whole does not mean that it says whose every kill was: of many kills in a short time, of whomever on the machine, the kernel leaves out the
//! summaries (`oom_rs` in mm/oom_kill.c), never the line that names the process.

use rbee_hive_policy::OnOom;

use super::{KillBook, OomBound, OomScope, Victim};
use crate::cgroup::MemoryEvents;

/// How the worker's own process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MainEnd {
    /// By a SIGKILL that the init did not send.
    Killed,
    /// By itself, by another signal, or by the init.
    Otherwise,
}

/// What is known of an end when everything is dead and reaped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Evidence<'e> {
    /// How the worker's own process ended.
    pub(crate) main: MainEnd,
    /// The leaf's counters at the end.
    pub(crate) counters: MemoryEvents,
    /// Kills that were counted so long before the own process ended that they were others'.
    pub(crate) others: u64,
    /// What the log says; `None` where it can't be read.
    pub(crate) book: Option<&'e KillBook>,
    /// Set where the init ended the worker because of a kill, as the policy says.
    pub(crate) ended_for: Option<OnOom>,
}

/// That an end was for want of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// What was killed.
    pub(crate) scope: OomScope,
    /// Who ran out; `None` where nothing tells.
    pub(crate) bound: Option<OomBound>,
    /// Who was killed; `None` where the log does not say.
    pub(crate) victim: Option<Victim>,
}

/// Whether the end was for want of memory.
pub(crate) fn judge(evidence: &Evidence<'_>) -> Option<Finding> {
    let logged = evidence.book.and_then(KillBook::main_killed).cloned();
    if let Some(policy) = evidence.ended_for {
        let scope = match (policy, &logged) {
            (OnOom::Kill, _) => OomScope::Group,
            (_, Some(_)) => OomScope::Main,
            (_, None) => OomScope::Child,
        };
        return Some(evidence.finding(scope, logged));
    }
    if evidence.main != MainEnd::Killed {
        return None;
    }
    let scope = if evidence.counters.killed_as_a_group() { OomScope::Group } else { OomScope::Main };
    match logged {
        Some(victim) => Some(evidence.finding(scope, Some(victim))),
        None if evidence.book.is_some_and(KillBook::would_tell_of_main) => None,
        None if evidence.counters.kills.is_some_and(|kills| kills > evidence.others) => {
            Some(evidence.finding(scope, evidence.only_victim()))
        }
        None => None,
    }
}

impl Evidence<'_> {
    /// The one that it must have been, where the own process's number is not known.
    fn only_victim(&self) -> Option<Victim> {
        let book = self.book.filter(|book| !book.knows_main() && book.kills() == 1 && self.counters.kills == Some(1))?;
        book.first().cloned()
    }

    fn finding(&self, scope: OomScope, victim: Option<Victim>) -> Finding {
        // Of a group the own process is one of many: the one that the kernel chose says more.
        let first = || self.book.and_then(KillBook::first).cloned();
        let victim = match scope {
            OomScope::Group => first().or(victim),
            OomScope::Child => victim.or_else(first),
            OomScope::Main => victim,
        };
        let bound = victim.as_ref().and_then(|victim| victim.bound).or_else(|| self.counters.bound());
        Finding { scope, bound, victim }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Said;
    use super::*;

    const LEAF: &str = "/r/w-1/worker";
    const MAIN: i32 = 10;

    fn book(pids: &[i32]) -> KillBook {
        let mut book = KillBook::new(Some(LEAF.into()), Some(MAIN));
        for pid in pids {
            book.note(Said::Chosen { pid: *pid, group: LEAF.into(), limit_of: Some(LEAF.into()) });
            book.note(Said::Killed { pid: *pid, name: format!("p{pid}"), memory: 4096 });
        }
        book
    }

    fn counted(kills: u64) -> MemoryEvents {
        MemoryEvents { kills: Some(kills), ..MemoryEvents::default() }
    }

    fn evidence(main: MainEnd, kills: u64, book: Option<&KillBook>) -> Evidence<'_> {
        Evidence { main, counters: counted(kills), others: 0, book, ended_for: None }
    }

    fn found(evidence: &Evidence<'_>) -> Option<(OomScope, Option<OomBound>, Option<i32>)> {
        judge(evidence).map(|f| (f.scope, f.bound, f.victim.map(|v| v.pid)))
    }

    #[test]
    fn its_own_process_killed_is_out_of_memory_and_named() {
        let log = book(&[MAIN]);
        assert_eq!(found(&evidence(MainEnd::Killed, 1, Some(&log))), Some((OomScope::Main, Some(OomBound::Worker), Some(MAIN))));
        assert_eq!(found(&evidence(MainEnd::Killed, 1, None)), Some((OomScope::Main, None, None)), "also where no log can be read");
    }

    #[test]
    fn a_childs_kill_and_a_later_signal_are_two_things() {
        let log = book(&[11]);
        assert_eq!(found(&evidence(MainEnd::Killed, 1, Some(&log))), None, "by the log");
        assert_eq!(found(&Evidence { others: 1, ..evidence(MainEnd::Killed, 1, None) }), None, "by the time at which it was counted");
        assert!(found(&Evidence { others: 1, ..evidence(MainEnd::Killed, 2, None) }).is_some(), "one more was counted since");
        assert_eq!(found(&evidence(MainEnd::Otherwise, 1, Some(&log))), None, "it has ended by itself");
        let both = book(&[11, MAIN]);
        assert_eq!(found(&evidence(MainEnd::Killed, 2, Some(&both))), Some((OomScope::Main, Some(OomBound::Worker), Some(MAIN))));
    }

    #[test]
    fn a_kill_whose_summary_was_left_out_is_not_taken_for_the_own_process() {
        let mut log = KillBook::new(Some(LEAF.into()), Some(MAIN));
        log.note(Said::Killed { pid: 11, name: "child".into(), memory: 4096 });
        assert_eq!(found(&evidence(MainEnd::Killed, 1, Some(&log))), None, "the line that names the process is never left out");
        log.note(Said::Killed { pid: MAIN, name: "main".into(), memory: 4096 });
        assert_eq!(found(&evidence(MainEnd::Killed, 2, Some(&log))), Some((OomScope::Main, None, Some(MAIN))));
    }

    #[test]
    fn a_log_with_a_gap_decides_nothing() {
        let mut log = book(&[11]);
        assert_eq!(found(&evidence(MainEnd::Killed, 2, Some(&log))), None, "it is whole");
        log.miss();
        assert_eq!(found(&evidence(MainEnd::Killed, 2, Some(&log))), Some((OomScope::Main, None, None)));
        assert_eq!(found(&Evidence { others: 2, ..evidence(MainEnd::Killed, 2, Some(&log)) }), None);
    }

    #[test]
    fn a_group_is_told_as_one() {
        let log = book(&[11, MAIN]);
        let counters = MemoryEvents { kills: Some(4), group_kills: Some(1), ..MemoryEvents::default() };
        let all = Evidence { counters, ..evidence(MainEnd::Killed, 4, Some(&log)) };
        assert_eq!(found(&all), Some((OomScope::Group, Some(OomBound::Worker), Some(11))), "the one that was chosen");
    }

    #[test]
    fn what_the_policy_ends_is_told_with_whom_the_kernel_killed() {
        let log = book(&[11]);
        for (policy, main, scope) in
            [(OnOom::Stop, MainEnd::Otherwise, OomScope::Child), (OnOom::Kill, MainEnd::Otherwise, OomScope::Group)]
        {
            let ended = Evidence { ended_for: Some(policy), ..evidence(main, 1, Some(&log)) };
            assert_eq!(found(&ended), Some((scope, Some(OomBound::Worker), Some(11))));
        }
        let own = book(&[MAIN]);
        let ended = Evidence { ended_for: Some(OnOom::Stop), ..evidence(MainEnd::Killed, 1, Some(&own)) };
        assert_eq!(found(&ended).map(|f| f.0), Some(OomScope::Main));
    }

    #[test]
    fn the_hosts_want_of_memory_is_not_the_workers_limit() {
        let mut log = KillBook::new(Some(LEAF.into()), Some(MAIN));
        log.note(Said::Chosen { pid: MAIN, group: LEAF.into(), limit_of: None });
        log.note(Said::Killed { pid: MAIN, name: "m".into(), memory: 1 });
        assert_eq!(found(&evidence(MainEnd::Killed, 1, Some(&log))).and_then(|f| f.1), Some(OomBound::Host));
        let unlogged = |counters| judge(&Evidence { counters, ..evidence(MainEnd::Killed, 1, None) }).and_then(|f| f.bound);
        assert_eq!(unlogged(MemoryEvents { at_limit: Some(false), ..counted(1) }), Some(OomBound::Host), "the limit was never reached");
        assert_eq!(unlogged(MemoryEvents { at_limit: Some(true), ..counted(1) }), Some(OomBound::Worker));
    }

    proptest! {
        #[test]
        fn no_kill_no_finding_and_none_without_a_killed_process(kills in 0u64..4, others in 0u64..4, pids in proptest::collection::vec(10i32..14, 0..4), readable in any::<bool>()) {
            let log = book(&pids);
            let book = readable.then_some(&log);
            let base = Evidence { others, ..evidence(MainEnd::Killed, kills, book) };
            prop_assert_eq!(judge(&Evidence { main: MainEnd::Otherwise, ..base }), None);
            if kills == 0 && !(readable && pids.contains(&MAIN)) {
                prop_assert_eq!(judge(&base), None);
            }
            if readable && pids.contains(&MAIN) {
                prop_assert_eq!(judge(&base).and_then(|f| f.victim).map(|v| v.pid), Some(MAIN));
            }
        }
    }
}
