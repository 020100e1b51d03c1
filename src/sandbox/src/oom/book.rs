//! The kills of one worker, gathered from the log record by record.

use std::collections::VecDeque;

use super::record::Said;
use super::{OomBound, Victim};

/// Choices that wait for their kill, of any worker: the kernel makes one at a time.
const MAX_CHOSEN: usize = 32;
/// Kills that are remembered by name.
const MAX_VICTIMS: usize = 32;

/// What the log has said of one worker so far.
#[derive(Debug, Default)]
pub(crate) struct KillBook {
    /// The worker's leaf in the memory hierarchy, from its root; `None` where that is not known.
    leaf: Option<String>,
    /// The worker's own process as the host numbers it.
    main: Option<i32>,
    chosen: VecDeque<Choice>,
    /// The choice that was carried out last.
    last: Option<Choice>,
    /// The choice that the kills of a whole group belong to.
    group: Option<Choice>,
    kills: u64,
    named: u64,
    first: Option<Victim>,
    victims: VecDeque<Victim>,
    main_killed: Option<Victim>,
    /// Records were lost before they could be read.
    gap: bool,
}

#[derive(Clone, Debug)]
struct Choice {
    pid: i32,
    ours: bool,
    bound: OomBound,
}

impl KillBook {
    /// An empty one.
    pub(crate) fn new(leaf: Option<String>, main: Option<i32>) -> Self {
        Self { leaf, main, ..Self::default() }
    }

    /// Takes note of what was said next.
    pub(crate) fn note(&mut self, said: Said) {
        match said {
            Said::Chosen { pid, group, limit_of } => {
                self.group = None;
                if self.chosen.len() >= MAX_CHOSEN {
                    self.chosen.pop_front();
                }
                let choice = Choice { pid, ours: self.holds(&group), bound: self.bound(limit_of.as_deref()) };
                self.chosen.push_back(choice);
            }
            // The victim itself was killed just before.
            Said::Group { group } => {
                let (ours, bound) = (self.holds(&group), self.last.as_ref().map(|choice| choice.bound));
                self.group = bound.map(|bound| Choice { pid: 0, ours, bound });
            }
            Said::Killed { pid, name, memory } => self.kill(Victim { pid, name, memory, bound: None }),
        }
    }

    fn kill(&mut self, mut victim: Victim) {
        let at = self.chosen.iter().rposition(|choice| choice.pid == victim.pid);
        let own_choice = at.and_then(|at| self.chosen.remove(at));
        if own_choice.is_some() {
            self.last.clone_from(&own_choice);
        }
        let choice = own_choice.or_else(|| self.group.clone());
        victim.bound = choice.as_ref().filter(|choice| choice.ours).map(|choice| choice.bound);
        let own_process = Some(victim.pid) == self.main;
        if own_process {
            self.main_killed = Some(victim.clone());
        }
        // The summaries of many kills in a short time are left out (oom_rs in mm/oom_kill.c): then the number has to do.
        if own_process || choice.is_some_and(|choice| choice.ours) {
            self.kills += 1;
            self.name(victim);
        }
    }

    fn name(&mut self, victim: Victim) {
        // Of a group that is killed the kernel counts and tells the chosen one twice.
        if self.victims.iter().any(|known| known.pid == victim.pid && known.memory == victim.memory) {
            return;
        }
        self.named += 1;
        self.first.get_or_insert_with(|| victim.clone());
        if self.victims.len() >= MAX_VICTIMS {
            self.victims.pop_front();
        }
        self.victims.push_back(victim);
    }

    /// How many kills of the worker's processes there were, as far as the log says whose they were.
    pub(crate) fn kills(&self) -> u64 {
        self.kills
    }

    /// How many different processes they were.
    pub(crate) fn named(&self) -> u64 {
        self.named
    }

    /// The one that was killed first: of a group, the one that the kernel had chosen.
    pub(crate) fn first(&self) -> Option<&Victim> {
        self.first.as_ref()
    }

    /// Those that were killed last, oldest first.
    pub(crate) fn victims(&self) -> impl DoubleEndedIterator<Item = &Victim> {
        self.victims.iter()
    }

    /// The worker's own process, if it was killed.
    pub(crate) fn main_killed(&self) -> Option<&Victim> {
        self.main_killed.as_ref()
    }

    /// Whether it is known by which number the log would name the worker's own process.
    pub(crate) fn knows_main(&self) -> bool {
        self.main.is_some()
    }

    /// Some of the log was overwritten, or could not be read.
    pub(crate) fn miss(&mut self) {
        self.gap = true;
    }

    /// Whether a kill of the worker's own process would be known: the line on a kill is never left out, only the summary before it is. A
    /// process whose first thread has ended is named by another thread's number (find_lock_task_mm): then its choice is left without a kill.
    pub(crate) fn would_tell_of_main(&self) -> bool {
        self.main.is_some() && !self.gap && !self.chosen.iter().any(|choice| Some(choice.pid) == self.main)
    }

    fn holds(&self, group: &str) -> bool {
        self.leaf.as_deref().is_some_and(|leaf| group == leaf || is_below(group, leaf))
    }

    fn bound(&self, limit_of: Option<&str>) -> OomBound {
        match (limit_of, self.leaf.as_deref()) {
            (Some(group), Some(leaf)) if group == leaf => OomBound::Worker,
            (Some(group), Some(leaf)) if is_below(group, leaf) => OomBound::Nested,
            _ => OomBound::Host,
        }
    }
}

fn is_below(group: &str, leaf: &str) -> bool {
    group.strip_prefix(leaf).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAF: &str = "/r/w-1/worker";

    fn chosen(pid: i32, group: &str, limit_of: Option<&str>) -> Said {
        Said::Chosen { pid, group: group.into(), limit_of: limit_of.map(str::to_owned) }
    }

    fn killed(pid: i32) -> Said {
        Said::Killed { pid, name: "n".into(), memory: 4096 }
    }

    fn book(said: &[Said]) -> KillBook {
        let mut book = KillBook::new(Some(LEAF.into()), Some(10));
        said.iter().cloned().for_each(|said| book.note(said));
        book
    }

    #[test]
    fn who_ran_out_is_told_by_whose_limit_it_was() {
        let nested = format!("{LEAF}/deep");
        for (group, limit_of, want) in [
            (LEAF, Some(LEAF), Some(OomBound::Worker)),
            (nested.as_str(), Some(nested.as_str()), Some(OomBound::Nested)),
            (nested.as_str(), Some(LEAF), Some(OomBound::Worker)),
            (LEAF, Some("/r"), Some(OomBound::Host)),
            (LEAF, None, Some(OomBound::Host)),
        ] {
            let book = book(&[chosen(11, group, limit_of), killed(11)]);
            assert_eq!(book.victims().next().map(|v| v.bound), Some(want), "{group} {limit_of:?}");
            assert!(book.main_killed().is_none());
        }
    }

    #[test]
    fn a_siblings_kill_is_not_this_workers() {
        for sibling in ["/r/w-2/worker", "/r/w-1/worker-2", "/r/w-1", "/", "/r/w-1/init"] {
            let book = book(&[chosen(11, sibling, Some(sibling)), killed(11)]);
            assert_eq!((book.kills(), book.victims().count()), (0, 0), "{sibling}");
        }
    }

    #[test]
    fn a_group_kill_takes_all_that_are_named_after_it() {
        let group = Said::Group { group: LEAF.into() };
        let said =
            [chosen(11, LEAF, Some(LEAF)), killed(11), group, killed(10), killed(11), killed(12), chosen(77, "/x", Some("/x")), killed(77)];
        let book = book(&said);
        assert_eq!(book.victims().map(|v| v.pid).collect::<Vec<_>>(), [11, 10, 12]);
        assert_eq!((book.kills(), book.named(), book.first().map(|v| v.pid)), (4, 3, Some(11)), "the kernel tells the chosen one twice");
        assert_eq!(book.main_killed().and_then(|v| v.bound), Some(OomBound::Worker));
    }

    #[test]
    fn the_own_process_is_known_by_its_number_where_the_summary_is_left_out() {
        let book = book(&[killed(11), killed(10)]);
        assert_eq!((book.kills(), book.main_killed().map(|v| v.bound)), (1, Some(None)));
    }

    #[test]
    fn a_log_with_a_gap_or_without_the_number_would_not_tell_of_the_own_process() {
        assert!(book(&[killed(11)]).would_tell_of_main());
        assert!(!KillBook::new(Some(LEAF.into()), None).would_tell_of_main());
        assert!(!book(&[chosen(10, LEAF, Some(LEAF)), killed(12)]).would_tell_of_main(), "a thread of it was named");
        let mut lost = book(&[]);
        lost.miss();
        assert!(!lost.would_tell_of_main());
    }

    #[test]
    fn it_holds_no_more_than_it_may_and_still_counts() {
        let many: Vec<Said> = (100..1100).flat_map(|pid| [chosen(pid, LEAF, Some(LEAF)), killed(pid)]).collect();
        let book = book(&many);
        assert_eq!((book.kills(), book.victims().count()), (1000, MAX_VICTIMS));
        assert_eq!(book.victims().next_back().map(|v| v.pid), Some(1099));
        let choices: Vec<Said> = (1..1000).map(|pid| chosen(pid, LEAF, None)).collect();
        assert_eq!(self::book(&choices).chosen.len(), MAX_CHOSEN);
    }
}
